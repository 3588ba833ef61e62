"""Batches of results in any order -> results in call order."""

from __future__ import annotations

from collections import deque
from typing import Any


class Ordering:
    """``put`` batches as they come, take results from ``ready`` in order."""

    __slots__ = ("_held", "ready", "released")

    def __init__(self) -> None:
        self.ready: deque[Any] = deque()
        self.released = 0  # results that have been put in ``ready`` so far
        self._held: dict[int, list[Any]] = {}  # by the index of their first

    def put(self, start: int, batch: list[Any]) -> None:
        """``batch`` has the results from index ``start`` on."""
        if start != self.released:
            self._held[start] = batch
            return
        while True:
            self.ready.extend(batch)
            self.released += len(batch)
            if not self._held:
                return
            held = self._held.pop(self.released, None)
            if held is None:
                return
            batch = held


class Arrival(Ordering):
    """The same without order: results are ready as they come."""

    __slots__ = ()

    def put(self, start: int, batch: list[Any]) -> None:
        self.ready.extend(batch)
        self.released += len(batch)
