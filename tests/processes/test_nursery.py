"""The server that forks children on request."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing import util
from pathlib import Path
from typing import Any

import pytest

import millpond
from millpond import errors
from millpond.backends.processes.starting import nursery as nurseries
from millpond.backends.processes.starting.nursery import Nursery, NurseryError
from millpond.backends.processes.starting.terms import terms_of
from tests.processes import work
from tests.processes.waiting import LIMIT, ends, program, says, watched

SECRET = threading.Lock()
"""Cannot be pickled."""


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    server = Nursery.fork({"secret": SECRET})
    yield server
    server.close()


def served(server: Nursery, target: Any, *args: Any, **options: Any) -> Any:
    process: Any = millpond.get_context("fork").Process(target=target, args=args, **options)
    terms_of(process).server = server
    process.start()
    return process


def test_a_child_is_forked_by_the_server(nursery: Nursery) -> None:
    process = served(nursery, os.getppid)
    assert process.result(LIMIT) == nursery.pid
    assert process.exitcode == 0


def test_inherited_objects_need_no_pickling(nursery: Nursery) -> None:
    assert served(nursery, lambda lock: lock.locked(), SECRET).result(LIMIT) is False


def test_globals_are_those_of_the_birth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "setting", "then", raising=False)
    server = Nursery.fork({})
    monkeypatch.setattr(work, "setting", "now")
    assert served(server, getattr, work, "setting").result(LIMIT) == "then"
    server.close()


def test_descriptors_travel(nursery: Nursery) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = served(nursery, theirs.sendall, b"hello")
        process.join(LIMIT)
        assert ours.recv(10) == b"hello"


def test_statuses_are_told(nursery: Nursery) -> None:
    assert served(nursery, work.vanish, 9).exception(LIMIT).exitcode == 9
    killed = served(nursery, work.wait_for_end)
    killed.kill()
    killed.join(LIMIT)
    assert killed.exitcode == -signal.SIGKILL


def test_parent_process_is_the_one_that_asked(nursery: Nursery) -> None:
    assert served(nursery, work.from_parent).result(LIMIT) == (os.getpid(), "MainProcess", True)


def test_many_births_leave_nothing(nursery: Nursery) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(200):
        assert served(nursery, work.double, 1).result(LIMIT) == 2
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) == before
    children = Path(f"/proc/{nursery.pid}/task/{nursery.pid}/children")
    assert children.read_text() == ""


def test_more_ends_than_the_socket_holds_are_all_told(nursery: Nursery) -> None:
    """Nobody reads while they end; the server must not block."""
    processes = [served(nursery, work.vanish, n % 100) for n in range(40)]
    for process in processes:
        assert ends(process.sentinel, LIMIT)
    for n, process in enumerate(processes):
        process.join(LIMIT)
        assert process.exitcode == n % 100


def test_starts_from_many_threads(nursery: Nursery) -> None:
    results: list[int] = []

    def start_some() -> None:
        results.extend(served(nursery, work.double, n).result(LIMIT) for n in range(10))

    threads = [threading.Thread(target=start_some) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(list(range(0, 20, 2)) * 5)


def test_closing_ends_bound_children_and_tells_how() -> None:
    server = Nursery.fork({})
    daemonic = served(server, work.wait_for_end, daemon=True)
    server.close()
    assert ends(daemonic.sentinel, 0)
    assert daemonic.exitcode == -signal.SIGKILL
    assert not server.alive()
    with pytest.raises(NurseryError, match="has ended"):
        served(server, work.double, 1)


def test_a_killed_server_takes_bound_children_along_and_starts_no_more(nursery: Nursery) -> None:
    process = served(nursery, work.wait_for_end, daemon=True)
    os.kill(nursery.pid, signal.SIGKILL)
    process.join(LIMIT)
    assert process.exitcode == 255
    with pytest.raises(errors.WorkerDied):
        process.result()
    with pytest.raises(NurseryError, match="has ended"):
        served(nursery, work.double, 1)


def test_a_stopped_server_is_an_error_at_once_and_a_late_child_does_nothing(
    nursery: Nursery, tmp_path: Path
) -> None:
    trace = tmp_path / "ran"
    os.kill(nursery.pid, signal.SIGSTOP)
    try:
        for _ in range(2):
            with pytest.raises(NurseryError, match="it is stopped, and SIGCONT"):
                served(nursery, trace.touch)
    finally:
        os.kill(nursery.pid, signal.SIGCONT)
    assert served(nursery, work.double, 4).result(LIMIT) == 8
    assert not trace.exists()


def test_an_exception_in_the_middle_of_a_start_leaves_no_child(nursery: Nursery) -> None:
    class Alarmed(Exception):
        pass

    def on_alarm(*_: object) -> None:
        raise Alarmed

    os.kill(nursery.pid, signal.SIGSTOP)
    before = signal.signal(signal.SIGALRM, on_alarm)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Alarmed):
            served(nursery, work.wait_for_end)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        os.kill(nursery.pid, signal.SIGCONT)
    assert served(nursery, work.double, 4).result(LIMIT) == 8  # and it took no notice


def test_signals_to_the_group_do_not_end_the_server(nursery: Nursery) -> None:
    os.kill(nursery.pid, signal.SIGINT)
    os.kill(nursery.pid, signal.SIGTERM)
    assert served(nursery, work.double, 4).result(LIMIT) == 8


def test_sigchld_ignored_and_thieves_do_not_matter() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        server = Nursery.fork({})
        process = served(server, work.vanish, 6)
        assert ends(process.sentinel, LIMIT)
        process.join(LIMIT)
        assert process.exitcode == 6
        assert served(server, signal.getsignal, signal.SIGCHLD).result(LIMIT) == signal.SIG_IGN
        server.close()
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_dropped_nursery_is_ended() -> None:
    server = Nursery.fork({})
    pidfd = os.pidfd_open(server.pid)
    del server
    gc.collect()
    assert ends(pidfd, LIMIT)
    os.close(pidfd)


def test_a_forked_copy_of_the_program_has_no_nursery(nursery: Nursery) -> None:
    copy = os.fork()
    if copy == 0:
        try:
            code = 0 if not nursery.alive() else 3
        except BaseException:
            code = 4
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 0
    assert served(nursery, work.double, 4).result(LIMIT) == 8


PROGRAM = """
import os, sys, threading
from millpond.backends.processes.starting.nursery import Nursery, fork_server
from millpond.backends.processes.starting.terms import terms_of
import millpond

