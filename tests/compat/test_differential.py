"""Random small programs see the same on multiprocessing.Pool and on millpond.Pool."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

import millpond
from tests.compat.small_programs import Run, Step, programs

MAKERS: dict[str, tuple[Callable[..., Any], int]] = {
    "fork": (lambda n: millpond.Pool(n, start_method="fork"), 100),
    "threads": (lambda n: millpond.Pool(n, backend="threads"), 60),
    "inline": (lambda n: millpond.Pool(n, backend="inline"), 60),
}


def observed(make_pool: Callable[[int], Any], program: tuple[int, tuple[Step, ...]]) -> list[Any]:
    workers, steps = program
    pool = make_pool(workers)
    try:
        return Run(pool).run(steps)
    finally:
        pool.terminate()
        pool.join()


@pytest.mark.parametrize("backend", MAKERS)
def test_random_programs_see_the_same(backend: str) -> None:
    ours, examples = MAKERS[backend]
    forked = multiprocessing.get_context("fork").Pool
    theirs: Callable[[int], Any] = forked if backend == "fork" else ThreadPool

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(programs)
    def agree(program: tuple[int, tuple[Step, ...]]) -> None:
        assert observed(ours, program) == observed(theirs, program)

    agree()
