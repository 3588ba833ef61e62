"""What the caller holds of a call: ``AsyncResult`` and the iterators of ``imap``. Views of a job.

An outcome is kept as it came and decoded by the first who asks, in the asker's thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from millpond import errors
from millpond.job import MapJob, StreamJob, weight
from millpond.parking import Parking
from millpond.report import report
from millpond.worker.outcome import Error, take

if TYPE_CHECKING:
    from millpond.engine import Engine

__all__ = ["AsyncResult", "IMapIterator", "IMapUnorderedIterator", "MapResult"]

T = TypeVar("T")

_PENDING, _CANCELLED, _FINISHED = "PENDING", "CANCELLED", "FINISHED"
_LOCKED = 1.0
"""Seconds to wait for the lock of a result's condition."""
_making = threading.Lock()  # held while a result's condition is made


class AsyncResult(Future[T], Generic[T]):
    """The result of one call, as ``multiprocessing``'s and as a ``concurrent.futures.Future``.

    Its condition is made when somebody first has to wait for it, so that a result which is only fetched
    after it came costs about as much as an empty object.
    """

    _state: str = _PENDING
    _exception: BaseException | None = None
    _result: Any = None
    _outcome: Any = None
    _opened = False
    _lazy: threading.Condition | None = None
    _parking: Parking | None = None
    _waiters: list[Any] = []  # noqa: RUF012  (shared and empty until the condition is made)
    _done_callbacks: list[Callable[[Any], object]] = []  # noqa: RUF012

    def __init__(
        self,
        engine: Engine,
        owner: object = None,
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> None:
        self._engine = engine
        self._owner = owner  # the pool must not be collected while its work is wanted
        self._token = True
        if callback is not None or error_callback is not None:
            self._callbacks = (callback, error_callback)

    _callbacks: (
        tuple[Callable[[T], object] | None, Callable[[BaseException], object] | None] | None
    ) = None

    if TYPE_CHECKING:
        _condition: threading.Condition
    else:

        @property
        def _condition(self):
            if self._lazy is None:
                with _making:
                    if self._lazy is None:
                        self._waiters, self._done_callbacks = [], []
                        self._lazy = threading.Condition()
            return self._lazy

    # multiprocessing's methods --------------------------------------------------------------------

    def ready(self) -> bool:
        """Whether the call has completed."""
        return self._state == _FINISHED or self._state[:9] == _CANCELLED

    def successful(self) -> bool:
        """Whether it completed without an exception. Raises ValueError if it has not completed."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        self._open()
        return self._state == _FINISHED and self._exception is None

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the call to complete, at most ``timeout`` seconds."""
        if not self.ready():
            self._engine.wait(self, timeout)

    def get(self, timeout: float | None = None) -> T:
        """What the call returned, or raise what it raised.

        Raises ``multiprocessing.TimeoutError`` if it does not come within ``timeout`` seconds.
        """
        if not self.ready():
            self._engine.wait(self, timeout)
            if not self.ready():
                raise errors.TimeoutError
        return self._take()

    # Future's methods -----------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> T:
        """``get``, with ``concurrent.futures``'s TimeoutError (the built-in one)."""
        self._await(timeout)
        return self._take()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the call raised, or None. Raises the built-in TimeoutError after ``timeout`` seconds."""
        self._await(timeout)
        if self._state != _FINISHED:
            raise CancelledError
        self._open()
        return self._exception

    def done(self) -> bool:
        """``ready``."""
        return self.ready()

    def running(self) -> bool:
        """Whether it was sent to a worker and has not completed."""
        return self._state == "RUNNING"

    def cancel(self) -> bool:
        """Give the call up if it has not been sent to a worker; whether that worked."""
        if self._state[:9] == _CANCELLED:
            return True
        if self._state != _PENDING or not self._take_token():
            return False
        self._conclude(_CANCELLED)
        return True

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio

        return asyncio.wrap_future(self).__await__()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x} {self._state.lower()}>"

    # For the engine -------------------------------------------------------------------------------

    def claim(self) -> bool:
        """The call is to be sent; False if it was cancelled."""
        if not self._take_token():
            return self._state != _CANCELLED
        self._state = "RUNNING"
        return True

    def settle(self, outcome: Any) -> None:
        """The call has ended with this. Called once, by whoever drives."""
        if self._state == _CANCELLED:
            return
        self._outcome = outcome
        if self._callbacks is not None:
            self._engine.call_back(self)
        else:
            self._conclude(_FINISHED)

    def withdraw(self) -> None:
        """The pool was terminated before the call ended."""
        if not self.ready():
            self._conclude(_CANCELLED)

    def run_callbacks(self) -> None:
        """On the callback thread: the caller's callback, then the state."""
        try:
            if self._callbacks is not None:
                self._open()
                good, bad = self._callbacks
                self._callbacks = None
                if self._exception is None:
                    if good is not None:
                        good(self._result)
                elif bad is not None:
                    bad(self._exception)
        finally:
            if self._state != _FINISHED:
                self._conclude(_FINISHED)
            else:
                self._run_done_callbacks()

    def park(self, timeout: float | None) -> None:
        """Wait while another thread drives."""
        if self._parking is None:
            with _making:
                if self._parking is None:
                    self._parking = Parking()
        self._parking.park(self.ready, timeout)

    # Inside ---------------------------------------------------------------------------------------

    def _take_token(self) -> bool:
        """Whether this is the first call: cancelling and sending exclude each other."""
        return self.__dict__.pop("_token", None) is not None

    def _conclude(self, state: str) -> None:
        self._state = state
        self._owner = None
        if self._parking is not None:
            self._parking.wake()
        condition = self._lazy
        # A handler that raised in a waiting thread may have left the lock locked (see ``parking``).
        if condition is None or not condition.acquire(timeout=_LOCKED):
            return
        try:
            for waiter in self._waiters:
                (waiter.add_cancelled if state == _CANCELLED else waiter.add_result)(self)
            condition.notify_all()
        finally:
            condition.release()
        if self._done_callbacks:
            self._engine.call_back(self)

    def _run_done_callbacks(self) -> None:
        with self._condition:
            callbacks, self._done_callbacks = self._done_callbacks, []
        for callback in callbacks:
            try:
                callback(self)
            except Exception as exception:
                report(exception)

    def _await(self, timeout: float | None) -> None:
        if not self.ready():
            self._engine.wait(self, timeout)
            if not self.ready():
                raise FutureTimeoutError

    def _take(self) -> T:
        if self._state != _FINISHED:
            raise CancelledError
        self._open()
        if self._exception is not None:
            try:
                raise self._exception
            finally:
                self = None  # type: ignore[assignment]  # breaks a cycle through the traceback
        result: T = self._result
        return result

    def _open(self) -> None:
        if self._opened:
            return
        try:
            self._result = self._decode(self._outcome)
        except BaseException as exception:
            self._exception = exception
        self._opened = True
        self._outcome = None

    def _decode(self, outcome: Any) -> Any:
        return take(outcome)


class MapResult(AsyncResult[T]):
    """The result of ``map_async`` and ``starmap_async``: the list of what the tasks returned."""

    def settle_empty(self, job: MapJob) -> None:
        """There was no input. Nobody is called back, as in multiprocessing."""
        self._callbacks = None
        self.settle(job)

    def _decode(self, outcome: Any) -> Any:
        if isinstance(outcome, Error):
            outcome.open()
        job: MapJob = outcome
        if job.plain:
            return job.outcomes
        values = []
        first: BaseException | None = None
        for entry in job.outcomes:
            try:
                values.append(take(entry))
            except BaseException as exception:
                first = first or exception
        if first is not None:
            raise first
        return values


class IMapIterator(Iterator[T]):
    """The results of ``imap``, in order. A task's exception is raised at its place; iteration may go on."""

    def __init__(self, engine: Engine, job: StreamJob, owner: object = None) -> None:
        self._engine = engine
        self._job = job
        self._owner = owner

    def __iter__(self) -> IMapIterator[T]:
        return self

    def __next__(self) -> T:
        return self.next()

    def next(self, timeout: float | None = None) -> T:
        """The next result. Raises ``multiprocessing.TimeoutError`` after ``timeout`` seconds without one."""
        job = self._job
        ready = job.results.ready
        while not ready:
            self._wait(timeout)
        try:
            outcome = ready.popleft()
        except IndexError:  # another thread took it
            return self.next(timeout)
        if job.unread_bytes:
            job.unread_bytes = max(0, job.unread_bytes - weight(outcome))
        if job.starving and job.has_room():
            job.starving = False
            job.resume()
        return take(outcome)  # type: ignore[no-any-return]

    def _wait(self, timeout: float | None) -> None:
        """Until there is a result. Raises StopIteration, TimeoutError or CancelledError if there is none."""
        if not self.ready():
            self._job.wanted = True
            self._engine.wait(self, timeout)
            self._job.wanted = False
        if self._job.results.ready:
            return
        if self._job.exhausted:
            if self._job.withdrawn:
                raise CancelledError
            raise StopIteration
        raise errors.TimeoutError

    def ready(self) -> bool:
        """Whether ``next`` would answer at once."""
        return bool(self._job.results.ready) or self._job.exhausted

    def park(self, timeout: float | None) -> None:
        """Wait while another thread drives."""
        job = self._job
        job.changed.park(self.ready, timeout)

    def close(self) -> None:
        """Leave: what has not been sent to a worker is cancelled, and no more input is pulled."""
        if not self._job.exhausted:
            self._job.leave()
            self._engine.leave(self._job)

    def __del__(self) -> None:
        self.close()


class IMapUnorderedIterator(IMapIterator[T]):
    """The results of ``imap_unordered``, as they come."""