def idle():
    threading.Event().wait()

def begin():
    server = Nursery.fork({}) if sys.argv[1] == "fork" else fork_server()
    process = millpond.get_context("fork").Process(target=idle, daemon=True)
    terms_of(process).server = server
    process.start()
    keep.extend([server, process])
    print(server.pid, process.pid, flush=True)

keep = []
if sys.argv[2] == "thread":
    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
else:
    begin()
if sys.argv[3] == "copied":     # somebody else holds our ends of everything
    copy = os.fork()
    if copy == 0:
        idle()
    print(copy, flush=True)
else:
    print(0, flush=True)
idle()
"""


@pytest.mark.parametrize("copied", ["copied", "alone"])
@pytest.mark.parametrize("where", ["main", "thread"])
@pytest.mark.parametrize("birth", ["fork", "exec"])
def test_server_and_workers_end_with_a_killed_parent(
    tmp_path: Path, birth: str, where: str, copied: str
) -> None:
    with program(tmp_path, PROGRAM, birth, where, copied) as running:
        pidfds = watched(says(running))
        copy = int(says(running)[0])
        running.send_signal(signal.SIGKILL)
        running.wait(LIMIT)
        assert all(ends(fd, 1.0) for fd in pidfds)
        for fd in pidfds:
            os.close(fd)
        if copy:
            os.kill(copy, signal.SIGKILL)


# --- the fork server ---


def test_there_is_one_fork_server_and_it_comes_back() -> None:
    context = millpond.get_context("forkserver")

    def server_of_a_child() -> int:
        process = context.Process(target=os.getppid)
        process.start()
        pid: int = process.result(LIMIT)
        return pid

    first = server_of_a_child()
    assert server_of_a_child() == first
    running = nurseries.current_fork_server()
    assert running is not None
    assert running.pid == first
    pidfd = os.pidfd_open(first)
    os.kill(first, signal.SIGKILL)
    assert ends(pidfd, LIMIT)
    os.close(pidfd)
    assert server_of_a_child() != first
    millpond.shutdown()
    assert nurseries.current_fork_server() is None
    assert server_of_a_child() not in {first, os.getpid()}


def test_the_fork_server_is_no_business_of_multiprocessing_s_finalizers() -> None:
    """CPython's own tests look whether a process left some."""
    millpond.shutdown()
    before = dict(util._finalizer_registry)  # type: ignore[attr-defined]
    assert nurseries.fork_server().alive()
    assert util._finalizer_registry == before  # type: ignore[attr-defined]


def test_shutdown_lets_children_finish() -> None:
    context = millpond.get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=work.told, args=(theirs,))
    process.start()
    assert ours.recv() == process.pid
    millpond.shutdown()
    ours.send("word")
    assert process.result(LIMIT) == "word"
    assert process.exitcode == 0
    ours.close()
    theirs.close()


def test_shutdown_loses_no_exit_code() -> None:
    process = millpond.get_context("forkserver").Process(target=work.vanish, args=(7,))
    process.start()
    assert ends(process.sentinel, LIMIT)
    millpond.shutdown()
    process.join(LIMIT)
    assert process.exitcode == 7


def test_a_program_that_ends_is_warned_of_nothing(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import millpond, time\n"
        "if __name__ == '__main__':\n"
        "    millpond.get_context('forkserver').Process(target=time.sleep, args=(0.1,)).start()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-X", "dev", str(script)], capture_output=True, text=True, timeout=LIMIT
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_no_name_and_no_socket_that_a_stranger_could_reach() -> None:
    def names() -> set[str]:
        lines = Path("/proc/net/unix").read_text().splitlines()[1:]
        return {line.split()[7] for line in lines if len(line.split()) > 7}

    millpond.shutdown()
    before = names()
    context = millpond.get_context("forkserver")
    process = context.Process(target=work.wait_for_end, daemon=True)
    process.start()
    assert names() <= before
    process.kill()
    process.join(LIMIT)


def test_nothing_but_numbers_on_a_command_line() -> None:
    process = millpond.get_context("spawn").Process(
        target=work.wait_for_end, name="private-name", daemon=True
    )
    process.start()
    command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert b"private-name" not in command
    assert bytes(millpond.current_process().authkey).hex().encode() not in command
    process.kill()
    process.join(LIMIT)
