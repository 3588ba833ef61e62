"""Children that must not outlive their parent do not, however it ends; the others do."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.processes.waiting import LIMIT, ends, program, says, watched

PROGRAM = """
import ctypes, os, signal, sys, threading, time
import millpond

def idle(ready):
    ready.send(os.getpid())
    threading.Event().wait()

def busy(ready):
    ready.send(os.getpid())
    while True:
        pass

def stuck(ready):      # native code that holds the interpreter's lock
    ready.send(os.getpid())
    ctypes.PyDLL(None).sleep(1000)

def deaf(ready):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    idle(ready)

def family(ready):
    context.Process(target=idle, args=(ready,), daemon=False).start()
    idle(ready)

def start(kind, how):
    options = {"daemon": {"daemon": True}, "bound": {"die_with_parent": True}, "free": {}}[how]
    ours, theirs = context.Pipe()
    context.Process(target=globals()[kind], args=(theirs,), **options).start()
    return [ours.recv() for _ in range(2 if kind == "family" else 1)]

context = millpond.get_context(sys.argv[1])

if __name__ == "__main__":
    kind, how, where = sys.argv[2:5]
    pids = []
    if where == "thread":
        thread = threading.Thread(target=lambda: pids.extend(start(kind, how)))
        thread.start()
        thread.join()
    else:
        pids = start(kind, how)
    print(*pids, flush=True)
    sys.stdin.readline()
"""

SOON = 1.0
"""Seconds within which they are gone (P7)."""


def gone_after_the_parent(
    folder: Path, method: str, kind: str, how: str, where: str, signum: int
) -> bool:
    with program(folder, PROGRAM, method, kind, how, where) as running:
        children = watched(says(running))
        assert not any(ends(fd, 0) for fd in children)
        running.send_signal(signum)
        running.wait(LIMIT)
        deadline = time.monotonic() + SOON
        gone = [ends(fd, max(0.0, deadline - time.monotonic())) for fd in children]
        for fd in children:
            if not ends(fd, 0):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                assert ends(fd, LIMIT)
            os.close(fd)
        assert len(set(gone)) == 1
        return gone[0]


@pytest.mark.parametrize("where", ["main", "thread"])
@pytest.mark.parametrize("kind", ["idle", "busy", "stuck"])
def test_a_daemonic_process_ends_with_a_killed_parent(
    tmp_path: Path, method: str, kind: str, where: str
) -> None:
    assert gone_after_the_parent(tmp_path, method, kind, "daemon", where, signal.SIGKILL)


@pytest.mark.parametrize("where", ["main", "thread"])
def test_die_with_parent(tmp_path: Path, method: str, where: str) -> None:
    assert gone_after_the_parent(tmp_path, method, "idle", "bound", where, signal.SIGKILL)


def test_a_terminated_parent_is_no_other_case(tmp_path: Path, method: str) -> None:
    assert gone_after_the_parent(tmp_path, method, "idle", "daemon", "main", signal.SIGTERM)


def test_a_daemonic_process_s_children_end_with_it(tmp_path: Path, method: str) -> None:
    assert gone_after_the_parent(tmp_path, method, "family", "daemon", "main", signal.SIGKILL)


def test_a_free_process_lives_on(tmp_path: Path, method: str) -> None:
    assert not gone_after_the_parent(tmp_path, method, "idle", "free", "main", signal.SIGKILL)


@pytest.mark.parametrize("kind", ["idle", "stuck", "deaf"])
def test_daemonic_processes_do_not_keep_an_exiting_program(
    tmp_path: Path, method: str, kind: str
) -> None:
    """multiprocessing would wait for ever for one that does not heed SIGTERM."""
    with program(tmp_path, PROGRAM, method, kind, "daemon", "main") as running:
        (child,) = watched(says(running))
        assert running.stdin is not None
        running.stdin.close()
        assert running.wait(5) == 0
        assert ends(child, SOON)
        os.close(child)
