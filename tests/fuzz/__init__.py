"""Arbitrary input: to every parser, and to a whole server over its socket."""
