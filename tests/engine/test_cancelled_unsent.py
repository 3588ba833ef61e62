"""Calls that are cancelled before they are sent, and whose results nobody holds any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from millpond import Pool
from millpond.testing import tasks
from millpond.testing.suite import SOON

BACKENDS: list[dict[str, Any]] = [{"start_method": "fork"}, {"backend": "threads"}]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("tasks_of_it", [1, 3])
def test_what_was_cancelled_before_it_was_sent_never_runs_though_nobody_holds_its_result(
    backend: dict[str, Any], tmp_path: Path, tasks_of_it: int
) -> None:
    gate, started, journal = tmp_path / "gate", tmp_path / "started", tmp_path / "journal"
    with Pool(1, graceful=True, **backend) as pool:
        first = pool.apply_async(tasks.pass_gate, (gate, 5, str(started)))
        tasks.wait_until(started.exists, "the first runs")
        if tasks_of_it == 1:
            assert pool.apply_async(tasks.note, (str(journal),)).cancel()
        else:
            assert pool.map_async(tasks.note, [str(journal)] * tasks_of_it).cancel()
        gate.touch()
        assert first.get(SOON) == 5
        tasks.wait_until(lambda: not pool._engine._driver.jobs, "what was cancelled has gone")
    assert tasks.executions(journal) == 0
