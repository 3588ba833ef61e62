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

from collections.abc import Callable, Collection, Iterable
from typing import Any

from millpond.core import events
from millpond.core.commands import (
    DROPPED,
    Abandon,
    Command,
    Kill,
    Retry,
    Settle,
    Span,
)
from millpond.core.events import JobId
from millpond.core.policy import NO_LIMITS, Policy
from millpond.core.recalling import Recalling
from millpond.core.retrying import pause
from millpond.core.watching import CHECK, cancelled, overdue, patience, wake_up
from millpond.core.worker_state import WorkerState


class Scheduler(Recalling):
    """The state of a pool's work. See the module's rules."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self._handlers: dict[type, Callable[[Any], None]] = {
            events.Opened: self._opened,
            events.Submitted: self._submitted,
            events.Sized: self._sized,
            events.Forgotten: self._forgotten,
            events.Ready: self._ready,
            events.Done: self._done,
            events.Ended: self._ended,
            events.Lost: self._lost,
            events.Recalled: self._recalled,
            events.Dropped: self._dropped,
            events.Cancelled: self._cancelled,
            events.Spared: self._spared,
            events.Requeued: self._requeued,
            events.Closing: self._closed,
            events.Repopulated: self._opened,
            events.Ticked: self._ticked,
        }

    def handle(self, event: events.Event, now: float) -> list[Command]:
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
        when = wake_up(self._backlog, self.workers.values(), bool(self._idle))
        staff = self._staff_due()
        return when if staff is None else staff if when is None else min(when, staff)

    def cost(self, job: JobId) -> float | None:
        """Seconds that a task of the job takes; None if none has been measured."""
        gauge = self._backlog.gauges.get(job)
        return None if gauge is None else gauge.cost

    @property
    def quiet(self) -> bool:
        """Whether every worker is ready and nothing is queued or held."""
        return not self._backlog and all(
            worker.ready and not worker.busy() for worker in self.workers.values()
        )

    @property
    def due(self) -> bool:
        """Whether an outcome will be there in a moment, and a CPU is free to look out for it."""
        busy = len(self.workers) - len(self._idle)
        return 0 < busy < self.policy.cpus and any(
            worker.flight and not worker.unmeasured and worker.load < self.policy.blink
            for worker in self.workers.values()
        )

    @property
    def waiting(self) -> int:
        """Tasks that no worker holds."""
        return len(self._backlog)

    # What happens, one method an event ------------------------------------------------------------

    def _submitted(self, event: events.Submitted) -> None:
        span = self._backlog.number(event.job, event.count, event.grain, event.limits)
        if self.failure is not None and not self._hopeless:
            self.failure, self._failures = None, 0
            self._staff()
        self._staff_again()
        for part in self._wanted([span]):
            self._backlog.append(part)

    def _sized(self, event: events.Sized) -> None:
        if event.job in self._backlog.gauges:
            self._backlog.gauges[event.job].size = event.size

    def _forgotten(self, event: events.Forgotten) -> None:
        self._backlog.forget(event.job)

    def _done(self, event: events.Done) -> None:
        worker = self.workers.get(event.worker)
        if worker is None:
            return
        answered = worker.answered(event.seq, event.count)
        if answered is None:  # coroutines whose function could not be loaded, or nothing of ours
            self._ended(events.Ended(worker.id, range(event.seq, event.seq + event.count)))
            return
        each = event.seconds / event.count
        gauges = self._backlog.gauges
        for span in answered:
            gauge = gauges.get(span.job)
            if gauge is not None:
                gauge.measured(each, span.stop - span.start)
        self._answer(answered, event.again)
        worker.progressed(self._now, event.seconds, self.policy.patience)
        # What is sent before it says what it gives back would be taken for given back.
        if not (worker.flight or worker.retiring or worker.recalling):
            self._idle.append(worker)

    def _ended(self, event: events.Ended) -> None:
        worker = self.workers.get(event.worker)
        if worker is None:
            return
        if not event.seqs or any(seq not in worker.open for seq in event.seqs):
            self._out.append(Kill(worker.id))
            return
        self._answer([worker.open.pop(seq).span for seq in event.seqs], event.again)

    def _answer(self, answered: Iterable[Span], again: Collection[int]) -> None:
        """Settle what was answered, but for tasks that failed and may run again."""
        offset = 0
        for job, start, stop in answered:
            begin = start
            for index in range(start, stop) if again else ():
                if offset + index - start in again and self._try_again(Span(job, index, index + 1)):
                    self._settle(Span(job, begin, index))
                    self._out.append(Retry(job, index, answered=True))
                    begin = index + 1
            self._settle(Span(job, begin, stop))
            offset += stop - start

    def _settle(self, span: Span) -> None:
        if span.start < span.stop:
            self._out.append(Settle(*span))
            gauge = self._backlog.gauges.get(span.job)
            if gauge is not None and (gauge.runs or gauge.cancelled or gauge.suspected):
                gauge.settled(span.start, span.stop)

    def _try_again(self, span: Span) -> bool:
        """Queue a task that failed once more, for later, if it may run again and somebody wants it."""
        wanted, _ = self._backlog.wanted(span)
        seconds = pause(self._backlog.gauges[span.job], span.start) if wanted else None
        if seconds is None or self.failure is not None:
            return False
        self._backlog.delay(span, self._now + seconds)
        return True

    def _recalled(self, event: events.Recalled) -> None:
        worker = self.workers.get(event.worker)
        if worker is None or not worker.recalling or event.number not in (0, worker.recalls):
            return
        worker.recalling = False
        worker.late = event.seq if worker.flight else 0
        worker.patience = 2 * max(worker.patience, event.elapsed)
        worker.since = self._now - event.elapsed
        self._take_back(worker.give_back(event.seq))
        self._answer_asked(worker)
        worker.check = self._now + CHECK if cancelled(worker, self._backlog) else None
        if not worker.flight and not worker.retiring and worker not in self._idle:
            self._idle.append(worker)

    def _lost(self, event: events.Lost) -> None:
        worker = self.workers.pop(event.worker, None)
        if worker is None:
            if event.worker in self._lingering:
                self._lingering.remove(event.worker)
            return
        if worker in self._idle:
            self._idle.remove(worker)
        if (worker.busy() or not worker.retiring) and not event.meant:
            self.lost += 1
        if event.failed:
            self._failures += 1
            self._reason = event.detail
            if event.hopeless and not self._ever_ready:
                self._failures, self._hopeless = self.policy.starts, True
        self._redistribute(worker, event)
        short = self._again is not None or self._hopeless
        if short and not (self.workers or event.failed):
            self._again = self._now  # the last one: before all is given up, it is tried once more
        self._staff_again()
        self._staff()
        if self._failures >= self._most_failures:
            self._despair()

    def _redistribute(self, worker: WorkerState, event: events.Lost) -> None:
        """Blame the task that the dead worker was in, or answering; queue the others again, before all else.

        Where tasks may run only once there are no slices: several suspects were being unpickled, not run.
        """
        begun, unbegun = worker.split_open(event.reach)
        finished, suspects, rest = worker.split(event.first, event.stop)
        self._take_back(rest + unbegun)
        self._answer_asked(worker)  # before what it may have begun is looked at
        alone = sum(span.stop - span.start for span in suspects) == 1
        for seq, span in begun:
            self._fail(span, event, blamed=event.first <= seq < event.stop)
        for span in suspects if alone else ():
            self._fail(span, event)
        for span in () if alone else self._wanted(suspects):
            self._backlog.suspect(span)
        if (
            finished and event.first == event.stop
        ):  # it may have been amid the answer of a long task
            job, start, stop = finished.pop()
            finished += [Span(job, start, stop - 1)] * (start < stop - 1)
            self._fail(Span(job, stop - 1, stop), event)
        for span in self._wanted(
            finished
        ):  # short ones: they ran, and their answers died with the worker
            if self.policy.at_most_once:
                self._out.append(Settle(*span, event.detail))
            else:
                self._backlog.suspect(span)

    def _fail(self, span: Span, event: events.Lost, blamed: bool = True) -> None:
        """A task ended with its worker: it is run again if it may be, or that is its outcome."""
        gauge = self._backlog.gauges.get(span.job)
        limits = NO_LIMITS if gauge is None else gauge.limits
        may = limits.after_timeout if event.meant and blamed else limits.after_death
        if may and self._try_again(span):
            self._out.append(Retry(span.job, span.start, answered=False))
        else:
            self._out.append(Settle(*span, event.detail, blamed))

    def _dropped(self, event: events.Dropped) -> None:
        self._out += [Settle(*span, DROPPED) for span in self._backlog.drop(event.job)]

    def _cancelled(self, event: events.Cancelled) -> None:
        removed = self._backlog.cancel(Span(*event))
        self._out += [Settle(*span, DROPPED) for span in removed]
        for worker in self.workers.values():
            seqs = [
                seq
                for seq, (span, _) in worker.open.items()
                if span.job == event.job and event.start <= span.start < event.stop
            ]
            if seqs:
                self._out.append(Abandon(worker.id, seqs))
            worker.check = self._now
            self._check(worker)

    def _requeued(self, event: events.Requeued) -> None:
        self._take_back([Span(event.job, event.start, event.stop)])

    def _closed(self, _event: events.Closing) -> None:
        self._closing = True

    def _ticked(self, _event: events.Ticked) -> None:
        self._staff_again()
        for worker in self.workers.values():
            self._check(worker)
            late = overdue(worker, self._backlog, self._now)
            if late is not None:
                self._recall(worker, *late)
        least = patience(self._backlog, bool(self._idle))
        for worker in self.workers.values():
            if worker.hides_work() and worker.since + max(worker.patience, least) <= self._now:
                self._recall(worker)
