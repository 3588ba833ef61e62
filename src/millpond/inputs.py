"""The inputs of a stream that have been pulled and have no outcome yet, by their indexes.

One thread adds, at the end only; the driver reads ranges and lets them go in any order. They lie in blocks, so
that a range costs what a slice does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

SIZE: Final = 256
"""Inputs in a block."""
_BITS: Final = 8


class Inputs:
    """See the module."""

    __slots__ = ("_blocks", "_gone")

    def __init__(self) -> None:
        self._blocks: dict[int, list[Any]] = {}
        self._gone: dict[int, int] = {}  # by block, how many of it were let go

    def adder(self, index: int) -> Callable[[Any], None]:
        """What adds the inputs from ``index`` on; to be asked for anew where ``index`` is a multiple of SIZE."""
        return self._blocks.setdefault(index >> _BITS, []).append

    def extend(self, index: int, items: list[Any]) -> None:
        """Add these, the first of which has this index."""
        at = 0
        while at < len(items):
            room = SIZE - (index + at) % SIZE
            self._blocks.setdefault((index + at) >> _BITS, []).extend(items[at : at + room])
            at += room

    def read(self, start: int, stop: int) -> list[Any]:
        """Those in a range."""
        found: list[Any] = []
        while start < stop:
            first = start % SIZE
            end = min(SIZE, first + stop - start)
            found += self._blocks[start >> _BITS][first:end]
            start += end - first
        return found

    def let_go(self, start: int, stop: int) -> None:
        """Those in a range need not be kept any more."""
        while start < stop:
            number, first = start >> _BITS, start % SIZE
            end = min(SIZE, first + stop - start)
            gone = self._gone.get(number, 0) + end - first
            if gone == SIZE:
                del self._blocks[number]
                self._gone.pop(number, None)
            else:
                self._gone[number] = gone
                self._blocks[number][first:end] = [None] * (end - first)
            start += end - first
