"""What ``imap`` gives back: iterators over a job's results, for ``for`` and for ``async for``.

An outcome is decoded by who takes it. Any thread and any event loop may take the next one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Final, TypeVar

from millpond import awaiting, errors
from millpond.job import InputError, StreamJob, weight
from millpond.worker.outcome import PLAIN, take

if TYPE_CHECKING:
    from millpond.engine import Engine

__all__ = ["IMapIterator", "IMapUnorderedIterator"]

T = TypeVar("T")

_NOTHING: Final = object()
_OFTEN: Final = 15
"""With every 16th of the results that are left, and the last, it is seen to that more input is pulled."""
_BLOCKED = (
    "waiting here would block the event loop that pulls the input: use `async for`, or read the "
    "results in another thread"
)


class IMapIterator(Iterator[T]):
    """The results of ``imap``, in order, for ``for`` and ``async for``.

    A task's exception is raised at its place, and iteration may go on; with ``on_error="return"`` it stands
    there, with ``"skip"`` it is left out, and with ``fail_fast`` the first one ends the iteration and stops
    the other tasks. What the input raised comes after the last result, and is always raised.
    """

    def __init__(self, engine: Engine, job: StreamJob, owner: object = None) -> None:
        self._engine = engine
        self._job = job
        self._ready = job.results.ready
        self._owner = owner

    watch: Any = None  # what shows how far it is

    def __iter__(self) -> IMapIterator[T]:
        return self

    def next(self, timeout: float | None = None) -> T:
        """The next result. Raises ``multiprocessing.TimeoutError`` after ``timeout`` seconds without one."""
        ready = self._ready
        while True:
            if not ready:
                self._wait(timeout)
            try:
                outcome = ready.popleft()
            except IndexError:  # another thread took it
                continue
            if type(outcome) not in PLAIN or len(ready) & _OFTEN == 0 or self._job.unread_bytes:
                outcome = self._take(outcome)
                if outcome is _NOTHING:
                    continue
            return outcome  # type: ignore[no-any-return]

    __next__ = next  # noqa: A003

    def _take(self, outcome: Any) -> Any:
        """What is to be given for this outcome, which was just taken, or nothing if it is to be left out."""
        job = self._job
        if job.unread_bytes:
            job.unread_bytes = max(0, job.unread_bytes - weight(outcome))
        if job.starving and job.has_room():
            job.starving = False
            job.resume()
        try:
            return take(outcome)
        except Exception as error:
            if type(outcome) is InputError:
                raise
            if job.on_error == "return":
                return error
            if job.on_error == "skip":
                return _NOTHING
            if job.fail_fast:
                self._give_up()
            raise

    def _wait(self, timeout: float | None) -> None:
        """Until there is a result. Raises StopIteration, TimeoutError or CancelledError if there is none."""
        job = self._job
        if not self.ready():
            if job.puller == threading.get_ident():
                raise RuntimeError(_BLOCKED)
            job.wanted = True
            self._engine.wait(self, timeout)
            job.wanted = False
        if job.results.ready:
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
        return bool(self._job.results.ready) or self._job.exhausted

    def park(self, timeout: float | None) -> None:
        """Wait while another thread drives."""
        self._job.changed.park(self.ready, timeout)

    def close(self) -> None:
        """Leave: what has not been sent to a worker is cancelled, and no more input is pulled."""
        if not self._job.exhausted:
            self._job.leave()
            self._engine.leave(self._job)

    def __del__(self) -> None:
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
        ready = self._ready
        try:
            while True:
                while not ready:
                    await self._turn()
                value = self._take(ready.popleft())  # no other task of the loop runs in between
                if value is not _NOTHING:
                    return value  # type: ignore[no-any-return]
        except StopIteration:  # of a task: it ends a ``for``, too
            raise StopAsyncIteration from None

    async def _turn(self) -> None:
        """``_wait`` in an event loop."""
        job = self._job
        try:
            await awaiting.until(self.ready, job.changed, self._attend)
        finally:
            job.wanted = False
        if not job.results.ready and job.exhausted:
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
