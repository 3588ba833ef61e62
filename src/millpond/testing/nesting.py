"""Pools in tasks: one budget of CPUs for all that are inside one another, and a bound on their depth."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from millpond import errors
from millpond.testing import rows, tasks
from millpond.testing.suite import Suite

if TYPE_CHECKING:
    from millpond import Pool


class NestingTests(Suite):
    """For backends whose tasks run beside the caller."""

    @pytest.fixture
    def _twelve_cpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MILLPOND_CPU_COUNT", "12")

    @pytest.mark.usefixtures("_twelve_cpus")
    def test_a_pool_in_a_task_has_the_worker_s_share(self, pool: Pool) -> None:
        assert pool.apply(rows.workers_inside, (0,)) == 6
        assert pool.map(rows.workers_inside, [0] * 4, 1) == [6] * 4

    @pytest.mark.usefixtures("_twelve_cpus")
    def test_pools_inside_one_another_share_one_budget(self, pool: Pool) -> None:
        assert pool.apply(rows.workers_inside, (1,)) == 3
        assert pool.apply(rows.workers_inside, (3,)) == 1

    @pytest.mark.usefixtures("_twelve_cpus")
    def test_the_caller_keeps_its_own(self, pool: Pool) -> None:
        before = dict(os.environ)
        pool.map(rows.workers_inside, [0] * 2, 1)
        assert os.environ == before
        assert rows.workers_inside(0) == 12

    def test_pools_without_an_end_meet_a_bound(self, pool: Pool) -> None:
        with pytest.raises(RecursionError, match=r"in 8 pools.*backend='inline'"):
            pool.apply(rows.dive)
        assert pool.apply(tasks.square, (3,)) == 9

    def test_a_death_in_a_pool_in_a_task_is_an_error_of_that_task_alone(self, pool: Pool) -> None:
        with pytest.raises(errors.WorkerDied):
            pool.apply(rows.inside, (tasks.die, "SIGKILL"))
        assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
        assert "lost" not in repr(pool)
