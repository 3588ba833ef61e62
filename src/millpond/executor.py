"""``PoolExecutor``: a pool as a ``concurrent.futures.Executor``, with that contract and no other.

Rules:

1. The pool is its maker's. ``shutdown`` ends the executor and waits for what it was given; it neither closes nor
   terminates the pool, which may serve others. Only ``terminate_workers`` and ``kill_workers`` touch the workers.
2. What was submitted is run, whoever drops the future or the executor: the engine holds a future until it is done,
   the future its executor, the executor its pool. The program does not end before.
"""

from __future__ import annotations

import contextlib
import itertools
import operator
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from millpond import amounts, errors
from millpond.future import PoolFuture
from millpond.job import CallStream
from millpond.worker.batches import call_each
from millpond.worker.codec import CALL
from millpond.worker.conduct import is_coroutine_function, name_of
from millpond.worker.outcome import Error

if TYPE_CHECKING:
    from millpond.engine import Engine
    from millpond.pool import Pool

__all__ = ["PoolExecutor", "PoolFuture"]

P = ParamSpec("P")
T = TypeVar("T")

_PARK: Final = 1.0
"""Seconds after which who waits for callbacks looks whether the pool has ended."""
_AFTER_SHUTDOWN: Final = "cannot schedule new futures after shutdown"
_AFTER_EXIT: Final = "cannot schedule new futures after interpreter shutdown"


class PoolExecutor(Executor):
    """An executor on a pool that exists: ``pool.executor``. See the module for whose the pool is.

    A worker that dies ends its task with WorkerDied, which is a BrokenProcessPool here, and the executor goes on.
    Tasks in processes may start processes, which end with their worker. Submitting costs about as much as
    ``Pool.apply_async``.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.engine: Engine = pool._engine
        self.closed = False
        self._outstanding: set[PoolFuture[Any]] = (
            set()
        )  # futures that are not done, or have callbacks to run
        _executors.add(self)

    @property
    def _max_workers(self) -> int:
        """Where libraries look for the number of workers."""
        return self._pool._processes

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> PoolFuture[T]:
        """Have ``fn(*args, **kwargs)`` run in a worker.

        An argument that cannot be pickled is the future's exception. Raises RuntimeError after a shutdown, and
        where the pool takes no more work.
        """
        submission = self._pool._submission
        stream = partial(submission.stream, fn, submission.executors())
        return self._start(stream, args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """``map(fn, *iterables)`` in the workers, in order.

        The inputs are pulled and submitted at once, or with ``buffersize`` only so many ahead of the last result
        taken. ``timeout``: seconds, from this call on, after which a result that is not there raises
        TimeoutError. ``chunksize``: calls that travel and fail together. An error, a timeout or leaving the
        iterator (by its ``close()``, or by dropping it once it was begun) cancels what is pending.
        """
        size, ahead = _sizes(chunksize, buffersize)
        seconds = amounts.patience(timeout)
        deadline = None if seconds is None else time.monotonic() + seconds
        calls = zip(*iterables, strict=False)
        return _Results(self, fn, calls, size, ahead, deadline)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work. The pool goes on, for its other users and for another executor.

        ``wait``: until all that was submitted is done and its callbacks have run (on the callback thread itself
        it does not wait for those). ``cancel_futures``: cancel what is pending.
        """
        self.closed = True
        if self.engine.foreign:
            return  # a forked copy of the program has nothing to wait for
        if cancel_futures:
            for future in list(self._outstanding):
                future.cancel()
        if wait:
            self.await_outstanding()

    def terminate_workers(self) -> None:
        """Shut down, cancel what is pending, and send SIGTERM to every worker of the pool.

        Tasks that run there, of other users of the pool too, end with WorkerDied; the pool starts new workers.
        Raises CannotKill where workers are threads.
        """
        self._end_workers("terminate")

    def kill_workers(self) -> None:
        """``terminate_workers`` with SIGKILL."""
        self._end_workers("kill")

    def _end_workers(self, how: str) -> None:
        self.shutdown(wait=False, cancel_futures=True)
        for process in self._pool._pool:
            getattr(process, how)()

    def __repr__(self) -> str:
        state = "shut down" if self.closed else "open"
        return f"<{type(self).__name__} {state}, {len(self._outstanding)} outstanding, on {self._pool!r}>"

    # For futures and maps -------------------------------------------------------------------------

    def _start(self, stream: Callable[[], CallStream], args: Any, kwargs: Any) -> PoolFuture[Any]:
        future: PoolFuture[Any] = PoolFuture(self.engine, self._let_go)
        try:
            # Before the look at ``closed``: ``shutdown`` sets that before it looks here.
            self._outstanding.add(future)
            self._check_open()
            entry = self._entry(future, stream, args, kwargs)
            if isinstance(entry, Error):
                future.settle(entry)
                return future
            self.engine.submit(entry)
        except BaseException:
            self._let_go(future)
            raise
        self.engine.ring()
        return future

    def _check_open(self) -> None:
        if _exiting:
            raise RuntimeError(_AFTER_EXIT)
        try:
            self._pool._check_running()
        except ValueError:
            self.closed = True
        if self.closed:
            raise RuntimeError(_AFTER_SHUTDOWN)

    def _entry(self, future: PoolFuture[Any], stream: Callable[[], CallStream], *call: Any) -> Any:
        """What the engine takes, or the error of pickling it."""
        try:
            calls = future.stream = stream()
            packing = self._pool._submission.packing
            return calls, lambda: future, packing.argument(CALL, call, calls.source)
        except Exception as error:
            return Error(error)

    def _let_go(self, future: PoolFuture[Any]) -> None:
        self._outstanding.discard(future)

    def _has_let_go(self, future: PoolFuture[Any]) -> bool:
        return future not in self._outstanding

    def await_outstanding(self) -> None:
        """Wait until all that was submitted is done, and its callbacks have run."""
        futures = list(self._outstanding)
        for future in futures:
            if not future.ready():
                self.engine.wait(future, None)
        callbacks = self.engine.life.callbacks
        if callbacks._thread is threading.current_thread():
            return
        for future in futures:
            over = partial(self._has_let_go, future)
            while not over() and not self.engine.life.finished:
                future.changed.park(over, _PARK)
        if self.engine.life.finished:  # whose last act they are
            callbacks.join()


