"""What ``imap`` gives back: iterators over a job's results, for ``for`` and for ``async for``.

An outcome is decoded by who takes it. Any thread and any event loop may take the next one.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from itertools import chain
from operator import length_hint
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, cast

from millpond import awaiting, errors
from millpond.streams import InputError, StreamJob, weight
from millpond.worker.interrupted import is_interruption
from millpond.worker.outcome import Sealed, blame_result, take
from millpond.worker.raised import is_ordinary

if TYPE_CHECKING:
    from millpond.engine import Engine

__all__ = ["IMapIterator", "IMapUnorderedIterator"]

T = TypeVar("T")

_NOTHING: Final = object()
_BATCH: Final = 256
_BYTES: Final = 1 << 20
"""Results, and their bytes, that are taken at once and given one by one, at most."""
_BLOCKED = (
    "waiting here would block the event loop that pulls the input: use `async for`, or read the "
    "results in another thread"
)

_STOPPED = "a task or the input raised what would have ended the loop over the results"


class _Source(Iterator[Iterator[Any]]):
    """Where a chain has its results from: batches of those that are given as they are.

    An exception ends a chain. Before one leaves here, the iterator becomes one that steps.
    """

    def __init__(self, engine: Engine, job: StreamJob) -> None:
        self._engine = engine
        self._job = job
        self.ready_results = job.results.ready
        self.iterator: Callable[[], IMapIterator[Any] | None] = _nobody
        self.watch: Any = None

    def __next__(self) -> Iterator[Any]:
        job = self._job
        try:
            while not length_hint(job.batch):  # else another thread was here
                if not self.ready_results:
                    _see_to_room(job)
                    self.wait(None)
                if job.mixed or job.on_error is not None:
                    return self._step()
                alone = self._take_batch()
                if alone is not None:
                    return alone
        except BaseException:
            self._become_stepping()
            raise
        return job.batch

    def _take_batch(self) -> Iterator[Any] | None:
        """Take some of the results that are there, and see to it that more input is pulled.

        A result that is taken alone is returned: it is given at once, so that the next input may be pulled.
        """
        job, take = self._job, self.ready_results.popleft
        count = min(len(self.ready_results), max(1, job.bound >> 3), _BATCH)
        if job.result_size:
            count = min(count, 1 + int(_BYTES / job.result_size))
        batch: list[Any] = []
        with suppress(IndexError):  # another thread takes them, too
            batch.extend(take() for _ in range(count))
        if job.mixed:
            self.ready_results.extendleft(reversed(batch))
            return None
        if job.unread_bytes:
            job.unread_bytes = max(0, job.unread_bytes - sum(map(weight, batch)))
        if len(batch) > 1:
            job.batch = iter(batch)
        _see_to_room(job)
        return iter(batch) if len(batch) == 1 else None

    def _step(self) -> Iterator[Any]:
        """The next result alone; the iterator steps from now on."""
        iterator = self._become_stepping()
        assert iterator is not None
        return iter((iterator.next(),))

    def _become_stepping(self) -> IMapIterator[Any] | None:
        iterator = self.iterator()
        if iterator is not None:
            iterator.__class__ = iterator._stepping
        return iterator

    def wait(self, timeout: float | None) -> None:
        """Until there is a result. Raises StopIteration, TimeoutError or CancelledError if there is none."""
        job = self._job
        if not self.ready():
            if job.puller == threading.get_ident():
                raise RuntimeError(_BLOCKED)
            job.wanted = True
            self._engine.wait(self, timeout)
            job.wanted = False
        if job.unread():
            return
        if job.exhausted:
            if self.watch is not None:
                self.watch.finish()
            if job.withdrawn:
                raise CancelledError
            raise StopIteration
        raise errors.TimeoutError

    def ready(self) -> bool:
        """Whether ``next`` would answer at once."""
        return bool(self.ready_results) or self._job.exhausted or length_hint(self._job.batch) > 0

    def park(self, timeout: float | None) -> None:
        """Wait while another thread drives."""
        self._job.changed.park(self.ready, timeout)


class IMapIterator(chain[T]):
    """The results of ``imap``, in order, for ``for`` and ``async for``.

    A task's exception is raised at its place, and iteration may go on; a StopIteration, which would end it without
    a word, as the cause of a RuntimeError (so does a generator, PEP 479). With ``on_error="return"`` it stands
    there, with ``"skip"`` it is left out, and with ``fail_fast`` the first one ends the iteration and stops
    the other tasks. What the input raised comes after the last result, and is always raised.
    """

    _stepping: ClassVar[type[IMapIterator[Any]]]
    """What it becomes as soon as a result has to be looked at."""
    _source: _Source
    _engine: Engine
    _job: StreamJob
    _owner: object

    def __new__(
        cls, engine: Engine, job: StreamJob | None = None, owner: object = None
    ) -> IMapIterator[T]:
        if job is None:
            from millpond.unfed import Unfed

            pool = engine
            return cast(
                "IMapIterator[T]",
                Unfed(pool, ordered=not issubclass(cls, IMapUnorderedIterator)),
            )
        source = _Source(engine, job)
        self = cast("IMapIterator[T]", cls.from_iterable(source))
        source.iterator = weakref.ref(self)
        self._source, self._engine, self._job, self._owner = source, engine, job, owner
        return self

    def __init__(self, *_: object) -> None:
        pass

    @property
    def watch(self) -> Any:
        """What shows how far it is."""
        return self._source.watch

    @watch.setter
    def watch(self, watch: Any) -> None:
        self._source.watch = watch

    def next(self, timeout: float | None = None) -> T:
        """The next result. Raises ``multiprocessing.TimeoutError`` after ``timeout`` seconds without one."""
        if timeout is not None:
            self._source.wait(timeout)
        return self.__next__()

    def _next_outcome(self) -> Any:
        """The next one that is there. Raises IndexError if there is none."""
        for value in self._job.batch:
            return value
        return self._job.results.ready.popleft()

    def _take(self, outcome: Any) -> Any:
        """What is to be given for this outcome, which was just taken, or nothing if it is to be left out."""
        job = self._job
        if job.unread_bytes:
            job.unread_bytes = max(0, job.unread_bytes - weight(outcome))
        _see_to_room(job)
        try:
            return take(outcome)
        except BaseException as error:
            if is_interruption(error):
                job.batch = iter([outcome, *job.batch])  # it can still be had
                raise
            if type(outcome) is InputError or not is_ordinary(error):
                raise
            if type(outcome) is Sealed:
                blame_result(error, outcome, f"the result of task {outcome.index} of {job.name}")
            if job.on_error == "return":
                return error
            if job.on_error == "skip":
                return _NOTHING
            if job.fail_fast:
                self._give_up()
            if issubclass(type(error), StopIteration):
                raise RuntimeError(_STOPPED) from error
            raise

    def close(self) -> None:
        """Leave: what has not been sent to a worker is cancelled, and no more input is pulled."""
        if not self._job.exhausted:
            self._job.leave()
            self._engine.leave(self._job)

    def __del__(self, _over: Callable[[], bool] = sys.is_finalizing) -> None:
        if _over():  # the pool has been terminated, and modules may have been cleared
            return
        self.close()
        if self.watch is not None:
            self.watch.finish(wait=False)

    def _give_up(self) -> None:
        """Leave, and end the tasks that run, too."""
        job = self._job
        self.close()
        self._engine.cancel(job, 0, job.submitted)

    # In an event loop -----------------------------------------------------------------------------

    def __aiter__(self) -> IMapIterator[T]:
        return self

    async def __anext__(self) -> T:
        while True:
            while not self._job.unread():
                await self._turn()
            outcome = self._next_outcome()  # no other task of the loop runs in between
            try:
                value = self._take(outcome)
            except StopAsyncIteration as error:
                raise RuntimeError(_STOPPED) from error
            if value is not _NOTHING:
                return value  # type: ignore[no-any-return]

    async def _turn(self) -> None:
        """``_wait`` in an event loop."""
        job = self._job
        try:
            await awaiting.until(self._source.ready, job.changed, self._attend)
        finally:
            job.wanted = False
        if not job.unread() and job.exhausted:
            if self.watch is not None:
                self.watch.finish(wait=False)
            raise awaiting.cancelled() if job.withdrawn else StopAsyncIteration

    def _attend(self, ready: Callable[[], bool]) -> float | None:
        self._job.wanted = True
        return self._engine.life.seat.attend(ready)

    async def aclose(self) -> None:
        """``close``, for ``contextlib.aclosing``."""
        self.close()


class IMapUnorderedIterator(IMapIterator[T]):
    """The results of ``imap_unordered``, as they come."""


class _Stepping(IMapIterator[T]):
    """An iterator that looks at each result."""

    def next(self, timeout: float | None = None) -> T:
        """As in ``IMapIterator``."""
        while True:
            self._source.wait(timeout)
            try:
                outcome = self._next_outcome()
            except IndexError:  # another thread took it
                continue
            value = self._take(outcome)
            if value is not _NOTHING:
                return value  # type: ignore[no-any-return]

    def __next__(self) -> T:
        return self.next()


class _SteppingUnordered(_Stepping[T], IMapUnorderedIterator[T]):
    """The same of ``imap_unordered``."""


IMapIterator._stepping = _Stepping
IMapUnorderedIterator._stepping = _SteppingUnordered
_Stepping.__name__ = _Stepping.__qualname__ = "IMapIterator"
_SteppingUnordered.__name__ = _SteppingUnordered.__qualname__ = "IMapUnorderedIterator"


def _see_to_room(job: StreamJob) -> None:
    """Go on pulling input, if that had stopped for want of room and there is enough now."""
    if job.starving and job.has_room():
        job.starving = False
        job.resume()


def _nobody() -> None:
    """There is no iterator yet."""
