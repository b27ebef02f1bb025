"""What was used last, bounded by weight."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Recent"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A mapping that forgets what was used longest ago once all weigh more than `limit` together. For several threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._items: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._weight = 0

    def __repr__(self) -> str:
        return f"<Recent {len(self._items)} items, {self._weight} of {self._limit}>"

    def get(self, key: K) -> V | None:
        with self._lock:
            item = self._items.get(key)
            if item is None:
                return None
            self._items.move_to_end(key)
            return item[0]

    def put(self, key: K, value: V, weight: int) -> None:
        """What weighs more than the limit alone is not kept."""
        with self._lock:
            if (old := self._items.pop(key, None)) is not None:
                self._weight -= old[1]
            self._items[key] = value, weight
            self._weight += weight
            while self._weight > self._limit:
                self._weight -= self._items.popitem(last=False)[1][1]
