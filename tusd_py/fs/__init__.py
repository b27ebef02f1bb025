"""Durable file primitives shared by the adapters that keep things in a directory. Knows files, not uploads' rules."""
