"""The part of the engine in a rehearsal: events to the scheduler, its commands to the simulated backend."""

from __future__ import annotations

from typing import Any

from millpond.backends.base import Logged, Report
from millpond.core.commands import Begun, Command, Kill, Recall, Retry, Send, Settle, Start, Stop
from millpond.core.events import Event, Forgotten, Opened, Recalled, Sized, Ticked
from millpond.core.policy import Policy
from millpond.core.scheduler import Scheduler
from millpond.testing.simulation_ledger import Ledger
from millpond.testing.simulation_world import SimulatedBackend, World
from millpond.worker.loop import Settings

_RECALLED_TWICE = 0.3
"""Recalls are rare: a doubled one would hardly ever be seen."""


class SimulatedDriver:
    """The real scheduler over a simulated world, each step entered in a ledger."""

    scheduler_type: type[Scheduler] = Scheduler
    backend_type: type[SimulatedBackend] = SimulatedBackend

    def __init__(
        self, policy: Policy, seed: int = 0, failing: frozenset[int] = frozenset()
    ) -> None:
        """``failing``: the numbers of the workers whose initializer raises."""
        self.policy = policy
        self.ledger = Ledger(policy, failing)
        self.world = World(seed, observer=self.ledger, light=True)
        settings = Settings(self.ledger.initialize, at_most_once=policy.at_most_once)
        self.backend = self.backend_type(self.world, settings)
        self.scheduler = self.scheduler_type(policy)
        self.jobs = self.ledger.jobs
        self._past: list[Event] = []
        self._handle(Opened())

    def look(self, doubled: float = 0.0) -> bool:
        """Handle what the parent can see; each event twice, with a probability. Whether there was any."""
        reports = self.backend.look()
        for report in reports:
            self._take(report)
            if self.world.chance(_RECALLED_TWICE if type(report.event) is Recalled else doubled):
                self._take(report)
        return bool(reports)

    def repeat(self, which: int, kind: type[Event] | None = None) -> None:
        """An event of the past comes again, whatever has become of its worker; ``kind``: one of these."""
        past = [event for event in self._past if type(event) is kind] if kind else self._past
        if past:
            self._handle(past[-1 - which % len(past)])

    def tick(self) -> None:
        """Say that time has passed."""
        self._handle(Ticked())

    def check(self) -> None:
        """Hold the scheduler's state against the ledger."""
        for worker in self.world.workers:
            if worker.strand.failure is not None:
                raise worker.strand.failure
        assert not self.ledger.complaints, self.ledger.complaints[0]
        self.ledger.check(self.scheduler, self.world)
        self._look_on()

    def _look_on(self) -> None:
        """What ``Pool.info()`` reads must be there at any time."""
        for worker in [*self.scheduler.workers]:
            self.backend.info(worker)
        assert self.backend.arena()["results"] >= 0
        assert self.scheduler.waiting >= 0
        assert len(self.scheduler.workers) <= self.policy.workers
        # Beside them, those whose places were given to others, and one of these that is being killed.
        beside = len(self.backend.processes) - len(self.scheduler.workers)
        assert beside <= self.policy.workers + 1

    def tear_down(self) -> None:
        """Let go of threads and descriptors."""
        self.backend.close(0)
        self.backend.bells.release()

    def _take(self, report: Report) -> None:
        assert not isinstance(report.event, Logged)
        self._past.append(report.event)
        self._handle(report.event, report.batch)
        self._forget_ended()

    def _handle(self, event: Event, batch: list[Any] | None = None) -> None:
        self.ledger.event = event
        commands = self.scheduler.handle(event, self.world.clock())
        at = 0
        for command in commands:
            if type(command) is Settle:
                count = command.stop - command.start
                part = None
                if command.cause is None:
                    assert batch is not None, f"{command} without outcomes"
                    part = batch[at : at + count]
                    at += count
                self.ledger.settle(command, part)
            elif type(command) is Retry:
                self.ledger.tried_again(
                    command, None if not command.answered or batch is None else batch[at]
                )
                at += command.answered
            elif type(command) is Begun:
                self.ledger.begun(command)
        for command in commands:
            self._perform(command)

    def _perform(self, command: Command) -> None:
        match command:
            case Start(worker):
                self.backend.start(worker)
                self.ledger.started(worker, self.world.workers[-1])
            case Send():
                self._send(command)
            case Recall(worker, unwanted, limit, anyhow):
                self.backend.recall(worker, unwanted, limit, anyhow)
            case Stop(worker):
                self.backend.stop(worker)
            case Kill(worker):
                self.backend.kill(worker)

    def _send(self, command: Send) -> None:
        self.ledger.ordered(command)
        work = [(self.jobs[span.job], span) for span in command.spans]
        size = self.backend.send(command.worker, command.seq, work)
        if len(work) == 1:
            self._handle(Sized(work[0][0].id, size / (work[0][1].stop - work[0][1].start)))

    def _forget_ended(self) -> None:
        for job in self.jobs.values():
            if not (job.left or job.growing or job.forgotten):
                job.forgotten = True
                self._handle(Forgotten(job.id))
                self.backend.forget(job)
