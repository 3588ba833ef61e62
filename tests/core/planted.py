"""Schedulers and backends with one classic bug each: what the simulation has to find."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from millpond.core.commands import Command, Kill, Settle, Span, Start
from millpond.core.events import Closing, Done, Dropped, Event, Forgotten, Lost, Ready, Recalled
from millpond.core.scheduler import Scheduler
from millpond.core.worker_state import WorkerState
from millpond.testing.simulation import Rehearsal
from millpond.testing.simulation_world import SimulatedBackend
from millpond.worker.slate import RECALLED_FROM, RECALLED_TO, RUNNING, WORD, Slate


class ForgetsUnbegunTasks(Scheduler):
    """A dead worker's queue dies with it."""

    def _take_back(self, spans: list[Span]) -> None:
        super()._take_back(spans[1:])


class BlamesTheNextTask(Scheduler):
    """Off by one: the task after the culprit fails."""

    def _lost(self, event: Lost) -> None:
        super()._lost(event._replace(first=event.first + 1, stop=event.stop + 1))


class BlamesTheWholeSlice(Scheduler):
    """All tasks that may have killed the worker fail, not the one that did."""

    def _redistribute(self, worker: WorkerState, event: Lost) -> None:
        self._take_back(worker.give_back(event.stop))
        self._out += [Settle(*span, event.detail) for span in worker.give_back(event.first)]
        super()._redistribute(worker, event._replace(stop=event.first))


class SettlesTwice(Scheduler):
    """A doubled answer is taken for a new one."""

    _last: Done | None = None
    _settled: list[Any] = []  # noqa: RUF012

    def _done(self, event: Done) -> None:
        if event == self._last:
            self._out += self._settled
            return
        super()._done(event)
        if Kill(event.worker) not in self._out:
            self._last, self._settled = event, list(self._out)


class NeverReplacesWorkers(Scheduler):
    """A dead worker stays missing."""

    def _staff(self) -> None:
        if self._born < self.policy.workers:
            super()._staff()


class StartsOneTooMany(Scheduler):
    """A replacement is started before the old worker is gone."""

    def _done(self, event: Done) -> None:
        super()._done(event)
        worker = self.workers.get(event.worker)
        if worker is not None and worker.retiring:
            self._born += 1
            self.workers[self._born] = WorkerState(self._born, self.policy.patience)
            self._out.append(Start(self._born))


class LosesRecalledTasks(Scheduler):
    """What a worker gave back is nowhere."""

    def _recalled(self, event: Recalled) -> None:
        worker = self.workers.get(event.worker)
        if worker is not None and worker.recalling:
            worker.recalling = False
            worker.give_back(event.seq)


class LosesTheLastChunk(Scheduler):
    """A worker that retires is thought to have nothing."""

    def _retire(self, worker: WorkerState) -> None:
        super()._retire(worker)
        worker.flight.clear()


class ClosesTooEarly(Scheduler):
    """After close, what is queued is given up, and workers are let go."""

    def _closed(self, event: Closing) -> None:
        super()._closed(event)
        for worker in self.workers.values():
            if not worker.retiring:
                self._retire(worker)
        self._idle.clear()

    def _staff(self) -> None:
        if not self._closing:
            super()._staff()


class LeavesDroppedTasks(Scheduler):
    """A dropped job's tasks are taken from the queue, and never end."""

    def _dropped(self, event: Dropped) -> None:
        super()._dropped(event)
        self._out[:] = self._out[1:]


class DropsSuspects(Scheduler):
    """Tasks that may have killed a worker are never run again."""

    def _redistribute(self, worker: WorkerState, event: Lost) -> None:
        super()._redistribute(worker, event)
        self._backlog.suspects.clear()


class ChargesTwice(Scheduler):
    """A second "ready" makes a worker idle twice."""

    def _ready(self, event: Ready) -> None:
        worker = self.workers.get(event.worker)
        if worker is not None:
            worker.ready = False
        super()._ready(event)


class TakesBackSuspects(Scheduler):
    """A task that may have begun in a worker that died counts as unbegun in the next."""

    def _spared(self, event: Any) -> None:
        gauge = self._backlog.gauges.get(event.job)
        if gauge is not None:
            gauge.suspected.clear()
        super()._spared(event)


class BelievesEveryRecall(Scheduler):
    """A doubled "recalled" takes back what was sent in between."""

    def _recalled(self, event: Recalled) -> None:
        worker = self.workers.get(event.worker)
        if worker is not None:
            worker.recalling = True
        super()._recalled(event)


class RunsAgainWhatMayRunOnce(Scheduler):
    """A task whose answer died with its worker runs once more, though nobody allowed it."""

    def _fail(self, span: Span, event: Lost, blamed: bool = True) -> None:
        if event.first == event.stop:
            self._backlog.suspect(span)
        else:
            super()._fail(span, event, blamed)


class KeepsIdleWorkersAfterADeath(Scheduler):
    """After close, the death of the last busy worker leaves the idle ones waiting for ever."""

    def handle(self, event: Event, now: float) -> list[Command]:
        self._blind = isinstance(event, Lost | Forgotten)
        return super().handle(event, now)

    def _stop_if_over(self) -> None:
        if not self._blind:
            super()._stop_if_over()


class ForgetsPausedTasks(Scheduler):
    """What waits for its next run is lost when a worker dies meanwhile."""

    def _lost(self, event: Lost) -> None:
        self._backlog.delayed.clear()
        super()._lost(event)


