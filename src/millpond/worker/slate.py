"""The worker's shared page: which of its tasks it is in, and since when.

One writer a word, each word eight aligned bytes, stored at once. The worker writes the time, then one word
that says all: the number of a task, how many run as one slice, and the phase. The parent writes the two
words of a recall, and only while the worker is stopped, so that "not begun" stays true until it reads them.

A worker that holds coroutines has begun many tasks at once: each has a row, and ``NEXT`` is the first
coroutine that it has not begun. The word then names the one that is being stepped.
"""

from __future__ import annotations

import mmap
from typing import Final

TIME, WORD, RECALLED_FROM, RECALLED_TO, NEXT, FORKED = range(6)

ROWS: Final = 2048
"""Coroutines that a worker can hold at once."""
FIRST_ROW: Final = 8
"""The word at which their rows begin: each the number of a coroutine plus one, and when it began."""
TAIL: Final = 9 * 4096
"""The byte from which on the last of the worker's stderr is kept."""
FAULT: Final = TAIL + 4096
"""The byte from which on faulthandler writes."""
SIZE: Final = FAULT + 16 * 4096

# Phases, the lowest bits of WORD.
IDLE, DECODING, RUNNING, ENCODING = range(4)
PHASES: Final = ("sending the result", "unpickling the argument", "running", "pickling the result")
"""What a worker was doing when it died, in words; between tasks that can only have been this."""

_COUNT_SHIFT: Final = 2
_SEQ_SHIFT: Final = 24
MOST: Final = (1 << (_SEQ_SHIFT - _COUNT_SHIFT)) - 1
"""Tasks in one slice, at most."""
STEP: Final = 1 << _SEQ_SHIFT
ONE: Final = 1 << _COUNT_SHIFT


def word(seq: int, count: int, phase: int) -> int:
    """The word that says: in ``phase`` of ``count`` tasks from ``seq`` on."""
    return (seq << _SEQ_SHIFT) | (count << _COUNT_SHIFT) | phase


class Slate:
    """A view of the page; ``words`` are its 64-bit words."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, SIZE)
        self.words = memoryview(self._map).cast("Q")

    def read(self) -> tuple[int, int, int]:
        """The first task that it is in, the one after the last, and the phase."""
        value = self.words[WORD]
        seq, phase = value >> _SEQ_SHIFT, value & 3
        if phase == IDLE:
            return seq, seq, phase
        return seq, seq + ((value >> _COUNT_SHIFT) & MOST), phase

    def began(self) -> int:
        """When the task that it is in began, in nanoseconds of the monotonic clock."""
        return self.words[TIME]

    def unbegun(self) -> int:
        """The first task that it has not begun; it begins them in the order of their numbers."""
        return max(self.read()[1], self.words[NEXT])

    def begun(self) -> dict[int, int]:
        """The coroutines that it has begun and not answered, and when each began, as ``began`` has it."""
        with self.words[FIRST_ROW : FIRST_ROW + 2 * ROWS] as rows:
            words = rows.tolist()
        pairs = zip(words[::2], words[1::2], strict=True)
        return {number - 1: began for number, began in pairs if number}

    def recall(self, start: int, stop: int) -> None:
        """Forbid the worker to begin the tasks ``start`` to ``stop``. It must be stopped meanwhile."""
        self.words[RECALLED_FROM] = start
        self.words[RECALLED_TO] = stop

    def close(self) -> None:
        self.words.release()
        self._map.close()
