"""Where the input of ``imap`` comes from, bit by bit and within bounds.

A list, tuple or range is pulled by whoever drives. Anything else is the user's code, which may be slow or use
the pool itself: a thread of its own pulls it, and an async iterable is pulled by a task of the caller's loop.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from millpond import awaiting
from millpond.inputs import SIZE
from millpond.parking import Parking
from millpond.streams import StreamJob
from millpond.worker import raised
from millpond.worker.codec import GONE
from millpond.worker.outcome import PLAIN
from millpond.worker.parcels import Parcel
from millpond.worker.segments import SMALLEST

_BLOCK = SIZE - 1

Prepare = Callable[[Any], Any]
Ring = Callable[[], None]


def is_async(iterable: object) -> bool:
    """Whether it can be iterated in an event loop only."""
    kind = type(iterable)
    return hasattr(kind, "__aiter__") and not hasattr(kind, "__iter__")


def feed(
    job: StreamJob,
    iterable: Iterable[Any] | AsyncIterable[Any],
    prepare: Prepare,
    ring: Ring,
    *,
    threaded: bool = True,
    outside: AbstractContextManager[None],
) -> None:
    """Begin to feed the job. Raises TypeError if the input is not iterable.

    ``threaded`` is False where the caller does all himself: then he pulls too, whatever the input is, ``outside``.
    Raises
    RuntimeError for an async iterable where no event loop is running.
    """
    source: Any = iterable
    if type(source) in (list, tuple, range):
        job.refill, job.resume = SequenceFeed(job, source).refill, ring
    elif is_async(source):
        # Who waits in the loop looks for input when he is told that something changed.
        AsyncFeed(job, source, prepare, ring if threaded else job.changed.wake).start()
    elif not threaded:
        job.refill = IteratorFeed(job, iter(source), outside).refill
    else:
        ThreadFeed(job, iter(source), prepare, ring).start()


class SequenceFeed:
    """Pulls from a sequence, in the driver."""

    def __init__(self, job: StreamJob, sequence: Sequence[Any]) -> None:
        self._job = job
        self._sequence = sequence

    def refill(self) -> None:
        """Pull as much as there is room for."""
        job = self._job
        if job.ended:
            return
        start, total = job.pulled, len(self._sequence)
        room = job.room()
        if room < min(job.grain, total - start):
            job.starving = True
            room = job.room()  # again: a result may have been taken before the flag was up
        stop = min(start + max(room, 0), total)
        if stop > start:
            job.inputs.extend(start, list(self._sequence[start:stop]))
            job.pulled = stop
        if stop == total:
            job.ended = True
            self._sequence = ()


class IteratorFeed:
    """Pulls from an iterator in the caller's thread: a chunk when he waits for a result and there is none."""

    def __init__(
        self, job: StreamJob, source: Iterator[Any], outside: AbstractContextManager[None]
    ) -> None:
        self._job = job
        self._source = source
        self._outside = outside
        self._pulling = False  # the input may use the pool, which comes back here

    def refill(self) -> None:
        job = self._job
        if (
            self._pulling
            or job.ended
            or not job.wanted
            or job.pulled > job.settled
            or job.room() <= 0
        ):
            return
        self._pulling = True
        try:
            with self._outside:
                items = list(itertools.islice(self._source, job.unit))
        except BaseException as exception:
            job.failure = exception
            items = []
            job.ended = True
        finally:
            self._pulling = False
        job.inputs.extend(job.pulled, items)
        job.pulled += len(items)
        job.ended = job.ended or len(items) < job.unit


