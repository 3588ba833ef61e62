"""What a program and its workers tell one another by shared words, asked for at bad moments."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path
from typing import Any

from millpond import errors
from millpond.testing import tasks
from tests.stress.catalogue import fault
from tests.stress.stage import SOON, Stage


@fault(
    91,
    "workers are stopped again and again to give back what waits behind a long task",
    "every task ends, with its own value",
)
def recalls(stage: Stage) -> None:
    dice = random.Random(91)
    with stage.pool(3) as pool:
        for _ in range(20):
            lengths = [dice.choice([0.0, 0.0, 0.0, 0.02]) for _ in range(60)]
            results = [pool.apply_async(_nap, (n, length)) for n, length in enumerate(lengths)]
            assert [result.get(SOON) for result in results] == list(range(60))


def _nap(number: int, seconds: float) -> int:
    if seconds:
        threading.Event().wait(seconds)
    return number


@fault(
    92,
    "`info()` and `repr()` in another thread while workers die",
    "neither raises; each task ends as it would",
)
def looked_at(stage: Stage) -> None:
    over, raised = threading.Event(), list[BaseException]()
    with stage.pool(3) as pool:

        def look() -> None:
            while not over.is_set():
                try:
                    pool.info()
                    repr(pool)
                except BaseException as error:
                    raised.append(error)

        monitor = threading.Thread(target=look)
        monitor.start()
        try:
            for _ in range(30):
                deadly = pool.apply_async(_die)
                fine = [pool.apply_async(tasks.square, (x,)) for x in range(10)]
                assert [result.get(SOON) for result in fine] == [x * x for x in range(10)]
                try:
                    deadly.get(SOON)
                except errors.WorkerDied:
                    pass
        finally:
            over.set()
            monitor.join()
        assert not raised, raised[0]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Stray(Exception):
    """What a task's left-over handler raises."""


def _leave_an_alarm(x: int) -> int:
    def ring(_number: int, _frame: Any) -> None:
        raise Stray

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.0003)
    return x


@fault(
    93,
    "a handler that a task left behind raises while other tasks run, or between them",
    "each task has its own value, or that error; never another's",
)
def left_alarms(stage: Stage) -> None:
    count = 20_000
    with stage.pool() as pool:
        for _ in range(30):
            pool.apply_async(_leave_an_alarm, (1,)).wait(SOON)
            result = pool.map_async(abs, range(-count, 0), on_error="return")
            for n, value in zip(range(-count, 0), result.get(SOON), strict=True):
                assert value == -n or isinstance(value, Stray), (n, value)


@fault(
    94,
    "an executor's futures are cancelled that were sent to a worker and have not begun",
    "what is cancelled never runs; what has begun gives its value",
)
def sent_and_cancelled(stage: Stage) -> None:
    gate, folder = stage.path("gate"), Path(stage.path("began"))
    folder.mkdir()
    with stage.pool() as pool:
        futures = [pool.executor.submit(_pass, gate, str(folder / str(n))) for n in range(12)]
        tasks.wait_until(lambda: len(list(folder.iterdir())) == 2, "two have begun", SOON)
        cancelled = {n for n, future in enumerate(futures) if future.cancel()}
        assert len(cancelled) == 10
        Path(gate).touch()
        for n, future in enumerate(futures):
            assert future.cancelled() if n in cancelled else future.result(SOON) is None
    assert {int(path.name) for path in folder.iterdir()} == set(range(12)) - cancelled


def _pass(gate: str, mark: str) -> None:
    Path(mark).touch()
    tasks.pass_gate(gate)
