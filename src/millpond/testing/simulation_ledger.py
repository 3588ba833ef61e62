"""What really happens in a rehearsal, and what may therefore be said of it.

The ledger hears from the workers themselves, by another way than frames and slates: which task began where,
which answer was sent whole, which worker ended. It judges what the scheduler does by that alone.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

from millpond.backends.processes.death import Broken, Death, Late, StartFailure, Unwanted
from millpond.core.commands import DROPPED, Begun, Retry, Send, Settle, Span
from millpond.core.events import Event, Lost, WorkerId
from millpond.core.policy import Policy
from millpond.core.scheduler import Scheduler
from millpond.testing.simulation_tasks import RAISE, SimulatedJob, expected
from millpond.testing.simulation_worker import SimulatedProcess, current_worker
from millpond.testing.simulation_world import Observer, World
from millpond.worker import frames
from millpond.worker.codec import Part
from millpond.worker.frames import Frame
from millpond.worker.outcome import take
from millpond.worker.slate import PHASES

Task = tuple[int, int]
_OFTEN = 12
"""A task that was begun more often than this outlived more deaths than there are in a rehearsal."""


class Ledger(Observer):
    """See the module."""

    def __init__(self, policy: Policy, failing: frozenset[int]) -> None:
        self.policy = policy
        self.failing = failing  # numbers of workers whose initializer raises
        self.jobs: dict[int, SimulatedJob] = {}
        self.event: Event | None = None  # that is being handled
        self.failed_starts = 0
        self.deaths: Counter[str] = Counter()  # of workers, by what they were doing
        self.complaints: list[str] = []
        self._ready: set[SimulatedProcess] = set()
        self._places: dict[Task, list[SimulatedProcess]] = {}  # the workers that began it
        self._in: dict[SimulatedProcess, set[Task]] = {}  # what a worker may be blamed for
        self._noted: dict[SimulatedProcess, Task] = {}  # who dies now dies in it, begun or not
        self._order: dict[
            SimulatedProcess, dict[int, Task]
        ] = {}  # what it was sent, by its numbers
        self.asked: set[Task] = (
            set()
        )  # that were to be taken back, and nobody has said whether they were
        self._answered: set[Task] = set()  # the answer was sent whole
        self._runs: dict[Task, int] = {}  # how often it began
        self._failures: dict[Task, int] = {}  # runs that the scheduler said were not the last
        self._heard: dict[SimulatedProcess, float] = {}  # when it last did what no task does
        self._processes: dict[WorkerId, SimulatedProcess] = {}
        self._blamed: dict[SimulatedProcess, int] = {}

    # From the workers -----------------------------------------------------------------------------

    def initialize(self) -> None:
        """The initializer of every worker."""
        worker = current_worker()
        worker.strand.step()
        if worker.number in self.failing:
            raise RuntimeError("this worker's initializer fails")

    def decoded(self, worker: SimulatedProcess, parts: list[Part]) -> None:
        tasks = {(p.job, i) for p in parts for i in range(p.first, p.first + p.tasks)}
        self._in[worker] = tasks if len(tasks) == 1 else set()
        self._heard[worker] = worker.world.clock()

    def noted(self, worker: SimulatedProcess, seq: int) -> None:
        self._noted[worker] = self._order[worker][seq]

    def began(self, worker: SimulatedProcess, job: int, index: int) -> None:
        task = job, index
        places = self._places.setdefault(task, [])
        runs = self._runs.get(task, 0)
        self._runs[task] = runs + 1
        for wrong, complaint in [
            (index in self.jobs[job].settled, "begins after it ended"),
            (task in self._answered, "runs again, though its answer was sent"),
            (any(place.is_alive() for place in places), "runs in two workers"),
            (runs > self._failures.get(task, 0) and self.policy.at_most_once, "runs twice"),
            (runs > _OFTEN, "runs again and again"),
        ]:
            if wrong:  # raised in the task, it would be the task's failure
                self.complaints.append(f"task {task} {complaint}")
        places.append(worker)
        self._in[worker] = {task}

    def unpickled(self, worker: SimulatedProcess, job: int, index: int) -> None:
        self._in[worker] = {(job, index)}

    def sent(self, worker: SimulatedProcess, frame: Frame) -> None:
        if frame.kind == frames.READY:
            self._ready.add(worker)
        elif frame.kind == frames.DONE:
            order = self._order[worker]
            answered = {order[n] for n in range(frame.seq, frame.seq + frame.count)}
            # Else it sends, amid a task, what was done before that.
            if self._in.get(worker, set()) <= answered:
                self._heard[worker] = worker.world.clock()
            self._answered |= answered

    def ended(self, worker: SimulatedProcess) -> None:
        if worker not in self._ready:
            self.failed_starts += 1
        if worker.exitcode:
            began = worker in self._ready
            self.deaths[PHASES[worker.slate.read()[2]] if began else "starting"] += 1

    # From the scheduler ---------------------------------------------------------------------------

    def started(self, worker: WorkerId, process: SimulatedProcess) -> None:
        """A worker got its process."""
        self._processes[worker] = process
        self._order[process] = {}

    def ordered(self, command: Send) -> None:
        """A chunk is about to be sent."""
        order, number = self._order[self._processes[command.worker]], command.seq
        for job, start, stop in command.spans:
            for index in range(start, stop):
                order[number] = job, index
                number += 1

    def settle(self, command: Settle, batch: list[Any] | None) -> None:
        """Tasks end, with outcomes or for a cause."""
        job = self.jobs[command.job]
        indexes = range(command.start, command.stop)
        for index in indexes:
            assert index not in job.settled, f"task {job.id, index} is settled twice"
            assert index < len(job.deeds), (
                f"task {job.id, index} is settled and was never submitted"
            )
        job.settled.update(indexes)
        self.asked.difference_update([(job.id, index) for index in indexes])
        if batch is not None:
            assert len(batch) == len(indexes), f"{command} with {len(batch)} outcomes"
            for index, outcome in zip(indexes, batch, strict=True):
                self._judge(job, index, outcome)
        elif command.cause is DROPPED:
            for index in indexes:
                given_up = job.dropped or index in job.cancelled
                unbegun = index in job.spared and (job.id, index) not in self._runs
                assert given_up or unbegun, f"{command}, though nobody gave it up, or it had begun"
        elif isinstance(command.cause, StartFailure):
            assert self.failed_starts, f"{command}, though every worker started"
        else:
            for index in indexes:
                self._judge_blame((job.id, index), command.cause)

    def begun(self, command: Begun) -> None:
        """A task was not taken back."""
        self.asked.discard((command.job, command.index))

    def tried_again(self, command: Retry, outcome: Any) -> None:
        """A task failed, and will run again."""
        task, job = (command.job, command.index), self.jobs[command.job]
        assert command.index not in job.settled, f"task {task} ended, and shall run again"
        assert not job.dropped, f"task {task} shall run again, and nobody wants it"
        assert command.index not in job.cancelled, f"task {task} shall run again, and was cancelled"
        self._failures[task] = self._failures.get(task, 0) + 1
        assert self._failures[task] <= job.limits.retries, f"task {task} has too many runs"
        if command.answered:
            self._judge(job, command.index, outcome)
            assert job.deeds[command.index] == RAISE, (
                f"task {task} did not fail, and shall run again"
            )
            self._answered.discard(task)
            self._places[task].clear()
            return
        assert isinstance(self.event, Lost), f"task {task} failed without a death"
        may = job.limits.after_timeout if self.event.meant else job.limits.after_death
        assert may, f"task {task} may not run again after {self.event}"
        self._judge_blame(task, self.event.detail)

    def _judge(self, job: SimulatedJob, index: int, outcome: Any) -> None:
        try:
            value = take(outcome)
        except Exception as error:
            value = type(error).__name__
        want = expected(job.id, index, job.deeds[index])
        assert value == want, f"task {job.id, index} came to {value!r:.60}, not to {want!r:.60}"

    def _judge_blame(self, task: Task, cause: object) -> None:
        assert isinstance(self.event, Lost), f"task {task} fails without a death"
        worker = self._processes[self.event.worker]
        took = worker.world.clock() - self._heard.get(worker, 0.0)
        _judge_cause(self.jobs[task[0]], task[1], cause, took)
        assert task not in self._answered, f"task {task} fails, though its answer was sent"
        if self.policy.at_most_once and worker in self._places.get(task, ()):
            return  # it ran, and what it came to is unknown
        unheard = isinstance(cause, Broken) and worker in self._places.get(task, ())
        # What it did after the garbage is not known.
        is_in = task in self._in.get(worker, ()) or task == self._noted.get(worker)
        assert unheard or is_in, f"task {task} is blamed for a death of another's doing"
        self._blamed[worker] = self._blamed.get(worker, 0) + 1
        assert self._blamed[worker] == 1, f"one death is blamed on several tasks, {task} among them"

    # The whole ------------------------------------------------------------------------------------

    def check(self, scheduler: Scheduler, world: World) -> None:
        """Every task is in exactly one place, and there are not too many workers."""
        self._check_places(scheduler)
        wanted = self.policy.workers
        assert len(scheduler.workers) <= wanted, (
            f"{len(scheduler.workers)} workers, {wanted} wanted"
        )
        assert len(world.alive) <= wanted, f"{len(world.alive)} processes, {wanted} wanted"
        idle = [worker.id for worker in scheduler._idle]
        assert len(idle) == len(set(idle)), f"idle twice: {idle}"
        awaited = [task for w in scheduler.workers.values() if w.recalling for task in w.asked]
        assert self.asked == set(awaited), f"nobody will say of {self.asked} whether they began"
        for worker in scheduler._idle:
            assert scheduler.workers.get(worker.id) is worker, (
                f"worker {worker.id} is idle and gone"
            )
            assert worker.ready, f"worker {worker.id} is idle before it is ready"
            assert not worker.flight, f"worker {worker.id} is idle and has tasks"

    def _check_places(self, scheduler: Scheduler) -> None:
        spans = _spans(scheduler)
        for span, other in pairwise(spans):
            apart = span.job != other.job or span.stop <= other.start
            assert apart, f"tasks in two places: {span} and {other}"
        for span in spans:
            ended = self.jobs[span.job].settled
            assert ended.isdisjoint(range(span.start, span.stop)), f"some of {span} have ended"
        here = sum(span.stop - span.start for span in spans)
        left = sum(job.left for job in self.jobs.values())
        assert here == left, f"lost: {describe(self.jobs, scheduler)}"


def _judge_cause(job: SimulatedJob, index: int, cause: object, took: float) -> None:
    """A task ended with its worker, which had done nothing else for ``took`` seconds."""
    task = job.id, index
    if isinstance(cause, Unwanted):
        assert index in job.cancelled, f"task {task} was ended, and nobody wanted that"
    elif isinstance(cause, Late):
        assert job.limits.timeout is not None, f"task {task} is late, and has no limit"
        assert took >= job.limits.timeout, f"task {task} was ended before it was late"
    else:
        assert isinstance(cause, Death | Broken), f"task {task} ends for no known cause: {cause}"


def describe(jobs: dict[int, SimulatedJob], scheduler: Scheduler) -> str:
    """Where everything is, for a person."""
    unsettled = [
        (job.id, index)
        for job in jobs.values()
        for index in range(len(job.deeds))
        if index not in job.settled
    ]
    workers = [
        (w.id, f"ready {w.ready} retiring {w.retiring}", list(w.flight))
        for w in scheduler.workers.values()
    ]
    return f"unsettled {unsettled}, queue {scheduler._backlog.queue}, workers {workers}"


def _spans(scheduler: Scheduler) -> list[Span]:
    held = [held.span for worker in scheduler.workers.values() for held in worker.flight]
    delayed = [span for _, span in scheduler._backlog.delayed]
    return sorted([*scheduler._backlog.queue, *scheduler._backlog.suspects, *delayed, *held])
