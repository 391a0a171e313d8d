"""A priority queue whose keys may go stale: a key is computed again before its name is handed out."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from typing import Any

Keyed = tuple[tuple[float, float], int]
"""The key of a name, smallest first, and what it is wanted for (a number of blocks)."""


class LazyQueue:
    """Names by key, smallest first; among equal keys, in the order given.

    Args:
        names: to begin with.
        key: of a name now; None if there is nothing to do with it.
    """

    def __init__(self, names: Iterable[str], key: Callable[[str], Keyed | None]) -> None:
        self._key = key
        self._place = {name: place for place, name in enumerate(names)}
        self._stamp = dict.fromkeys(self._place, 0)
        self._heap: list[tuple[Any, int, int, str]] = []
        for name in self._place:
            self.refresh(name)

    def refresh(self, name: str) -> None:
        """Compute the key of a name anew; names that are not in the queue are left alone."""
        if name in self._place:
            self._stamp[name] += 1
            found = self._key(name)
            if found is not None:
                heapq.heappush(self._heap, (found[0], self._place[name], self._stamp[name], name))

    def pop(self) -> tuple[str, int] | None:
        """The name of the smallest key and what it is wanted for; None if there is none left."""
        while self._heap:
            key, place, stamp, name = heapq.heappop(self._heap)
            if stamp != self._stamp[name]:
                continue
            found = self._key(name)
            if found is None:
                continue
            if found[0] > key:
                heapq.heappush(self._heap, (found[0], place, stamp, name))
                continue
            return name, found[1]
        return None
