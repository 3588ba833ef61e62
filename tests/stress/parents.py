"""What becomes of the program that has the pool: killed, interrupted, forked; and other threads in it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import millpond
from millpond import errors
from millpond.testing import tasks
from tests import leaks
from tests.processes import other_threads
from tests.processes.other_threads import Other
from tests.stress import judge, work
from tests.stress.catalogue import fault
from tests.stress.stage import SOON, SQUARES, Stage, error_of, settled

STATES = {
    "idle": "pool.map(tasks.square, range(20))",
    "busy": "pool.map_async(tasks.sleep_for, [60] * 4)",
    "native": "pool.map_async(rows.hang, ['holds the GIL'] * 2, 1)",
    "deaf": "[pool.apply_async(tasks.ignore_sigterm_and_wait, (sys.argv[2], sys.argv[1])) for _ in '12']",
}
"""What the program has its workers do when it ends."""
GONE = 1.0
"""Seconds in which no worker is left."""


def program_in(stage: Stage, state: str, more: str = "time.sleep(60)") -> Any:
    body = f"from millpond.testing import rows\nheld = {STATES[state]}\n"
    if state == "busy":
        body += "pool.apply_async(work.jot, (sys.argv[1], 1))\n"
    return stage.program(
        body + f"print('ready', flush=True)\n{more}\n", stage.path("told"), stage.path("never")
    )


def others(known: set[int]) -> list[int]:
    """What else of this stage lives."""
    return [pid for pid in judge.Tree(os.environ[leaks.MARK], Path()).living() if pid not in known]


def end_parent(stage: Stage, state: str, act: Callable[[subprocess.Popen[str]], object]) -> None:
    """The program ends by the act; all that it has started ends soon."""
    known = set(others(set()))
    with program_in(stage, state) as (program, pids):
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        if state == "deaf":
            told = Path(stage.path("told"))
            tasks.wait_until(lambda: tasks.executions(told) == 2, "SIGTERM is ignored")
            told.unlink()
        assert set(pids) <= set(others(known))
        act(program)
        program.wait(SOON)
        with stage.within(GONE, f"no worker left, {state}"):
            tasks.wait_until(lambda: not others(known), "nothing of it is left", 10.0)


@fault(54, "the program is killed by SIGKILL, workers idle", "no worker a second later")
def killed_idle(stage: Stage) -> None:
    end_parent(stage, "idle", subprocess.Popen.kill)


@fault(55, "the program is killed by SIGKILL, workers busy", "no worker a second later")
def killed_busy(stage: Stage) -> None:
    for state in ("busy", "native", "deaf"):
        end_parent(stage, state, subprocess.Popen.kill)


@fault(56, "the program is ended by SIGTERM", "no worker a second later")
def terminated(stage: Stage) -> None:
    for state in STATES:
        end_parent(stage, state, subprocess.Popen.terminate)


def interrupt(stage: Stage, send: Callable[[int, int], object]) -> None:
    """One Ctrl-C is one traceback, the caller's."""
    for state in ("idle", "busy"):
        known = set(others(set()))
        wait = "pool.map(tasks.sleep_for, [60] * 4)"
        with program_in(stage, state, wait) as (program, _):
            assert program.stdout is not None
            assert program.stderr is not None
            assert program.stdout.readline() == "ready\n"
            tasks.wait_until(lambda: sleeping(program.pid), "it waits")
            with stage.within(1.0, "KeyboardInterrupt"):
                send(program.pid, signal.SIGINT)
                lines = program.stderr.read()
            program.wait(SOON)
            assert lines.count("Traceback") == 1, lines
            assert lines.rstrip().endswith("KeyboardInterrupt"), lines
            with stage.within(GONE, "no worker left"):
                tasks.wait_until(partial(_no_more_than, known), "nothing of it is left", 10.0)


def _no_more_than(known: set[int]) -> bool:
    return not others(known)


def sleeping(pid: int) -> bool:
    about = leaks.stat(pid)
    return about is not None and about.state == "S"