class _Results(Iterator[T]):
    """What ``map`` gives. Its calls share a job: the function is packed once, and its cost is known."""

    def __init__(
        self,
        executor: PoolExecutor,
        fn: Callable[..., T],
        calls: Iterator[tuple[Any, ...]],
        chunksize: int,
        buffersize: int | None,
        deadline: float | None,
    ) -> None:
        self._executor = executor
        self._fn = fn
        self._job: CallStream | None = None
        self._batched = chunksize > 1 and not is_coroutine_function(fn)
        self._calls: Iterator[Any] = _batches(calls, chunksize) if self._batched else calls
        self._deadline = deadline
        self._futures: deque[PoolFuture[Any]] = deque()
        self._values: list[T] = []  # of a batch, the next one last
        self._begun = False
        self._submit(buffersize)

    def __next__(self) -> T:
        if self._values:
            return self._values.pop()
        self._begun = True
        try:
            self._submit(1)
            if not self._futures:
                raise StopIteration
            return self._take(self._futures.popleft())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave: what is pending is cancelled."""
        self._calls = iter(())
        self._values.clear()
        while self._futures:
            self._futures.popleft().cancel()
        self._retire()

    def __del__(self, _over: Callable[[], bool] = sys.is_finalizing) -> None:
        # Like a generator's, the end of one that was never begun cancels nothing.
        if self._job is not None and not _over():
            self._executor.engine.later(self.close if self._begun else self._retire)

    def _submit(self, count: int | None) -> None:
        """Submit so many more calls, or all."""
        for args in itertools.islice(self._calls, count):
            if self._batched:
                args = (args,)
            self._futures.append(self._executor._start(self._stream, args, {}))

    def _take(self, future: PoolFuture[Any]) -> T:
        left = None if self._deadline is None else self._deadline - time.monotonic()
        try:
            result: Any = future.result(left)
        except StopIteration as stop:
            raise RuntimeError("a call of map() raised StopIteration") from stop
        finally:
            future.cancel()
            del future  # its exception's traceback holds this frame
        if not self._batched:
            return result  # type: ignore[no-any-return]
        self._values = result[::-1]
        return self._values.pop()

    def _stream(self) -> CallStream:
        if self._job is None:
            task: Any = self._fn
            if self._batched:
                task = partial(call_each, task)
                task.__module__ = getattr(
                    self._fn, "__module__", None
                )  # sent by value where that is
            submission = self._executor._pool._submission
            job = submission.new_stream(task, submission.executors())
            job.name = name_of(self._fn)
            job.shared = True  # between two calls too
            self._job = job
        return self._job

    def _retire(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            self._executor.engine.retire(job)


def _sizes(chunksize: Any, buffersize: Any) -> tuple[int, int | None]:
    """The arguments of ``map``, checked; the texts are concurrent.futures' own."""
    size = amounts.whole("chunksize", chunksize, -sys.maxsize)
    if size < 1:
        raise ValueError("chunksize must be >= 1.")
    if buffersize is None:
        return min(size, sys.maxsize), None
    try:
        ahead = operator.index(buffersize)
    except TypeError:
        raise TypeError("buffersize must be an integer or None") from None
    if ahead < 1:
        raise ValueError("buffersize must be None or > 0")
    return min(size, sys.maxsize), min(ahead, sys.maxsize)


def _batches(calls: Iterator[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    return iter(lambda: list(itertools.islice(calls, size)), [])


# The program's end ---------------------------------------------------------------------------------

_executors: weakref.WeakSet[PoolExecutor] = weakref.WeakSet()
_exiting = False


def _at_exit() -> None:
    """What was submitted is run before the program ends; from now on there is nothing more to submit."""
    global _exiting
    _exiting = True
    for executor in list(_executors):
        with contextlib.suppress(errors.PoolForkedError):
            executor.engine.check_process()
            executor.await_outstanding()


# Not ``atexit``: threads may still be started, and concurrent.futures' own executors end at this point too.
threading._register_atexit(_at_exit)  # type: ignore[attr-defined]
