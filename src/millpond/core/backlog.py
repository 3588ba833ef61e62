"""Tasks that no worker holds, in the order in which they will be sent, and what is known of their jobs."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from millpond.core.chunking import Gauge
from millpond.core.commands import Span
from millpond.core.events import JobId
from millpond.core.policy import NO_LIMITS, Limits, Policy

_MOST_SPANS = 256
"""Spans in one chunk, at most."""


class Backlog:
    """A queue of spans, and the suspects: tasks of which one killed a worker, to be run alone."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.queue: deque[Span] = deque()
        self.coroutines: deque[Span] = deque()
        self.suspects: deque[Span] = deque()
        self.delayed: list[tuple[float, Span]] = []  # a heap: when they will be queued
        self.limited = 0  # jobs whose tasks may only run so long
        self.gauges: dict[JobId, Gauge] = {}
        self._tasks: dict[JobId, int] = {}  # how many each job has so far

    def __bool__(self) -> bool:
        return bool(self.queue or self.coroutines or self.suspects or self.delayed)

    def __len__(self) -> int:
        queued = sum(span.stop - span.start for span in (*self.queue, *self.coroutines))
        return queued + len(self.suspects) + len(self.delayed)

    def number(self, job: JobId, count: int, grain: int, limits: Limits = NO_LIMITS) -> Span:
        """Give ``count`` more tasks of the job their numbers; they are not queued yet."""
        start = self._tasks.get(job, 0)
        self._tasks[job] = start + count
        if job not in self.gauges:
            self.gauges[job] = Gauge(grain, limits)
            self.limited += limits.timeout is not None
        return Span(job, start, start + count)

    def append(self, span: Span) -> None:
        """Queue tasks behind all others."""
        queue = self._queue_of(span)
        if queue and queue[-1].job == span.job and queue[-1].stop == span.start:
            queue[-1] = Span(span.job, queue[-1].start, span.stop)
        else:
            queue.append(span)

    def put_back(self, spans: list[Span]) -> None:
        """Queue tasks before all others."""
        for span in reversed(spans):
            self._queue_of(span).appendleft(span)

    def delay(self, span: Span, until: float) -> None:
        """Queue a task at that time."""
        heappush(self.delayed, (until, span))

    def release(self, now: float) -> None:
        """Queue what was delayed until now."""
        while self.delayed and self.delayed[0][0] <= now:
            self.append(heappop(self.delayed)[1])

    def _queue_of(self, span: Span) -> deque[Span]:
        gauge = self.gauges.get(span.job)
        return self.coroutines if gauge is not None and gauge.limits.slots else self.queue

    def suspect(self, span: Span) -> None:
        """Have each of these tasks run alone."""
        if span.job in self.gauges:
            self.gauges[span.job].suspected.update(range(span.start, span.stop))
        self.suspects.extend(Span(span.job, i, i + 1) for i in range(span.start, span.stop))

    def wanted(self, span: Span) -> tuple[list[Span], list[Span]]:
        """The parts of a span that somebody still waits for, and the others."""
        gauge = self.gauges.get(span.job)
        if gauge is None or gauge.dropped:
            return [], [span]
        given_up = gauge.cancelled | gauge.spared if gauge.spared else gauge.cancelled
        if not given_up:
            return [span], []
        job, start, stop = span
        each = [Span(job, index, index + 1) for index in range(start, stop)]
        wanted = [one for one in each if one.start not in given_up]
        return wanted, [one for one in each if one.start in given_up]

    def forget(self, job: JobId) -> None:
        """No more tasks of the job will come."""
        gauge = self.gauges.pop(job, None)
        if gauge is not None and gauge.limits.timeout is not None:
            self.limited -= 1
        self._tasks.pop(job, None)

    def drop(self, job: JobId) -> list[Span]:
        """Take out what is queued of a job that nobody wants any more."""
        if job in self.gauges:
            self.gauges[job].dropped = True
        return self._remove(Span(job, 0, self._tasks.get(job, 0)))

    def cancel(self, span: Span) -> list[Span]:
        """Take out what is queued of tasks that nobody wants any more; note the others."""
        gauge = self.gauges.get(span.job)
        if gauge is not None:
            gauge.cancelled.update(range(span.start, span.stop))
        return self._remove(span)

    def spare(self, span: Span) -> list[Span]:
        """Take out what is queued of tasks that nobody wants unless they have begun."""
        gauge = self.gauges.get(span.job)
        if gauge is None or gauge.may_have_begun(span.start):
            return []
        return _remove_from(span, self._queue_of(span))

    def _remove(self, unwanted: Span) -> list[Span]:
        removed = _remove_from(unwanted, self.queue, self.coroutines, self.suspects)
        delayed, self.delayed = self.delayed, []
        for until, span in delayed:
            if _outside(span, unwanted, removed):
                self.delay(span, until)
        return removed

    def clear(self) -> list[Span]:
        """Take out everything."""
        everything = [*self.suspects, *self.queue, *self.coroutines]
        everything += [span for _, span in self.delayed]
        for queue in (self.queue, self.coroutines, self.suspects, self.delayed):
            queue.clear()
        return everything

    def take(self, budget: float, units: int | None) -> tuple[list[Span], int]:
        """Take a chunk from the head: ``budget`` seconds of work, at most ``units`` grains.

        Returns its spans and how many grains they make. An unmeasured job is a chunk by itself.
        """
        queue, policy = self.queue, self._policy
        spans: list[Span] = []
        used = 0
        while queue and (units is None or used < units):
            job, start, stop = queue[0]
            gauge = self.gauges[job]
            if spans and (gauge.cost is None or budget <= 0 or len(spans) >= _MOST_SPANS):
                break
            count = gauge.quota(stop - start, budget, policy)
            if units is not None:
                count = min(count, (units - used) * gauge.grain)
                used += -(-count // gauge.grain)
            if start + count < stop:
                spans.append(Span(job, start, start + count))
                queue[0] = Span(job, start + count, stop)
                break
            spans.append(queue.popleft())
            if gauge.cost is None:
                break
            budget -= gauge.cost * count
        return spans, used


def _remove_from(unwanted: Span, *queues: deque[Span]) -> list[Span]:
    removed: list[Span] = []
    for queue in queues:
        spans = [*queue]
        queue.clear()
        for span in spans:
            queue.extend(_outside(span, unwanted, removed))
    return removed


def _outside(span: Span, unwanted: Span, inside: list[Span]) -> list[Span]:
    """The parts of ``span`` that are not in ``unwanted``; the other is added to ``inside``."""
    job, start, stop = span
    first, last = max(start, unwanted.start), min(stop, unwanted.stop)
    if job != unwanted.job or first >= last:
        return [span]
    inside.append(Span(job, first, last))
    parts = [Span(job, start, first), Span(job, last, stop)]
    return [part for part in parts if part.start < part.stop]
