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
_ROOM: Final = FAULT - TAIL - _WORD

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
    """``write``, which also puts the text into a ring: a count of all its bytes, then the last of them."""
    page = slate.words.cast("B")
    count, ring = page[TAIL : TAIL + _WORD].cast("Q"), page[TAIL + _WORD : FAULT]
    pid = os.getpid()

    def write_and_keep(text: Any) -> Any:
        if type(text) is str and os.getpid() == pid:
            data = text[-_ROOM:].encode("utf-8", "backslashreplace")[-_ROOM:]
            at = count[0] % _ROOM
            head = data[: _ROOM - at]
            ring[at : at + len(head)] = head
            ring[: len(data) - len(head)] = data[len(head) :]
            count[0] += len(data)
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
    count, ring = int.from_bytes(tail[:_WORD], sys.byteorder), tail[_WORD:]
    at = count % _ROOM
    data = ring[at:] + ring[:at] if count > _ROOM else ring[:count]
    lines = data.decode("utf-8", "replace").splitlines()
    if count > _ROOM and len(lines) > 1:
        del lines[0]  # its begin is lost
    return "\n".join(map(escape, lines[-LINES:]))


def _stack(written: bytes) -> str:
    begin = written.rfind(_HEADING)
    if begin < 0:
        return ""
    lines = written[begin:].partition(b"\0")[0].decode("utf-8", "replace").splitlines()
    return "\n".join(map(escape, lines[:_LONGEST]))
