"""The worker's shared page: which of its tasks it is in, and since when.

One writer a word, each word eight aligned bytes, stored at once. The worker writes the time, then one word
that says all: the number of a task, how many run as one slice, and the phase. The parent writes the two
words of a recall, and only while the worker is stopped. The worker may be stopped between any two of its
accesses: who reads two words that belong together checks that they do (``taken_back``, ``Slate.now``).

The handshake of a recall: the worker notes a task in ``WORD`` (or ``NEXT``), then asks ``recalled``; the parent
stops the worker, reads what it noted, and takes back what is behind that. So a recall that comes after the note
never has the noted task in it, and one that came before is seen whole.

A worker that holds coroutines has begun many tasks at once: each has a row, and ``NEXT`` is the first
coroutine that it has not begun. The word then names the one that is being stepped.
"""

from __future__ import annotations

import mmap
from time import monotonic_ns
from typing import Any, Final

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

_LOOKS: Final = 8
"""Times that two words are looked at which a worker changes."""
_COUNT_SHIFT: Final = 2
_SEQ_SHIFT: Final = 24
MOST: Final = (1 << (_SEQ_SHIFT - _COUNT_SHIFT)) - 1
"""Tasks in one slice, at most."""
STEP: Final = 1 << _SEQ_SHIFT
ONE: Final = 1 << _COUNT_SHIFT


def word(seq: int, count: int, phase: int) -> int:
    """The word that says: in ``phase`` of ``count`` tasks from ``seq`` on."""
    return (seq << _SEQ_SHIFT) | (count << _COUNT_SHIFT) | phase


def _meaning(value: int) -> tuple[int, int, int]:
    seq, phase = value >> _SEQ_SHIFT, value & 3
    if phase == IDLE:
        return seq, seq, phase
    return seq, seq + ((value >> _COUNT_SHIFT) & MOST), phase


def note(words: Any, seq: int, count: int) -> None:
    """In the worker: these tasks are being made ready to run."""
    words[TIME] = monotonic_ns()
    words[WORD] = word(seq, min(count, MOST), DECODING)


def taken_back(words: Any) -> tuple[int, int]:
    """In the worker: the tasks that it must not begin. Each recall ends behind all before, so an end that did not
    change while the begin was read belongs to it."""
    while True:
        stop = words[RECALLED_TO]
        start = words[RECALLED_FROM]
        if words[RECALLED_TO] == stop:
            return start, stop


def recalled(words: Any, seq: int) -> bool:
    """In the worker, which has noted that it begins this task: whether it was taken back before."""
    start, stop = taken_back(words)
    return start <= seq < stop


def free_ahead(words: Any, seq: int) -> int:
    """In the worker: how many tasks may begin before one that was taken back; a slice must not reach into it."""
    start, stop = taken_back(words)
    return start - seq if seq < start < stop else MOST


class Slate:
    """A view of the page; ``words`` are its 64-bit words."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, SIZE)
        self.words = memoryview(self._map).cast("Q")

    def read(self) -> tuple[int, int, int]:
        """The first task that it is in, the one after the last, and the phase."""
        return _meaning(self.words[WORD])

    def now(self) -> tuple[int, int, int, int]:
        """What ``read`` gives, and when that task began, in nanoseconds of the monotonic clock.

        Of a worker that runs meanwhile, too; one that is always faster is between two tasks.
        """
        for _ in range(_LOOKS):
            noted, began = self.words[WORD], self.words[TIME]
            if self.words[WORD] == noted:
                return *_meaning(noted), began
        seq = self.read()[0]
        return seq, seq, IDLE, 0

    def unbegun(self) -> int:
        """The first task that it has not begun; it begins them in the order of their numbers."""
        return max(self.read()[1], self.words[NEXT])

    def begun(self) -> dict[int, int]:
        """The coroutines that it has begun and not answered, and when each began, as ``began`` has it."""
        with self.words[FIRST_ROW : FIRST_ROW + 2 * ROWS] as rows:
            words = rows.tolist()
        pairs = zip(words[::2], words[1::2], strict=True)
        return {number - 1: began for number, began in pairs if number}

    def recall(self, start: int, stop: int) -> int:
        """Forbid the worker to begin the tasks ``start`` to ``stop``; the first of them that is taken back now.

        It must be stopped meanwhile. Where it has not got past what was taken back before, that stays so: the task
        that it has noted is one of those, perhaps, and it has yet to see that.
        """
        before, reach = self.words[RECALLED_FROM], self.words[RECALLED_TO]
        first = start
        if start <= reach:
            first = start if start < before else reach
            start = min(start, before)
        self.words[RECALLED_FROM] = start
        self.words[RECALLED_TO] = max(stop, reach)
        return first

    def close(self) -> None:
        self.words.release()
        self._map.close()
