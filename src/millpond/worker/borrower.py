"""The reader of a file of the arena: see ``segments``."""

from __future__ import annotations

import mmap
import os
import sys
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Final, final

from millpond.worker import pages, segments
from millpond.worker.lender import ALL
from millpond.worker.lending import address_of
from millpond.worker.segments import Segment

_LINUX: Final = sys.platform.startswith("linux")
_DONTNEED: int | None = getattr(mmap, "MADV_DONTNEED", None) if _LINUX else None
"""What makes a private mapping show the file again; where it does not, each segment is mapped anew."""
_REMOVE: int | None = getattr(mmap, "MADV_REMOVE", None)


_LOOKED_AT: Final = 80e9
"""Bytes of mapped pages of which it takes a second to see whether they were written to, about."""


@final
class Released:
    """A segment that nobody here sees any more; ``empty``: its pages were given back to the kernel."""

    __slots__ = ("empty", "number")

    def __init__(self, number: int, empty: bool) -> None:
        self.number = number
        self.empty = empty


class Mapped:
    """A part of the file: private and copy-on-write, and once more as it is for what gives pages back."""

    __slots__ = ("_address", "shared", "start", "view")

    def __init__(self, fd: int, start: int, span: int, giving: bool) -> None:
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        self.start = start
        self.view = mmap.mmap(fd, span, flags=mmap.MAP_PRIVATE, prot=protection, offset=start)
        self.shared = mmap.mmap(fd, span, offset=start) if giving else None
        self._address = 0  # once NumPy said it

    def address_by(self, numpy: Any) -> int:
        """Where the view lies in memory."""
        if not self._address:
            self._address = address_of(self.view, numpy)
        return self._address


class Borrower:
    """See the module. Where segments go that nobody sees any more: ``released``.

    ``giving``: the writer may be busy or gone, and cannot be asked to give pages back; then what is beyond
    ``keep`` bytes of free segments, or all once this is closed, is given back here.
    """

    def __init__(self, fd: int, released: deque[Any], *, giving: bool = False) -> None:
        self.fd = fd
        self._released = released
        self._giving = giving
        self.keep = ALL
        self._extents: dict[int, Mapped] = {}
        self._taken: set[int] = set()  # segments that are seen in these
        self._warm: dict[int, int] = {}  # bytes of free segments that have pages
        self._idle = 0  # about their sum; hooks count, too, and may come amid a count
        self._closed = False

    def claim(self, segment: Segment) -> Claim | Unseen | bytearray:
        """Take a segment over; a copy where it cannot be mapped, and a promise of one where there is no memory."""
        self._idle -= self._warm.pop(segment.at, 0)
        try:
            return Claim(self, self._mapped(segment), segment)
        except (OSError, ValueError, MemoryError):
            pass
        try:
            copy = self.copied(segment)
        except MemoryError:
            return Unseen(self, segment)
        self.give_back(segment)
        return copy

    def map_alone(self, segment: Segment) -> Mapped:
        """A mapping of a segment alone, which shows it as it came. Raises what ``mmap`` raises."""
        return Mapped(self.fd, segment.at, segment.pages, False)

    def _mapped(self, segment: Segment) -> Mapped:
        if _DONTNEED is None or segment.at in self._taken:
            # The same bytes again, for another who may write to his: a mapping of its own.
            return self.map_alone(segment)
        mapped = self._extents.get(segment.extent)
        if mapped is None:
            mapped = Mapped(self.fd, segment.extent, segment.span, self._giving)
            self._extents[segment.extent] = mapped
        self._taken.add(segment.at)
        return mapped

    def copied(self, segment: Segment) -> bytearray:
        """The bytes of a segment that this holds. Raises MemoryError."""
        copy = bytearray(segment.size)
        at, done = segment.at + segment.skip, 0
        with memoryview(copy) as view:
            while done < segment.size:
                count = os.preadv(self.fd, [view[done:]], at + done)
                if not count:
                    raise EOFError("the arena's file ends before what is said to be in it")
                done += count
        return copy

    def give_back(self, segment: Segment) -> None:
        """A segment that was never mapped here is not needed. Garbage collection calls this, anywhere."""
        self._released.append(Released(segment.at, False))

    def let_go(self, mapped: Mapped, segment: Segment, forks: int) -> None:
        """Nobody sees the segment any more. Garbage collection calls this, anywhere."""
        if _DONTNEED is not None:
            mapped.view.madvise(_DONTNEED, segment.at - mapped.start, segment.pages)
        if mapped is self._extents.get(segment.extent):
            self._taken.discard(segment.at)
        if forks != segments.forks:
            return  # a copy of this process may see it, nobody knows for how long
        empty = False
        if _REMOVE is not None and mapped.shared is not None and not segment.kept:
            empty = self._is_too_much(segment.size) and self._emptied(mapped, segment)
            if not empty:
                self._warm[segment.at] = segment.size
        self._released.append(Released(segment.at, empty))

    @staticmethod
    def _emptied(mapped: Mapped, segment: Segment) -> bool:
        """Give the pages back; False where the file lies in a file system that cannot."""
        assert _REMOVE is not None
        assert mapped.shared is not None
        try:
            mapped.shared.madvise(_REMOVE, segment.at - mapped.start, segment.pages)
        except OSError:
            return False
        return True

    def _is_too_much(self, size: int) -> bool:
        self._idle += size
        if self._idle > self.keep:
            self._idle = sum(list(self._warm.values())) + size
        if self._idle <= self.keep and not self._closed:
            return False
        self._idle -= size
        return True

    def close(self) -> None:
        """No more claims; those that there are stay good."""
        self._closed = True
        self._extents.clear()
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class Seen:
    """A segment that is seen here, by a mapping that may be its own."""

    __slots__ = ("__weakref__", "_mapped", "_segment")

    def __init__(self, mapped: Mapped, segment: Segment) -> None:
        self._mapped = mapped
        self._segment = segment

    def __len__(self) -> int:
        return self._segment.size

    def view(self) -> memoryview:
        """The bytes, for as long as the claim is held."""
        at = self._offset
        return memoryview(self._mapped.view)[at : at + self._segment.size]

    def export(self) -> Any:
        """The bytes as a buffer that holds the claim; a copy where nothing is loaded that can."""
        numpy = sys.modules.get("numpy")
        return bytearray(self.view()) if numpy is None else numpy.asarray(self)

    @property
    def __array_interface__(self) -> dict[str, Any]:
        address = self._mapped.address_by(sys.modules["numpy"]) + self._offset
        return {"data": (address, False), "shape": (len(self),), "typestr": "|u1", "version": 3}

    @property
    def _offset(self) -> int:
        return self._segment.at + self._segment.skip - self._mapped.start


