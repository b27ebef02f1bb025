"""What the holder of a token may do, as words: names of actions, and `any-owner`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tusd_py.ports.authorization import Action, Decision, allow, deny

__all__ = ["ANY_OWNER", "EVERYTHING", "MAX_OWNER", "Grant", "is_owner", "read_actions", "read_grant"]

MAX_OWNER = 255
"""Characters of an owner's name; it is written into every record."""

ANY_OWNER = "any-owner"
"""The word for an administrator: uploads of others may be touched as well."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Some actions, on the holder's own uploads or on everybody's."""

    actions: frozenset[Action]
    any_owner: bool = False

    def decide(self, action: Action, owner: str, *, max_size: int | None = None) -> Decision:
        """What a request of `owner` is answered. `max_size` in bytes bounds what is created."""
        if action not in self.actions:
            return deny(f"this token does not allow to {action} uploads")
        return allow(owner, any_owner=self.any_owner, max_size=max_size)


EVERYTHING = Grant(frozenset(Action))
"""What a token allows that names no actions."""


def is_owner(value: object) -> bool:
    """Whether this can be the name of an owner: a short printable text."""
    return isinstance(value, str) and 0 < len(value) <= MAX_OWNER and value.isprintable()


def read_grant(words: Iterable[str]) -> Grant:
    """The grant that words stand for. `any-owner` alone adds to everything. Raises ValueError with a sentence's part."""
    rest = list(words)
    any_owner = ANY_OWNER in rest
    rest = [word for word in rest if word != ANY_OWNER]
    if any_owner and not rest:
        return Grant(EVERYTHING.actions, any_owner=True)
    return Grant(read_actions(rest, also=f" or {ANY_OWNER}"), any_owner)


def read_actions(words: Iterable[str], *, also: str = "") -> frozenset[Action]:
    """The actions that words name. Raises ValueError."""
    actions = set()
    for word in words:
        try:
            actions.add(Action(word))
        except ValueError:
            raise ValueError(f"unknown action {word!r}: expected {', '.join(Action)}{also}") from None
    return frozenset(actions)
