"""What all ways of asking say in the same words when an answer makes no sense. The client sees it, so it is bounded."""

from __future__ import annotations

from tusd_py.ports.hooks import HookFailure
from tusd_py.protocol.go_json import JsonError
from tusd_py.protocol.hook_messages import parse_hook_answer
from tusd_py.protocol.hooks import HookAnswer

__all__ = ["QUOTED", "quoted", "read_answer"]

QUOTED = 5120
"""Bytes of what a hook said that an error repeats: as much as tusd takes from a web hook by default."""


def quoted(data: bytes) -> str:
    """What a hook said, for a message."""
    return data[:QUOTED].decode("utf-8", "replace")


def read_answer(data: bytes) -> HookAnswer:
    """An answer in JSON. Raises `HookFailure`, beginning as tusd's error does."""
    try:
        return parse_hook_answer(data)
    except JsonError as error:
        raise HookFailure(f"failed to parse hook response: {error}, response was: {quoted(data)}") from error
