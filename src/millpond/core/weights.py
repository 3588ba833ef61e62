"""What the inputs weigh that wait: few are large, and only those are counted."""

from __future__ import annotations


class Weights:
    """Bytes of large inputs that have been pulled and not settled; true if there are any.

    Who pulls adds, who drives settles: each has a sum of its own.
    """

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._came = self._went = 0

    def add(self, index: int, size: int) -> None:
        """An input is about to be pulled."""
        self._sizes[index] = size
        self._came += size

    def settle(self, indexes: range) -> None:
        """These inputs need not be kept any more."""
        self._went += sum(self._sizes.pop(index, 0) for index in indexes)

    @property
    def waiting(self) -> int:
        """Their sum."""
        return self._came - self._went

    def __bool__(self) -> bool:
        return bool(self._sizes)
