"""The scheduler over the simulated world, and a ledger that knows what really happened there.

A ``Rehearsal`` is a pool without a caller: the real scheduler decides, the real process backend carries out,
simulated workers run the real loop. Its methods are the things that may happen, in any order; after each,
``check`` holds the state against the ledger. ``finish`` makes the world kind and waits for all to end.

    rehearse(seed=7)         a whole rehearsal by dice; raises AssertionError, the same for the same seed
"""

from __future__ import annotations

import random
from typing import Any

from millpond.backends.base import Report
from millpond.core.commands import Command, Kill, Recall, Send, Settle, Start, Stop
from millpond.core.events import (
    Closing,
    Dropped,
    Event,
    Forgotten,
    Opened,
    Recalled,
    Repopulated,
    Sized,
    Submitted,
    Ticked,
)
from millpond.core.policy import Policy
from millpond.core.scheduler import Scheduler
from millpond.testing.simulation_ledger import Ledger
from millpond.testing.simulation_tasks import DEADLY, DIE_DECODING, HARMLESS, SimulatedJob
from millpond.testing.simulation_worker import SimulatedProcess
from millpond.testing.simulation_world import SimulatedBackend, World
from millpond.worker.loop import Settings

_RECALLED_TWICE = 0.3
"""Recalls are rare: a doubled one would hardly ever be seen."""
_PATIENCE = 8_000
"""Things that may happen in a kind world before a rehearsal is taken to hang."""


class Rehearsal:
    """See the module."""

    scheduler_type: type[Scheduler] = Scheduler
    backend_type: type[SimulatedBackend] = SimulatedBackend

    def __init__(
        self, policy: Policy, seed: int = 0, failing: frozenset[int] = frozenset()
    ) -> None:
        """``failing``: the numbers of the workers whose initializer raises."""
        self.policy = policy
        self.ledger = Ledger(policy, failing)
        self.world = World(seed, observer=self.ledger)
        settings = Settings(self.ledger.initialize, at_most_once=policy.at_most_once)
        self.backend = self.backend_type(self.world, settings)
        self.scheduler = self.scheduler_type(policy)
        self.jobs = self.ledger.jobs
        self.closing = False
        self._random = random.Random(seed)
        self._past: list[Event] = []
        self._handle(Opened())

    # What the caller does -------------------------------------------------------------------------

    def submit(
        self, deeds: list[int], grain: int = 1, *, plain: bool = True, growing: bool = False
    ) -> int:
        """A new job."""
        job = SimulatedJob(len(self.jobs) + 1, grain, plain, self.backend.packing.function)
        self.jobs[job.id] = job
        job.growing = growing
        self.grow(job.id, deeds)
        return job.id

    def grow(self, job_id: int, deeds: list[int]) -> None:
        """More tasks of a job."""
        job = self.jobs[job_id]
        if job.plain:  # a plain argument does nothing when it is unpickled
            deeds = [deed if deed != DIE_DECODING else HARMLESS[0] for deed in deeds]
        job.deeds += deeds
        self._handle(Submitted(job.id, len(deeds), job.grain))

    def stop_growing(self, job_id: int) -> None:
        """No more tasks of a job will come."""
        self.jobs[job_id].growing = False
        self._forget_ended()

    def drop(self, job_id: int) -> None:
        """Nobody wants the rest of a job."""
        self.jobs[job_id].dropped = True
        self.jobs[job_id].growing = False
        self._handle(Dropped(job_id))

    def repopulate(self) -> None:
        """Somebody asks for missing workers."""
        self._handle(Repopulated())

    def close(self) -> None:
        """No more jobs."""
        self.closing = True
        for job in self.jobs.values():
            job.growing = False
        self._forget_ended()
        self._handle(Closing())

    # What the world does --------------------------------------------------------------------------

    def look(self, doubled: float = 0.0) -> bool:
        """Handle what the parent can see; each event twice, with a probability. Whether there was any."""
        reports = self.backend.look()
        for report in reports:
            self._take(report)
            if self.world.chance(_RECALLED_TWICE if type(report.event) is Recalled else doubled):
                self._take(report)
        return bool(reports)

    def repeat(self, which: int) -> None:
        """An event of the past comes again, whatever has become of its worker."""
        if self._past:
            self._handle(self._past[-1 - which % len(self._past)])

    def tick(self) -> None:
        """Say that time has passed."""
        self._handle(Ticked())

    def run(self, which: int, steps: int) -> None:
        """A worker goes on."""
        worker = self._worker(which)
        if worker is not None and worker.strand.runnable:
            worker.strand.run(steps)

    def deliver(self, which: int, most: int) -> None:
        """Bytes of a worker arrive."""
        worker = self._worker(which)
        if worker is not None:
            worker.channel.deliver(most)

    def kill(self, which: int) -> None:
        """A worker is killed from outside."""
        alive = self.world.alive
        if alive:
            alive[which % len(alive)].kill()

    def notice(self, which: int) -> None:
        """The end of a worker can be seen."""
        worker = self._worker(which)
        if worker is not None:
            worker.notice()

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.world.clock.advance(seconds)

    def happen(self) -> None:
        """Whatever the dice say."""
        self.world.happen()

    def _worker(self, which: int) -> SimulatedProcess | None:
        workers = self.world.workers
        return workers[which % len(workers)] if workers else None

    # The engine's part ----------------------------------------------------------------------------

    def _take(self, report: Report) -> None:
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
        for command in commands:
            self._perform(command)

    def _perform(self, command: Command) -> None:
        match command:
            case Start(worker):
                self.backend.start(worker)
                self.ledger.started(worker, self.world.workers[-1])
            case Send():
                self._send(command)
            case Recall(worker):
                self.backend.recall(worker)
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

    # Judgement ------------------------------------------------------------------------------------

    def check(self) -> None:
        """Hold the scheduler's state against the ledger."""
        for worker in self.world.workers:
            if worker.strand.failure is not None:
                raise worker.strand.failure
        assert not self.ledger.complaints, self.ledger.complaints[0]
        self.ledger.check(self.scheduler, self.world)

    def finish(self) -> None:
        """In a world that stays kind everything ends; after Closing, the workers too."""
        self.world.kind = True
        self.ledger.failing = frozenset()
        for job in list(self.jobs.values()):
            job.growing = False
        self._forget_ended()
        if self.world.chance(0.5):
            self.close()
        self._go_on(lambda: all(job.left == 0 for job in self.jobs.values()), "tasks do not end")
        if not self.closing:
            self._go_on(self._staffed, "workers are missing")
            self.close()
        self._go_on(lambda: not self.scheduler.workers, "workers do not end")
        self._go_on(lambda: not self.world.alive, "processes do not end")

    def _staffed(self) -> bool:
        given_up = self.scheduler.failure is not None or self.ledger.failed_starts
        return bool(given_up) or len(self.scheduler.workers) == self.policy.workers

    def _go_on(self, goal: Any, complaint: str) -> None:
        for _ in range(_PATIENCE):
            if goal():
                return
            deadline = self.scheduler.next_deadline()
            if self.look():
                self.check()
            elif deadline is not None and deadline <= self.world.clock():
                self.tick()
                self.check()
            elif self.world.happen(deadline):
                continue
            elif deadline is not None:
                self.world.clock.advance_to(deadline)
            else:
                break
        self.check()
        raise AssertionError(f"{complaint}: {self.ledger.describe(self.scheduler)}")

    def tear_down(self) -> None:
        """Let go of threads and descriptors."""
        self.backend.close(0)
        self.backend.bells.release()


