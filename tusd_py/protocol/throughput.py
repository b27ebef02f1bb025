"""When an upload is so slow that it is better stopped: a pure rule, for whoever looks at running uploads now and then."""

from __future__ import annotations

__all__ = ["GRACE", "too_slow"]

GRACE = 30.0
"""Seconds over which a rate is taken. Shorter and it would stop honest clients: TCP starts slowly, what a bad line has lost is
sent again after seconds, and mobile networks pause for some more."""


def too_slow(bytes_since: int, seconds_since: float, min_rate: float) -> bool:
    """Whether `bytes_since` in `seconds_since` is less than `min_rate` bytes a second allows; 0 is no minimum.

    Both are counted from the beginning of the body, or from a later mark. Nothing is too slow for the first `GRACE` seconds
    behind it; whoever asks sets a new mark each time that as much has passed, so that a fast beginning does not excuse what
    comes later.
    """
    return seconds_since >= GRACE and bytes_since < min_rate * seconds_since
