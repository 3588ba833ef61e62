"""Whole programs, each in an interpreter of its own: Ctrl-C, exit without close, a killed parent.

A program gets its pool from the same `make_pool` as every test, through the suite's class: the
class is imported by name (`python -c` puts the caller's sys.path first).
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from millpond.testing import tasks
from millpond.testing.deaths import gone
from millpond.testing.suite import SOON, Suite

PREAMBLE = """
import sys
sys.path[:0] = {path!r}
if __name__ == "__main__":
    import importlib, os, signal, time
    from millpond.testing import tasks
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored
    Suite = getattr(importlib.import_module({module!r}), {name!r})
    pool = Suite().make_pool(2)
    print(*[w.pid for w in pool._pool], flush=True)
"""

WAIT = {
    "map": "pool.map(tasks.sleep_for, [60] * 4)",
    "get": "pool.apply_async(tasks.sleep_for, (60,)).get()",
    "get with a timeout": "pool.apply_async(tasks.sleep_for, (60,)).get(50)",
    "next": "next(pool.imap(tasks.sleep_for, [60] * 4))",
    "join": "pool.map_async(tasks.sleep_for, [60] * 4); pool.close(); pool.join()",
}


def rest_of(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What is left of the two outputs. Not communicate(): reading a line may have brought more along."""
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdout.read(), process.stderr.read()


class ProgramTests(Suite):
    """What a program's user sees from outside."""

    @contextmanager
    def program(self, body: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
        """Start the program in a session of its own; give it and its workers' pids."""
        cls = type(self)
        code = PREAMBLE.format(path=sys.path, module=cls.__module__, name=cls.__qualname__)
        code += "".join(f"    {line}\n" for line in body.splitlines())
        with subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True, env=dict(os.environ, PYTHONWARNINGS="ignore"),
        ) as process:  # fmt: skip
            try:
                assert process.stdout is not None
                assert select.select([process.stdout], [], [], SOON)[0], "no pool was made"
                line = process.stdout.readline()
                if not line:
                    raise AssertionError(process.communicate()[1])
                yield process, [int(pid) for pid in line.split()]
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.communicate()

    def workers_end(self, pids: list[int], limit: float) -> None:
        assert pids
        tasks.wait_until(lambda: all(gone(pid) for pid in pids), "the workers ended", limit)

    @pytest.mark.parametrize("to", ["group", "caller"])
    @pytest.mark.parametrize("how", WAIT)
    def test_one_ctrl_c_is_one_keyboard_interrupt(self, how: str, to: str) -> None:
        body = (
            "pool.apply(tasks.nothing)\n"
            "def tell(*_): print('waiting', flush=True)\n"
            "import threading\n"
            "threading.Timer(0.3, tell).start()\n"
            "try:\n"
            f"    {WAIT[how]}\n"
            "except KeyboardInterrupt:\n"
            "    print('interrupted', flush=True)\n"
            "pool.terminate(); pool.join(); print('ended', flush=True)\n"
        )
        with self.program(body) as (process, pids):
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            began = time.monotonic()
            (os.killpg if to == "group" else os.kill)(process.pid, signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n"
            assert time.monotonic() - began < 1.0
            out, err = rest_of(process)
            assert (out, err, process.wait(SOON)) == ("ended\n", "", 0)
            self.workers_end(pids, 2.0)

    def test_an_uncaught_ctrl_c_is_one_traceback(self) -> None:
        body = "pool.apply(tasks.nothing); print('waiting', flush=True)\n" + WAIT["map"]
        with self.program(body) as (process, pids):
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            os.killpg(process.pid, signal.SIGINT)
            _, err = process.communicate(timeout=SOON)
            assert err.count("Traceback") == 1, err
            assert err.rstrip().endswith("KeyboardInterrupt")
            self.workers_end(pids, 2.0)

    @pytest.mark.parametrize("state", ["idle", "busy", "closed", "unread"])
    def test_a_program_that_never_joins_ends(self, state: str) -> None:
        body = {
            "idle": "pool.map(tasks.square, range(9))",
            "busy": "pool.map_async(tasks.sleep_for, [60] * 4); pool.apply_async(tasks.nothing)",
            "closed": "pool.map_async(tasks.sleep_for, [0.01] * 4); pool.close()",
            "unread": "it = pool.imap(tasks.identity, iter(int, 1)); next(it)",
        }[state]
        with self.program(body) as (process, pids):
            _, err = process.communicate(timeout=SOON)
            assert (err, process.returncode) == ("", 0)
            self.workers_end(pids, 2.0)

    @pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
    @pytest.mark.parametrize("state", ["idle", "busy"])
    def test_workers_do_not_outlive_a_killed_parent(self, state: str, signum: int) -> None:
        work = "pool.map_async(tasks.sleep_for, [60] * 4)" if state == "busy" else "None"
        body = f"pool.apply(tasks.nothing); r = {work}\nprint('ready', flush=True)\ntime.sleep(60)"
        with self.program(body) as (process, pids):
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            os.kill(process.pid, signum)
            process.wait(SOON)
            self.workers_end(pids, 1.5)

    def test_an_exception_in_the_program_ends_it(self) -> None:
        with self.program("pool.apply_async(tasks.sleep_for, (60,))\n1 / 0") as (process, pids):
            _, err = process.communicate(timeout=SOON)
            assert process.returncode == 1
            assert err.count("Traceback") == 1, err
            self.workers_end(pids, 2.0)

    def test_prints_of_tasks_are_not_lost(self) -> None:
        body = "pool.map(print, ['a', 'b'], 1); pool.close(); pool.join()"
        with self.program(body) as (process, _):
            out, err = rest_of(process)
            # Lines of two workers may mix where nothing buffers them.
            assert (sorted(out.replace("\n", "")), err) == (["a", "b"], "")

    def test_no_socket_listens_and_no_name_is_made(self) -> None:
        body = (
            "pool.map(tasks.square, range(50))\n"
            "import json\n"
            "fds = [os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd')"
            " if os.path.islink(f'/proc/self/fd/{n}')]\n"
            "print(json.dumps(fds), flush=True); sys.stdin.read()\n"
            "pool.terminate(); pool.join()"
        )
        with self.program(body) as (process, pids):
            assert process.stdout is not None
            fds: list[str] = json.loads(process.stdout.readline())
            assert not [fd for fd in fds if fd.startswith("/dev/shm") and "memfd" not in fd]
            assert not _listening_inet(process.pid, pids)


def _listening_inet(*_: Any) -> list[str]:
    """TCP sockets that listen and belong to this test's processes."""
    owners = {_[0], *_[1]}
    inodes = set()
    for pid in owners:
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                inodes.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            continue
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as lines:
            found += [x for x in list(lines)[1:] if f"socket:[{x.split()[9]}]" in inodes]
    return found
