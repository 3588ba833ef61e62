"""What docs/reliability.md says of failpoints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from millpond import Pool

DYING = """
from millpond import Pool, WorkerDied

if __name__ == "__main__":
    with Pool(1) as pool:
        for n in range(4):
            try:
                print(pool.apply(abs, (-n,)))
            except WorkerDied as died:
                print(died.signal)
"""


def test_the_second_answer_of_each_worker_is_cut(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(DYING)
    run = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "MILLPOND_FAILPOINTS": "mid_send=kill:2:17"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.stdout.split() == ["0", "SIGKILL", "2", "SIGKILL"], run.stderr


def loaded() -> list[str]:
    return [name for name in sys.modules if name.rpartition(".")[2] == "failpoints"]


def test_without_the_variable_nothing_of_them_is_loaded() -> None:
    assert "MILLPOND_FAILPOINTS" not in os.environ
    for method in ("fork", "spawn", "forkserver"):
        with Pool(1, start_method=method) as pool:
            assert pool.apply(loaded) == []
