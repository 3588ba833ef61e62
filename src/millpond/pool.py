"""``Pool``: arguments -> a job -> the engine. And all else that ``multiprocessing.pool`` has."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from multiprocessing import util
from typing import Any, TypeVar

from millpond import errors
from millpond.arguments import (
    check_buffersize,
    check_chunksize,
    check_count,
    check_options,
    held,
    name_of,
)
from millpond.backends import registry
from millpond.context import starting
from millpond.core.policy import Policy
from millpond.engine import Engine
from millpond.feeding import feed
from millpond.job import CallStream, MapJob, StreamJob
from millpond.results import AsyncResult, IMapIterator, IMapUnorderedIterator, MapResult
from millpond.worker.codec import CALL, MAP, STAR
from millpond.worker.outcome import Error

__all__ = [
    "ApplyResult", "AsyncResult", "IMapIterator", "IMapUnorderedIterator", "MapResult", "Pool", "ThreadPool",
]  # fmt: skip

ApplyResult = AsyncResult

S = TypeVar("S")
T = TypeVar("T")

INIT, RUN, CLOSE, TERMINATE = "INIT", "RUN", "CLOSE", "TERMINATE"

_GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL at ``terminate()``."""
_STREAMS = 64
"""Functions whose calls are kept together, so that what was measured of them is known at the next call."""


