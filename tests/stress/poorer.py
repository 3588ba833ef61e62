"""Systems that are poorer than ours, limits, and programs that change what they are."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from millpond import errors
from millpond.testing import tasks
from millpond.testing.deaths import gone
from tests import leaks, refusing
from tests.stress.catalogue import fault
from tests.stress.stage import SLACK, SOON, SQUARES, Stage, error_of

FORKED = ("fork", "forkserver", "default")
"""Where a process of ours forks the workers."""


@fault(
    106,
    "pidfd_open, pidfd_send_signal, memfd_create, epoll_pwait2, eventfd are refused, by EPERM and ENOSYS",
    "works; `info()` says what is missing",
)
def calls_refused(stage: Stage) -> None:
    for error in ("EPERM", "ENOSYS"):
        said = in_poorer_system(stage, error, ",".join(refusing.CALLS), "")
        assert "no pidfd_open: " in said, said
        assert "no memfd_create: " in said, said


@fault(107, "no /proc, and no /dev/shm", "works; `info()` says what is missing")
def folders_missing(stage: Stage) -> None:
    said = in_poorer_system(stage, "", "", ",".join(refusing.FOLDERS))
    assert not said or "no /proc/self: " in said, said  # it takes root to hide them


def in_poorer_system(stage: Stage, error: str, calls: str, folders: str) -> str:
    """What a program in such a system says is missing."""
    method = "fork" if stage.method == "default" else stage.method
    done = subprocess.run(
        [sys.executable, "-m", "tests.refusing", method, error, calls, folders],
        capture_output=True, text=True, timeout=SOON,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    assert not done.stderr, done.stderr[-500:]
    return done.stdout.strip()


@fault(
    108,
    "the usual soft limit of 1,024 descriptors, and a pool of 300",
    "works; workers have the program's own limit",
    ("fork", "forkserver"),
)
def many_workers(stage: Stage) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < 4096:
        return  # more are not allowed
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    try:
        pool = stage.make_pool(300)
        try:
            assert pool.map_async(tasks.square, range(20)).get(SOON) == SQUARES
            assert pool.apply_async(limit_here).get(SOON) == 1024
        finally:
            pool.terminate()
            pool.join()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def limit_here() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@fault(
    109,
    "a limit of file sizes (`ulimit -f`) of 0, 64 KiB or 1 MiB",
    "works, or an error that names RLIMIT_FSIZE",
)
def small_files(stage: Stage) -> None:
    stage.check()  # servers are there
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    said = ""
    for limit in (0, 1 << 16, 1 << 20):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            pool = stage.make_pool()
        except OSError as error:
            pool, said = None, str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        if pool is None:
            assert "RLIMIT_FSIZE" in said, said
            assert limit < 1 << 20
            continue
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            assert pool.map_async(tasks.square, range(20)).get(SOON) == SQUARES
            assert len(pool.apply_async(bytes, (3 << 20,)).get(SOON)) == 3 << 20
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            pool.terminate()
            pool.join()


@fault(
    110,
    "a result is larger than the memory that the program may have",
    "MemoryError for that task; its worker lives",
)
def result_beyond_memory(stage: Stage) -> None:
    with stage.pool(1) as pool:
        pids = [worker.pid for worker in pool._pool]
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20), hard))
        try:
            for call in (pool.apply_async(bytes, (500 << 20,)), pool.map_async(bytes, [500 << 20])):
                error_of(call, MemoryError)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        assert [worker.pid for worker in pool._pool] == pids


@fault(
    114,
    "two of three workers die while no descriptor is free",
    "the pool comes back to its three workers when there are some",
)
def grows_back(stage: Stage) -> None:
    with stage.pool(3) as pool:
        pids = [worker.pid for worker in pool.info()["workers"].values()]
        with no_descriptors():
            for pid in pids[:2]:
                os.kill(pid, signal.SIGKILL)
            assert pool.map_async(tasks.square, range(20), 1).get(SOON) == SQUARES
            tasks.wait_until(lambda: len(pool.info()["workers"]) == 1, "none can be started", SOON)
        with stage.within(3.0, "the pool's growth, with nothing to do"):
            tasks.wait_until(lambda: len(pool.info()["workers"]) == 3, "all are there", SOON)
        assert pool.map_async(tasks.square, range(20), 1).get(SOON) == SQUARES


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Every descriptor that this program may have is taken."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = max(int(name) for name in leaks.entries("/proc/self/fd")) + 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (top, before[1]))
    held = []
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@fault(
    115,
    "`maxtasksperchild=1`, and each task leaves a thread behind that does not end",
    "the place is given to another after two seconds; the end is bounded",
)
def left_threads(stage: Stage) -> None:
    with stage.pool(2, maxtasksperchild=1, usable=False) as pool:
        calls = [pool.apply_async(leave_thread, (x,)) for x in range(6)]
        with stage.within(12.0, "six tasks on two workers"):
            assert [call.get(SOON) for call in calls] == list(range(6))
        pids = [worker.pid for worker in pool._pool]
        with stage.within(1.5, "terminate()"):
            pool.terminate()
            pool.join()
        tasks.wait_until(partial(all_gone, pids), "none is left", SOON)


def leave_thread(x: int) -> int:
    threading.Thread(target=time.sleep, args=(600,)).start()
    return x


@fault(
    116,
    "the process that forks the workers is stopped, or traced by a debugger, `terminate()`",
    "ends within the grace and half a second",
    FORKED,
)
def stopped_forker_at_the_end(stage: Stage) -> None:
    for way in (stopped, traced):
        pool = stage.make_pool()
        assert pool.map_async(tasks.square, range(20)).get(SOON) == SQUARES
        with way(forker(pool)), stage.within(1.5, f"terminate(), {way.__name__}"):
            pool.terminate()
            pool.join()
    leaks.stop_servers()
    stage.check()


@fault(
    117,
    "the process that forks the workers is stopped, or traced, and a worker dies",
    "the death is seen, the others go on, and the pool grows back afterwards",
    FORKED,
)
def stopped_forker_and_a_death(stage: Stage) -> None:
    for way in (stopped, traced):
        with stage.pool(3) as pool:
            with way(forker(pool)):
                with stage.within(1.0, f"the error, {way.__name__}"):
                    error_of(pool.apply_async(die), errors.WorkerDied)
                with stage.within(2.0, f"tasks of the others, {way.__name__}"):
                    assert pool.map_async(tasks.square, range(20), 1).get(SOON) == SQUARES
            with stage.within(3.0, "the pool's growth"):
                tasks.wait_until(lambda: len(pool.info()["workers"]) == 3, "all are there", SOON)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def forker(pool: Any) -> int:
    """The parent of a pool's workers."""
    text = Path(f"/proc/{pool._pool[0].pid}/stat").read_text()
    return int(text.rpartition(")")[2].split()[1])


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def traced(pid: int) -> Iterator[None]:
    """A debugger holds it."""
    with subprocess.Popen(
        [sys.executable, "-c", _TRACER, str(pid)], stdout=subprocess.PIPE, text=True
    ) as tracer:
        try:
            assert tracer.stdout is not None
            tracer.stdout.readline()  # that it is traced, or nothing where that is not allowed
            yield
        finally:
            tracer.kill()


