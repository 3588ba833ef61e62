"""What is defined in `__main__` reaches the workers, however the program was started.

Each start method x each way to run a program: an initializer's global, functions, lambdas,
closures, classes and exceptions. A script without a guard works, and never starts a loop.
"""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from tests.compat import main_program
from tests.compat.main_program import EXPECTED, POOLS, WAYS, Program

METHODS = ["fork", "forkserver", "spawn"]
RERUN_BY = {"fork": 0, "forkserver": 3, "spawn": 2}
"""At most this often may a file be run again: by each of two workers, and a server's preload."""


def answer(shown: str) -> object:
    """The one line of JSON in what the program showed."""
    (line,) = [line for line in shown.splitlines() if line.startswith("{")]
    return json.loads(line)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("way", WAYS)
def test_main_s_functions_reach_the_workers(tmp_path: Path, way: str, method: str) -> None:
    program = Program(tmp_path, method, "argument")
    assert answer(WAYS[way](program)) == EXPECTED
    begun, ended = program.times()
    assert ended == 1
    if way in {"guarded", "unguarded"}:
        assert 1 <= begun <= 1 + RERUN_BY[method]
    else:
        assert begun == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "asked", [asked for asked in POOLS if asked not in {"argument", "default"}]
)
@pytest.mark.parametrize("way", ["guarded", "unguarded"])
def test_however_the_start_method_is_asked_for(
    tmp_path: Path, way: str, asked: str, method: str
) -> None:
    program = Program(tmp_path, method, asked)
    assert answer(WAYS[way](program)) == EXPECTED
    begun, ended = program.times()
    assert ended == 1
    assert 1 <= begun <= 1 + RERUN_BY[method]


@pytest.mark.parametrize("way", WAYS)
def test_with_the_default_start_method(tmp_path: Path, way: str) -> None:
    program = Program(tmp_path, multiprocessing.get_start_method(), "default")
    assert answer(WAYS[way](program)) == EXPECTED
    assert program.times()[1] == 1


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_process_in_a_script_without_a_guard_stays_an_error(tmp_path: Path, method: str) -> None:
    script, runs = tmp_path / "script.py", tmp_path / "runs"
    script.write_text(
        "import os, millpond\n"
        f"os.write(os.open({str(runs)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND), b'.')\n"
        f"process = millpond.get_context({method!r}).Process(target=print, args=('ran',))\n"
        "process.start(); process.join(); raise SystemExit(process.exitcode)\n"
    )
    with pytest.raises(AssertionError, match=r"exit 1\n(.*\n)*RuntimeError"):
        main_program.run([str(script)])
    assert runs.stat().st_size <= 3
