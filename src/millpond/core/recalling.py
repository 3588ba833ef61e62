"""What is taken back from workers: for others, since nobody wants it, or with the worker that is in it.

A part of the scheduler. A worker is asked once at a time; ``Recalled`` answers, or ``Lost``.
"""

from __future__ import annotations

from collections.abc import Collection

from millpond.core import events
from millpond.core.commands import DROPPED, Begun, Recall, Settle, Span
from millpond.core.crew import Crew
from millpond.core.watching import cancelled
from millpond.core.worker_state import WorkerState


class Recalling(Crew):
    """See the module."""

    def _spared(self, event: events.Spared) -> None:
        """Drop a task that nobody has begun: its worker is asked for it."""
        job, index = event
        removed = self._backlog.spare(Span(job, index, index + 1))
        if removed:
            self._out += [Settle(*span, DROPPED) for span in removed]
            return
        holders = [w for w in self.workers.values() if w.number_of(job, index) is not None]
        gauge = self._backlog.gauges.get(job)
        # What is being packed has been asked for, and is not with the worker yet.
        if gauge is None or gauge.may_have_begun(index) or not holders or holders[0].packing:
            self._out.append(Begun(job, index))
            return
        (worker,) = holders
        worker.asked.append((job, index))
        gauge.spared.add(index)
        if not worker.recalling:
            self._recall(worker, anyhow=True)

    def _answer_asked(self, worker: WorkerState) -> None:
        """The worker has given back what it had not begun, or is gone: what was not dropped has begun."""
        asked, worker.asked = worker.asked, []
        for job, index in asked:
            gauge = self._backlog.gauges.get(job)
            if gauge is not None:
                gauge.spared.discard(index)
            self._out.append(Begun(job, index))

    def _check(self, worker: WorkerState) -> None:
        """End a worker that is in a task which was cancelled; it may have to be looked at again."""
        if worker.check is None or worker.check > self._now or worker.recalling:
            return
        unwanted = cancelled(worker, self._backlog)
        worker.check = None
        if unwanted:
            self._recall(worker, unwanted, anyhow=True)

    def _recall(
        self,
        worker: WorkerState,
        unwanted: Collection[tuple[int, int]] = (),
        limit: float = 0.0,
        anyhow: bool = False,
    ) -> None:
        worker.recalling = True
        worker.recalls += 1
        self._out.append(Recall(worker.id, (*unwanted,), limit, anyhow))