class _Beside:
    """What pulls beside the driver: it goes ahead while there is room, and is told when there is some again."""

    def __init__(self, job: StreamJob, source: Any, prepare: Prepare, ring: Ring) -> None:
        self._job = job
        self._source = source
        self._prepare = prepare
        self._ring = ring
        self._turn = Parking()
        job.resume = self.resume

    def resume(self) -> None:
        """There is room again, or the job is over. Any thread, and garbage collection, may say so."""
        self._turn.wake()

    def _encode(self, index: int, item: Any) -> Any:
        try:
            packed = self._prepare(item)
        except BaseException as exception:
            self._job.refuse(index, exception)
            return GONE
        if isinstance(packed, bytes | Parcel) and len(packed) >= SMALLEST:
            self._job.weights.add(index, len(packed))
        return packed

    def _may_pull(self) -> bool:
        """Whether there is room; if not, ``resume`` will be called once there is."""
        job = self._job
        if job.room() > 0:
            return True
        job.starving = True
        return job.room() > 0  # again: a result may have been taken before the flag was up

    def _end(self, failure: BaseException | None) -> None:
        job = self._job
        if failure is not None and not job.deserted():
            raised.set_trace(failure, _without_us(raised.trace_of(failure)))
            job.failure = failure
            if job.grain > 1:  # the chunk that was being gathered is dropped
                job.pulled -= job.pulled % job.grain
        job.puller = None
        job.ended = True
        self._ring()


class ThreadFeed(_Beside):
    """Pulls from an iterator in a thread."""

    def start(self) -> None:
        threading.Thread(target=self._run, name="millpond-feeder", daemon=True).start()

    def _run(self) -> None:
        failure = None
        try:
            self._pull()
        except BaseException as exception:  # whatever the input raises is for the caller
            failure = exception
        self._source = iter(())
        self._end(failure)

    def _pull(self) -> None:
        job, grain = self._job, self._job.grain
        if not self._wait_for_room():
            return
        limit, pulled = job.room(), 0
        add = job.inputs.adder(0)
        for item in self._source:
            add(item if type(item) in PLAIN else self._encode(pulled, item))
            job.pulled = pulled = pulled + 1
            if job.hungry and pulled % grain == 0:
                job.hungry = False
                self._ring()
            if not pulled & _BLOCK:
                add = job.inputs.adder(pulled)
            if pulled >= limit or job.weights:
                if not self._wait_for_room():
                    return
                limit = pulled + job.room()

    def _wait_for_room(self) -> bool:
        """False if the job is over."""
        job = self._job
        while not job.deserted():
            if self._may_pull():
                return True
            self._ring()
            self._turn.park(lambda: self._may_pull() or job.deserted(), None)
        return False


class AsyncFeed(_Beside):
    """Pulls from an async iterable in a task of the event loop that runs here, which must not be blocked then."""

    def __init__(self, job: StreamJob, source: Any, prepare: Prepare, ring: Ring) -> None:
        super().__init__(job, aiter(source), prepare, ring)
        self._loop = awaiting.running_loop()
        job.puller = threading.get_ident()

    def start(self) -> None:
        self._task = self._loop.create_task(self._run())

    def resume(self) -> None:
        if self._job.deserted():
            awaiting.call(self._loop, self._task.cancel)
        else:
            self._turn.wake()

    async def _run(self) -> None:
        import asyncio

        failure: BaseException | None = None
        try:
            await self._pull()
        except Exception as exception:
            failure = exception
        except BaseException as exception:
            failure = awaiting.stopped(exception)
            if not isinstance(exception, asyncio.CancelledError):
                raise  # it ends the loop
        finally:
            self._end(failure)
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()

    async def _pull(self) -> None:
        job, grain = self._job, self._job.grain
        await self._wait_for_room()
        limit, pulled = job.room(), 0
        async for item in self._source:
            job.inputs.adder(pulled)(item if type(item) in PLAIN else self._encode(pulled, item))
            job.pulled = pulled = pulled + 1
            if job.hungry and pulled % grain == 0:
                job.hungry = False
                self._ring()
            if pulled >= limit or job.weights:
                await self._wait_for_room()
                limit = pulled + job.room()

    async def _wait_for_room(self) -> None:
        if not self._may_pull():
            self._ring()
            await awaiting.until(self._may_pull, self._turn)


def _without_us(trace: Any) -> Any:
    """The traceback less the frames of this module."""
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace
