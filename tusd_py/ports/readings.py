"""Numbers that are looked up when somebody asks for metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["Reading"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A metric and the function that tells it, quickly and on the event loop: a number, or numbers by the value of `label`.

    `across` says what several workers' numbers make together. A counter's must not become smaller while the process lives.
    """

    name: str
    help: str
    read: Callable[[], float | Mapping[str, float]]
    kind: Literal["counter", "gauge"] = "gauge"
    label: str | None = None
    across: Literal["sum", "max"] = "sum"
