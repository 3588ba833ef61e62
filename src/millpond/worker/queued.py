"""Values that are pickled by queues which a Pool's subclass has set up: ``Pool._setup_queues``.

A queue is used as what it pickles with, and not as a way between processes: whatever its ``put`` writes into
its pipe lands in a file of this process, and its ``get`` reads what was laid into one.

                 program                                            worker
    argument     Sent ── inqueue.put ──▶ bytes ══ our channel ══▶ bytes ──▶ inqueue.get
    result       outqueue.get ◀── bytes ══ our channel ══ bytes ◀── outqueue.put ── Sent

Rules: a queue's file belongs to one process, and a copy of the process makes one of its own; nothing of a queue
is waited for, so that no dead worker can hold what others need.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final

from millpond.worker.conduct import is_coroutine_function, is_global, name_of
from millpond.worker.outcome import PLAIN
from millpond.worker.segments import open_file

_KEPT: Final = 1 << 20
"""Bytes of memory that a file may keep between two values."""

_pickled_by: weakref.WeakValueDictionary[str, Queues] = weakref.WeakValueDictionary()
"""Of the pools that this process has, or works for. They hold them: a queue may refer to its pool."""


class PrivateLock:
    """What a context gives for a lock where each process shall have its own."""

    def __init__(self) -> None:
        lock = threading.RLock()
        self.acquire, self.release = lock.acquire, lock.release

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def __reduce__(self) -> Any:
        return PrivateLock, ()


class _Side:
    """One queue in this process: its writer or its reader, with a file in the place of the pipe."""

    def __init__(self, connection: Any, move: Callable[..., Any]) -> None:
        self._fd: int = connection.fileno()
        self._move = move
        self._lock = threading.RLock()  # a pickling hook may use the pool
        self._owner = 0

    def dumps(self, value: object) -> bytes:
        """What ``put`` writes for the value."""
        with self._lock:
            self._make_file()
            try:
                self._move(value)
                size = os.lseek(self._fd, 0, os.SEEK_CUR)
                os.lseek(self._fd, 0, os.SEEK_SET)
                with open(self._fd, "rb", closefd=False) as file:
                    return file.read(size)
            finally:
                self._rewind()

    def loads(self, data: bytes) -> Any:
        """What ``get`` makes of it."""
        with self._lock:
            self._make_file()
            try:
                with open(self._fd, "wb", closefd=False) as file:
                    file.write(data)
                os.lseek(self._fd, 0, os.SEEK_SET)
                return self._move()
            finally:
                self._rewind()

    def _make_file(self) -> None:
        if self._owner != os.getpid():
            file = open_file()
            try:
                os.dup2(file, self._fd, inheritable=False)
            finally:
                os.close(file)
            self._owner = os.getpid()

    def _rewind(self) -> None:
        if os.fstat(self._fd).st_size > _KEPT:
            self._owner = 0
            self._make_file()
        os.lseek(self._fd, 0, os.SEEK_SET)


class Queues:
    """Both queues of a pool, as one process uses them: one to write into, one to read from."""

    def __init__(
        self, writer: Any, put: Callable[[Any], Any], reader: Any, get: Callable[[], Any]
    ) -> None:
        self.outgoing, self.incoming = _Side(writer, put), _Side(reader, get)

    def use(self, key: str) -> None:
        """From now on this process pickles what has the key with these, as long as somebody holds them."""
        _pickled_by[key] = self


class Sent:
    """A value that is to be pickled by a pool's queue."""

    __slots__ = ("key", "value")

    def __init__(self, key: str, value: object) -> None:
        self.key, self.value = key, value

    def __reduce__(self) -> Any:
        return _receive, (self.key, _pickled_by[self.key].outgoing.dumps(self.value))

    def __repr__(self) -> str:
        return repr(self.value)


def _receive(key: str, data: bytes) -> Any:
    return _pickled_by[key].incoming.loads(data)


class Posted:
    """A function whose results are pickled by the pool's queue, as it is itself."""

    def __init__(self, key: str, function: Callable[..., Any]) -> None:
        self.key, self.func = key, function

    def __call__(self, *args: Any, **kwds: Any) -> Any:
        return sent(self.key, self.func(*args, **kwds))

    def __reduce__(self) -> Any:
        if is_global(self.func):
            return type(self), (self.key, self.func)
        try:
            data = _pickled_by[self.key].outgoing.dumps(self.func)
        except Exception:
            return type(self), (self.key, self.func)  # as without a queue: by value
        return _posted_again, (type(self), self.key, data)


class PostedCoroutine(Posted):
    """The same of a coroutine function."""

    async def __call__(self, *args: Any, **kwds: Any) -> Any:
        return sent(self.key, await self.func(*args, **kwds))


def _posted_again(kind: type[Posted], key: str, data: bytes) -> Posted:
    return kind(key, _receive(key, data))


def posted(key: str, function: Callable[..., Any]) -> Posted:
    """The function, with its results pickled by the pool's queue."""
    kind = PostedCoroutine if is_coroutine_function(function) else Posted
    return kind(key, function)


def sent(key: str, value: Any) -> Any:
    """The value as it is to be pickled; what is plain no queue does anything about."""
    return value if type(value) in PLAIN else Sent(key, value)


class Equipment:
    """The initializer of a worker whose pool has queues of its own."""

    def __init__(
        self, key: str, inqueue: Any, outqueue: Any, initializer: Callable[..., Any] | None
    ) -> None:
        self._key, self._inqueue, self._outqueue = key, inqueue, outqueue
        self.func = initializer
        self.__qualname__ = "Pool._setup_queues" if initializer is None else name_of(initializer)

    def __call__(self, *args: Any) -> None:
        inqueue, outqueue = self._inqueue, self._outqueue
        self._queues = Queues(outqueue._writer, outqueue.put, inqueue._reader, inqueue.get)
        self._queues.use(self._key)
        if self.func is not None:
            self.func(*args)