class Pool:
    """A pool of workers; ``multiprocessing.Pool``, and a class.

    ``processes``: how many workers; default: the CPUs that this process may use, by affinity and by cgroup
    quota (``MILLPOND_CPU_COUNT`` overrides it). ``initializer(*initargs)`` is run once in each worker.
    ``maxtasksperchild``: chunks that a worker takes before it is replaced. ``context`` or ``start_method``:
    how processes start; default: the interpreter's, but where that is fork and other Python threads run, a
    warm fork server (``info()`` says which, and why). ``backend``: ``"processes"``, ``"threads"`` or
    ``"inline"`` (in the caller). ``graceful``: ``with`` closes and joins; without it, it terminates.

    Raises ValueError or TypeError for arguments that make no sense, OSError if no process can be started.
    """

    _state = INIT

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        start_method: str | None = None,
        backend: str | None = None,
        graceful: bool = False,
    ) -> None:
        registry.check_may_start()
        self._graceful = graceful
        self._processes = check_count(processes)
        check_options(maxtasksperchild, initializer)
        start = starting(context, start_method)
        self._choice = registry.choose(backend, start, initializer, tuple(initargs))
        self._backend = self._choice.backend
        self._packing = self._backend.packing
        self._recycling = maxtasksperchild
        self._engine = Engine(
            Policy(workers=self._processes, max_chunks=maxtasksperchild),
            self._backend,
            attended=self._choice.attended,
        )
        self._finalizer = util.Finalize(
            None, self._engine.terminate, args=(_GRACE,), exitpriority=15
        )
        self._engine.life.on_finish = self._finalizer.cancel
        self._calls: dict[Any, CallStream] = {}
        self._calling = threading.Lock()
        try:
            self._engine.open()
        except BaseException:
            self._engine.terminate(_GRACE)
            raise
        self._state = RUN

    # One call -------------------------------------------------------------------------------------

    def apply(
        self, func: Callable[..., T], args: Iterable[Any] = (), kwds: Mapping[str, Any] = {}
    ) -> T:
        """``func(*args, **kwds)`` in a worker; waits for it."""
        return self._call(func, args, kwds, None, None).get()

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[T]:
        """``apply`` that does not wait. The callbacks run in a thread of the pool's, in order."""
        result = self._call(func, args, kwds, callback, error_callback)
        self._engine.ring()
        return result

    def _call(
        self, func: Callable[..., T], args: Any, kwds: Any, callback: Any, error_callback: Any
    ) -> AsyncResult[T]:
        self._check_running()
        result: AsyncResult[T] = AsyncResult(self._engine, self, callback, error_callback)
        try:
            payload = self._packing.argument(CALL, (tuple(args), dict(kwds)))
            stream = self._stream(func)
        except BaseException as error:
            if not isinstance(error, Exception):
                raise
            result.settle(Error(error))
            return result
        wanted = callback is not None or error_callback is not None
        self._engine.submit((stream, held(result, wanted), payload))
        return result

    def _stream(self, func: Callable[..., Any]) -> CallStream:
        """Where calls of the function are gathered: one stream for each that pickles by reference."""
        if not self._packing.keeps(func):
            return self._new_stream(func)
        stream = self._calls.get(func)
        if stream is None:
            with self._calling:
                stream = self._new_stream(func)
                stream.shared = True
                self._calls[func] = stream
                if len(self._calls) > _STREAMS:
                    self._engine.retire(self._calls.pop(next(iter(self._calls))))
        return stream

    def _new_stream(self, func: Callable[..., Any]) -> CallStream:
        stream = CallStream(self._packing.function(func), name_of(func))
        stream.source = func
        return stream

    # Many at once ---------------------------------------------------------------------------------

    def map(
        self, func: Callable[[S], T], iterable: Iterable[S], chunksize: int | None = None
    ) -> list[T]:
        """``[func(x) for x in iterable]`` in the workers. All run; then the first error is raised.

        Without ``chunksize``, tasks go in chunks of a few milliseconds by measured time; with it, that
        many are never parted.
        """
        return self._map(func, iterable, MAP, chunksize, None, None).get()

    def starmap(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[T]:
        """``map`` of ``func(*x)``."""
        return self._map(func, iterable, STAR, chunksize, None, None).get()

    def map_async(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[list[T]]:
        """``map`` that does not wait."""
        result = self._map(func, iterable, MAP, chunksize, callback, error_callback)
        self._engine.ring()
        return result

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[list[T]]:
        """``starmap`` that does not wait."""
        result = self._map(func, iterable, STAR, chunksize, callback, error_callback)
        self._engine.ring()
        return result

    def _map(
        self,
        func: Callable[..., T],
        iterable: Iterable[Any],
        style: int,
        chunksize: int | None,
        callback: Any,
        error_callback: Any,
    ) -> MapResult[list[T]]:
        self._check_running()
        check_chunksize(chunksize)
        result: MapResult[list[T]] = MapResult(self._engine, self, callback, error_callback)
        sized = hasattr(iterable, "__len__")
        try:
            inputs = list(iterable)
            function = self._packing.function(func)
        except Exception as error:
            if not sized:
                raise
            result.settle(Error(error))
            return result
        grain = chunksize or -(-len(inputs) // (4 * self._processes)) or 1
        unit = grain if chunksize or self._recycling else 1
        job = MapJob(function, name_of(func), style, inputs, grain, unit)
        job.source = func
        job.receiver = held(result, callback is not None or error_callback is not None)
        if not inputs:
            result.settle_empty(job)
        else:
            self._engine.submit(job)
        return result

    # Bit by bit -----------------------------------------------------------------------------------

    def imap(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int | None = None,
        *,
        buffersize: int | None = None,
    ) -> IMapIterator[T]:
        """Yield ``func(x)`` for each x, in order, with bounded look-ahead both ways.

        Work starts at the call. At most ``buffersize`` inputs (default: 4 chunks a worker, never over
        1,024 inputs a worker) are pulled ahead of the last result taken, so endless input works. A task's
        exception is raised at its place in the order; iteration may go on after it.
        """
        return IMapIterator(
            self._engine, self._imap(func, iterable, chunksize, buffersize, True), self
        )

    def imap_unordered(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int | None = None,
        *,
        buffersize: int | None = None,
    ) -> IMapUnorderedIterator[T]:
        """``imap`` that yields results as they come."""
        job = self._imap(func, iterable, chunksize, buffersize, False)
        return IMapUnorderedIterator(self._engine, job, self)

    def _imap(
        self,
        func: Any,
        iterable: Iterable[Any],
        chunksize: int | None,
        buffersize: int | None,
        ordered: bool,
    ) -> StreamJob:
        self._check_running()
        check_chunksize(chunksize)
        check_buffersize(buffersize)
        function = self._packing.function(func)
        job = StreamJob(function, name_of(func), MAP, chunksize or 1, ordered)
        job.source = func
        if buffersize is not None:
            job.fixed_bound = max(buffersize, job.unit)
        job.widen(None, self._engine.policy)
        engine, prepare = self._engine, self._packing.argument
        feed(job, iterable, partial(prepare, MAP), engine.ring, threaded=self._choice.attended)
        engine.submit(job)
        engine.ring()
        return job

    # The pool's life ------------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more work; workers end when all is done."""
        self._engine.check_process()
        if self._state == RUN:
            self._state = CLOSE
            self._engine.close()

    def terminate(self) -> None:
        """End the workers now. What is outstanding is withdrawn: its results raise CancelledError."""
        self._engine.check_process()
        self._state = TERMINATE
        self._engine.terminate(_GRACE)

    def join(self) -> None:
        """Wait until every worker has gone. Raises ValueError before ``close`` or ``terminate``."""
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._engine.lift_bounds()
        self._engine.join()

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        if self._graceful and kind is None:
            self.close()
            self.join()
        else:
            self.terminate()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self._state == RUN:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)
            self._engine.terminate(_GRACE, wait=False)

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __repr__(self) -> str:
        if self._state == INIT:
            return f"<{type(self).__name__} not started>"
        info = self._engine.info()
        workers = info["workers"].values()
        busy = sum(worker.running is not None for worker in workers)
        counts = f"{self._processes} workers: {busy} busy | {info['waiting']} waiting | {info['done']} done"
        lost = f" | {info['lost']} lost" if info["lost"] else ""
        return f"<{type(self).__name__} {self._state} {counts}{lost}>"

    def info(self) -> dict[str, Any]:
        """What the pool is and does: how its workers start and why, and of each worker its pid, its state,
        the task that it is in with the seconds spent in it, and its memory in bytes."""
        return {
            "backend": self._choice.name,
            "start_method": self._choice.start_method,
            "reason": self._choice.reason,
            "processes": self._processes,
            "state": self._state,
            **self._engine.info(),
        }

    # Names that programs use ----------------------------------------------------------------------

    @property
    def _pool(self) -> list[Any]:
        """The workers' processes."""
        return list(self._backend.processes)

    @property
    def _ctx(self) -> Any:
        return self._choice.context

    def _repopulate_pool(self) -> None:
        self._engine.repopulate()

    def _check_running(self) -> None:
        self._engine.check_process()
        if self._state != RUN:
            raise ValueError("Pool not running")


class ThreadPool(Pool):
    """``Pool`` on threads: ``multiprocessing.pool.ThreadPool``."""

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        super().__init__(processes, initializer, initargs, backend="threads")

    def terminate(self) -> None:
        """``Pool.terminate``; like the standard library's, it says nothing of threads that go on."""
        with contextlib.suppress(errors.CannotKill):
            super().terminate()


def __getattr__(name: str) -> Any:
    """Whatever else ``multiprocessing.pool`` has is the standard library's own."""
    import multiprocessing.pool

    return getattr(multiprocessing.pool, name)
