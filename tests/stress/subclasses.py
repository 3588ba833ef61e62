"""Subclasses of Pool and recipes that reach beneath its public methods."""

from __future__ import annotations

import os
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from millpond import errors
from millpond.testing import poison, private_names, tasks
from tests.processes import overriding
from tests.processes.overriding import Measure
from tests.stress.catalogue import fault
from tests.stress.parents import GONE, others
from tests.stress.stage import SOON, Stage, error_of, settled


@contextmanager
def pool_of(stage: Stage, kind: Any) -> Iterator[Any]:
    """A pool of the class, which must be as good as new at the end."""
    pool = kind(2, **stage.options())
    try:
        yield pool
        stage.check_usable(pool)
    finally:
        pool.terminate()
        pool.join()


@fault(
    119,
    "a worker dies in a queue that a subclass has set up",
    "`WorkerDied` for that task; no lock of the queue is left locked",
)
def death_in_a_queue_of_a_subclass(stage: Stage) -> None:
    with pool_of(stage, overriding.ReducingPool) as pool:
        bad = [
            pool.apply_async(overriding.passed_on, (poison.KillsWhenLoaded("SIGKILL"),)),
            pool.apply_async(poison.return_kills_when_dumped),
        ]
        good = [pool.apply_async(overriding.ways_of, (Measure(n),)) for n in range(10)]
        for call in bad:
            error_of(call, errors.WorkerDied, "SIGKILL")
        assert settled(good) == [(n, ("there",)) for n in range(10)]


@fault(
    120,
    "the program is killed, and its context makes no process daemonic",
    "no worker a second later",
)
def killed_with_workers_that_are_not_daemonic(stage: Stage) -> None:
    known = set(others(set()))
    body = (
        "from tests.processes.overriding import without_daemons\n"
        f"mine = millpond.Pool(2, context=without_daemons({stage.method!r}))\n"
        "held = mine.map_async(tasks.sleep_for, [60] * 4)\n"
        "mine.apply_async(abs, (1,))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    with stage.program(body) as (program, _):
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        subprocess.Popen.kill(program)
        program.wait(SOON)
        with stage.within(GONE, "no worker left"):
            tasks.wait_until(lambda: not set(others(known)) - {os.getpid()}, "all ended", 10.0)


@fault(
    121,
    "a task of the `istarmap` recipe kills its worker",
    "`WorkerDied` in its place; the recipe waits for nothing",
)
def death_in_a_recipe(stage: Stage) -> None:
    with stage.pool() as pool:
        for kind in private_names.ITERATORS:
            pairs = [(n, 3, "SIGKILL") for n in range(6)]
            got = private_names.istarmap(pool, tasks.die_on, pairs, 1, kind)
            error_of(lambda got=got: list(got), errors.WorkerDied, "SIGKILL")


@fault(
    122,
    "a subclass overrides what is never called",
    "one warning names it when the pool is made",
)
def overridden_in_vain(stage: Stage) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pool_of(stage, overriding.Stuffing):
            pass
    texts = [str(each.message) for each in said if "overrides" in str(each.message)]
    assert len(texts) == 1, texts
    assert "_help_stuff_finish, _repopulate_pool" in texts[0], texts
