"""Segments of a file, each held by whoever still needs it: see ``segments``.

    put(buffers) -> Loan       held by what was encoded, and for each reader that was sent it
    own(size)    -> Owned      held by an array of the user's; a part of it that is sent is a Loan of its own
    the last of them lets go -> the segment is free

Rules: any thread may encode, so what is lent is counted under a lock; garbage collection, which may come while
this thread has the lock, changes nothing then: what it gives back it appends to a deque, and there is no room for
what code that it runs would put here.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, final

from millpond.worker import segments
from millpond.worker.frames import Buffer
from millpond.worker.lender import ALL, Lender
from millpond.worker.segments import Segment


@final
class Loan:
    """A segment that was written, until nobody holds this any more."""

    __slots__ = ("__weakref__", "_lending", "_whole", "empty", "lasting", "segment")

    def __init__(self, lending: Lending, segment: Segment, whole: Loan | None = None) -> None:
        self._lending = lending
        self._whole = whole  # of which this is a part
        self.segment = segment
        self.lasting = False  # a copy of a process sees it, nobody knows for how long
        self.empty = False  # its reader has given its pages back

    def __len__(self) -> int:
        return self.segment.size

    def __del__(self, _over: Callable[[], bool] = sys.is_finalizing) -> None:
        if _over():  # modules may have been cleared, and nobody is lent to any more
            return
        if self._whole is not None:
            self._whole.lasting |= self.lasting
        elif not self.lasting:
            self._lending.give_back(self.segment.at, self.empty)


class Owned:
    """A segment that an array of the user's lies in."""

    def __init__(self, loan: Loan, mapped: Any, address: int) -> None:
        self.loan = loan
        self._mapped = mapped
        self._forks = segments.forks
        self.__array_interface__ = {
            "data": (address, False), "shape": (len(loan),), "typestr": "|u1", "version": 3,
        }  # fmt: skip

    def __del__(self, _over: Callable[[], bool] = sys.is_finalizing) -> None:
        if not _over() and self._forks != segments.forks:
            self.loan.lasting = True


class Lending:
    """The writer of a file that several threads write to. ``fd`` is the caller's, to be closed after this."""

    def __init__(self, fd: int, keep: int = ALL) -> None:
        self._lender = Lender(fd, keep)
        self._lock = threading.RLock()
        self._changing = False  # under the lock
        self._given_back: deque[tuple[int, bool]] = deque()
        self._owned: dict[int, tuple[int, weakref.ref[Loan]]] = {}  # addresses, by their numbers

    def put(self, pieces: Sequence[Buffer]) -> Loan | None:
        """Write these bytes one after another into a segment; None where there is no room.

        Bytes that lie in this file already are left where they are.
        """
        if self._owned and len(pieces) == 1:
            found = self._find(pieces[0])
            if found is not None:
                return found
        size = sum(map(len, pieces))
        loan, slot = self._take(size)
        if loan is not None and not self._lender.fill(slot, pieces, size):
            return None
        return loan

    def _take(self, size: int) -> tuple[Loan | None, Any]:
        with self._lock:
            if self._changing:
                return None, None
            self._changing = True
            try:
                slot = self._lender.take(size)
            finally:
                self._changing = False
        self._tidy()
        return (None, None) if slot is None else (Loan(self, slot.segment(size)), slot)

    def give_back(self, number: int, empty: bool) -> None:
        """Nobody holds the segment. Garbage collection may call this anywhere."""
        self._given_back.append((number, empty))
        self._tidy()

    def _tidy(self) -> None:
        """Free what was given back; where another has the lock, or this thread, that one will."""
        while self._given_back:
            if not self._lock.acquire(blocking=False):
                return
            if self._changing:
                self._lock.release()
                return
            self._changing = True
            try:
                while self._given_back:
                    number, empty = self._given_back.popleft()
                    self._owned.pop(number, None)
                    self._lender.free(number, empty=empty)
            finally:
                self._changing = False
                self._lock.release()

    def usage(self) -> dict[str, int]:
        """Bytes that have pages, and which of these are in use."""
        with self._lock:
            total, lent = self._lender.usage()
        self._tidy()
        return {"arguments": total, "lent": lent}

    def close(self) -> None:
        """No more of it; what others have mapped stays good."""
        self._lender.close()

    # Arrays of the user's ---------------------------------------------------------------------------

    def own(self, size: int, numpy: Any) -> Owned | None:
        """A segment for an array; None where there is no room."""
        loan, slot = self._take(size)
        if loan is None:
            return None
        mapped = self._lender.hold(slot, size)
        if mapped is None:
            return None
        extent, _, at, *_ = loan.segment
        address = address_of(mapped, numpy) + at - extent
        self._owned[at] = address, weakref.ref(loan)
        return Owned(loan, mapped, address)

    @property
    def owns(self) -> bool:
        """Whether there are such arrays."""
        return any(loan() is not None for _, loan in list(self._owned.values()))

    def _find(self, piece: Buffer) -> Loan | None:
        """The part of an owned segment that these bytes are."""
        address = address_of(piece, sys.modules["numpy"])
        for start, held in list(self._owned.values()):
            loan = held()
            skip = address - start
            if loan is not None and 0 <= skip <= len(loan) - len(piece):
                part = loan.segment._replace(size=len(piece), skip=skip, kept=True)
                return Loan(self, part, loan)
        return None


def address_of(buffer: Any, numpy: Any) -> int:
    """Where a buffer lies in memory."""
    address: int = numpy.frombuffer(buffer, numpy.uint8).__array_interface__["data"][0]
    return address
