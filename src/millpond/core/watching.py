"""When the scheduler has to look at its workers: for tasks that wait, are late, or were cancelled."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from millpond.core.backlog import Backlog
from millpond.core.worker_state import WorkerState

CHECK: Final = 0.01
"""Seconds after which a worker is looked at again that holds a cancelled task and was between two."""
GRACE: Final = 1.0
"""Seconds by which a coroutine may be late before its worker's event loop is taken to be blocked."""
_BUSY: Final = 0.1
"""Seconds after which a worker is looked at that is in a task longer than was thought, though nobody could take
what waits behind it: outcomes of shorter ones before it may not have been sent."""


def wake_up(backlog: Backlog, workers: Collection[WorkerState], idle: bool) -> float | None:
    """When to look at them next; None if nothing depends on time."""
    waits = [
        worker.check for worker in workers if worker.check is not None and not worker.recalling
    ]
    least = patience(backlog, idle)
    waits += [w.since + max(w.patience, least) for w in workers if w.hides_work()]
    if backlog.delayed:
        waits.append(backlog.delayed[0][0])
    if backlog.limited:
        waits += [when for w in workers if (when := _due(w, backlog)) is not None]
    return min(waits, default=None)


def patience(backlog: Backlog, idle: bool) -> float:
    """Seconds for which a worker that hides work is left in peace at least."""
    return 0.0 if idle and not backlog.queue else _BUSY


def overdue(
    worker: WorkerState, backlog: Backlog, now: float
) -> tuple[list[tuple[int, int]], float] | None:
    """The tasks of which one should have ended by now, and what its limit is."""
    if not backlog.limited:
        return None
    due = _due(worker, backlog)
    if due is None or due > now:
        return None
    if worker.flight:
        head = worker.flight[0]
        return [(head.seq, head.seq + head.count)], _limit(head.span.job, backlog) or 0.0
    limits = [_limit(held.span.job, backlog) for held in worker.open.values()]
    return [(min(worker.open), max(worker.open) + 1)], min(x for x in limits if x is not None)


def cancelled(worker: WorkerState, backlog: Backlog) -> list[tuple[int, int]]:
    """The tasks in its hands that were cancelled, as ranges of its numbers; coroutines end by themselves."""
    ranges = []
    for seq, span, _, _, _ in worker.flight:
        gauge = backlog.gauges.get(span.job)
        if gauge is not None and gauge.cancelled:
            ranges += [
                (seq + index - span.start, seq + index - span.start + 1)
                for index in range(span.start, span.stop)
                if index in gauge.cancelled
            ]
    return ranges


def _due(worker: WorkerState, backlog: Backlog) -> float | None:
    """When the task that it is in will have run too long."""
    if worker.recalling:
        return None
    if worker.flight:
        limit = _limit(worker.flight[0].span.job, backlog)
        return None if limit is None else worker.since + limit
    dues = [
        max(held.since, worker.since) + limit + GRACE
        for held in worker.open.values()
        if (limit := _limit(held.span.job, backlog)) is not None
    ]
    return min(dues, default=None)


def _limit(job: int, backlog: Backlog) -> float | None:
    gauge = backlog.gauges.get(job)
    return None if gauge is None else gauge.limits.timeout
