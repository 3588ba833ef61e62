"""Pools and processes in tasks: one budget of CPUs for all of them, and a bound on their depth."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

import millpond
from millpond import cpus
from millpond.pool import ThreadPool

METHODS = ["fork", "spawn", "forkserver"]
ASK = "from millpond import cpus; print(cpus.available(), cpus.depth())"


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLPOND_CPU_COUNT", "8")


def share() -> tuple[int, int]:
    return cpus.available(), cpus.depth()


def pool_of_its_own() -> tuple[int, tuple[int, int]]:
    """How many workers a task's pool has by default, and their share."""
    with millpond.Pool() as pool:
        return pool._processes, pool.apply(share)


def process_of_its_own(method: str | None) -> Any:
    process = millpond.get_context(method).Process(target=share)
    process.start()
    return process.result()


def process_in_a_process(method: str) -> Any:
    process = millpond.get_context(method).Process(target=process_of_its_own, args=(method,))
    process.start()
    return process.result()


def program_of_its_own() -> str:
    return subprocess.run(
        [sys.executable, "-c", ASK], capture_output=True, text=True, check=True
    ).stdout


def test_there_is_always_a_cpu() -> None:
    with millpond.Pool(3) as pool, millpond.Pool(9) as larger:
        assert pool.apply(pool_of_its_own) == (2, (1, 2))
        assert larger.apply(pool_of_its_own) == (1, (1, 2))


@pytest.mark.parametrize("method", METHODS)
def test_a_process_in_a_task_is_inside_the_budget(method: str) -> None:
    with millpond.Pool(2) as pool:
        assert pool.apply(process_of_its_own, (method,)) == (4, 1)
        assert pool.apply(process_in_a_process, (method,)) == (4, 1)


def test_a_pool_in_a_process_has_what_its_program_has() -> None:
    process = millpond.Process(target=pool_of_its_own)
    process.start()
    assert process.result() == (8, (1, 1))


def test_a_program_that_a_task_starts_is_inside_the_budget() -> None:
    with millpond.Pool(2) as pool:
        assert pool.apply(program_of_its_own) == "4 1\n"


def test_a_thread_has_its_share_too() -> None:
    with ThreadPool(2) as pool:
        assert pool.apply(share) == (4, 1)
        assert pool.apply(pool_of_its_own) == (4, (1, 2))
        assert share() == (8, 0)


def test_threads_in_a_process_share_its_share() -> None:
    with millpond.Pool(2) as pool:
        assert pool.apply(thread_pool_of_its_own) == (4, (1, 2))


def thread_pool_of_its_own() -> tuple[int, tuple[int, int]]:
    with ThreadPool() as pool:
        return pool._processes, pool.apply(share)


def test_the_caller_s_own_thread_keeps_what_it_has() -> None:
    before = dict(os.environ)
    with millpond.Pool(2, backend="inline") as pool:
        assert pool.apply(share) == (8, 0)
        assert pool.apply(pool_of_its_own) == (8, (1, 1))
    assert dict(os.environ) == before


@pytest.mark.parametrize("backend", ["processes", "threads"])
def test_the_bound_is_met_by_the_pool_that_is_too_deep(
    monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setenv("MILLPOND_DEPTH", "7")
    with millpond.Pool(1, backend=backend) as pool:
        with pytest.raises(RecursionError):
            pool.apply(pool_of_its_own)
        with pytest.raises(RecursionError):
            pool.apply(thread_pool_of_its_own)
        assert pool.apply(inline_of_its_own) == 8


def inline_of_its_own() -> int:
    with millpond.Pool(1, backend="inline") as pool:
        return pool.apply(cpus.depth)
