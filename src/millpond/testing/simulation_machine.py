"""A rehearsal as a Hypothesis state machine: what a rehearsal throws dice for, Hypothesis chooses and shrinks.

TestPool = SimulationMachine.TestCase
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from millpond.core.policy import Limits, Policy
from millpond.testing.simulation import Rehearsal
from millpond.testing.simulation_tasks import DEADLY, HANG, HARMLESS, INSTANT, LONG, MEDIUM, SHORT

_worker = st.integers(0, 3)
_sorts = st.sampled_from(
    [(INSTANT,), (SHORT,), (MEDIUM,), (SHORT, LONG), HARMLESS, HARMLESS + DEADLY]
)
_deeds = _sorts.flatmap(lambda sort: st.lists(st.sampled_from(sort), min_size=1, max_size=40))
_limits = st.builds(
    Limits,
    timeout=st.sampled_from([None, 0.05]),
    retries=st.integers(0, 2),
    backoff=st.sampled_from([0.0, 0.002]),
    after_death=st.booleans(),
    after_timeout=st.booleans(),
    slots=st.just(0),
)


class CallerMachine(RuleBasedStateMachine):
    """What the caller of a pool may do."""

    rehearsal_type: type[Rehearsal] = Rehearsal
    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.rehearsal: Any = None

    @initialize(
        workers=st.integers(1, 4),
        max_chunks=st.none() | st.integers(1, 4),
        at_most_once=st.booleans(),
        failing=st.frozensets(st.integers(1, 6), max_size=3),
        seed=st.integers(0, 1000),
    )
    def begin(
        self,
        workers: int,
        max_chunks: int | None,
        at_most_once: bool,
        failing: frozenset[int],
        seed: int,
    ) -> None:
        """A pool is made."""
        policy = Policy(workers=workers, max_chunks=max_chunks, at_most_once=at_most_once)
        self.rehearsal = self.rehearsal_type(policy, seed, failing)

    @property
    def closing(self) -> bool:
        """Whether no more work may be given."""
        return self.rehearsal is None or self.rehearsal.closing

    @precondition(lambda self: not self.closing)
    @rule(
        target=jobs,
        deeds=_deeds,
        grain=st.integers(1, 8),
        plain=st.booleans(),
        growing=st.booleans(),
    )
    def submit(self, deeds: list[int], grain: int, plain: bool, growing: bool) -> int:
        """A new job."""
        number: int = self.rehearsal.submit(deeds, grain, plain=plain, growing=growing)
        return number

    @rule(job=jobs, deeds=_deeds)
    def grow(self, job: int, deeds: list[int]) -> None:
        """More tasks of a job whose input has not ended."""
        if self.rehearsal.jobs[job].growing:
            self.rehearsal.grow(job, deeds)

    @rule(job=jobs)
    def stop_growing(self, job: int) -> None:
        """The input of a job ends."""
        self.rehearsal.stop_growing(job)

    @rule(job=jobs)
    def drop(self, job: int) -> None:
        """Nobody wants the rest of a job."""
        self.rehearsal.drop(job)

    @precondition(lambda self: not self.closing)
    @rule()
    def close(self) -> None:
        """No more work will come."""
        self.rehearsal.close()


class SimulationMachine(CallerMachine):
    """Submit, grow, drop, kill, cut, delay, double, close, in any order; then all must end."""

    @rule(worker=_worker, steps=st.integers(1, 40))
    def run(self, worker: int, steps: int) -> None:
        """A worker goes on."""
        self.rehearsal.fates.run(worker, steps)

    @rule(worker=_worker, most=st.integers(1, 200))
    def deliver(self, worker: int, most: int) -> None:
        """Bytes of a worker arrive."""
        self.rehearsal.fates.deliver(worker, most)

    @rule(times=st.integers(1, 30))
    def happen(self, times: int) -> None:
        """What happens anyway."""
        for _ in range(times):
            self.rehearsal.world.happen()

    @rule(worker=_worker)
    def kill(self, worker: int) -> None:
        """A worker is killed from outside."""
        self.rehearsal.fates.kill(worker)

    @rule(worker=_worker, framed=st.booleans())
    def garble(self, worker: int, framed: bool) -> None:
        """Something else writes on a worker's channel."""
        self.rehearsal.fates.garble(worker, framed)

    @rule(worker=_worker)
    def notice(self, worker: int) -> None:
        """The end of a worker can be seen."""
        self.rehearsal.fates.notice(worker)

    @rule(doubled=st.sampled_from([0.0, 0.0, 0.5]))
    def look(self, doubled: float) -> None:
        """The parent takes in what it sees; perhaps each event twice."""
        self.rehearsal.look(doubled)

    @rule(which=st.integers(0, 50))
    def repeat(self, which: int) -> None:
        """A late double of an event."""
        self.rehearsal.repeat(which)

    @rule(seconds=st.sampled_from([1e-5, 1e-3, 0.01]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.rehearsal.world.clock.advance(seconds)
        self.rehearsal.tick()

    @rule()
    def repopulate(self) -> None:
        """Somebody asks for missing workers."""
        self.rehearsal.repopulate()

    @invariant()
    def holds(self) -> None:
        """Everything that must be so at any time."""
        if self.rehearsal is not None:
            self.rehearsal.check()

    def teardown(self) -> None:
        """In a kind world all ends."""
        if self.rehearsal is not None:
            try:
                self.rehearsal.finish()
            finally:
                self.rehearsal.tear_down()


class LimitedMachine(SimulationMachine):
    """The same, with tasks that may be late, run again, or be cancelled."""

    @precondition(lambda self: not self.closing)
    @rule(
        target=CallerMachine.jobs,
        deeds=_deeds,
        hangs=st.integers(0, 60),
        plain=st.booleans(),
        growing=st.booleans(),
        limits=_limits,
    )
    def submit_limited(
        self, deeds: list[int], hangs: int, plain: bool, growing: bool, limits: Limits
    ) -> int:
        """A new job, of which a task may hang."""
        deeds = [HANG if index == hangs else deed for index, deed in enumerate(deeds)]
        number: int = self.rehearsal.submit(deeds, plain=plain, growing=growing, limits=limits)
        return number

    @rule(job=CallerMachine.jobs, start=st.integers(0, 40), count=st.integers(1, 40))
    def cancel(self, job: int, start: int, count: int) -> None:
        """Nobody wants some of a job's tasks, even if they run."""
        self.rehearsal.cancel(job, start, count)
