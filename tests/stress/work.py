"""Functions that the scenarios send to workers, beside those of ``millpond.testing``."""

from __future__ import annotations

import atexit
import ctypes
import io
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from millpond.testing import tasks


def jot(path: str, x: int) -> int:
    """Note the number in the journal."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, b"%d\n" % x)
    finally:
        os.close(fd)
    return x


def jot_row(row: tuple[str, int]) -> int:
    return jot(*row)


def jot_and_die_on(path: str, x: int, bad: int, how: str) -> int:
    jot_slowly(path, x)
    return tasks.die_on(x, bad, how)


def jot_and_die_row(row: tuple[str, int, int, str]) -> int:
    return jot_and_die_on(*row)


def jot_slowly(path: str, x: int, payload: Any = None) -> int:
    """Take longer than sending an outcome does, so that no other task shares its fate."""
    jot(path, x)
    end = time.monotonic_ns() + 60_000
    while time.monotonic_ns() < end:
        pass
    return x


def jot_slowly_row(row: tuple[Any, ...]) -> int:
    return jot_slowly(*row)


_journal = ""


def keep_journal(path: str) -> None:
    """An initializer: where ``jot_here`` notes."""
    global _journal
    _journal = path


def jot_here(x: int) -> int:
    return jot_slowly(_journal, x)


def jot_and_return(path: str, x: int, payload: Any) -> tuple[int, Any]:
    return jot_slowly(path, x), payload


def crash(path: str = "") -> None:
    """A real one, in native code."""
    if path:
        tasks.note(path)
    ctypes.string_at(0)


def overflow(_: Any = None) -> Any:
    """Recursion through C code until the stack's end."""
    sys.setrecursionlimit(1 << 30)
    return list(map(overflow, [0]))


def eat(group: str, count: int) -> int:
    """Join a control group, and take so many bytes."""
    if group:
        Path(group, "cgroup.procs").write_text(str(os.getpid()))
    return len(bytearray(os.urandom(1 << 20)) * (count >> 20))


def allocate_beyond(spare: int, count: int) -> int:
    """Have this process limited to a little more memory than it has, and want far more."""
    with _limited(spare):
        return len(bytes(count))


def return_beyond(spare: int, count: int) -> list[bytes]:
    """The same, but it is the result's pickling that wants more, in one piece."""
    value = [bytes(count)]
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + spare, resource.RLIM_INFINITY))
    return value


@contextmanager
def _limited(spare: int) -> Iterator[None]:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + spare, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def linger(x: int) -> int:
    """Leave a thread that does not end, and an exit function that takes its time."""
    threading.Thread(target=time.sleep, args=(60,), daemon=False).start()
    atexit.register(time.sleep, 60)
    return x


def leave_program(path: str) -> int:
    """Leave a program behind, and its pid."""
    child = subprocess.Popen(["sleep", "60"])
    Path(path).write_text(str(child.pid))
    return child.pid


def daemonise_then(how: str, path: str) -> int:
    """Fork twice, as daemons do; the grandchild holds all that this process holds."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writer, str(os.getpid()).encode())
            time.sleep(60)
        os._exit(0)
    os.wait()
    Path(path).write_bytes(os.read(reader, 32))
    if how:
        tasks.die(how)
    return 1


def litter(x: int) -> int:
    """Write on all that a process has by convention."""
    for fd in (0, 1, 2):
        try:
            os.write(fd, b"\x70\x6d\xff garbage \0" * 1000)
        except OSError:
            pass
    print("\0garbage", flush=True)
    return x


def make_a_mess(x: int) -> int:
    """Change everything that a process has but one of."""
    sys.stdout = sys.stderr = io.StringIO()
    os.chdir("/")
    os.umask(0o777)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()
    sys.path.clear()
    return x


lock = threading.Lock()


def under_lock(x: int) -> int:
    with lock:
        return x


setting = -1


def get_setting(_: object) -> int:
    return setting


def produce(row: tuple[str, int, int]) -> tuple[int, bytes]:
    path, x, size = row
    return jot(path, x), bytes(size)


def wait_and_return(gate: str, started: str, x: int) -> int:
    return int(tasks.pass_gate(gate, x, started))


def tell_and_wait(path: str) -> None:
    """Say who runs this, and never end."""
    draft = Path(f"{path}.draft")
    draft.write_text(str(os.getpid()))
    draft.rename(path)
    time.sleep(tasks.LIMIT)