_TRACER = """
import ctypes, sys, time
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes, ptrace.restype = [ctypes.c_long] * 4, ctypes.c_long
for request in (0x4206, 0x4207):  # PTRACE_SEIZE, PTRACE_INTERRUPT
    assert ptrace(request, int(sys.argv[1]), 0, 0) == 0, ctypes.get_errno()
print("traced", flush=True)
time.sleep(60)
"""


@fault(
    111,
    "a program of root's becomes another user, its workers stay root's",
    "values, limits, `cancel()` and `terminate()` as before",
    FORKED,
)
def privileges_given_up(stage: Stage) -> None:
    if os.geteuid():
        return
    body = (
        "from tests.stress import poorer\n"
        "poorer.use(pool)  # what is imported for it may lie where nobody else may read\n"
        "os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "poorer.use(pool)\n"
        "print('used', flush=True)\n"
        "pool.apply_async(poorer.spin); pool.apply_async(poorer.spin); time.sleep(0.2)\n"
        "began = time.monotonic(); pool.terminate(); pool.join()\n"
        "print(time.monotonic() - began, flush=True)\n"
    )
    with stage.program(body) as (program, pids):
        out, err = program.communicate(timeout=SOON)
        used, _, took = out.partition("\n")
        assert used == "used", err[-1000:]
        stage.measured["terminate()"] = float(took), 1.5
        assert float(took) < 1.5 + SLACK, took
        tasks.wait_until(lambda: all(map(gone, pids)), "no worker is left", SOON)


