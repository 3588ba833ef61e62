"""Descriptors 0 to 2 where the program has closed them: what is printed must not go into what is ours.

Rules: while a pool lives, and while a process is started, ``/dev/null`` is there, so that nothing of ours gets
these numbers; what the program puts in its place stays the program's.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_changing = threading.Lock()
_held: list[int] = []
_holders = 0


def hold() -> None:
    """Have no low number free until ``release``."""
    global _holders
    with _changing:
        _holders += 1
        for fd in (0, 1, 2):
            if not is_open(fd):
                _fill(fd)


def release() -> None:
    """The last one who held gives the numbers back."""
    global _holders
    with _changing:
        _holders -= 1
        while _held and not _holders:
            fd = _held.pop()
            if _is_ours(fd):
                os.close(fd)


@contextmanager
def filled() -> Iterator[None]:
    """``hold`` for the time of the context."""
    hold()
    try:
        yield
    finally:
        release()


def is_open(fd: int) -> bool:
    """Whether this process has a descriptor of that number."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _fill(fd: int) -> None:
    """The lowest number is taken, so this one, unless another thread was quicker."""
    try:
        got = os.open(os.devnull, os.O_RDWR)
    except OSError:
        return  # then it may be had by what is ours, as before
    if got == fd:
        _held.append(fd)
    else:
        os.close(got)


def _is_ours(fd: int) -> bool:
    """Whether it is what was put there; ``dup2`` gives what is inherited."""
    try:
        null = os.stat(os.devnull).st_rdev
        return os.fstat(fd).st_rdev == null and bool(
            fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        )
    except OSError:
        return False


def _in_child() -> None:
    _changing._at_fork_reinit()  # type: ignore[attr-defined]


os.register_at_fork(after_in_child=_in_child)
