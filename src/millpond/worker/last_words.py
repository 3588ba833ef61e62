"""What a worker leaves for whoever asks why it died: the last of its stderr, and faulthandler's stack.

Both lie behind the slate's words, in memory that outlives the process. Rules: the worker's stderr stays what
it is, what Python code writes to it is only kept as well; threads may write over one another's kept lines,
since a lock here could stop a signal handler that prints; a copy of the process that a task forked keeps nothing.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from typing import Any, Final, NamedTuple

from millpond.errors import escape
from millpond.worker.slate import FAULT, SIZE, TAIL, Slate

LINES: Final = 20
"""Of stderr, at most."""
_LONGEST: Final = 100
"""Lines of a stack, at most."""
_WORD: Final = 8
_RING: Final = TAIL + 2 * _WORD
_ROOM: Final = FAULT - _RING

_FAULTS: Final = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
)
_HEADING: Final = b"Fatal Python error: "


class LastWords(NamedTuple):
    """Lines, escaped."""

    stderr: str = ""
    stack: str = ""


def keep(slate: Slate, page: int) -> None:
    """In a worker, from now on. ``page`` is a descriptor of the slate's file, and stays open."""
    os.lseek(page, FAULT, os.SEEK_SET)
    faulthandler.enable(page)
    stream: Any = sys.stderr
    try:
        # The object stays the same: what has got hold of it already is heard as well.
        stream.write = _keeping(stream.write, slate)
    except AttributeError:
        pass  # there is none, or it takes no attributes


def _keeping(write: Any, slate: Slate) -> Any:
    """``write``, which also puts the text into a ring: counts of the bytes begun and written, the last bytes.

    Of those that a worker had begun when it died nobody knows whether they are new or old.
    """
    page = slate.words.cast("B")
    counts, ring = page[TAIL:_RING].cast("Q"), page[_RING:FAULT]
    pid = os.getpid()

    def write_and_keep(text: Any) -> Any:
        if type(text) is str and os.getpid() == pid:
            data = text[-_ROOM:].encode("utf-8", "backslashreplace")[-_ROOM:]
            begin = counts[0]
            counts[0] = end = begin + len(data)
            at = begin % _ROOM
            head = data[: _ROOM - at]
            ring[at : at + len(head)] = head
            ring[: len(data) - len(head)] = data[len(head) :]
            counts[1] = end
        return write(text)

    return write_and_keep


def read(slate: Slate, exitcode: int | None) -> LastWords:
    """In the parent, after the worker's end."""
    page = slate.words.cast("B")
    # An older stack may be that of a copy that a task forked.
    fault = exitcode is None or -exitcode in _FAULTS
    return LastWords(
        _last_lines(bytes(page[TAIL:FAULT])), _stack(bytes(page[FAULT:SIZE])) if fault else ""
    )


def _last_lines(tail: bytes) -> str:
    head, ring = memoryview(tail[: 2 * _WORD]).cast("Q"), tail[2 * _WORD :]
    begun, whole = head
    at = begun % _ROOM
    data = ring[at:] + ring[:at] if begun > _ROOM else ring[:begun]  # ends where the begun ones do
    if begun - whole > 0:
        data = data[: max(len(data) - (begun - whole), 0)]
    lines = data.decode("utf-8", "replace").splitlines()
    if begun > _ROOM and len(lines) > 1:
        del lines[0]  # its begin is lost
    return "\n".join(map(escape, lines[-LINES:]))


def _stack(written: bytes) -> str:
    begin = written.rfind(_HEADING)
    if begin < 0:
        return ""
    lines = written[begin:].partition(b"\0")[0].decode("utf-8", "replace").splitlines()
    return "\n".join(map(escape, lines[:_LONGEST]))
