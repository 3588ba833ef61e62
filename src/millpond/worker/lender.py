"""The writer of a file of the arena: see ``segments``."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Sequence
from typing import Final

from millpond.worker import memory
from millpond.worker.frames import Buffer
from millpond.worker.segments import PAGE, Segment, whole_pages

ALL: Final = 1 << 62
"""Bytes that are kept where another sees to it that it is not too much."""

_FIRST: Final = 1 << 24
_LARGEST: Final = 1 << 28
"""Bytes of the first extent, and of the later ones unless one segment needs more."""
_PIECE: Final = 1 << 23
"""Bytes that are copied before another thread may run."""
_CREDIT: Final = 1 << 26
"""Bytes of new pages that are taken before it is asked again how much memory there is."""
_RESERVE: Final = 8
"""What part of all memory the arena leaves alone."""
_LAX: Final = 2
"""How many times larger a free segment may be than what goes into it."""

_REMOVE: int | None = getattr(mmap, "MADV_REMOVE", None)
_POPULATE_WRITE: Final = 23  # of Linux 5.14; mmap has no name for it

Afford = Callable[[int], int]


def affordable(more: int) -> int:
    """How many bytes of new pages may be taken if ``more`` are wanted; 0 if not so many."""
    found = memory.look()
    if found is None:
        return more + _CREDIT
    left = found.spare - found.total // _RESERVE
    return min(left, more + _CREDIT) if left >= more else 0


class Extent:
    """A part of the file, mapped here from first need on."""

    __slots__ = ("_map", "size", "start", "used")

    def __init__(self, start: int, size: int) -> None:
        self.start = start
        self.size = size
        self.used = 0  # by segments, from its begin on
        self._map: mmap.mmap | None = None

    def shared(self, fd: int) -> mmap.mmap:
        """Its mapping. Raises OSError."""
        if self._map is None:
            self._map = mmap.mmap(fd, self.size, offset=self.start)
        return self._map


class Slot:
    """A segment, as its writer sees it."""

    __slots__ = ("at", "backed", "extent", "mapped", "room")

    def __init__(self, extent: Extent, room: int) -> None:
        self.extent = extent
        self.at = extent.start + extent.used
        self.room = room
        self.backed = 0  # bytes that have pages
        self.mapped = 0  # bytes whose pages are mapped here
        extent.used += room

    def segment(self, size: int) -> Segment:
        """It, with so many bytes in it."""
        return Segment(self.extent.start, self.extent.size, self.at, size)


class Lender:
    """See the module. ``fill`` may be called by several threads at once, for different segments."""

    def __init__(self, fd: int, keep: int = ALL, afford: Afford = affordable) -> None:
        self._fd = fd
        self._pid = os.getpid()
        self._keep = keep
        self._afford = afford
        self._credit = 0
        self._extents: list[Extent] = []
        self._end = 0  # of the file
        self._free: dict[int, list[Slot]] = {}  # by their room, the last used last
        self._kept: dict[int, Slot] = {}  # those of them that have pages, the longest unused first
        self._idle = 0  # bytes of these pages
        self._lent: dict[int, Slot] = {}

    def take(self, size: int) -> Slot | None:
        """A segment that is free; None where there is no room. It is lent from now on."""
        if os.getpid() != self._pid:
            return None
        try:
            slot = self._find(_room_for(size))
        except OSError:
            return None
        if self._kept.pop(slot.at, None) is not None:
            self._idle -= slot.backed
        self._lent[slot.at] = slot
        if size > slot.backed and not self._may_grow(size - slot.backed):
            self.free(slot.at)
            return None
        return slot

    def fill(self, slot: Slot, pieces: Sequence[Buffer], size: int) -> bool:
        """Write these bytes, ``size`` in all; False where there is no memory."""
        try:
            if size > slot.backed:
                self._write(slot, pieces)
                slot.backed = whole_pages(size)
            else:
                self._copy(slot, pieces, size)
        except (OSError, ValueError, MemoryError):
            self._empty(slot)  # of what was written
            return False
        return True

    def hold(self, slot: Slot, size: int) -> mmap.mmap | None:
        """The mapping of a segment's extent, the segment's pages all there; None where there is no memory."""
        try:
            if size > slot.backed:
                os.posix_fallocate(self._fd, slot.at, size)
                slot.backed = whole_pages(size)
            return slot.extent.shared(self._fd)
        except (OSError, ValueError):
            return None

    def free(self, number: int, *, empty: bool = False) -> None:
        """A segment is lent no more; ``empty``: its pages were given back already."""
        slot = self._lent.pop(number, None)
        if slot is None or os.getpid() != self._pid:
            return
        slots = self._free.setdefault(slot.room, [])
        if empty:
            slot.backed = slot.mapped = 0
            slots.insert(0, slot)  # used when no other is left
            return
        slots.append(slot)
        if slot.backed:
            self._kept[number] = slot
            self._idle += slot.backed
            self._give_back(self._keep)

    def usage(self) -> tuple[int, int]:
        """Bytes that have pages, and of these the ones that are lent."""
        lent = sum(slot.backed for slot in [*self._lent.values()])
        return lent + self._idle, lent

    def close(self) -> None:
        """No more of it; what is mapped elsewhere stays good."""
        self._fd, self._idle = -1, 0
        for slots in (self._extents, self._free, self._kept, self._lent):
            slots.clear()

    # Room -----------------------------------------------------------------------------------------

    def _find(self, room: int) -> Slot:
        fitting = [r for r, slots in self._free.items() if slots and room <= r <= _LAX * room]
        if fitting:
            return self._free[min(fitting)].pop()
        extent = self._extents[-1] if self._extents else None
        if extent is None or extent.size - extent.used < room:
            extent = self._grow(room)
        return Slot(extent, room)

    def _grow(self, room: int) -> Extent:
        """One more extent: as large as all before, within bounds."""
        span = max(room, min(max(self._end, _FIRST), _LARGEST))
        os.ftruncate(self._fd, self._end + span)
        extent = Extent(self._end, span)
        self._end += span
        self._extents.append(extent)
        return extent

    def _may_grow(self, more: int) -> bool:
        """Whether so many bytes of new pages may be taken."""
        if more > self._credit:
            self._credit = self._afford(more)
            if more > self._credit and self._idle:
                self._give_back(0)
                self._credit = self._afford(more)
        if more > self._credit:
            return False
        self._credit -= more
        return True

    def _give_back(self, keep: int) -> None:
        """Leave free segments no more pages than so many bytes of them."""
        while self._idle > keep:
            number, slot = next(iter(self._kept.items()))
            del self._kept[number]
            self._idle -= slot.backed
            self._empty(slot)

    def _empty(self, slot: Slot) -> None:
        if _REMOVE is None:
            return  # then it stays as it is
        try:
            whole = slot.extent.shared(self._fd)
            whole.madvise(_REMOVE, slot.at - slot.extent.start, slot.room)
        except (OSError, ValueError):
            return
        slot.backed = slot.mapped = 0

    # Bytes ----------------------------------------------------------------------------------------

    def _write(self, slot: Slot, pieces: Sequence[Buffer]) -> None:
        at = slot.at
        for piece in pieces:
            view = memoryview(piece).cast("B")
            while view:
                written = os.pwrite(self._fd, view, at)
                view = view[written:]
                at += written

    def _copy(self, slot: Slot, pieces: Sequence[Buffer], size: int) -> None:
        """Write to pages that there are: they may be mapped, which is faster the second time."""
        whole = slot.extent.shared(self._fd)
        at = slot.at - slot.extent.start
        if size > slot.mapped:
            try:
                whole.madvise(_POPULATE_WRITE, at, whole_pages(size))
            except OSError:
                pass  # an older kernel: they are mapped one by one
            slot.mapped = size
        for piece in pieces:
            view = memoryview(piece).cast("B")
            for start in range(0, len(view), _PIECE):
                part = view[start : start + _PIECE]
                whole[at : at + len(part)] = part
                at += len(part)


def _room_for(size: int) -> int:
    """Bytes of a segment for so many: whole pages, and few enough different ones that they fit again."""
    step = max(PAGE, 1 << max(size.bit_length() - 4, 0))
    return -(-size // step) * step
