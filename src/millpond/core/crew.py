"""The workers of a pool: started, given work, and let go. The part of the scheduler that orders."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from millpond.core import events
from millpond.core.assigning import worker_for, worker_for_coroutines
from millpond.core.backlog import Backlog
from millpond.core.commands import DROPPED, Command, Kill, Send, Settle, Span, Start, Stop
from millpond.core.events import WorkerId
from millpond.core.policy import Policy
from millpond.core.worker_state import WorkerState

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
"""Seconds between two tries to start workers while others live; twice as long each time."""
_LINGER = 2.0
"""Seconds in which a worker that has done all it was for ends; then its place is given to another."""


class Crew:
    """See the module; what is ordered is appended to ``_out``."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.workers: dict[WorkerId, WorkerState] = {}
        self.failure: object = None  # why no worker can be started any more
        self.lost = 0
        self._lingering: deque[WorkerId] = deque()  # their places were given to others
        self._backlog = Backlog(policy)
        self._idle: list[WorkerState] = []  # the last to work is the first to be given more
        self._born = 0
        self._failures = 0  # to start, in a row
        self._most_failures = policy.starts
        self._reason: object = None  # of the last of them
        self._hopeless = False  # any start would end so
        self._again: float | None = None  # when to try once more, after too many of them
        self._pause = _FIRST_PAUSE
        self._ever_ready = False
        self._closing = False
        self._now = 0.0
        self._out: list[Command] = []

    # Who there is ---------------------------------------------------------------------------------

    def _opened(self, _event: events.Opened | events.Repopulated) -> None:
        if isinstance(_event, events.Repopulated):
            self.failure, self._failures, self._hopeless = None, 0, False
            self._again = None
        self._staff()

    def _ready(self, event: events.Ready) -> None:
        worker = self.workers.get(event.worker)
        if worker is None or worker.ready:
            return
        worker.ready = self._ever_ready = True
        self._failures, self._most_failures = 0, self.policy.restarts
        self._pause = _FIRST_PAUSE
        if self._again is not None or self._hopeless:  # what was short is there again
            self._again, self._hopeless = None, False
            self._staff()
        if not worker.retiring:
            self._idle.append(worker)

    def _staff(self) -> None:
        """Start workers up to the pool's number, unless starting has shown to be hopeless."""
        hopeless = self._failures >= self._most_failures or self.failure is not None
        if hopeless or (self._closing and not self._backlog):
            return
        while len(self.workers) < self.policy.workers:
            self._born += 1
            self.workers[self._born] = WorkerState(self._born, self.policy.patience)
            self._out.append(Start(self._born))

    def _replace_lingering(self) -> None:
        """Give the places of those to others that should have ended: a task has left a thread in them.

        They go on, but no more of them than there are workers.
        """
        if self._closing and not self._backlog:
            return
        late = [
            w.id for w in self.workers.values() if w.leaves() and w.since + _LINGER <= self._now
        ]
        for number in late:
            del self.workers[number]
            self._lingering.append(number)
        while len(self._lingering) > self.policy.workers:
            self._out.append(Kill(self._lingering.popleft()))
        if late:
            self._staff()

    def _despair(self) -> None:
        """Too many starts have failed, one after another. Where any would, those under way have yet to show it."""
        if not self.workers:
            self._give_up(self._reason)
        elif self._again is None and not self._hopeless:
            self._again = self._now + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _staff_again(self) -> None:
        """Bring the pool to its number once more, where that could not be done before, if it is time."""
        if self._again is not None and self._again <= self._now:
            self._again = None
            self._failures = self._most_failures - 1
            self._staff()
        if self.policy.max_chunks is not None:
            self._replace_lingering()

    def _staff_due(self) -> float | None:
        """When to do that; None if the pool has its number."""
        if self._closing and not self._backlog:
            return None
        waits = [] if self._again is None else [self._again]
        if self.policy.max_chunks is not None:
            waits += [worker.since + _LINGER for worker in self.workers.values() if worker.leaves()]
        return min(waits, default=None)

    @property
    def short(self) -> bool:
        """Whether workers are missing that could not be started, and it will be tried again."""
        return self._again is not None

    def _give_up(self, cause: object) -> None:
        """No worker can be had: what waits ends with the reason; what comes tries again if there is hope."""
        self.failure, self._again = cause, None
        self._out += [Settle(*span, cause) for span in self._backlog.clear()]

    def _stop_if_over(self) -> None:
        busy = self._backlog or any(worker.busy() for worker in self.workers.values())
        if busy or not self._closing:
            return
        for worker in self.workers.values():
            if not worker.retiring:
                self._retire(worker)
        self._idle.clear()

    def _retire(self, worker: WorkerState) -> None:
        worker.retiring = True
        self._out.append(Stop(worker.id))

    # What they are given --------------------------------------------------------------------------

    def _take_back(self, spans: list[Span]) -> None:
        """Queue again, before all else, what a worker did not do; unless nobody wants it any more."""
        self._backlog.put_back(self._wanted(spans))

    def _wanted(self, spans: Iterable[Span]) -> list[Span]:
        """The tasks that somebody wants and that can be run; the others are settled."""
        found = []
        for span in spans:
            wanted, unwanted = self._backlog.wanted(span)
            self._out += [Settle(*part, DROPPED) for part in unwanted]
            if self.failure is None:
                found += wanted
            else:
                self._out += [Settle(*part, self.failure) for part in wanted]
        return found

    def _assign(self) -> None:
        """Give the backlog's head to whoever should have it, until nobody should."""
        backlog, most = self._backlog, self.policy.max_chunks
        if backlog.delayed:
            backlog.release(self._now)
        if backlog.coroutines:
            self._assign_coroutines()
        while backlog.suspects and self._idle:
            first = self._idle.pop()
            first.chunks += 1
            self._send(first, [backlog.suspects.popleft()], alone=True)
        while backlog.queue:
            worker = worker_for(backlog, self.workers.values(), self._idle, self.policy)
            if worker is None:
                break
            if not worker.flight:
                self._idle.remove(worker)
            budget = max(self.policy.target - worker.load, 0.0)
            spans, used = backlog.take(budget, None if most is None else most - worker.chunks)
            worker.chunks += used
            self._send(worker, spans)

    def _assign_coroutines(self) -> None:
        """Give the coroutines in the queue to workers that hold few."""
        queue, workers = self._backlog.coroutines, self.workers
        while queue:
            job, start, stop = queue[0]
            limits = self._backlog.gauges[job].limits
            worker, free = worker_for_coroutines(workers.values(), limits.slots)
            if worker is None:
                return
            count = min(stop - start, free, -(-(stop - start) // len(workers)))
            queue.popleft()
            if start + count < stop:
                queue.appendleft(Span(job, start + count, stop))
            span = Span(job, start, start + count)
            seq = worker.hold_open(span, self._now)
            self._out.append(Send(worker.id, seq, [span]))
            worker.chunks += -(-count // self._backlog.gauges[job].grain)
            self._retire_if_used_up(worker)

    def _send(self, worker: WorkerState, spans: list[Span], alone: bool = False) -> None:
        seq = worker.hold(spans, {} if alone else self._backlog.gauges, self._now)
        self._out.append(Send(worker.id, seq, spans, alone))
        self._retire_if_used_up(worker)

    def _retire_if_used_up(self, worker: WorkerState) -> None:
        if self.policy.max_chunks is not None and worker.chunks >= self.policy.max_chunks:
            if worker in self._idle:
                self._idle.remove(worker)
            self._retire(worker)
