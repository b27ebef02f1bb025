"""The extensions of tus 1.0 that a policy leaves on. Light to import: a server announces them before it serves."""

from __future__ import annotations

from tusd_py.protocol.rules import Policy

__all__ = ["supported_extensions"]


def supported_extensions(policy: Policy) -> list[str]:
    """Their names, in the order in which they are announced (C08)."""
    extensions = ["creation", "creation-with-upload", "creation-defer-length", "checksum", "checksum-trailer"]
    if policy.expiry is not None:
        extensions.append("expiration")
    if policy.termination:
        extensions.append("termination")
    if policy.concatenation:
        extensions += ["concatenation", "concatenation-unfinished"]
    return extensions