@fault(
    57, "Ctrl-C, to the whole group", "one KeyboardInterrupt within a second; workers are silent"
)
def interrupted_group(stage: Stage) -> None:
    interrupt(stage, os.killpg)


@fault(
    58, "SIGINT to the program alone", "one KeyboardInterrupt within a second; workers are silent"
)
def interrupted_alone(stage: Stage) -> None:
    interrupt(stage, os.kill)


def in_child(act: Callable[[], object]) -> str:
    """What the act comes to in a forked child, which then exits as a program does."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                text = repr(act())
            except BaseException as error:
                text = type(error).__name__
            os.write(writer, text.encode())
            import multiprocessing.util

            multiprocessing.util._exit_function()  # type: ignore[attr-defined]
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as told:
        text = told.read().decode()
    os.waitpid(child, 0)
    return text


@fault(59, "a forked child of the program uses the pool", "`PoolForkedError` at once")
def child_uses_the_pool(stage: Stage) -> None:
    with stage.pool() as pool:
        pool.map(tasks.square, range(20))
        pending = pool.apply_async(
            work.wait_and_return, (stage.path("gate"), stage.path("started"), 5)
        )
        for use in (
            lambda: pool.map(tasks.square, [1]),
            lambda: pool.apply(tasks.square, (1,)),
            lambda: pool.imap(tasks.square, [1]).next(5),
            lambda: pending.get(5),
        ):
            with stage.within(1.0, "PoolForkedError"):
                assert in_child(use) == "PoolForkedError"
        Path(stage.path("gate")).touch()
        assert pending.get(SOON) == 5


@fault(60, "a forked child of the program exits", "the program's workers are untouched")
def child_exits(stage: Stage) -> None:
    with stage.pool() as pool:
        pids = {worker.pid for worker in pool._pool}
        pending = pool.apply_async(
            work.wait_and_return, (stage.path("gate"), stage.path("started"), 5)
        )
        for act in (lambda: None, lambda: pool.terminate(), lambda: pool.close()):  # noqa: PLW0108
            in_child(act)
            assert pool.map(tasks.square, range(20)) == SQUARES
        Path(stage.path("gate")).touch()
        assert pending.get(SOON) == 5
        assert {worker.pid for worker in pool._pool} == pids


@fault(
    61, "another thread holds a lock when the pool starts", "the tasks have a lock of their own",
    ("forkserver", "spawn", "default"),
)  # fmt: skip
def lock_held_at_start(stage: Stage) -> None:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with work.lock:
            held.set()
            release.wait(SOON)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(SOON)
    try:
        with stage.pool() as pool:
            assert pool.map_async(work.under_lock, range(20)).get(SOON) == list(range(20))
    finally:
        release.set()
        thread.join()


@contextlib.contextmanager
def beside(act: Callable[[Other], None]) -> Iterator[threading.Thread]:
    """A thread does it meanwhile."""
    other = Other()
    thread = threading.Thread(target=act, args=(other,))
    thread.start()
    assert other.there.wait(SOON)
    try:
        yield thread
    finally:
        other.end()
        thread.join()
        other.reader.close()


@fault(
    83, "other threads wait when the pool starts, and hold nothing", "the tasks see the program's memory",
    ("default",),
)  # fmt: skip
def others_wait_at_start(stage: Stage) -> None:
    if millpond.get_start_method() != "fork":
        return
    for number, act in enumerate(other_threads.AT_REST):
        work.setting = number
        with beside(act), stage.pool(2) as pool:
            assert pool.map_async(other_threads.under_locks, range(20)).get(SOON) == list(range(20))
            assert pool.map(work.get_setting, range(3)) == 3 * [number], pool.info()["reason"]


@fault(
    84, "another thread holds something when the pool starts, or may", "locks of their own, and one warning",
    ("default",),
)  # fmt: skip
def others_hold_at_start(stage: Stage) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", RuntimeWarning)
        for act in other_threads.NOT_AT_REST:
            with beside(act), stage.pool(2) as pool:
                got = pool.map_async(other_threads.under_locks, range(20)).get(SOON)
                assert got == list(range(20)), act
    forks = millpond.get_start_method() == "fork"
    assert sum("fork server" in str(one.message) for one in said) == forks, said


@fault(
    85, "other threads take and leave locks while pools start", "locks of their own", ("default",)
)
def others_are_busy_at_start(stage: Stage) -> None:
    def come_and_go(other: Other) -> None:
        other.there.set()
        while not other.over.wait(0.003):
            with other_threads.lock, other_threads.again:
                other.over.wait(0.001)

    with beside(come_and_go), beside(come_and_go):
        for _ in range(30):
            with stage.pool(2) as pool:
                got = pool.map_async(other_threads.under_locks, range(20)).get(SOON)
                assert got == list(range(20))


@fault(62, "SIGCHLD is ignored", "deaths are seen all the same")
def sigchld_ignored(stage: Stage) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        deaths_are_seen(stage)
    finally:
        signal.signal(signal.SIGCHLD, before)


def deaths_are_seen(stage: Stage) -> None:
    with stage.pool() as pool:
        others = [pool.apply_async(work.jot_slowly, (stage.journal, x)) for x in range(10)]
        with stage.within(1.0, "the error"):
            error_of(pool.apply_async(tasks.die, ("SIGKILL",)), errors.WorkerDied, "die")
        assert settled(others) == list(range(10))
        stage.check_runs(10)


@fault(63, "another thread reaps the program's children", "deaths are seen all the same")
def children_reaped(stage: Stage) -> None:
    over = threading.Event()

    def reap() -> None:
        while not over.wait(0.001):
            try:
                os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                pass

    thread = threading.Thread(target=reap)
    thread.start()
    try:
        deaths_are_seen(stage)
    finally:
        over.set()
        thread.join()


ENDINGS = {
    "idle": "pool.map(tasks.square, range(20))",
    "busy": "r = pool.map_async(tasks.sleep_for, [60] * 4); pool.apply_async(tasks.nothing)",
    "native code": "pool.map_async(rows.hang, ['holds the GIL'] * 2, 1)",
    "closed": "pool.map_async(tasks.sleep_for, [0.05] * 4); pool.close()",
    "forgotten": "pool.map(tasks.square, range(20)); del pool",
    "collected": "held = [pool]; held.append(held); del pool, held; import gc; gc.collect()",
    "unread": "it = pool.imap(tasks.identity, iter(int, 1)); next(it)",
    "stopped": "[os.kill(w.pid, signal.SIGSTOP) for w in pool._pool]",
    "an exception": "pool.apply_async(tasks.sleep_for, (60,)); 1 / 0",
    "sys.exit": "pool.apply_async(tasks.sleep_for, (60,)); sys.exit(3)",
    "another thread": "threading.Thread(target=pool.map, args=(tasks.sleep_for, [0.2] * 4)).start()",
}


@fault(78, "the interpreter exits with a pool in any state", "it ends in time, no worker is left")
def interpreter_exits(stage: Stage) -> None:
    for state, body in ENDINGS.items():
        known = set(others(set()))
        with stage.program(f"from millpond.testing import rows\n{body}") as (program, _):
            with stage.within(2.0, f"exit, {state}"):
                out, err = program.communicate(timeout=SOON)
                tasks.wait_until(partial(_no_more_than, known), "nothing of it is left", 10.0)
            wanted = {"an exception": 1, "sys.exit": 3}.get(state, 0)
            assert (program.returncode, out) == (wanted, ""), (state, program.returncode, err)
            assert err.count("Traceback") == (state == "an exception"), (state, err)


@fault(79, "the interpreter exits with a pool that nobody closed", "ResourceWarning if it is shown")
def resource_warning(stage: Stage) -> None:
    with stage.program("import warnings; warnings.simplefilter('always'); del pool") as (
        program,
        _,
    ):
        _, err = program.communicate(timeout=SOON)
        assert "ResourceWarning" in err, err
        assert program.returncode == 0