def rehearse(seed: int, steps: int = 120, rehearsal_type: type[Rehearsal] = Rehearsal) -> None:
    """Throw dice for everything. A failure names its seed: the same seed fails the same way."""
    rehearsal = _by_dice(seed, rehearsal_type)
    try:
        dice = random.Random(seed)
        for _ in range(steps):
            _act(rehearsal, dice)
            rehearsal.check()
        rehearsal.finish()
    except AssertionError as failure:
        failure.add_note(f"replay with rehearse({seed}, {steps})")
        raise
    finally:
        rehearsal.tear_down()


def _by_dice(seed: int, rehearsal_type: type[Rehearsal]) -> Rehearsal:
    dice = random.Random(f"policy {seed}")
    policy = Policy(
        workers=dice.randint(1, 4),
        max_chunks=dice.choice([None, None, 1, 2, 5]),
        at_most_once=dice.random() < 0.25,
    )
    failures = dice.choice([0.0, 0.0, 0.0, 0.0, 0.1, 1.0])
    failing = frozenset(number for number in range(1, 20) if dice.random() < failures)
    return rehearsal_type(policy, seed, failing)


def _act(rehearsal: Rehearsal, dice: random.Random) -> None:
    """One thing, by dice."""
    growing = [job.id for job in rehearsal.jobs.values() if job.growing]
    throw = dice.random()
    if throw < 0.08 and not rehearsal.closing and len(rehearsal.jobs) < 6:
        deeds = random_deeds(dice)
        rehearsal.submit(
            deeds,
            dice.choice([1, 1, 3, 10]),
            plain=dice.random() < 0.6,
            growing=dice.random() < 0.3,
        )
    elif throw < 0.11 and growing:
        rehearsal.grow(dice.choice(growing), random_deeds(dice))
    elif throw < 0.12 and growing:
        rehearsal.stop_growing(dice.choice(growing))
    elif throw < 0.13 and rehearsal.jobs:
        rehearsal.drop(dice.choice(list(rehearsal.jobs)))
    elif throw < 0.14 and not rehearsal.closing and len(rehearsal.jobs) > 3:
        rehearsal.close()
    elif throw < 0.15:
        rehearsal.repeat(dice.choice([dice.randrange(5), dice.randrange(1000)]))
    elif throw < 0.16:
        rehearsal.repopulate()
    elif throw < 0.19:
        rehearsal.kill(dice.randrange(4))
    elif throw < 0.25:
        rehearsal.run(dice.randrange(4), dice.randint(1, 4))
    elif throw < 0.30:
        rehearsal.wait(dice.choice([1e-5, 1e-3, 0.01]))
    elif throw < 0.35:
        rehearsal.tick()
    elif throw < 0.60:
        rehearsal.look(0.02)
    else:
        rehearsal.happen()


def random_deeds(dice: random.Random) -> list[int]:
    """Tasks of one sort, or mixed; here and there a deadly one."""
    count = dice.choice([1, 2, 5, 20, 60])
    sort = dice.choice([HARMLESS, (HARMLESS[0],), (HARMLESS[1],), (HARMLESS[2],), HARMLESS[:4]])
    deeds = [dice.choice(sort) for _ in range(count)]
    if dice.random() < 0.4:
        deeds[dice.choice([dice.randrange(count), -1])] = dice.choice(DEADLY)
    return deeds
