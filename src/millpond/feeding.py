"""Where the input of ``imap`` comes from, bit by bit and within bounds.

A list, tuple or range is pulled by whoever drives. Anything else is the user's code, which may be slow or use
the pool itself: a thread of its own pulls it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from millpond.job import StreamJob
from millpond.worker.codec import GONE
from millpond.worker.outcome import PLAIN


def feed(
    job: StreamJob,
    iterable: Iterable[Any],
    prepare: Callable[[Any], Any],
    ring: Callable[[], None],
    *,
    threaded: bool = True,
) -> None:
    """Begin to feed the job. Raises TypeError if the input is not iterable.

    ``threaded`` is False where the caller does all himself: then he pulls too, whatever the input is.
    """
    if type(iterable) in (list, tuple, range):
        job.refill, job.resume = SequenceFeed(job, iterable).refill, ring  # type: ignore[arg-type]
    elif not threaded:
        job.refill = IteratorFeed(job, iter(iterable)).refill
    else:
        thread = ThreadFeed(job, iter(iterable), prepare, ring)
        job.resume = thread.resume
        thread.start()


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
            job.inputs.update(zip(range(start, stop), self._sequence[start:stop], strict=True))
            job.pulled = stop
        if stop == total:
            job.ended = True
            self._sequence = ()


class IteratorFeed:
    """Pulls from an iterator in the caller's thread: a chunk when he waits for a result and there is none."""

    def __init__(self, job: StreamJob, source: Iterator[Any]) -> None:
        self._job = job
        self._source = source
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
            items = list(itertools.islice(self._source, job.unit))
        except BaseException as exception:
            job.failure = exception
            items = []
            job.ended = True
        finally:
            self._pulling = False
        job.inputs.update(enumerate(items, job.pulled))
        job.pulled += len(items)
        job.ended = job.ended or len(items) < job.unit


class ThreadFeed(threading.Thread):
    """Pulls from an iterator in a thread."""

    def __init__(
        self,
        job: StreamJob,
        source: Iterator[Any],
        prepare: Callable[[Any], Any],
        ring: Callable[[], None],
    ) -> None:
        super().__init__(name="millpond-feeder", daemon=True)
        self._job = job
        self._source = source
        self._prepare = prepare
        self._ring = ring
        self._go_on = threading.Event()

    def resume(self) -> None:
        """There is room again, or the job is over."""
        self._go_on.set()

    def run(self) -> None:
        job = self._job
        try:
            self._pull()
        except BaseException as exception:  # whatever the input raises is for the caller
            exception.__traceback__ = _without_us(exception.__traceback__)
            job.failure = exception
            if job.grain > 1:  # the chunk that was being gathered is dropped
                job.pulled -= job.pulled % job.grain
        self._source = iter(())
        job.ended = True
        self._ring()

    def _pull(self) -> None:
        job, inputs, grain = self._job, self._job.inputs, self._job.grain
        if not self._wait_for_room():
            return
        limit = job.room()
        for index, item in enumerate(self._source):
            inputs[index] = item if type(item) in PLAIN else self._encode(index, item)
            job.pulled = pulled = index + 1
            if job.hungry and pulled % grain == 0:
                job.hungry = False
                self._ring()
            if pulled >= limit:
                if not self._wait_for_room():
                    return
                limit = pulled + job.room()

    def _encode(self, index: int, item: Any) -> Any:
        try:
            return self._prepare(item)
        except BaseException as exception:
            self._job.refuse(index, exception)
            return GONE

    def _wait_for_room(self) -> bool:
        """False if the job is over."""
        job = self._job
        while not job.deserted():
            if job.room() > 0:
                return True
            self._go_on.clear()
            job.starving = True
            if job.room() > 0 or job.deserted():
                continue
            self._ring()
            self._go_on.wait()
        return False


def _without_us(trace: Any) -> Any:
    """The traceback less the frames of this module."""
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace
