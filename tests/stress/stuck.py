"""Workers that do not listen, and the ends of pools: all bounded.

``terminate()`` gives workers a second of grace, and has to have ended them half a second later.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from millpond import errors
from millpond.testing import rows, tasks
from millpond.testing.deaths import gone
from tests.stress import work
from tests.stress.catalogue import fault
from tests.stress.stage import SOON, SQUARES, Stage, error_of, settled

BOUND = 1.5
"""Seconds."""


def ends(stage: Stage, pool: Any, what: str = "terminate()", bound: float = BOUND) -> None:
    """The pool ends in time, with all of its workers."""
    pids = [worker.pid for worker in pool._pool]
    with stage.within(bound, what):
        pool.terminate()
        pool.join()
    tasks.wait_until(lambda: all(map(gone, pids)), "no worker is left", 1.0)


def busy(stage: Stage, pool: Any, function: Callable[..., Any], *args: Any) -> list[Any]:
    """Two tasks that run."""
    started = stage.path(f"started-{time.monotonic_ns()}")
    results = [pool.apply_async(function, (*args, started)) for _ in range(2)]
    tasks.wait_until(lambda: tasks.executions(Path(started)) == 2, "both run")
    return results


@fault(47, "a stopped worker, `terminate()`", "ends within the grace and half a second")
def stopped_workers(stage: Stage) -> None:
    for state in ("idle", "busy"):
        pool = stage.make_pool()
        assert pool.map(tasks.square, range(20)) == SQUARES
        if state == "busy":
            busy(stage, pool, tasks.pass_gate, stage.path("never"), 1)
        for worker in pool._pool:
            os.kill(worker.pid, signal.SIGSTOP)
        ends(stage, pool, f"terminate(), {state} and stopped")


@fault(
    48,
    "native code holds the GIL for 60 s, `terminate()`",
    "ends within the grace and half a second",
)
def holding_the_gil(stage: Stage) -> None:
    pool = stage.make_pool()
    busy(stage, pool, tasks.hold_the_gil, 60)
    ends(stage, pool)


@fault(49, "a task ignores SIGTERM, `terminate()`", "ends within the grace and half a second")
def ignoring_sigterm(stage: Stage) -> None:
    pool = stage.make_pool()
    busy(stage, pool, tasks.ignore_sigterm_and_wait, stage.path("never"))
    ends(stage, pool)


@fault(
    50,
    "a thread that does not end, and a slow exit function",
    "the result at once, and the end bounded",
)
def lingering(stage: Stage) -> None:
    pool = stage.make_pool()
    with stage.within(1, "the result"):
        assert pool.apply_async(work.linger, (5,)).get(SOON) == 5
    ends(stage, pool)


@fault(51, "a task's limit in time, in native code", "`TaskTimeout` names the task; others go on")
def late_in_native_code(stage: Stage) -> None:
    with stage.pool() as pool:
        with stage.within(1.0, "the limit of 0.3 s"):
            late = pool.apply_async(rows.hang, ("holds the GIL",), timeout=0.3)
            others = pool.map_async(work.jot_slowly_row, [(stage.journal, x) for x in range(10)])
            error_of(late, errors.TaskTimeout, "hang", "0.3")
        assert others.get(SOON) == list(range(10))
        stage.check_runs(10)


@fault(52, "`terminate()` while another thread submits", "bounded, each call ends")
def terminate_amid_submitting(stage: Stage) -> None:
    for _ in range(12):
        pool = stage.make_pool()
        begun = threading.Event()
        results: list[Any] = []

        def submit(pool: Any = pool, begun: Any = begun, results: Any = results) -> None:
            with contextlib.suppress(ValueError):  # it is not running any more
                while True:
                    results.append(pool.apply_async(tasks.square, (3,)))
                    if len(results) == 20:
                        begun.set()

        thread = threading.Thread(target=submit)
        thread.start()
        assert begun.wait(SOON)
        ends(stage, pool)
        thread.join(SOON)
        assert not thread.is_alive()
        for result in results:
            with contextlib.suppress(errors.MillpondError, Exception):
                assert result.get(1.0) == 9
            assert result.ready(), "a call never ends"


@fault(53, "a pool dropped without `close()`", "ResourceWarning, and its workers are gone")
def dropped(stage: Stage) -> None:
    for used in (False, True):
        pool = stage.make_pool()
        if used:
            pool.map(tasks.square, range(20))
            busy(stage, pool, tasks.pass_gate, stage.path("never"), 1)
        pids = [worker.pid for worker in pool._pool]
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            del pool
            gc.collect()
        assert [x.category for x in told] == [ResourceWarning]
        with stage.within(BOUND, "the workers' end"):
            tasks.wait_until(partial(_all_gone, pids), "no worker is left", 5.0)


def _all_gone(pids: list[int]) -> bool:
    return all(map(gone, pids))


def _idle(stage: Stage, pool: Any) -> None:
    assert pool.map(tasks.square, range(20)) == SQUARES


def _busy(stage: Stage, pool: Any) -> None:
    busy(stage, pool, tasks.pass_gate, stage.path("never"), 1)


def _queued(stage: Stage, pool: Any) -> None:
    _busy(stage, pool)
    pool.map_async(tasks.square, range(100_000))


def _big_arguments(stage: Stage, pool: Any) -> None:
    for _ in range(40):
        pool.apply_async(tasks.pass_gate, (stage.path("never"), bytes(1 << 20)))


def _big_results(stage: Stage, pool: Any) -> None:
    results = [pool.apply_async(tasks.make_bytes, (1 << 24,)) for _ in range(20)]
    results[0].wait(SOON)


def _unread(stage: Stage, pool: Any) -> None:
    results = pool.imap(tasks.identity, iter(int, 1))
    assert results.next(SOON) == 0


def _recycled(stage: Stage, pool: Any) -> None:
    pool.map_async(tasks.square, range(1000), 1)


def _dying(stage: Stage, pool: Any) -> None:
    pool.map_async(tasks.die, ["SIGKILL"] * 100, 1)


STATES: dict[str, tuple[Callable[[Stage, Any], None], dict[str, Any]]] = {
    "starting": (lambda *_: None, {}),
    "idle": (_idle, {}),
    "busy": (_busy, {}),
    "busy, much queued": (_queued, {}),
    "taking large arguments": (_big_arguments, {}),
    "large results, unread": (_big_results, {}),
    "an endless imap, unread": (_unread, {}),
    "workers being replaced": (_recycled, {"maxtasksperchild": 1}),
    "workers dying": (_dying, {}),
    "an initializer that does not end": (
        lambda *_: None,
        {"initializer": time.sleep, "initargs": (60,)},
    ),
}


@fault(80, "`terminate()` in any other state", "ends within the grace and half a second")
def terminate_in_any_state(stage: Stage) -> None:
    for state, (reach, options) in STATES.items():
        pool = stage.make_pool(**options)
        try:
            reach(stage, pool)
        finally:
            ends(stage, pool, f"terminate(), {state}")


@fault(
    81,
    "a worker that is starting is stopped, `terminate()`",
    "ends within the grace and half a second",
)
def stopped_at_its_start(stage: Stage) -> None:
    for point in ("boot", "ready"):
        with stage.failpoint(f"{point}=stop") as acted:
            pool = stage.make_pool()
            tasks.wait_until(acted.exists, "one has stopped")
            ends(stage, pool, f"terminate(), stopped at {point}")


@fault(82, "the process that forks workers is killed", "the pool goes on, or says why it cannot")
def nursery_killed(stage: Stage) -> None:
    with stage.pool(usable=False) as pool:
        assert pool.map(tasks.square, range(20)) == SQUARES
        server = getattr(pool._backend, "_server", None)
        pid = server.pid if server is not None else _fork_server_pid()
        if pid is None:
            return  # each worker is started by the program itself
        os.kill(pid, signal.SIGKILL)
        with stage.within(2.0, "the answer"):
            got = settled([pool.apply_async(tasks.square, (x,)) for x in range(20)])
        for x, value in enumerate(got):
            assert value == x * x or isinstance(value, errors.MillpondError), value
        with stage.within(BOUND, "terminate()"):
            pool.terminate()
            pool.join()
    stage.check()  # a new one works


def _fork_server_pid() -> int | None:
    from millpond.backends.processes.starting import nursery

    server = nursery.current_fork_server()
    return None if server is None else server.pid