class CountsNoDeaths(Scheduler):
    """A task whose worker died runs again, however often that was."""

    def _fail(self, span: Span, event: Lost, blamed: bool = True) -> None:
        gauge = self._backlog.gauges.get(span.job)
        if gauge is not None:
            gauge.runs.pop(span.start, None)
        super()._fail(span, event, blamed)


class JudgesBeforeReading(SimulatedBackend):
    """A dead worker's channel is not drained: answers that were sent are lost."""

    def _on_death(self, child: Any) -> None:
        child.channel.drain = list
        super()._on_death(child)


class TakesBackWithoutAsking(SimulatedBackend):
    """A recall does not forbid the worker to begin what was taken back."""

    def recall(self, worker: int, *unwanted: Any) -> None:
        child = self._children.get(worker)
        if child is not None:
            child.slate.recall = lambda start, stop: start  # type: ignore[method-assign]
        super().recall(worker, *unwanted)


class ReadsARecallInTwo(SimulatedBackend):
    """A worker that is stopped between a recall's begin and its end takes the old one with the new other."""

    def make_worker(self, channel: Any, page: Any, settings: Any) -> Any:
        return super().make_worker(channel, _Torn(page), settings)


class _Torn:
    """A page of which a recall is read once after each note: its begin, later its end."""

    def __init__(self, page: Any) -> None:
        self._page, self.words = page, self
        self._read: dict[int, int] = {}

    def __getitem__(self, index: int) -> int:
        if index not in (RECALLED_FROM, RECALLED_TO):
            value: int = self._page[index]
            return value
        for each in () if self._read else (RECALLED_FROM, RECALLED_TO):
            self._read[each] = self._page[each]
        return self._read[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._page[index] = value
        self._read.clear()


class ForgetsAnEarlierRecall(SimulatedBackend):
    """A second recall is written over one whose tasks the worker has not got past."""

    def recall(self, worker: int, *unwanted: Any) -> None:
        child = self._children.get(worker)
        if child is not None:
            child.slate.recall = partial(_overwrite, child.slate)  # type: ignore[method-assign]
        super().recall(worker, *unwanted)


def _overwrite(slate: Slate, start: int, stop: int) -> int:
    slate.words[RECALLED_FROM], slate.words[RECALLED_TO] = start, stop
    return start


class NotesAfterAsking(SimulatedBackend):
    """A worker is stopped after it has seen no recall, and before it says what it begins."""

    def make_worker(self, channel: Any, page: Any, settings: Any) -> Any:
        return super().make_worker(channel, _Late(page), settings)


class _Late:
    """A page on which a task is noted one access late."""

    def __init__(self, page: Any) -> None:
        self._page, self.words = page, self
        self._noted: int | None = None

    def __getitem__(self, index: int) -> int:
        value: int = self._page[index]
        self._write()
        return value

    def __setitem__(self, index: int, value: int) -> None:
        self._write()
        if index == WORD and value & 3 == RUNNING:
            self._noted = value
        else:
            self._page[index] = value

    def _write(self) -> None:
        noted, self._noted = self._noted, None
        if noted is not None:
            self._page[WORD] = noted


class KillsWhateverRuns(SimulatedBackend):
    """By the time that a late worker is looked at, it is in another task, which is killed instead."""

    def recall(
        self,
        worker: int,
        unwanted: Sequence[tuple[int, int]] = (),
        limit: float = 0.0,
        anyhow: bool = False,
    ) -> None:
        super().recall(worker, [(0, 1 << 40)] if unwanted else (), 0.0, anyhow)


class BelievesAGarbledWorker(SimulatedBackend):
    """What is no frame is left out, and the worker goes on."""

    def _on_channel(self, child: Any, events: int) -> None:
        child.disown = lambda error: None
        super()._on_channel(child, events)


class LosesAnswersBeforeGarbage(SimulatedBackend):
    """Frames that were read together with garbage are thrown away with it."""

    def _hear(self, child: Any) -> None:
        receive = child.channel.receive
        child.channel.receive = lambda: [f for f in receive() if child.channel.broken is None]
        super()._hear(child)
        del child.channel.receive


class TearsFrames(SimulatedBackend):
    """The rest of a frame that came in pieces is forgotten."""

    def _on_channel(self, child: Any, events: int) -> None:
        super()._on_channel(child, events)
        child.channel._decoder._rest = b""


SCHEDULERS = [
    ForgetsUnbegunTasks, BlamesTheNextTask, BlamesTheWholeSlice, SettlesTwice, NeverReplacesWorkers,
    StartsOneTooMany, LosesRecalledTasks, LosesTheLastChunk, ClosesTooEarly, LeavesDroppedTasks,
    DropsSuspects, ChargesTwice, TakesBackSuspects,
    BelievesEveryRecall, RunsAgainWhatMayRunOnce, KeepsIdleWorkersAfterADeath,
    ForgetsPausedTasks, CountsNoDeaths,
]  # fmt: skip
BACKENDS = [
    JudgesBeforeReading, TakesBackWithoutAsking, ReadsARecallInTwo, ForgetsAnEarlierRecall, NotesAfterAsking,
    KillsWhateverRuns, TearsFrames,
    BelievesAGarbledWorker, LosesAnswersBeforeGarbage,
]  # fmt: skip


def rehearsal_with(bug: type) -> type[Rehearsal]:
    """A rehearsal in which one part has the bug."""
    part = "scheduler_type" if issubclass(bug, Scheduler) else "backend_type"
    return type(f"RehearsalWith{bug.__name__}", (Rehearsal,), {part: bug})
