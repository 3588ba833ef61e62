"""Tasks that no worker holds, in the order in which they will be sent, and what is known of their jobs."""

from __future__ import annotations

from collections import deque

from millpond.core.chunking import Gauge
from millpond.core.commands import Span
from millpond.core.events import JobId
from millpond.core.policy import Policy

_MOST_SPANS = 256
"""Spans in one chunk, at most."""


class Backlog:
    """A queue of spans, and the suspects: tasks of which one killed a worker, to be run alone."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.queue: deque[Span] = deque()
        self.suspects: deque[Span] = deque()
        self.gauges: dict[JobId, Gauge] = {}
        self._tasks: dict[JobId, int] = {}  # how many each job has so far

    def __bool__(self) -> bool:
        return bool(self.queue or self.suspects)

    def __len__(self) -> int:
        return sum(span.stop - span.start for span in self.queue) + len(self.suspects)

    def number(self, job: JobId, count: int, grain: int) -> Span:
        """Give ``count`` more tasks of the job their numbers; they are not queued yet."""
        start = self._tasks.get(job, 0)
        self._tasks[job] = start + count
        if job not in self.gauges:
            self.gauges[job] = Gauge(grain)
        return Span(job, start, start + count)

    def append(self, span: Span) -> None:
        """Queue tasks behind all others."""
        queue = self.queue
        if queue and queue[-1].job == span.job and queue[-1].stop == span.start:
            queue[-1] = Span(span.job, queue[-1].start, span.stop)
        else:
            queue.append(span)

    def put_back(self, spans: list[Span]) -> None:
        """Queue tasks before all others."""
        self.queue.extendleft(reversed(spans))

    def suspect(self, span: Span) -> None:
        """Have each of these tasks run alone."""
        self.suspects.extend(Span(span.job, i, i + 1) for i in range(span.start, span.stop))

    def wants(self, job: JobId) -> bool:
        """Whether somebody still waits for the job."""
        gauge = self.gauges.get(job)
        return gauge is not None and not gauge.dropped

    def forget(self, job: JobId) -> None:
        """No more tasks of the job will come."""
        self.gauges.pop(job, None)
        self._tasks.pop(job, None)

    def drop(self, job: JobId) -> list[Span]:
        """Take out what is queued of a job that nobody wants any more."""
        if job in self.gauges:
            self.gauges[job].dropped = True
        dropped = [span for span in (*self.queue, *self.suspects) if span.job == job]
        self.queue = deque(span for span in self.queue if span.job != job)
        self.suspects = deque(span for span in self.suspects if span.job != job)
        return dropped

    def clear(self) -> list[Span]:
        """Take out everything."""
        everything = [*self.suspects, *self.queue]
        self.queue.clear()
        self.suspects.clear()
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
