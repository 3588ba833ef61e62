"""What the caller holds of a call: ``AsyncResult``, a view of a job.

Rules:

1. An outcome is kept as it came and decoded by the first who asks, in the asker's thread.
2. A call is settled or cancelled: a token in the result's ``__dict__`` decides, which only one thread can pop.
   Who has it brings about the last state, and tells.
3. Where a call that runs cannot be ended, it is sent or cancelled: ``_fate`` decides, which is the same for all
   who ask, and what the first of them said. What was sent may yet be taken back from its worker (``taking_back``).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from millpond import awaiting, errors
from millpond.concluding import CANCELLED, FINISHED, PENDING
from millpond.interrupts import Deferral
from millpond.iterators import IMapIterator, IMapUnorderedIterator
from millpond.job import CallStream, MapJob
from millpond.taking_back import ReturnableFuture
from millpond.tolerance import LENIENT, has_error, value_of_call, value_of_map
from millpond.worker.interrupted import is_interruption
from millpond.worker.outcome import PLAIN, Error

if TYPE_CHECKING:
    from millpond.engine import Engine

__all__ = ["AsyncResult", "IMapIterator", "IMapUnorderedIterator", "MapResult"]

T = TypeVar("T")

SENT: Final = "SENT"


class AsyncResult(ReturnableFuture[T], Generic[T]):
    """The result of one call, as ``multiprocessing``'s and as a ``concurrent.futures.Future``.

    One that is only fetched after it came costs about as much as an empty object.
    """

    _sent = False
    _job: Any = None  # that it is, or is one call of; set by the pool, dropped once it is decoded
    _outcome: Any = None
    _opened: tuple[Any, BaseException | None] | None = None

    def __init__(
        self,
        engine: Engine,
        owner: object = None,
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> None:
        self._engine = engine
        self._owner = owner  # the pool must not be collected while its work is wanted
        self._unsettled = True  # the token
        if callback is not None or error_callback is not None:
            self._callbacks = (callback, error_callback)

    _callbacks: (
        tuple[Callable[[T], object] | None, Callable[[BaseException], object] | None] | None
    ) = None

    if TYPE_CHECKING:
        _result: Any
        _exception: BaseException | None
    else:
        # Where concurrent.futures and asyncio look.

        @property
        def _result(self):
            return self._open()[0] if self._state == FINISHED else None

        @property
        def _exception(self):
            return self._open()[1] if self._state == FINISHED else None

    # multiprocessing's methods --------------------------------------------------------------------

    def successful(self) -> bool:
        """Whether it completed without an exception. Raises ValueError if it has not completed."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._state == FINISHED and self._open()[1] is None

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the call to complete, at most ``timeout`` seconds."""
        if not self.ready():
            self._engine.wait(self, timeout)

    def get(self, timeout: float | None = None) -> T:
        """What the call returned, or raise what it raised.

        Raises ``multiprocessing.TimeoutError`` if it does not come within ``timeout`` seconds.
        """
        if self._state == FINISHED:  # first: before that, no outcome has come
            outcome = self._outcome
            if type(outcome) in PLAIN and self._opened is None:
                return outcome  # type: ignore[no-any-return]  # the short way for the commonest
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
        if self._state != FINISHED:
            raise CancelledError
        return self._open()[1]

    def running(self) -> bool:
        """Whether it was sent to a worker and has not completed."""
        return self._sent and self._state == PENDING

    def cancel(self) -> bool:
        """Give the call up, even if it runs; whether that worked.

        A task that runs in a process is ended with its worker, which is replaced; tasks behind it go to another.
        A coroutine is cancelled. A thread cannot be ended: a call that one has begun is not cancelled. Nobody is
        called back but those who called ``add_done_callback``.
        """
        if self._state != PENDING:
            return self._state == CANCELLED
        self._engine.check_process()
        job = self._job
        with Deferral(_nothing):
            if self._can_end(job) or self._fate(CANCELLED) == CANCELLED:
                if self.__dict__.pop("_unsettled", None) is None:
                    return self._state == CANCELLED  # another thread was faster
                self._job = self._callbacks = None
                self._conclude(CANCELLED)
                if self._sent:
                    self._end(job)
                else:
                    if job is not None:
                        job.keep(self)  # else it would run, once the caller has let go of this
                    self._engine.life.seat.nudge()  # who waits for it may be the one who drives
                return True
        return self._take_back(job if isinstance(job, CallStream) else None)

    def __await__(self) -> Generator[Any, None, T]:
        if not self.ready():
            wait = awaiting.until(self.ready, self.changed, self._engine.life.seat.attend)
            try:
                yield from wait.__await__()
            except BaseException as stop:
                if not isinstance(stop, GeneratorExit):
                    self.cancel()
                raise
        if self._state != FINISHED:
            raise awaiting.cancelled()
        return self._take()

    def __repr__(self) -> str:
        state = "running" if self.running() else self._state.partition("_")[0].lower()
        return f"<{type(self).__name__} at {id(self):#x} {state}>"

    # For the engine -------------------------------------------------------------------------------

    def claim(self) -> bool:
        """The call is to be sent; False if it was cancelled. Who cancels looks at ``_sent`` after."""
        self._sent = True
        return self._state != CANCELLED and (self._engine.can_kill or self._fate(SENT) == SENT)

    def settle(self, outcome: Any) -> None:
        """The call has ended with this."""
        if self.__dict__.pop("_unsettled", None) is None:
            return  # it was cancelled
        self._outcome = outcome
        if self._callbacks is not None:
            self._engine.call_back(self)
        else:
            self._conclude(FINISHED)

    def fail(self, error: Exception) -> None:
        """The call could not be submitted. Any thread may say so."""
        self.settle(Error(error))
        self._engine.life.seat.nudge()

    def withdraw(self) -> None:
        """The pool was terminated before the call ended."""
        if self.__dict__.pop("_unsettled", None) is not None:
            self._callbacks = None
            self._conclude(CANCELLED)

    def run_callbacks(self) -> None:
        """On the callback thread: the caller's callback, then the state."""
        try:
            if self._callbacks is not None:
                value, exception = self._open()
                good, bad = self._callbacks
                self._callbacks = None
                if exception is None:
                    if good is not None:
                        good(value)
                elif bad is not None:
                    bad(exception)
        finally:
            if self._state == PENDING:
                self._conclude(FINISHED)
            else:
                super().run_callbacks()

    # Inside ---------------------------------------------------------------------------------------

    def _fate(self, mine: str) -> str:
        """``SENT`` or ``CANCELLED``, whichever was said first."""
        fate: str = self.__dict__.setdefault("_decided", mine)
        return fate

    def _can_end(self, job: Any) -> bool:
        """Whether the call can be ended though it runs."""
        return job is not None and (self._engine.can_kill or job.limits.slots > 0)

    def _end(self, job: Any) -> None:
        """Nobody wants the outcome, and the call runs."""
        stream: CallStream = job
        self._engine.cancel_call(stream, self)

    def _failed(self) -> bool:
        job, outcome, opened = (
            self._job,
            self._outcome,
            self._opened,
        )  # in this order: see ``_open``
        if opened is not None:
            return opened[1] is not None
        lenient = job is not None and job.on_error in LENIENT
        return not lenient and has_error(self._outcomes(outcome))

    def _outcomes(self, outcome: Any) -> list[Any]:
        return [outcome]

    def _await(self, timeout: float | None) -> None:
        if not self.ready():
            self._engine.wait(self, timeout)
            if not self.ready():
                raise FutureTimeoutError

    def _take(self) -> T:
        if self._state != FINISHED:
            raise CancelledError
        value, exception = self._open()
        if exception is not None:
            try:
                raise exception
            finally:
                self = exception = None  # type: ignore[assignment]  # breaks a cycle through the traceback
        result: T = value
        return result

    def _open(self) -> tuple[Any, BaseException | None]:
        """The value and the exception. Of several who decode at once, one decides what it is for all."""
        job, outcome, opened = self._job, self._outcome, self._opened
        if opened is None:
            fresh: tuple[Any, BaseException | None]
            try:
                fresh = self._decode(outcome, job), None
            except Exception as exception:
                if is_interruption(exception):
                    raise  # a signal's handler did: the outcome can still be had
                fresh = None, exception
            opened = self.__dict__.setdefault("_opened", fresh)
            self._job = self._outcome = None
        return opened

    _decode: Callable[[Any, Any], Any] = staticmethod(value_of_call)


class MapResult(AsyncResult[T]):
    """The result of ``map_async`` and ``starmap_async``: the list of what the tasks returned."""

    watch: Any = None  # what shows how far it is

    @property
    def _number_left(self) -> int:
        """Chunks, as ``multiprocessing`` would have made them, that have not ended: programs show it."""
        job = self._job
        return 0 if job is None or self.ready() else -(-job.left // job.grain)

    @property
    def _chunksize(self) -> int:
        job = self._job
        return 1 if job is None else job.grain

    def settle_empty(self, job: MapJob) -> None:
        """There was no input. Nobody is called back, as in multiprocessing."""
        self._callbacks = None
        self.settle(job)

    def _take(self) -> T:
        if self.watch is not None:
            self.watch.finish()
        return super()._take()

    def _end(self, job: Any) -> None:
        self._engine.cancel(job, 0, job.total)

    def _outcomes(self, outcome: Any) -> list[Any]:
        return [outcome] if isinstance(outcome, Error) else outcome.outcomes

    _decode = staticmethod(value_of_map)


def _nothing() -> None:
    """Ctrl-C has nobody to wake."""