def use(pool: Any) -> None:
    """Short and long tasks side by side, a limit, a cancelled call, a death."""
    calls = [pool.apply_async(slowly, (x, 0.3 if x == 3 else 0.001)) for x in range(50)]
    assert [call.get(SOON) for call in calls] == list(range(50))
    error_of(pool.apply_async(time.sleep, (60,), timeout=0.2), errors.TaskTimeout)
    call = pool.apply_async(time.sleep, (60,))
    tasks.wait_until(partial(is_running, pool), "it runs", SOON)
    assert call.cancel()
    error_of(pool.apply_async(die), errors.WorkerDied)
    assert pool.map_async(tasks.square, range(20)).get(SOON) == SQUARES


def is_running(pool: Any) -> bool:
    return any(worker.running for worker in pool.info()["workers"].values())


def slowly(x: int, seconds: float) -> int:
    time.sleep(seconds)
    return x


@fault(
    112,
    "tasks change their user and group, which makes the kernel forget PR_SET_PDEATHSIG, and the program is killed",
    "no worker a second later",
)
def user_of_a_task(stage: Stage) -> None:
    if os.geteuid():
        return
    body = (
        "from tests.stress import poorer\n"
        "pool.map(poorer.become_nobody, range(4), 1)\n"
        "pool.apply_async(poorer.spin); pool.apply_async(poorer.spin); time.sleep(0.3)\n"
        "print('busy', flush=True); time.sleep(60)\n"
    )
    with stage.program(body) as (program, pids):
        assert program.stdout is not None
        assert program.stdout.readline() == "busy\n", program.communicate()[1][-1000:]
        program.kill()
        with stage.within(1.0, "no worker left"):
            tasks.wait_until(lambda: all(map(gone, pids)), "no worker is left", SOON)


def spin() -> None:
    """Busy in native code, which holds the GIL."""
    sum(range(10**12))


def all_gone(pids: list[int]) -> bool:
    return all(map(gone, pids))


def become_nobody(_: int) -> None:
    time.sleep(0.1)  # so that each worker gets one
    if os.geteuid() == 0:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)


@fault(
    113, "a program replaces itself by `exec`, workers idle and busy", "no worker a second later"
)
def program_execs(stage: Stage) -> None:
    for busy in ("", "pool.apply_async(poorer.spin); pool.apply_async(poorer.spin)\n"):
        body = (
            f"from tests.stress import poorer\n{busy}time.sleep(0.3); print('now', flush=True)\n"
            "os.execv('/bin/sleep', ['sleep', '60'])\n"
        )
        with stage.program(body) as (program, pids):
            assert program.stdout is not None
            assert program.stdout.readline() == "now\n", program.communicate()[1][-1000:]
            with stage.within(1.0, f"no worker left, {'busy' if busy else 'idle'}"):
                tasks.wait_until(partial(all_gone, pids), "none is left", SOON)
