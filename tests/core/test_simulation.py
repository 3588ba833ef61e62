"""The scheduler, the process backend and the worker's loop in a simulated world that kills at any step."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from millpond.core.policy import Policy
from millpond.errors import ProtocolError
from millpond.testing.simulation import Rehearsal, rehearse
from millpond.testing.simulation_machine import LimitedMachine, SimulationMachine
from millpond.testing.simulation_tasks import INSTANT, LONG
from millpond.worker.slate import RUNNING
from tests.core import planted

SEEDS = 60  # in which the real code must show no bug
ENOUGH = 600  # in which each planted one has to be found

FIXED = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("machine", [SimulationMachine, LimitedMachine])
def test_whatever_happens_nothing_is_lost_or_doubled_and_all_ends(machine: Any) -> None:
    run_state_machine_as_test(machine, settings=FIXED)


@pytest.mark.parametrize("start", range(0, SEEDS, 20))
def test_the_same_by_dice(start: int) -> None:
    for seed in range(start, start + 20):
        rehearse(seed)


@pytest.mark.parametrize("bug", [*planted.SCHEDULERS, *planted.BACKENDS])
def test_a_planted_bug_is_found(bug: type) -> None:
    rehearsal_type = planted.rehearsal_with(bug)
    with pytest.raises(AssertionError) as found:
        for seed in range(ENOUGH):
            rehearse(seed, rehearsal_type=rehearsal_type)
    (note,) = found.value.__notes__
    assert note == f"replay with rehearse({seed}, 120, kills=3)"


@pytest.mark.parametrize(
    ("machine", "bug", "complaint"),
    [
        (SimulationMachine, planted.BlamesTheWholeSlice, "blamed for a death of another's doing"),
        (LimitedMachine, planted.KillsWhateverRuns, "was ended, and nobody wanted that"),
        (LimitedMachine, planted.CountsNoDeaths, "has too many runs"),
    ],
)
def test_hypothesis_finds_a_planted_bug(machine: Any, bug: type, complaint: str) -> None:
    class Machine(machine):  # type: ignore[misc]
        rehearsal_type = planted.rehearsal_with(bug)

    quick = settings(FIXED, phases=[Phase.generate], print_blob=False, max_examples=2000)
    with pytest.raises(AssertionError, match=complaint):
        run_state_machine_as_test(Machine, settings=quick)


def history(seed: int) -> list[str]:
    said: list[str] = []

    class Told(Rehearsal):
        def _handle(self, event: object, batch: object = None) -> None:
            said.append(f"{self.world.clock()} {event}")
            super()._handle(event, batch)  # type: ignore[arg-type]

    rehearse(seed, rehearsal_type=Told)
    return said


def test_the_same_seed_gives_the_same_history() -> None:
    first, second = history(5), history(5)
    assert len(first) > 50
    assert [line.partition(" object at")[0] for line in first] == [
        line.partition(" object at")[0] for line in second
    ]


def test_the_world_sees_what_it_is_there_for() -> None:
    """Every kind of trouble happens in the seeds that are run."""
    seen: set[str] = set()

    class Told(Rehearsal):
        def _handle(self, event: object, batch: object = None) -> None:
            seen.add(type(event).__name__)
            seen.add(type(getattr(event, "detail", None)).__name__)
            super()._handle(event, batch)  # type: ignore[arg-type]
            if self.scheduler._backlog.suspects:
                seen.add("a suspect waits")
            if self.scheduler._backlog.delayed:
                seen.add("a pause")
            if self.scheduler.failure is not None:
                seen.add("given up")

        def _perform(self, command: object) -> None:
            seen.add(type(command).__name__)
            if getattr(command, "alone", False):
                seen.add("a suspect runs alone")
            super()._perform(command)  # type: ignore[arg-type]

    for seed in range(SEEDS):
        rehearse(seed, rehearsal_type=Told)
    assert seen >= {
        "Begun", "Broken", "Cancelled", "Closing", "Done", "Dropped", "Forgotten", "Kill", "Late", "Lost",
        "Opened", "Ready", "Recall", "Recalled", "Repopulated", "Retry", "Send", "Sized", "Spared", "Start",
        "Stop", "Submitted", "Ticked",
        "Unwanted", "a pause", "a suspect runs alone", "a suspect waits", "given up",
    }  # fmt: skip


def test_garbage_that_is_met_when_tasks_are_taken_back_is_the_worker_s_end() -> None:
    """The parent reads the channel of a worker that it has stopped, too, and may be the first to see it there."""
    rehearsal = Rehearsal(Policy(workers=1), seed=1)
    try:
        rehearsal.world.kind = True
        rehearsal.submit([LONG, INSTANT], plain=False)
        (worker,) = rehearsal.world.workers
        while worker.slate.read()[2] != RUNNING:
            rehearsal.world.happen()
            rehearsal.look()
        rehearsal.fates.garble(0)
        rehearsal.fates.deliver(0, 1000)
        rehearsal.backend.recall(1)
        assert isinstance(rehearsal.backend._children[1].broken, ProtocolError)
        assert not worker.is_alive()
        rehearsal.finish()
        assert rehearsal.jobs[1].settled == {0, 1}
        assert rehearsal.scheduler.lost == 1
    finally:
        rehearsal.tear_down()


def test_a_rehearsal_step_by_step() -> None:
    """What the methods of a rehearsal are for: a history written by hand."""
    rehearsal = Rehearsal(Policy(workers=1), seed=1)
    try:
        rehearsal.submit([0, 0, 8, 0], plain=False)  # the third task kills its worker
        rehearsal.finish()
        job = rehearsal.jobs[1]
        assert job.settled == {0, 1, 2, 3}
        assert rehearsal.scheduler.lost == 1
    finally:
        rehearsal.tear_down()
