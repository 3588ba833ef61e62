"""Who runs what, and how much at once: events in, commands out.

Rules of this module:

1. ``handle(event, now)`` is the only way in. It does no IO, reads no clock and calls nobody.
2. A task is in exactly one place: the queue, one worker's flight, or settled. It is settled once.
3. What a worker holds is known from what was ordered, not from what was written: a task counts as held
   from the step that decides its sending.
4. Events of workers that are gone are ignored; a worker is gone when ``Lost`` has been handled.
5. Only a worker's death or its own word (``Recalled``) takes a task back from it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from millpond.core.assigning import worker_for
from millpond.core.backlog import Backlog
from millpond.core.commands import DROPPED, Command, Kill, Recall, Send, Settle, Span, Start, Stop
from millpond.core.events import (
    Closing,
    Done,
    Dropped,
    Event,
    Forgotten,
    JobId,
    Lost,
    Opened,
    Ready,
    Recalled,
    Repopulated,
    Requeued,
    Sized,
    Submitted,
    Ticked,
    WorkerId,
)
from millpond.core.policy import Policy
from millpond.core.worker_state import WorkerState


class Scheduler:
    """The state of a pool's work. See the module's rules."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.workers: dict[WorkerId, WorkerState] = {}
        self.failure: object = None  # why no worker can be started any more
        self.lost = 0
        self._backlog = Backlog(policy)
        self._idle: list[WorkerState] = []  # the last to work is the first to be given more
        self._born = 0
        self._failures = 0  # to start, in a row
        self._most_failures = policy.starts
        self._reason: object = None  # of the last of them
        self._hopeless = False  # any start would end so
        self._ever_ready = False
        self._closing = False
        self._now = 0.0
        self._out: list[Command] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            Opened: self._opened,
            Submitted: self._submitted,
            Sized: self._sized,
            Forgotten: self._forgotten,
            Ready: self._ready,
            Done: self._done,
            Lost: self._lost,
            Recalled: self._recalled,
            Dropped: self._dropped,
            Requeued: self._requeued,
            Closing: self._closed,
            Repopulated: self._opened,
            Ticked: self._ticked,
        }

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take in one fact; return what is to be done about it, in order."""
        self._now = now
        out: list[Command] = []
        self._out = out
        self._handlers[type(event)](event)
        if self._backlog:
            self._assign()
        elif self._closing:
            self._stop_if_over()
        return out

    def next_deadline(self) -> float | None:
        """When to say ``Ticked``, on the clock of ``now``; None if nothing depends on time."""
        if self._backlog.queue or not self._idle:
            return None
        waits = [w.since + w.patience for w in self.workers.values() if w.hides_work()]
        return min(waits, default=None)

    def cost(self, job: JobId) -> float | None:
        """Seconds that a task of the job takes; None if none has been measured."""
        gauge = self._backlog.gauges.get(job)
        return None if gauge is None else gauge.cost

    @property
    def quiet(self) -> bool:
        """Whether every worker is ready and nothing is queued or held."""
        return not self._backlog and all(
            worker.ready and not worker.flight for worker in self.workers.values()
        )

    def waits_for(self, workers: Collection[WorkerId]) -> bool:
        """Whether tasks are queued and no worker but these is there to take them."""
        return bool(self._backlog) and all(worker.id in workers for worker in self.workers.values())

    @property
    def waiting(self) -> int:
        """Tasks that no worker holds."""
        return len(self._backlog)

    # What happens, one method an event ------------------------------------------------------------

    def _opened(self, _event: Opened | Repopulated) -> None:
        if isinstance(_event, Repopulated):
            self.failure, self._failures, self._hopeless = None, 0, False
        self._staff()

    def _submitted(self, event: Submitted) -> None:
        span = self._backlog.number(event.job, event.count, event.grain)
        if self.failure is not None and not self._hopeless:
            self.failure, self._failures = None, 0
            self._staff()
        if not self._unwanted(span):
            self._backlog.append(span)

    def _sized(self, event: Sized) -> None:
        if event.job in self._backlog.gauges:
            self._backlog.gauges[event.job].size = event.size

    def _forgotten(self, event: Forgotten) -> None:
        self._backlog.forget(event.job)

    def _ready(self, event: Ready) -> None:
        worker = self.workers.get(event.worker)
        if worker is None or worker.ready:
            return
        worker.ready = self._ever_ready = True
        self._failures, self._most_failures = 0, self.policy.restarts
        if not worker.retiring:
            self._idle.append(worker)

    def _done(self, event: Done) -> None:
        worker = self.workers.get(event.worker)
        if worker is None:
            return
        answered = worker.answered(event.seq, event.count)
        if answered is None:
            self._out.append(Kill(worker.id))
            return
        each = event.seconds / event.count
        gauges = self._backlog.gauges
        for span in answered:
            gauge = gauges.get(span.job)
            if gauge is not None:
                gauge.measured(each, span.stop - span.start)
            self._out.append(Settle(*span))
        worker.progressed(self._now, event.seconds, self.policy.patience)
        if not worker.flight and not worker.retiring:
            self._idle.append(worker)

    def _recalled(self, event: Recalled) -> None:
        worker = self.workers.get(event.worker)
        if worker is None or not worker.recalling:
            return
        worker.recalling = False
        worker.patience *= 2
        worker.since = self._now
        self._take_back(worker.give_back(event.seq))
        if not worker.flight and not worker.retiring and worker not in self._idle:
            self._idle.append(worker)

    def _lost(self, event: Lost) -> None:
        worker = self.workers.pop(event.worker, None)
        if worker is None:
            return
        if worker in self._idle:
            self._idle.remove(worker)
        if worker.flight or not worker.retiring:
            self.lost += 1
        if event.failed:
            self._failures += 1
            self._reason = event.detail
            if event.hopeless and not self._ever_ready:
                self._failures, self._hopeless = self.policy.starts, True
        self._redistribute(worker, event)
        self._staff()
        if self._failures >= self._most_failures and not self.workers:
            self._give_up(self._reason)

    def _redistribute(self, worker: WorkerState, event: Lost) -> None:
        """Blame the task that the dead worker was in; queue the others again, before all else.

        Where tasks may run only once there are no slices: several suspects were being unpickled, not run.
        """
        finished, suspects, unbegun = worker.split(event.first, event.stop)
        alone = sum(span.stop - span.start for span in suspects) == 1
        for span in suspects:
            if alone:
                self._out.append(Settle(*span, event.detail))
            elif not self._unwanted(span):
                self._backlog.suspect(span)
        for span in finished:  # they ran, and their answers died with the worker
            if self.policy.at_most_once or worker.alone:
                self._out.append(Settle(*span, event.detail))
            elif not self._unwanted(span):
                self._backlog.suspect(span)
        self._take_back(unbegun)

    def _take_back(self, spans: list[Span]) -> None:
        """Queue again, before all else, what a worker did not do; unless nobody wants it any more."""
        self._backlog.put_back([span for span in spans if not self._unwanted(span)])

    def _unwanted(self, span: Span) -> bool:
        """Settle tasks that nobody wants any more, or that no worker can be had for; say whether so."""
        wanted = self._backlog.wants(span.job)
        if wanted and self.failure is None:
            return False
        self._out.append(Settle(*span, self.failure if wanted else DROPPED))
        return True

    def _dropped(self, event: Dropped) -> None:
        self._out += [Settle(*span, DROPPED) for span in self._backlog.drop(event.job)]

    def _requeued(self, event: Requeued) -> None:
        self._take_back([Span(event.job, event.start, event.stop)])

    def _closed(self, _event: Closing) -> None:
        self._closing = True

    def _ticked(self, _event: Ticked) -> None:
        if self._backlog.queue or not self._idle:
            return
        for worker in self.workers.values():
            if worker.hides_work() and worker.since + worker.patience <= self._now:
                worker.recalling = True
                self._out.append(Recall(worker.id))

    # What follows from it -------------------------------------------------------------------------

    def _staff(self) -> None:
        """Start workers up to the pool's number, unless starting has shown to be hopeless."""
        hopeless = self._failures >= self._most_failures or self.failure is not None
        if hopeless or (self._closing and not self._backlog):
            return
        while len(self.workers) < self.policy.workers:
            self._born += 1
            self.workers[self._born] = WorkerState(self._born, self.policy.patience)
            self._out.append(Start(self._born))

    def _give_up(self, cause: object) -> None:
        """No worker can be had: what waits ends with the reason; what comes tries again if there is hope."""
        self.failure = cause
        self._out += [Settle(*span, cause) for span in self._backlog.clear()]

    def _stop_if_over(self) -> None:
        busy = self._backlog or any(worker.flight for worker in self.workers.values())
        if busy or not self._closing:
            return
        for worker in self.workers.values():
            if not worker.retiring:
                self._retire(worker)
        self._idle.clear()

    def _retire(self, worker: WorkerState) -> None:
        worker.retiring = True
        self._out.append(Stop(worker.id))

    def _assign(self) -> None:
        """Give the backlog's head to whoever should have it, until nobody should."""
        backlog, most = self._backlog, self.policy.max_chunks
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

    def _send(self, worker: WorkerState, spans: list[Span], alone: bool = False) -> None:
        worker.alone = alone
        seq = worker.hold(spans, {} if alone else self._backlog.gauges, self._now)
        self._out.append(Send(worker.id, seq, spans, alone))
        if self.policy.max_chunks is not None and worker.chunks >= self.policy.max_chunks:
            self._retire(worker)
