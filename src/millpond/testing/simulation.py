"""The scheduler over the simulated world, and a ledger that knows what really happened there.

A ``Rehearsal`` is a pool without a caller: the real scheduler decides, the real process backend carries out,
simulated workers run the real loop. Its methods are the things that may happen, in any order; after each,
``check`` holds the state against the ledger. ``finish`` makes the world kind and waits for all to end.

    rehearse(seed=7)         a whole rehearsal by dice; raises AssertionError, the same for the same seed
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from millpond.core.events import (
    Cancelled,
    Closing,
    Dropped,
    Recalled,
    Repopulated,
    Spared,
    Submitted,
)
from millpond.core.policy import NO_LIMITS, Limits, Policy
from millpond.testing.simulation_driver import SimulatedDriver
from millpond.testing.simulation_fates import Fates
from millpond.testing.simulation_ledger import Ledger, describe
from millpond.testing.simulation_tasks import DEADLY, DIE_DECODING, HANG, HARMLESS, SimulatedJob

_FOREVER = 1e12
"""Seconds; a time beyond that never comes."""
_LATE = 0.12
"""Seconds after which a worker that hides work is looked at, whoever else is idle."""
_PATIENCE = 8_000
"""Things that may happen in a kind world before a rehearsal is taken to hang."""


class Rehearsal(SimulatedDriver):
    """See the module. ``fates`` is what may happen to its workers, ``world`` the rest."""

    def __init__(
        self, policy: Policy, seed: int = 0, failing: frozenset[int] = frozenset()
    ) -> None:
        """``failing``: the numbers of the workers whose initializer raises."""
        super().__init__(policy, seed, failing)
        self.fates = Fates(self.world)
        self.closing = False
        self.most_jobs = 6  # that dice submit

    def submit(
        self,
        deeds: list[int],
        grain: int = 1,
        *,
        plain: bool = True,
        growing: bool = False,
        limits: Limits = NO_LIMITS,
    ) -> int:
        """A new job."""
        job = SimulatedJob(len(self.jobs) + 1, grain, plain, self.backend.packing.function, limits)
        self.jobs[job.id] = job
        job.growing = growing
        self.grow(job.id, deeds)
        return job.id

    def grow(self, job_id: int, deeds: list[int]) -> None:
        """More tasks of a job."""
        job = self.jobs[job_id]
        if job.plain:  # a plain argument does nothing when it is unpickled
            deeds = [deed if deed != DIE_DECODING else HARMLESS[0] for deed in deeds]
        if job.limits.timeout is None:  # nobody would end it
            deeds = [deed if deed != HANG else HARMLESS[0] for deed in deeds]
        job.deeds += deeds
        self._handle(Submitted(job.id, len(deeds), job.grain, job.limits))

    def stop_growing(self, job_id: int) -> None:
        """No more tasks of a job will come."""
        self.jobs[job_id].growing = False
        self._forget_ended()

    def drop(self, job_id: int) -> None:
        """Nobody wants the rest of a job."""
        self.jobs[job_id].dropped = True
        self.jobs[job_id].growing = False
        self._handle(Dropped(job_id))

    def cancel(self, job_id: int, start: int, count: int) -> None:
        """Nobody wants some tasks of a job, even if they run."""
        job = self.jobs[job_id]
        stop = min(start + count, len(job.deeds))
        if start < stop:
            job.cancelled.update(range(start, stop))
            self._handle(Cancelled(job_id, start, stop))
            self._forget_ended()

    def spare(self, job_id: int, index: int) -> None:
        """Nobody wants a task of a job if it has not begun."""
        job = self.jobs[job_id]
        if index not in job.settled:
            job.spared.add(index)
            self.ledger.asked.add((job_id, index))
            self._handle(Spared(job_id, index))
            self._forget_ended()

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
                self.world.happen(deadline)  # the workers do not stand still while the parent looks
            elif self.world.happen(deadline):
                continue
            elif deadline is not None and deadline < _FOREVER:
                self.world.clock.advance_to(deadline)
            else:
                break
        self.check()
        raise AssertionError(f"{complaint}: {describe(self.jobs, self.scheduler)}")


def rehearse(
    seed: int, steps: int = 120, rehearsal_type: type[Rehearsal] = Rehearsal, kills: int = 3
) -> Ledger:
    """Throw dice for everything. A failure names its seed: the same seed fails the same way.

    ``kills``: how often workers are killed from outside, among about a hundred things that happen.
    """
    rehearsal = _by_dice(seed, rehearsal_type)
    rehearsal.most_jobs = max(6, steps // 20)
    try:
        dice = random.Random(seed)
        for _ in range(steps):
            _act(rehearsal, dice, kills)
            rehearsal.check()
        rehearsal.finish()
    except AssertionError as failure:
        failure.add_note(f"replay with rehearse({seed}, {steps}, kills={kills})")
        raise
    finally:
        rehearsal.tear_down()
    return rehearsal.ledger


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


def _submit(rehearsal: Rehearsal, dice: random.Random) -> None:
    if not rehearsal.closing and len(rehearsal.jobs) < rehearsal.most_jobs:
        grain, plain = dice.choice([1, 1, 3, 10]), dice.random() < 0.6
        growing, limits = dice.random() < 0.3, random_limits(dice)
        deeds = random_deeds(dice, limits)
        rehearsal.submit(deeds, grain, plain=plain, growing=growing, limits=limits)


def _grow(rehearsal: Rehearsal, dice: random.Random) -> None:
    growing = [job.id for job in rehearsal.jobs.values() if job.growing]
    if growing and dice.random() < 0.75:
        rehearsal.grow(dice.choice(growing), random_deeds(dice))
    elif growing:
        rehearsal.stop_growing(dice.choice(growing))


def _drop(rehearsal: Rehearsal, dice: random.Random) -> None:
    if rehearsal.jobs:
        rehearsal.drop(dice.choice(list(rehearsal.jobs)))


def _cancel(rehearsal: Rehearsal, dice: random.Random) -> None:
    if rehearsal.jobs:
        job = dice.choice(list(rehearsal.jobs.values()))
        start = dice.choice([0, dice.randrange(len(job.deeds))])
        rehearsal.cancel(job.id, start, dice.choice([1, 3, len(job.deeds)]))


def _spare(rehearsal: Rehearsal, dice: random.Random) -> None:
    """One, or a few behind one another, mostly of what is with a worker."""
    held = [w.flight[-1].span for w in rehearsal.scheduler.workers.values() if w.flight]
    if held and dice.random() < 0.8:
        job, start, stop = dice.choice(held)
    elif rehearsal.jobs:
        job, start = dice.choice(list(rehearsal.jobs)), 0
        stop = len(rehearsal.jobs[job].deeds)
    else:
        return
    for _ in range(dice.choice([1, 1, 3])):
        rehearsal.spare(job, dice.randrange(start, stop))


def _close(rehearsal: Rehearsal, _dice: random.Random) -> None:
    if not rehearsal.closing and len(rehearsal.jobs) > rehearsal.most_jobs // 2:
        rehearsal.close()


def _kill(rehearsal: Rehearsal, dice: random.Random) -> None:
    rehearsal.fates.kill(dice.randrange(4))


def _stall(rehearsal: Rehearsal, dice: random.Random) -> None:
    """The parent finds its workers late, once or several times in a row, a few steps of one of them in between."""
    which = dice.randrange(4)
    for _ in range(dice.choice([1, 1, 4])):
        rehearsal.fates.run(which, dice.randint(1, 5))
        rehearsal.fates.deliver(which, 1 << 20)
        rehearsal.look(0.02)
        rehearsal.world.clock.advance(_LATE)
        rehearsal.tick()


_ACTS: list[tuple[int, Callable[[Rehearsal, random.Random], Any]]] = [
    (8, _submit),
    (4, _grow),
    (1, _drop),
    (2, _cancel),
    (2, _spare),
    (1, _close),
    (1, lambda r, dice: r.repeat(dice.choice([dice.randrange(5), dice.randrange(1000)]))),
    (1, lambda r, dice: r.repeat(dice.randrange(3), Recalled)),  # rare, and so are their doubles
    (1, lambda r, dice: r.repopulate()),
    (1, lambda r, dice: r.fates.garble(dice.randrange(4), dice.random() < 0.5)),
    (6, lambda r, dice: r.fates.run(dice.randrange(4), dice.randint(1, 4))),
    (5, lambda r, dice: r.world.clock.advance(dice.choice([1e-5, 1e-3, 0.01]))),
    (5, lambda r, dice: r.tick()),
    (3, _stall),
    (25, lambda r, dice: r.look(0.02)),
    (40, lambda r, dice: r.world.happen()),
]
_WEIGHTS = [weight for weight, _ in _ACTS]


def _act(rehearsal: Rehearsal, dice: random.Random, kills: int) -> None:
    """One thing, by dice."""
    ((_, act),) = dice.choices([*_ACTS, (kills, _kill)], [*_WEIGHTS, kills])
    act(rehearsal, dice)


def random_limits(dice: random.Random) -> Limits:
    """Mostly none."""
    if dice.random() < 0.6:
        return NO_LIMITS
    retries = dice.randrange(3)
    return Limits(
        timeout=dice.choice([None, 0.05]),
        retries=retries,
        backoff=dice.choice([0.0, 0.002]),
        after_death=retries > 0 and dice.random() < 0.5,
        after_timeout=retries > 0 and dice.random() < 0.5,
    )


def random_deeds(dice: random.Random, limits: Limits = NO_LIMITS) -> list[int]:
    """Tasks of one sort, or mixed; here and there a deadly one."""
    count = dice.choice([1, 2, 5, 20, 60])
    sort = dice.choice([HARMLESS, (HARMLESS[0],), (HARMLESS[1],), (HARMLESS[2],), HARMLESS[:4]])
    deeds = [dice.choice(sort) for _ in range(count)]
    if dice.random() < 0.4:
        deeds[dice.choice([dice.randrange(count), -1])] = dice.choice(DEADLY)
    if limits.timeout is not None and dice.random() < 0.5:
        deeds[dice.randrange(count)] = HANG
    return deeds
