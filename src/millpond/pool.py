"""``Pool``: the methods of ``multiprocessing.pool``, and all else that is there."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from multiprocessing import util
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack

from millpond import errors
from millpond.awaiting import AsyncContext
from millpond.interrupts import Postponed
from millpond.private_names import PrivateNames
from millpond.worker.codec import MAP, STAR

if TYPE_CHECKING:
    from millpond.executor import PoolExecutor
    from millpond.options import TaskOptions
    from millpond.overrides import Overrides
    from millpond.results import AsyncResult as AsyncResult
    from millpond.results import IMapIterator as IMapIterator
    from millpond.results import IMapUnorderedIterator as IMapUnorderedIterator
    from millpond.results import MapResult as MapResult
    from millpond.submission import Callbacks
    from millpond.worker.sandbox import Sandbox

    ApplyResult = AsyncResult

__all__ = [
    "ApplyResult", "AsyncResult", "IMapIterator", "IMapUnorderedIterator", "MapResult", "Pool", "ThreadPool",
]  # fmt: skip

S = TypeVar("S")
T = TypeVar("T")

INIT, RUN, CLOSE, TERMINATE = "INIT", "RUN", "CLOSE", "TERMINATE"

_GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL at ``terminate()``."""


class Pool(AsyncContext, PrivateNames):
    """A pool of workers; ``multiprocessing.Pool``, and a class.

    ``processes``: how many workers; default: the CPUs that this process may use, by affinity and by cgroup
    quota (``MILLPOND_CPU_COUNT`` overrides it). ``initializer(*initargs)`` is run once in each worker.
    ``maxtasksperchild``: chunks that a worker takes before it is replaced. ``context`` or ``start_method``:
    how processes start; default: the interpreter's, but where that is fork and another thread may hold a lock,
    a warm fork server, with a warning (``info()`` says which, and why). ``backend``: ``"processes"``,
    ``"threads"`` or ``"inline"`` (in the caller). ``graceful``: ``with`` closes and joins, else it terminates.
    ``cpus``: True, or CPUs for the workers to be pinned to: the i-th entry, a number or several, is for the i-th
    worker. ``blas_threads``: threads of BLAS and OpenMP libraries in a worker (default: its share of the CPUs, or
    1 in a sandbox; 0: they are left alone). ``sandbox``: True, ``"require"`` or a ``Sandbox``: workers can do
    little beyond computing, and what they send is not unpickled (``info()`` says what was applied).
    ``at_most_once``: no task ever runs twice, but where ``retries=`` asks for it; short tasks are then answered
    one by one, which costs about 10 us each, and not several at a time. All other arguments are the tasks'
    default options: see ``TaskOptions``.

    Raises ValueError or TypeError for arguments that make no sense, OSError if no process can be started,
    SandboxError if a sandbox is required that cannot be had.
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
        cpus: Any = None,
        blas_threads: int | None = None,
        sandbox: bool | Literal["require"] | Sandbox | None = None,
        at_most_once: bool = False,
        **options: Unpack[TaskOptions],
    ) -> None:
        from millpond.assembly import Wanted, assemble

        self._graceful = graceful
        wanted = Wanted(
            processes, initializer, initargs, maxtasksperchild, context, start_method, backend,
            cpus, blas_threads, sandbox, at_most_once,
        )  # fmt: skip
        try:
            with Postponed():  # it is made or not, whatever signal comes
                parts = assemble(wanted, options, _overrides(self))
                self._processes, self._choice, self._engine, self._submission = parts
                self._backend = self._choice.backend
                if not self._processes:
                    return
                self._finalizer = util.Finalize(
                    None, self._engine.terminate, args=(_GRACE,), exitpriority=15
                )
                self._engine.life.on_finish = self._finalizer.cancel
                self._engine.open()
                self._state = RUN
        except BaseException:
            if "_finalizer" in vars(self):
                self._state = TERMINATE
                self._engine.terminate(_GRACE)
            raise

    # One call -------------------------------------------------------------------------------------

    def apply(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        **options: Unpack[TaskOptions],
    ) -> T:
        """``func(*args, **kwds)`` in a worker; waits for it."""
        self._engine.check_may_wait()
        self._check_running()
        result: AsyncResult[T] = self._submission.call(self, func, args, kwds, None, options)
        return result.get()

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **options: Unpack[TaskOptions],
    ) -> AsyncResult[T]:
        """``apply`` that does not wait. The callbacks run in a thread of the pool's, in order."""
        self._check_running()
        callbacks = None
        if callback is not None or error_callback is not None:
            callbacks = callback, error_callback
        result = self._submission.call(self, func, args, kwds, callbacks, options)
        self._engine.ring()
        return result

    def submit(self, func: Callable[..., T], /, *args: Any, **kwargs: Any) -> AsyncResult[T]:
        """``func(*args, **kwargs)`` in a worker, with the pool's own options. Does not wait."""
        self._check_running()
        result = self._submission.call(self, func, args, kwargs, None, {})
        self._engine.ring()
        return result

    # Many at once ---------------------------------------------------------------------------------

    def map(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int | None = None,
        **options: Unpack[TaskOptions],
    ) -> list[T]:
        """``[func(x) for x in iterable]`` in the workers. All run; then the first error is raised.

        Without ``chunksize``, tasks go in chunks of a few milliseconds by measured time; with it, that
        many are never parted.
        """
        self._engine.check_may_wait()
        return self._map(func, iterable, MAP, chunksize, (None, None), options).get()

    def starmap(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        **options: Unpack[TaskOptions],
    ) -> list[T]:
        """``map`` of ``func(*x)``."""
        self._engine.check_may_wait()
        return self._map(func, iterable, STAR, chunksize, (None, None), options).get()

    def map_async(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S] | AsyncIterable[S],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **options: Unpack[TaskOptions],
    ) -> AsyncResult[list[T]]:
        """``map`` that does not wait. An async iterable is pulled by the event loop that runs here."""
        callbacks = callback, error_callback
        result = self._map(func, iterable, MAP, chunksize, callbacks, options)
        self._engine.ring()
        return result

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]] | AsyncIterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        **options: Unpack[TaskOptions],
    ) -> AsyncResult[list[T]]:
        """``starmap`` that does not wait."""
        callbacks = callback, error_callback
        result = self._map(func, iterable, STAR, chunksize, callbacks, options)
        self._engine.ring()
        return result

    def _map(
        self,
        func: Any,
        iterable: Any,
        style: int,
        chunksize: int | None,
        callbacks: Callbacks,
        options: Any,
    ) -> MapResult[list[Any]]:
        self._check_running()
        return self._submission.map(self, func, iterable, style, chunksize, callbacks, options)

    # Bit by bit -----------------------------------------------------------------------------------

    def imap(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S] | AsyncIterable[S],
        chunksize: int | None = None,
        *,
        buffersize: int | None = None,
        **options: Unpack[TaskOptions],
    ) -> IMapIterator[T]:
        """Yield ``func(x)`` for each x, in order, with bounded look-ahead both ways.

        Work starts at the call. At most ``buffersize`` inputs (default: 4 chunks a worker, never over
        1,024 inputs a worker) are pulled ahead of the last result taken, so endless input works. A task's
        exception is raised at its place in the order; iteration may go on after it. For ``async for``, too.
        """
        self._check_running()
        iterator: IMapIterator[T] = self._submission.imap(
            self, func, iterable, chunksize, buffersize, options
        )
        return iterator

    def imap_unordered(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S] | AsyncIterable[S],
        chunksize: int | None = None,
        *,
        buffersize: int | None = None,
        **options: Unpack[TaskOptions],
    ) -> IMapUnorderedIterator[T]:
        """``imap`` that yields results as they come."""
        self._check_running()
        iterator: IMapUnorderedIterator[T] = self._submission.imap(
            self, func, iterable, chunksize, buffersize, options, ordered=False
        )
        return iterator

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
        if self._engine.foreign:
            return  # a forked copy of the program leaves the block: the pool is not its own
        if self._graceful and kind is None:
            self.close()
            self.join()
        else:
            self.terminate()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self._state == RUN:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)
        if self._state in (RUN, TERMINATE):  # a signal may have torn terminate()
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
        the task that it is in with the seconds spent in it, its memory in bytes, and what its sandbox is; of the
        arena the bytes of ``arguments`` that it holds, of these the ones that are ``lent``, and those of
        ``results``. ``missing`` is a line of what this system refused, and what is done without it."""
        now = self._engine.info()
        applied = [worker.sandbox for worker in now["workers"].values() if worker.sandbox]
        return {
            **self._choice.about(),
            "sandbox": applied[-1] if applied else None,
            "processes": self._processes,
            "state": self._state,
            **now,
        }

    @property
    def executor(self) -> PoolExecutor:
        """The pool as a ``concurrent.futures.Executor``: a new one each time, which the pool outlives."""
        from millpond.executor import PoolExecutor

        return PoolExecutor(self)

    def _check_running(self) -> None:
        if self._engine.foreign:
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


def _overrides(pool: Pool) -> Overrides | None:
    """What the pool's class has of its own of what ``multiprocessing`` calls, if it is a subclass."""
    if type(pool) in (Pool, ThreadPool):
        return None
    from millpond.overrides import Overrides

    return Overrides(pool, Pool)


_RESULTS = {
    "ApplyResult": "AsyncResult",
    **{
        name: name for name in ("AsyncResult", "IMapIterator", "IMapUnorderedIterator", "MapResult")
    },
}


def __getattr__(name: str) -> Any:
    """What calls give; whatever else ``multiprocessing.pool`` has is the standard library's own."""
    if name in _RESULTS:
        from millpond import results

        return getattr(results, _RESULTS[name])
    import multiprocessing.pool

    return getattr(multiprocessing.pool, name)
