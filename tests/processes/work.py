"""What the children of these tests run; importable by name, as spawn wants it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

import millpond


def double(x: int) -> int:
    return 2 * x


def fail(text: str) -> None:
    raise KeyError(text)


def leave(code: object) -> None:
    sys.exit(code)  # type: ignore[arg-type]


def interrupted() -> None:
    raise KeyboardInterrupt


class Grave(BaseException):
    pass


def grave() -> None:
    raise Grave("deep")


def big(size: int) -> bytes:
    return b"\xa5" * size


def unpicklable() -> Any:
    return threading.Lock()


class Unloadable(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def unloadable() -> None:
    raise Unloadable(1, 2)


def vanish(code: int) -> None:
    os._exit(code)


def shoot(signum: int) -> None:
    os.kill(os.getpid(), signum)
    time.sleep(60)


def wait_for_end() -> None:
    threading.Event().wait()


def told(connection: Any) -> Any:
    """Say that we run, then wait for a word."""
    connection.send(os.getpid())
    return connection.recv()


def from_parent() -> tuple[Any, ...]:
    parent: Any = millpond.parent_process()
    return parent.pid, parent.name, parent.is_alive()


def twice_forked() -> str:
    """A copy that the child forks returns from run() too; only the child's outcome counts."""
    if os.fork() == 0:
        return "copy"
    os.wait()
    return "child"


def with_child() -> int:
    child = millpond.Process(target=double, args=(4,))
    child.start()
    result: int = child.result(30)
    return result


def default_method() -> str | None:
    return millpond.get_start_method()


def surroundings() -> dict[str, Any]:
    import resource

    return {
        "cwd": os.getcwd(),
        "variable": os.environ.get("MILLPOND_TEST_VARIABLE"),
        "argv": sys.argv,
        "umask": os.umask(0o22),
        "affinity": os.sched_getaffinity(0),
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "path": "/nowhere/of/the/test" in sys.path,
    }


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def put_locked(lock: Any, queue: Any) -> None:
    with lock:
        queue.put(77)


class Shouter(millpond.Process):
    """A subclass with its own run, and a value that only it has."""

    def __init__(self, word: str) -> None:
        super().__init__(name="shouter")
        self.word = word

    def run(self) -> str:  # type: ignore[override]
        return self.word.upper()


def loaded(names: list[str]) -> list[bool]:
    return [name in sys.modules for name in names]


def blocked() -> set[signal.Signals | int]:
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def take_all_descriptors(folder: str) -> int:
    os.closerange(3, 256)
    for n in range(40):
        os.write(os.open(f"{folder}/{n}", os.O_WRONLY | os.O_CREAT), b"mine")
    return 40
