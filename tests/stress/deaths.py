"""Workers that die, by the phase in which they do."""

from __future__ import annotations

import os
import signal

from millpond import errors
from millpond.testing import poison, tasks
from millpond.testing.deaths import gone
from tests.stress import work
from tests.stress.catalogue import fault
from tests.stress.stage import SOON, SQUARES, Stage, error_of, errors_in, settled

BIG = 50 << 20


def _kill_idle(stage: Stage, victims: int) -> None:
    with stage.pool() as pool:
        assert pool.map(tasks.square, range(20)) == SQUARES
        pids = [worker.pid for worker in pool._pool][:victims]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        tasks.wait_until(lambda: all(map(gone, pids)), "they are dead")
        results = [pool.apply_async(work.jot_slowly, (stage.journal, x)) for x in range(8)]
        assert settled(results) == list(range(8))
        stage.check_runs(8)


@fault(1, "SIGKILL of one idle worker", "replaced, nobody notices")
def one_idle_worker(stage: Stage) -> None:
    _kill_idle(stage, 1)


@fault(2, "SIGKILL of all idle workers", "replaced, nobody notices")
def all_idle_workers(stage: Stage) -> None:
    _kill_idle(stage, 2)


@fault(3, "SIGKILL before a worker is ready", "started again; if each dies so, one clear error")
def before_it_is_ready(stage: Stage) -> None:
    for point in ("boot", "ready"):
        with stage.failpoint(f"{point}=kill") as acted, stage.pool() as pool:
            tasks.wait_until(acted.exists, "one was killed")
            assert pool.map_async(tasks.square, range(20)).get(SOON) == SQUARES
    with stage.failpoint("boot=exit"):
        del os.environ["MILLPOND_FAILPOINTS_ONCE"]  # each one
        with stage.pool(usable=False) as pool, stage.within(5, "giving up"):
            error_of(pool.apply_async(tasks.nothing), errors.WorkerDied, "before it was ready")
        os.environ["MILLPOND_FAILPOINTS_ONCE"] = ""


@fault(4, "SIGKILL while a large argument is read", "the task had not begun: another worker runs it")
def amid_a_large_argument(stage: Stage) -> None:
    with stage.failpoint(f"mid_recv=kill:1:{1 << 20}") as acted, stage.pool() as pool:
        results = [
            pool.apply_async(work.jot_slowly, (stage.journal, x, b"x" * BIG)) for x in range(3)
        ]
        assert settled(results) == [0, 1, 2]
        assert acted.exists()
        stage.check_runs(3)


@fault(5, "death while the argument is unpickled", "`WorkerDied`, which names that phase")
def unpickling_the_argument(stage: Stage) -> None:
    with stage.pool() as pool:
        others = [pool.apply_async(work.jot_slowly, (stage.journal, x)) for x in range(10)]
        error_of(
            pool.apply_async(tasks.identity, (poison.KillsWhenLoaded(),)),
            errors.WorkerDied, "unpickling the argument",
        )  # fmt: skip
        assert settled(others) == list(range(10))
        stage.check_runs(10)


def _die_among(stage: Stage, how: str, *words: str, function: object = None) -> None:
    """One task of nine dies: it fails, and the eight others run once."""
    with stage.pool() as pool:
        given = [(stage.journal, x, 4, how) for x in range(9)]
        results = [pool.apply_async(function or work.jot_and_die_on, row) for row in given]
        got = settled(results)
        assert [x for x in got if isinstance(x, int)] == [0, 1, 2, 3, 5, 6, 7, 8], got
        assert [type(x) for x in errors_in(got)] == [errors.WorkerDied]
        for word in words:
            assert word in str(got[4]), f"{word!r} is not in {got[4]}"
        assert got[4].pid and str(got[4].pid) in str(got[4])
        stage.check_runs(9)


@fault(6, "SIGKILL while running, as by the out-of-memory killer", "`WorkerDied` for that task, signal and pid named")
def killed_while_running(stage: Stage) -> None:
    _die_among(stage, "SIGKILL", "SIGKILL", "running")
