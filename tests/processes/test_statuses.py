"""Exit statuses where others reap our children, or nobody may."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import millpond
from millpond import errors
from tests.processes import work
from tests.processes.waiting import LIMIT, ends, program, says


@pytest.fixture
def child_signals_ignored() -> Iterator[None]:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.usefixtures("child_signals_ignored")
def test_the_end_is_seen_while_sigchld_is_ignored(context: Any, method: str) -> None:
    process = context.Process(target=work.vanish, args=(5,))
    process.start()
    process.join(LIMIT)
    served = method == "forkserver"  # there the server knows
    assert process.exitcode == (5 if served else 255)
    assert process._exit_unknown is not served
    with pytest.raises(errors.WorkerDied) as caught:
        process.result()
    assert caught.value.exitcode == (5 if served else None)


@pytest.mark.usefixtures("child_signals_ignored")
def test_a_result_arrives_while_sigchld_is_ignored(context: Any) -> None:
    process = context.Process(target=work.double, args=(4,))
    process.start()
    assert process.result(LIMIT) == 8


@pytest.mark.usefixtures("child_signals_ignored")
def test_a_process_that_runs_is_not_taken_for_dead_while_sigchld_is_ignored(context: Any) -> None:
    ours, theirs = context.Pipe()
    process = context.Process(target=work.told, args=(theirs,))
    process.start()
    assert ours.recv() == process.pid
    assert process.is_alive()
    assert process.exitcode is None
    ours.send("end")
    assert process.result(LIMIT) == "end"
    ours.close()
    theirs.close()


def test_a_thief_of_statuses_costs_the_status_only(context: Any, method: str) -> None:
    process = context.Process(target=work.vanish, args=(5,))
    process.start()
    assert ends(process.sentinel, LIMIT)
    if method != "forkserver":
        assert os.waitpid(process.pid, 0)[0] == process.pid
    process.join(LIMIT)
    assert process.exitcode == (5 if method == "forkserver" else 255)
    assert not process.is_alive()


def test_a_signal_to_one_that_is_gone_does_nothing(context: Any) -> None:
    process = context.Process(target=work.double, args=(1,))
    process.start()
    assert ends(process.sentinel, LIMIT)
    process.terminate()
    process.kill()
    process.interrupt()
    process.join(LIMIT)
    assert process.exitcode == 0


def test_a_signal_handler_may_ask_while_a_join_waits(context: Any) -> None:
    ours, theirs = context.Pipe()
    process = context.Process(target=work.told, args=(theirs,))
    process.start()
    seen: list[Any] = []

    def on_alarm(*_: object) -> None:
        seen.append(process.exitcode)
        ours.send("end")

    before = signal.signal(signal.SIGALRM, on_alarm)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        process.join(LIMIT)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen == [None]
    assert process.result() == "end"
    ours.close()
    theirs.close()


def test_a_plain_fork_s_copy_does_not_end_its_siblings() -> None:
    """At its exit multiprocessing ends daemonic children: they are its parent's, not the copy's."""
    ours, theirs = millpond.Pipe()
    process = millpond.Process(target=work.told, args=(theirs,), daemon=True)
    process.start()
    assert ours.recv() == process.pid
    copy = os.fork()
    if copy == 0:
        from multiprocessing import util

        try:
            code = 0 if process not in millpond.active_children() else 3
            util._exit_function()  # type: ignore[attr-defined]
        except BaseException:
            code = 4
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) == 0
    assert process.is_alive()
    ours.send("end")
    assert process.result(LIMIT) == "end"
    ours.close()
    theirs.close()


def test_starts_from_many_threads(context: Any, method: str) -> None:
    each = 2 if method == "spawn" else 10
    results: list[int] = []

    def start_some() -> None:
        for n in range(each):
            process = context.Process(target=work.double, args=(n,))
            process.start()
            results.append(process.result(LIMIT))

    threads = [threading.Thread(target=start_some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(2 * n for n in range(each) for _ in range(4))


SHORT_OF_DESCRIPTORS = """
import os, resource, sys
import millpond
from tests.processes import work

def held():
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return sorted(os.readlink(link).split(":")[0] for link in links if os.path.islink(link))

if __name__ == "__main__":
    context = millpond.get_context(sys.argv[1])
    def one():
        process = context.Process(target=work.double, args=(3,))
        process.start()
        return process
    assert one().result(30) == 6     # the servers that stay are there
    before, refused = held(), 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    for room in range(16):
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + room, hard))
        try:
            process = one()
        except OSError:
            process = None
            refused += 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if process is not None:
            process.join(30)
            assert process.exitcode is not None
            del process
        assert held() == before, (room, before, held())
        assert one().result(30) == 6
    assert 0 < refused < 16, refused
    print("refused", refused)
"""


def test_no_room_for_descriptors_is_an_oserror_and_leaves_nothing(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    with program(tmp_path, SHORT_OF_DESCRIPTORS, method) as running:
        assert says(running)[0] == "refused"
        assert running.wait(LIMIT) == 0


TORN = """
import os, signal, sys
import millpond
from tests.processes import work

class Torn(Exception):
    pass

def tear(*_):
    raise Torn

def children():
    text = ""
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children") as file:
            text += file.read()
    return set(text.split())

def one():
    process = millpond.get_context(sys.argv[1]).Process(target=work.double, args=(5,), daemon=True)
    process.start()
    return process

if __name__ == "__main__":
    assert one().result(30) == 10      # the servers that stay are there
    before, torn = children(), 0
    signal.signal(signal.SIGALRM, tear)
    attempts = 12 if sys.argv[1] == "spawn" else 60
    for attempt in range(attempts):
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-5 + 0.003 * attempt / attempts)
            one()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Torn:
            torn += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    for process in millpond.active_children():      # each that was started is known
        process.join(30)
        assert process.result() == 10
    assert one().result(30) == 10
    assert children() == before, children() - before
    print("torn", torn)
"""


def test_an_exception_from_a_signal_handler_does_not_tear_a_start(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either there is no child, or there is one that is known; never a lost one."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    with program(tmp_path, TORN, method) as running:
        assert int(says(running)[1]) > 0
        assert running.wait(LIMIT) == 0
