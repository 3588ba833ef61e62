"""The arena's files: big buffers beside the channel, written by one process and mapped by another.

    writer   take, fill -> a segment, its numbers in a frame                             lender.py
    reader   a view of those pages, private and copy-on-write, without a copy            borrower.py
             the last view dies -> "released" with the next frame -> the pages are used again

A program that owns pools has one file, which all its workers read; each worker has one for its results.

Rules of the arena:

1. One writer a file. It never writes to a segment that is lent; what the reader writes stays the reader's.
2. A segment without pages is written by ``pwrite``, which fails where there is no memory; only one that has
   them is written through a mapping. No file ever shrinks. So nobody meets SIGBUS.
3. No memory, no descriptor, no address space: then the bytes travel in the frame, as without an arena.
4. What garbage collection calls appends to a deque, gives pages back to the kernel, and tries a lock at most.
5. A copy of the process that was forked writes nothing and gives nothing back; what was mapped at a fork is the
   copy's too, so it is never used again.
"""

from __future__ import annotations

import mmap
import os
from typing import Final, NamedTuple

from millpond.system import files

SMALLEST: Final = 1 << 16
"""Bytes of a buffer from which on it goes through the arena."""
BODY: Final = 1 << 20
"""Bytes of a pickle from which on it does."""
PAGE: Final = mmap.PAGESIZE


forks = 0
"""Of this process, so far."""


class Segment(NamedTuple):
    """Where bytes are: in an extent, which is a part of the file that is mapped as a whole."""

    extent: int
    span: int
    at: int  # which tells the segment from all others
    size: int  # of what is in it
    skip: int = 0  # bytes before that
    kept: bool = False  # its writer still uses it: its pages are not the reader's to give back

    @property
    def pages(self) -> int:
        """Bytes of the pages from ``at`` to the end."""
        return whole_pages(self.skip + self.size)


def open_file() -> int:
    """A descriptor of an empty file without a name, in memory where the system can."""
    return files.unnamed_file("millpond-arena", seals=files.SHRINK)


def whole_pages(size: int) -> int:
    """Bytes of the pages that hold so many."""
    return -(-size // PAGE) * PAGE


def _count_fork() -> None:
    global forks
    forks += 1


# After it, too: another thread may map something, or let go of it, between the count and the fork.
os.register_at_fork(before=_count_fork, after_in_parent=_count_fork)