@final
class Claim(Seen):
    """One that is the reader's until its last view dies."""

    __slots__ = ("_alone", "_borrower", "_forks", "_user")

    def __init__(self, borrower: Borrower, mapped: Mapped, segment: Segment) -> None:
        super().__init__(mapped, segment)
        self._borrower = borrower
        self._forks = segments.forks
        self._alone: Mapped | None = None  # by which ``again`` was seen last
        self._user: Callable[[], Seen | None] = _nobody

    def again(self, seconds: float) -> Seen | bytearray:
        """The same bytes as they came, for another who may write to his.

        A mapping that was used before has its pages in place, which is much faster; it serves again if nobody
        sees it any more, nothing was written to it, and its use, of so many ``seconds``, took longer than to look.
        """
        numpy, mapped = sys.modules.get("numpy"), self._alone
        looking = self._segment.pages / _LOOKED_AT
        if (
            mapped is None or self._user() is not None or numpy is None or seconds < looking
            or not pages.are_as_they_came(mapped.address_by(numpy), self._segment.pages, numpy)
        ):  # fmt: skip
            try:
                mapped = self._alone = self._borrower.map_alone(self._segment)
            except (OSError, ValueError, MemoryError):
                self._alone = None
                return self._borrower.copied(self._segment)
        seen = Seen(mapped, self._segment)
        self._user = weakref.ref(seen)
        return seen

    def __del__(self, _over: Callable[[], bool] = sys.is_finalizing) -> None:
        if not _over():  # then modules may have been cleared, and all memory is given back anyway
            self._borrower.let_go(self._mapped, self._segment, self._forks)


@final
class Unseen:
    """A segment that could not be mapped; whoever wants its bytes has to have memory for a copy then."""

    __slots__ = ("_borrower", "_segment")

    def __init__(self, borrower: Borrower, segment: Segment) -> None:
        self._borrower = borrower
        self._segment = segment

    def __len__(self) -> int:
        return self._segment.size

    def view(self) -> memoryview:
        """The bytes. Raises MemoryError."""
        return memoryview(self.export())

    def export(self) -> bytearray:
        """The bytes, as ``Claim`` gives them. Raises MemoryError."""
        try:
            return self._borrower.copied(self._segment)
        except (MemoryError, OSError):
            size = self._segment.size
        raise MemoryError(f"no memory in this process for the {size} bytes that another has sent")

    def again(self, _: float) -> bytearray:
        """The same, which is another copy."""
        return self.export()

    def __del__(self, _over: Callable[[], bool] = sys.is_finalizing) -> None:
        if not _over():
            self._borrower.give_back(self._segment)


def _nobody() -> None:
    """It has not been seen again."""
