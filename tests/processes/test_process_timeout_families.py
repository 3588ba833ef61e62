"""Process(timeout=) among families, forks of the program, and programs that end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import millpond
from millpond import Pool, errors
from millpond.backends.processes import deadlines
from tests.processes import work
from tests.processes.test_process_timeout import SHORT, busy, started
from tests.processes.waiting import LIMIT, ends, program, says

SOON = 1.0
"""Seconds within which what is bound to a process is gone after it (P7)."""


def make_late(process: Any) -> None:
    """Let the time of a process be over now, whatever it needed to get this far."""
    process._popen.deadline.at = time.monotonic()
    bell = deadlines._watch._bell
    assert bell is not None
    bell.ring()


def tell(ready: Any) -> None:
    ready.send((millpond.current_process().name, os.getpid()))


def idle(ready: Any) -> None:
    tell(ready)
    work.wait_for_end()


def with_children(method: str, ready: Any) -> None:
    """Two children that may not outlive us, and one that may."""
    context = millpond.get_context(method)
    started(context, idle, ready, name="1")
    started(context, idle, ready, name="2", daemon=False, die_with_parent=True)
    started(context, idle, ready, name="3", daemon=False)
    work.wait_for_end()


def with_children_of_a_thread(method: str, ready: Any) -> None:
    thread = threading.Thread(target=with_children, args=(method, ready))
    thread.start()
    thread.join()


def with_a_pool(method: str, ready: Any) -> None:
    with Pool(2, tell, (ready,), context=method) as pool:
        pool.apply_async(busy)
        work.wait_for_end()


@pytest.fixture
def pipe() -> Iterator[Any]:
    ours, theirs = millpond.Pipe()
    yield ours, theirs
    ours.close()
    theirs.close()


def gone_with(process: Any, pipe: Any, children: int) -> list[bool]:
    """Of which of its children the end comes soon after the process's, which is late."""
    found = []
    for _ in range(children):
        assert pipe.poll(LIMIT)
        found.append(pipe.recv())
    pidfds = [os.pidfd_open(pid) for _, pid in sorted(found)]
    assert not any(ends(fd, 0) for fd in pidfds)
    make_late(process)
    assert isinstance(process.exception(LIMIT), errors.TaskTimeout)
    limit = time.monotonic() + SOON
    gone = [ends(fd, max(0.0, limit - time.monotonic())) for fd in pidfds]
    for fd in pidfds:
        if not ends(fd, 0):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            assert ends(fd, LIMIT)
        os.close(fd)
    return gone


@pytest.mark.parametrize("family", [with_children, with_children_of_a_thread])
def test_children_that_are_bound_to_it_end_with_it(
    context: Any, method: str, pipe: Any, family: Any
) -> None:
    ours, theirs = pipe
    process = started(context, family, method, theirs, daemon=False, timeout=1000)
    assert gone_with(process, ours, 3) == [True, True, False]


def test_its_pool_s_workers_end_with_it(context: Any, method: str, pipe: Any) -> None:
    ours, theirs = pipe
    process = started(context, with_a_pool, method, theirs, daemon=False, timeout=1000)
    assert gone_with(process, ours, 2) == [True, True]


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_a_bound_one_ends_with_its_parent_before_its_limit(
    tmp_path: Path, method: str, signum: int
) -> None:
    with program(tmp_path, BOUND, method) as running:
        (pid,) = says(running)
        child = os.pidfd_open(int(pid))
        running.send_signal(signum)
        assert ends(child, SOON)
        os.close(child)


def test_a_bound_one_that_is_late_is_late(context: Any) -> None:
    process = started(context, work.wait_for_end, daemon=False, die_with_parent=True, timeout=SHORT)
    with pytest.raises(errors.TaskTimeout):
        process.result(LIMIT)


BOUND = """
import sys, threading, millpond

def idle(ready):
    ready.send("ready")
    threading.Event().wait()

if __name__ == "__main__":
    context = millpond.get_context(sys.argv[1])
    ours, theirs = context.Pipe()
    process = context.Process(target=idle, args=(theirs,), die_with_parent=True, timeout=1000)
    process.start()
    ours.recv()
    print(process.pid, flush=True)
    process.join()
"""

COPY = """
import os, signal, threading, millpond

def late(seconds):
    process = millpond.Process(target=threading.Event().wait, timeout=seconds)
    process.start()
    return process

if __name__ == "__main__":
    mine = late(1)
    copy = os.fork()
    if copy == 0:
        os.kill(os.getppid(), signal.SIGSTOP)  # now only the copy could do it
        threads = [t.name for t in threading.enumerate()]
        error = late(1.5).exception()
        state = open(f"/proc/{mine.pid}/stat").read().rpartition(")")[2].split()[0]
        print(*threads, type(error).__name__, state, flush=True)
        os.kill(os.getppid(), signal.SIGCONT)
        os._exit(0)
    os.waitpid(copy, 0)
    print(type(mine.exception()).__name__, flush=True)
"""


def test_a_forked_copy_of_the_program_kills_its_own_only(tmp_path: Path) -> None:
    with program(tmp_path, COPY) as running:
        assert says(running) == ["MainThread", "TaskTimeout", "S"]
        assert says(running) == ["TaskTimeout"]
        assert running.wait(LIMIT) == 0


def test_a_forked_copy_has_no_descriptors_of_deadlines() -> None:
    plain = started(millpond.get_context("fork"), work.wait_for_end)
    without = started(millpond.get_context("fork"), work.descriptors).result(LIMIT)
    plain.kill()
    plain.join(LIMIT)
    plain.close()
    timed = started(millpond.get_context("fork"), work.wait_for_end, timeout=1000)
    assert started(millpond.get_context("fork"), work.descriptors).result(LIMIT) == without
    timed.kill()
    timed.join(LIMIT)


EXIT = """
import sys, time, millpond

if __name__ == "__main__":
    context = millpond.get_context(sys.argv[1])
    limit, daemon = float(sys.argv[2]), sys.argv[3] == "daemon"
    context.Process(target=time.sleep, args=(1000,), timeout=limit, daemon=daemon).start()
    print("started", flush=True)
"""


@pytest.mark.parametrize(("seconds", "kind"), [(SHORT, "free"), (1000, "daemon")])
def test_a_program_that_ends_waits_no_longer_than_the_limit(
    tmp_path: Path, method: str, seconds: float, kind: str
) -> None:
    script = tmp_path / "program.py"
    script.write_text(EXIT)
    ended = subprocess.run(
        [sys.executable, str(script), method, str(seconds), kind],
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "started\n", "")
