"""Resources that run out, and tasks that treat their process badly."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
from functools import partial
from pathlib import Path

from millpond import errors
from millpond.system import descriptors
from millpond.testing import rows, tasks
from millpond.testing.deaths import gone
from tests import leaks
from tests.stress import work
from tests.stress.catalogue import fault
from tests.stress.stage import SOON, SQUARES, Stage, error_of, settled


@fault(
    64,
    "no more descriptors than are open and 0 to 30",
    "OSError or a pool that works; no leak, works later",
)
def few_descriptors(stage: Stage) -> None:
    stage.check()  # servers are there
    made, failed = _pools_with_few(stage)
    assert made, "no pool could be made at all"
    assert not failed, "a soft limit is raised"
    descriptors.provide = _raise_none  # as where the hard limit is no higher
    made, failed = _pools_with_few(stage)
    assert failed, "the limit was none"
    assert made, "no pool could be made at all"
    stage.check()


def _raise_none(workers: int) -> None:
    """The limit stays."""


def _pools_with_few(stage: Stage) -> tuple[int, int]:
    """How many pools could be made with few descriptors free, and how many could not."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    made = failed = 0
    for spare in range(31):
        top = max(int(name) for name in leaks.entries("/proc/self/fd")) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (top + spare, before[1]))
        try:
            pool = stage.make_pool()
        except OSError:
            failed += 1
            continue
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        made += 1
        try:
            assert pool.map_async(tasks.square, range(20)).get(SOON) == SQUARES
        finally:
            pool.terminate()
            pool.join()
    return made, failed


@fault(
    65,
    "the system refuses more processes, after 0 to 8",
    "OSError or a pool that works; no orphan, works later",
)
def few_processes(stage: Stage) -> None:
    with stage.group("pids", {}) as group:
        if not group:
            return
        Path(group, "cgroup.procs").write_text(str(os.getpid()))
        try:
            made = failed = 0
            said = "fork"
            for spare in range(9):
                now = int(Path(group, "pids.current").read_text())
                Path(group, "pids.max").write_text(str(now + spare))
                try:
                    made += _try_pool(stage)
                except (OSError, RuntimeError, errors.MillpondError) as error:
                    said = str(error)
                    failed += 1
                finally:
                    Path(group, "pids.max").write_text("max")
                assert any(word in said for word in ("fork", "thread", "unavailable", "ended")), (
                    said
                )
            assert failed, "the limit was none"
            stage.check()
        finally:
            Path("/sys/fs/cgroup/pids/cgroup.procs").write_text(str(os.getpid()))
            leaks.stop_servers()


def _try_pool(stage: Stage) -> bool:
    pool = stage.make_pool()
    try:
        assert pool.map_async(tasks.square, range(20)).get(SOON) == SQUARES
    finally:
        pool.terminate()
        pool.join()
    return True


@fault(66, "/dev/shm is full", "the right values")
def shm_is_full(stage: Stage) -> None:
    body = (
        "values = pool.map(tasks.make_bytes, [1 << 22] * 6, 1)\n"
        "sizes = pool.map(tasks.length, values, 1)\n"
        "print(len(values), set(sizes), flush=True)\n"
        "pool.terminate(); pool.join()\n"
    )
    with private_shm(stage), stage.program(body) as (program, _):
        out, err = program.communicate(timeout=SOON)
        assert out == f"6 {{{1 << 22}}}\n", err


@contextlib.contextmanager
def private_shm(stage: Stage):  # type: ignore[no-untyped-def]
    """Programs that start meanwhile have a /dev/shm of 64 KiB, and it is full."""
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    cwd = os.getcwd()
    entered = libc.unshare(0x00020000) == 0  # CLONE_NEWNS; needs root, or it is left as it is
    try:
        if entered:
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=64k", "none", "/dev/shm"], check=True
            )
            with contextlib.suppress(OSError):
                Path("/dev/shm/filler").write_bytes(bytes(1 << 20))
        yield
    finally:
        if entered:
            assert libc.setns(home, 0) == 0
            os.chdir(cwd)
        os.close(home)


@fault(68, "a task leaves a program behind", "`join()` returns")
def program_left(stage: Stage) -> None:
    with stage.pool(usable=False) as pool:
        pid = pool.apply_async(work.leave_program, (stage.path("pid"),)).get(SOON)
        try:
            with stage.within(2.0, "close() and join()"):
                pool.close()
                pool.join()
        finally:
            os.kill(pid, signal.SIGKILL)
        stage.check()


@fault(
    69, "a grandchild holds the worker's pipes, and the worker dies", "the death is seen at once"
)
def grandchild_holds_the_pipes(stage: Stage) -> None:
    gate = stage.path("gate")
    with stage.pool() as pool:
        try:
            with stage.within(1.0, "the error"):
                error_of(
                    pool.apply_async(rows.fork_then_die, (gate,)), errors.WorkerDied, "SIGKILL"
                )
            assert pool.map(tasks.square, range(20)) == SQUARES
        finally:
            Path(gate).touch()


@fault(70, "a task daemonises", "the task ends as it would; a later death is seen at once")
def daemonised(stage: Stage) -> None:
    for how in ("", "SIGKILL"):
        path = stage.path(f"pid{how}")
        with stage.pool() as pool:
            try:
                with stage.within(1.0, "the end of the task"):
                    result = pool.apply_async(work.daemonise_then, (how, path))
                    if how:
                        error_of(result, errors.WorkerDied, how)
                    else:
                        assert result.get(SOON) == 1
            finally:
                pid = int(Path(path).read_text())
                os.kill(pid, signal.SIGKILL)
                tasks.wait_until(partial(gone, pid), "the daemon is gone")


@fault(71, "`os.fork()` in a task, and both return", "one answer, the right values")
def fork_and_both_return(stage: Stage) -> None:
    with stage.pool() as pool:
        for _ in range(5):
            assert pool.apply_async(rows.fork_and_return).get(SOON) in (0, 1)
            assert pool.map(tasks.square, range(20)) == SQUARES


@fault(72, "a task closes descriptors 3 and up", "`WorkerDied` for that task, or it goes on")
def closes_descriptors(stage: Stage) -> None:
    with stage.pool() as pool:
        others = [pool.apply_async(work.jot_slowly, (stage.journal, x)) for x in range(10)]
        error_of(pool.apply_async(tasks.close_all_fds), errors.WorkerDied, "close_all_fds")
        assert settled(others) == list(range(10))
        stage.check_runs(10)


@fault(73, "a task writes garbage on descriptors 0 to 2", "the right values")
def garbage_on_stdout(stage: Stage) -> None:
    with stage.pool() as pool:
        assert pool.map_async(work.litter, range(8), 1).get(SOON) == list(range(8))


@fault(
    74,
    "tasks replace sys.stdout, directory, umask, environment, signal handlers",
    "the right values; the end is bounded",
)
def mess(stage: Stage) -> None:
    pool = stage.make_pool()
    assert pool.map_async(work.make_a_mess, range(8), 1).get(SOON) == list(range(8))
    assert pool.map_async(tasks.square, range(20)).get(SOON) == SQUARES
    with stage.within(1.5, "terminate()"):
        pool.terminate()
        pool.join()
    stage.check()
