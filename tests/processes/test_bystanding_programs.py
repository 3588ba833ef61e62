"""What a program has done around a pool: closed its standard descriptors, set handlers, patched, forked."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import millpond
from millpond.system import low
from tests.processes.waiting import LIMIT

METHODS = ["fork", "forkserver", "spawn", None]

CLOSED = """
import os, sys
import millpond

def look(_):
    found = []
    for fd in (0, 1, 2):
        try:
            os.write(fd, b"said by nobody")
            found.append(os.readlink(f"/proc/self/fd/{{fd}}"))
        except OSError:
            found.append("closed")
    return found

if __name__ == "__main__":
    for fd in (0, 1, 2):
        os.close(fd)
    with millpond.Pool(1, start_method={method!r}) as pool:
        found = [pool.apply(look, (0,)), look(0), pool.apply(look, (0,))]
    found.append(look(0))
    with open({into!r}, "w") as file:
        file.write(repr(found))
"""
HANDLED = """
import os, signal, socket
import millpond

def handler(number, frame):
    os.write(os.open({into!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND), b"handled")

signal.signal(signal.SIGTERM, handler)

if __name__ == "__main__":
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    with millpond.Pool(2, start_method={method!r}) as pool:
        pid = pool.apply(os.getpid)
        (victim,) = [process for process in pool._pool if process.pid == pid]
        os.kill(victim.pid, signal.SIGTERM)
        victim.join()
        pool.map(abs, range(10))
        handled = os.path.exists({into!r})
    try:
        print(reader.recv(100))
    except BlockingIOError:
        print("not woken", victim.exitcode, handled)
"""
FORKED = """
import os, sys
import millpond

def left(leave):
    pid = os.fork()
    if not pid:
        leave()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def leave_executor():
    with executor:
        sys.exit(0)

if __name__ == "__main__":
    with millpond.Pool(2, start_method={method!r}) as pool:
        executor = pool.executor
        future = executor.submit(abs, -1)
        print(left(lambda: sys.exit(0)), left(leave_executor), pool.map(abs, [-1]), future.result())
"""


def run(text: str, tmp_path: Path, method: str | None) -> str:
    program = tmp_path / "program.py"
    program.write_text(text.format(method=method, into=str(tmp_path / "into")))
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=LIMIT,
        stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


@pytest.mark.parametrize("method", METHODS)
def test_nothing_of_ours_is_where_closed_descriptors_were(
    method: str | None, tmp_path: Path
) -> None:
    run(CLOSED, tmp_path, method)
    null, closed = ["/dev/null"] * 3, ["closed"] * 3
    assert (tmp_path / "into").read_text() == repr([null, null, null, closed])


def test_what_the_program_puts_there_meanwhile_stays(tmp_path: Path) -> None:
    kept = os.dup(0)
    os.close(0)
    try:
        with low.filled():
            file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
            os.dup2(file, 0)
            os.close(file)
        os.write(0, b"still there")
        assert (tmp_path / "file").read_bytes() == b"still there"
    finally:
        os.dup2(kept, 0)
        os.close(kept)


@pytest.mark.parametrize("method", METHODS)
def test_the_program_s_handlers_are_not_its_workers(method: str | None, tmp_path: Path) -> None:
    assert run(HANDLED, tmp_path, method) == "not woken -15 False\n"


@pytest.mark.parametrize("method", METHODS)
def test_a_forked_copy_leaves_quietly(method: str | None, tmp_path: Path) -> None:
    assert run(FORKED, tmp_path, method) == "0 0 [1] 1\n"


def test_a_patched_program_gets_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    own = threading.get_ident()

    def get_ident() -> int:
        """A greenlet's, say."""
        return own

    get_ident.__module__ = "gevent.thread"
    monkeypatch.setattr(threading, "get_ident", get_ident)
    with pytest.raises(RuntimeError, match="gevent has replaced Python's threads"):
        millpond.Pool(1)


def test_patched_sockets_get_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Green:
        """No socket, but it has one."""

    monkeypatch.setattr(Green, "__module__", "eventlet.greenio")
    monkeypatch.setattr(socket, "socket", Green)
    with pytest.raises(RuntimeError, match="eventlet has replaced Python's sockets"):
        millpond.Pool(1)


def test_who_starts_threads_and_sockets_another_way_has_not_replaced_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "_start_joinable_thread" if sys.version_info >= (3, 13) else "_start_new_thread"
    starts: Any = vars(threading)[name]

    def traced(*args: Any, **options: Any) -> Any:
        """As a debugger starts threads, to see what they do."""
        return starts(*args, **options)

    class Proxied(socket.socket):
        """As one that connects by way of a proxy."""

    monkeypatch.setattr(threading, name, traced)
    monkeypatch.setattr(socket, "socket", Proxied)
    with millpond.Pool(1) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_program_that_allows_no_sockets_has_pools(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forbidden(socket.socket):
        """As pytest-socket's, for tests that must not use the network."""

        def __new__(cls, *_: Any, **__: Any) -> Any:
            raise RuntimeError("a test tried to use socket.socket")

    monkeypatch.setattr(socket, "socket", Forbidden)
    with millpond.Pool(2, start_method=method) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]


def test_a_task_s_limit_is_a_timeout() -> None:
    assert issubclass(millpond.TaskTimeout, TimeoutError)
    assert not issubclass(millpond.TaskTimeout, millpond.TimeoutError)
