"""Which worker gets the next chunk.

An idle one, the last to have worked first, since its caches are warm; but a busy one where it would be done
with its own and this before an idle one wakes up. If none is idle, a busy one that is about to run dry.
"""

from __future__ import annotations

from collections.abc import Iterable

from millpond.core.backlog import Backlog
from millpond.core.policy import Policy
from millpond.core.worker_state import WorkerState


def worker_for(
    backlog: Backlog, workers: Iterable[WorkerState], idle: list[WorkerState], policy: Policy
) -> WorkerState | None:
    """The worker that should get the head of the queue, or None if it should wait."""
    head = backlog.queue[0]
    cost = backlog.gauges[head.job].cost
    if idle:
        if cost is None or len(backlog.queue) > 1:
            return idle[-1]
        return _soon_done(workers, cost * (head.stop - head.start), policy.wake) or idle[-1]
    if cost is None:
        return None
    most = policy.horizon if cost < policy.horizon else 0.0
    plenty = head.stop - head.start > 2 * policy.workers
    for worker in workers:
        if not worker.takes_more() or worker.bytes > policy.chunk_bytes or len(worker.ends) > 2:
            continue
        if worker.load < most or (
            plenty and len(worker.flight) == 1 and worker.load + cost < 10 * policy.horizon
        ):
            return worker
    return None


def worker_for_coroutines(
    workers: Iterable[WorkerState], slots: int
) -> tuple[WorkerState | None, int]:
    """The worker that holds the fewest, and how many more it may be sent; None if it should wait.

    A worker is sent a quarter more than it runs at once, so that it need not wait for the next, and no fewer
    than that at a time.
    """
    able = [w for w in workers if w.ready and not (w.retiring or w.recalling or w.packing)]
    worker = min(able, key=lambda w: len(w.open), default=None)
    if worker is None:
        return None, 0
    free = slots + slots // 4 - len(worker.open)
    return (worker, free) if free >= max(1, slots // 4) else (None, 0)


def _soon_done(workers: Iterable[WorkerState], work: float, limit: float) -> WorkerState | None:
    """A busy worker that would have done ``work`` too within ``limit`` seconds."""
    for worker in workers:
        if worker.flight and worker.takes_more() and worker.load + work < limit:
            return worker
    return None
