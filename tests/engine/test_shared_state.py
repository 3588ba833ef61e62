"""Tasks in the caller's process share what the callable keeps, as those of multiprocessing's ThreadPool do."""

from __future__ import annotations

import pytest

from millpond import Pool
from millpond.testing.stateful import Walk


@pytest.mark.parametrize("backend", ["threads", "inline"])
def test_tasks_in_the_caller_s_process_share_the_callable(backend: str) -> None:
    walk = Walk()
    with Pool(1, backend=backend) as pool:
        assert [steps for steps, _ in pool.imap(walk.step, range(5))] == [1, 2, 3, 4, 5]
    assert walk.steps == 5
