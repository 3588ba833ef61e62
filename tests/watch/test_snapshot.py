"""Counts are exact, rates are smooth, and the time that is left is about right."""

from __future__ import annotations

import pytest

from millpond.testing.clock import FakeClock
from millpond.watch.snapshot import Meter, Snapshot
from tests.watch.jobs import FakeJob


class Run:
    """A job that is looked at ten times a second while its tasks end."""

    def __init__(self, total: int | None) -> None:
        self.clock = FakeClock()
        self.job = FakeJob(total)
        self.meter = Meter("squares", self.clock())

    def go(self, seconds: float, per_second: float, chunk: int = 1) -> Snapshot:
        """Let time pass; ``chunk`` tasks end together."""
        before, ticks = self.job.settled, round(seconds * 10)
        for tick in range(1, ticks + 1):
            self.clock.advance(0.1)
            self.job.settled = before + int(tick / 10 * per_second / chunk + 1e-9) * chunk
            self.meter.read(self.job, self.clock(), last=False)
        return self.meter.read(self.job, self.clock(), last=False)

    def end(self) -> Snapshot:
        return self.meter.read(self.job, self.clock(), last=True)


def test_counts_are_the_job_s() -> None:
    run = Run(10)
    run.job.settled, run.job.failed, run.job.retried = 7, 2, 3
    seen = run.meter.read(run.job, run.clock(), last=False)
    assert seen == Snapshot("squares", 7, 10, 2, 3, 0.0, 0.0, None)


def test_a_steady_job_s_rate_and_time_left() -> None:
    seen = Run(1000).go(seconds=5, per_second=100)
    assert seen.rate == pytest.approx(100)
    assert seen.eta == pytest.approx(5)
    assert seen.elapsed == pytest.approx(5)


def test_chunks_do_not_make_the_rate_jump() -> None:
    run = Run(10_000)
    run.go(seconds=20, per_second=100, chunk=50)
    rates = [run.go(seconds=0.1, per_second=0).rate for _ in range(4)]
    run.job.settled += 50
    rates.append(run.go(seconds=0.1, per_second=0).rate)
    assert max(rates) < 1.15 * min(rates)


def test_few_long_tasks_have_the_mean_of_all_as_their_rate() -> None:
    run = Run(20)
    run.go(seconds=59.9, per_second=0)
    run.job.settled = 2  # two workers, tasks of a minute
    seen = run.go(seconds=0.1, per_second=0)
    assert seen.rate == pytest.approx(2 / 60, rel=0.1)
    assert seen.eta == pytest.approx(9 * 60, rel=0.1)


def test_the_rate_follows_when_the_speed_changes() -> None:
    run = Run(1_000_000)
    assert run.go(seconds=60, per_second=1000).rate == pytest.approx(1000)
    assert run.go(seconds=60, per_second=100).rate == pytest.approx(100, rel=0.5)


def test_before_the_first_task_has_ended_nothing_is_foretold() -> None:
    seen = Run(10).go(seconds=3, per_second=0)
    assert (seen.rate, seen.eta) == (0.0, None)


def test_with_an_unknown_total_no_end_is_foretold() -> None:
    seen = Run(None).go(seconds=3, per_second=10)
    assert (seen.done, seen.total, seen.eta) == (30, None, None)
    assert seen.rate == pytest.approx(10)


def test_the_total_may_become_known() -> None:
    run = Run(None)
    run.go(seconds=3, per_second=10)
    run.job.total = 60
    assert run.go(seconds=0.1, per_second=10).eta == pytest.approx(3, rel=0.1)


def test_the_last_snapshot_has_the_mean_rate_and_nothing_left() -> None:
    run = Run(70)
    run.go(seconds=2, per_second=20)
    run.go(seconds=3, per_second=10)
    seen = run.end()
    assert seen == Snapshot("squares", 70, 70, 0, 0, seen.elapsed, seen.rate, 0.0)
    assert seen.elapsed == pytest.approx(5)
    assert seen.rate == pytest.approx(14)


def test_the_last_snapshot_of_a_job_that_was_left_foretells_nothing() -> None:
    run = Run(70)
    run.go(seconds=2, per_second=20)
    assert run.end().eta is None


def test_a_clock_that_stands_still_does_no_harm() -> None:
    run = Run(5)
    run.job.settled = 5
    assert run.end() == Snapshot("squares", 5, 5, 0, 0, 0.0, 0.0, 0.0)
