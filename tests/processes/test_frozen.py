"""A frozen program: ``sys.executable`` runs the program itself, and knows no ``-c``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes.waiting import LIMIT

PROGRAM = """
import sys
sys.frozen = True
sys.executable = {executable!r}
import functools, os, threading
import millpond

class Point:
    def __init__(self, x):
        self.x = x

@functools.lru_cache
def point(x):
    return Point(2 * x)

def put(queue, x):
    queue.put(x)

if __name__ == "__main__":
    {first}
    os.write(os.open({runs!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND), b".")
    if {thread}:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    context = millpond.get_context({method!r})
    with millpond.Pool(2, context={method!r}) as pool:
        points = pool.map(point, range(4))
        print([p.x for p in points], {{type(p) is Point for p in points}}, pool.map(lambda x: -x, [1]))
    queue = context.Queue()
    process = context.Process(target=put, args=(queue, 5))
    process.start()
    print(queue.get(timeout=30), process.result(30), process.exitcode)
"""
PRINTED = "[0, 2, 4, 6] {True} [-1]\n5 None 0\n"


def run(folder: Path, method: str | None, first: str, thread: bool = False) -> int:
    """How often the program came to its work; it prints what it should."""
    executable, program, runs = folder / "program", folder / "program.py", folder / "runs"
    text = PROGRAM.format(
        executable=str(executable), first=first, runs=str(runs), thread=thread, method=method
    )
    program.write_text(text)
    executable.write_text(f'#!/bin/sh\nexec {sys.executable} {program} "$@"\n')
    executable.chmod(0o755)
    done = subprocess.run(
        [executable], capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == (PRINTED, "", 0)
    return len(runs.read_text())


@pytest.mark.parametrize("thread", [False, True])
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn", None])
def test_it_starts_its_workers(method: str | None, thread: bool, tmp_path: Path) -> None:
    assert run(tmp_path, method, "millpond.freeze_support()", thread) == 1


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_multiprocessing_s_own_support_will_do(method: str, tmp_path: Path) -> None:
    # As freezers have it, which put their own in the place of that of ``multiprocessing``.
    assert run(tmp_path, method, "__import__('multiprocessing.spawn').spawn.freeze_support()") < 4


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn", None])
def test_without_support_it_does_not_start_itself_without_end(
    method: str | None, tmp_path: Path
) -> None:
    # Each of its copies (server, workers, resource tracker) comes as far as its first pool.
    assert run(tmp_path, method, "pass", thread=True) <= 8
