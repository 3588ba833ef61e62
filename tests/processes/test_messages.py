"""What a person reads when something goes wrong: the commonest messages, whole."""

from __future__ import annotations

import ctypes
import os
import pickle
import re
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest

from millpond import Pool, Sandbox, errors, get_context
from millpond.backends.processes.out_of_memory import Kills
from millpond.worker import records

LOCK = threading.Lock()


class Session:
    def __init__(self) -> None:
        self.lock = threading.Lock()


class Config:
    def __init__(self) -> None:
        self.session = Session()

    def __repr__(self) -> str:
        return "<Config>"


class FarError(Exception):
    """Can be pickled, and not be loaded again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


# Tasks ------------------------------------------------------------------------------------------


def resize(path: str, how: str = "") -> Any:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        print("no such colour", file=sys.stderr)
        os._exit(3)
    if how == "segfault":
        print("about to crash", file=sys.stderr)
        ctypes.string_at(0)
    if how == "sys.exit":
        sys.exit("enough")
    if how == "sleep":
        time.sleep(600)
    return path


def fetch(config: Any, *more: Any) -> Any:
    return config, more


def configured(_: Any) -> Any:
    return Config()


def fail_far(_: Any) -> None:
    raise FarError(1, 2)


def fail_unsendable(_: Any) -> None:
    error = ValueError("no colour")
    error.session = Session()  # type: ignore[attr-defined]
    raise error


class DiesWhenLoaded:
    def __setstate__(self, state: object) -> None:
        os._exit(4)

    def __getstate__(self) -> Any:
        return {"a": 1}


class DiesWhenSent:
    def __reduce__(self) -> Any:
        os._exit(5)


def deadly(_: Any) -> Any:
    return DiesWhenSent()


def limited_memory(size: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    bytearray(size)


def refuse_to_begin() -> None:
    raise RuntimeError("no model")


def end_at_once() -> None:
    os._exit(6)


# What goes wrong --------------------------------------------------------------------------------


def forked_copy(pool: Pool) -> Any:
    """The error of a forked copy of the program that uses the pool."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            pool.apply(resize, ("a.jpg",))
        except BaseException as error:
            os.write(writing, pickle.dumps(error))
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(pid, 0)
    with open(reading, "rb") as file:
        raise pickle.load(file)


def closed(pool: Pool) -> None:
    pool.close()
    pool.apply(resize, ("a.jpg",))


def absent(pool: Pool) -> Any:
    """A function of a module that there is in this process alone, and which uses what cannot be sent."""
    module = types.ModuleType("made_up")
    exec("def draw(x):\n    return LOCK", module.__dict__)
    vars(module)["LOCK"] = LOCK
    sys.modules["made_up"] = module
    try:
        return pool.apply(vars(module)["draw"], (1,))
    finally:
        del sys.modules["made_up"]


def of_initializer(initializer: Callable[[], None]) -> Callable[[Pool], Any]:
    def use(_: Pool) -> Any:
        with Pool(1, initializer, start_method="fork") as pool:
            return pool.apply(resize, ("a.jpg",))

    return use


def in_threads(_: Pool) -> Any:
    with Pool(1, backend="threads") as pool:
        return pool.apply(resize, ("a.jpg",), timeout=1)


def in_a_sandbox(_: Pool) -> Any:
    with Pool(1, sandbox=Sandbox(memory=4 << 30)) as pool:
        return pool.apply(bytearray, (8 << 30,))


def garbage() -> None:
    """Something writes where only frames should be."""
    channel: Any = records._forwarder
    os.write(
        channel._channel.fileno(), b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n"
    )
    time.sleep(600)


def out_of_memory(pool: Pool) -> Any:
    """A worker whose death the kernel, or what stands for its files here, has counted."""
    with TemporaryDirectory() as root:
        box = Path(root, "sys/fs/cgroup/box")
        box.mkdir(parents=True)
        Path(root, "proc/self").mkdir(parents=True)
        Path(root, "proc/self/cgroup").write_text("0::/box\n")
        (box / "memory.events").write_text("oom 0\noom_kill 0\n")
        (box / "memory.max").write_text(f"{512 << 20}\n")
        (box / "memory.peak").write_text(f"{511 << 20}\n")
        backend: Any = pool._backend
        backend._kills = Kills(root)
        return pool.apply(count_and_die, (str(box / "memory.events"),))


def count_and_die(events: str) -> None:
    Path(events).write_text("oom 1\noom_kill 1\n")
    os.kill(os.getpid(), signal.SIGKILL)


class Case(NamedTuple):
    provoke: Callable[[Pool], Any]
    kind: type[BaseException]
    text: str


CASES = {
    "a task is killed": Case(
        lambda pool: pool.apply(resize, ("a.jpg", "kill")),
        errors.WorkerDied,
        "worker PID was killed by SIGKILL before returning, while running task 0 of resize('a.jpg', 'kill')",
    ),
    "the kernel is out of memory": Case(
        out_of_memory,
        errors.WorkerDied,
        "worker PID was killed by SIGKILL, by the kernel, which was out of memory (its cgroup may use 512.0 MiB "
        "and used 511.0 MiB), before returning, while running task 0 of count_and_die('EVENTS')",
    ),
    "a task ends its process": Case(
        lambda pool: pool.starmap(resize, [("a.jpg", ""), ("b.jpg", "exit")], 1),
        errors.WorkerDied,
        "worker PID exited with code 3 before returning, while running task 1 of resize('b.jpg', 'exit')\n"
        "the last lines of its stderr:\n"
        "  no such colour",
    ),
    "native code crashes": Case(
        lambda pool: pool.apply(resize, ("a.jpg", "segfault")),
        errors.WorkerDied,
        "worker PID was killed by SIGSEGV before returning, while running task 0 of resize('a.jpg', 'segfault')\n"
        "its stack:\n"
        "  Fatal Python error: Segmentation fault\n"
        "\n"
        "  Current thread 0xADDRESS (most recent call first):\n"
        '    File "test_messages.py", line N in resize\n'
        "the last lines of its stderr:\n"
        "  about to crash",
    ),
    "an argument kills": Case(
        lambda pool: pool.map(fetch, [1, DiesWhenLoaded()], 1),
        errors.WorkerDied,
        "worker PID exited with code 4 before returning, while unpickling the argument of task 1 of "
        "fetch(<DiesWhenLoaded>)",
    ),
    "a result kills": Case(
        lambda pool: pool.apply(deadly, (1,)),
        errors.WorkerDied,
        "worker PID exited with code 5 before returning, while pickling the result of task 0 of deadly(1)",
    ),
    "a task is late": Case(
        lambda pool: pool.apply(resize, ("a.jpg", "sleep"), timeout=0.1),
        errors.TaskTimeout,
        "task 0 of resize('a.jpg', 'sleep') ran longer than its limit of 0.1 s; its worker was killed and "
        "replaced",
    ),
    "a task calls sys.exit": Case(
        lambda pool: pool.apply(resize, ("a.jpg", "sys.exit")),
        errors.TaskAborted,
        "the task raised SystemExit(enough)",
    ),
    "an error cannot be loaded": Case(
        lambda pool: pool.apply(fail_far, (1,)),
        errors.TaskError,
        "FarError: 1 and 2 (stands for the original, which cannot be unpickled: TypeError("
        "\"FarError.__init__() missing 1 required positional argument: 'two'\"))",
    ),
    "an error cannot be pickled": Case(
        lambda pool: pool.apply(fail_unsendable, (1,)),
        errors.MaybeEncodingError,
        "Error sending result: 'ValueError('no colour')'. Reason: "
        "'TypeError(\"exception.session.lock: cannot pickle '_thread.lock' object\")'",
    ),
    "a result cannot be pickled": Case(
        lambda pool: pool.apply(configured, (1,)),
        errors.MaybeEncodingError,
        "Error sending result: '<Config>'. Reason: "
        "'TypeError(\"result.session.lock: cannot pickle '_thread.lock' object\")'",
    ),
    "an argument cannot be pickled": Case(
        lambda pool: pool.apply(fetch, (Config(),)),
        TypeError,
        "argument 'config'.session.lock: cannot pickle '_thread.lock' object",
    ),
    "an argument of a map cannot be pickled": Case(
        lambda pool: pool.map(fetch, [1, 2, Config()]),
        TypeError,
        "argument 'config'.session.lock of task 2: cannot pickle '_thread.lock' object",
    ),
    "a function cannot be pickled": Case(
        lambda pool: pool.map(partial(fetch, Config()), [1]),
        TypeError,
        "function 'fetch'.args[0].session.lock: cannot pickle '_thread.lock' object",
    ),
    "a function cannot be imported": Case(
        absent,
        errors.TaskError,
        "the worker cannot load draw: ModuleNotFoundError: No module named 'made_up'. It cannot be sent by value "
        "either: function 'draw', its global variable 'LOCK': cannot pickle '_thread.lock' object. A worker "
        "imports from the sys.path that the program had when the worker was started: change that before the "
        "pool is made, or set PYTHONPATH.",
    ),
    "an argument of a process cannot be pickled": Case(
        lambda _: get_context("spawn").Process(target=fetch, args=(1, {"a": Config()})).start(),
        TypeError,
        "argument 'more'[0]['a'].session.lock: cannot pickle '_thread.lock' object",
    ),
    "the initializer raises": Case(
        of_initializer(refuse_to_begin),
        errors.InitializerError,
        "the initializer refuse_to_begin raised RuntimeError: no model; no worker can run tasks",
    ),
    "the initializer ends its process": Case(
        of_initializer(end_at_once),
        errors.InitializerError,
        "worker PID exited with code 6 in the initializer end_at_once; no worker can run tasks",
    ),
    "a task wants too much memory": Case(
        lambda pool: pool.apply(limited_memory, (2 << 30,)),
        MemoryError,
        "\nits worker may have 1024 MiB of address space (RLIMIT_AS), and has N MiB",
    ),
    "a task in a sandbox wants too much memory": Case(
        in_a_sandbox,
        errors.TaskError,
        "MemoryError: its worker may have 4096 MiB of address space (RLIMIT_AS), and has N MiB",
    ),
    "something writes on the channel": Case(
        lambda pool: pool.apply(garbage),
        errors.ProtocolError,
        "worker PID was killed in task 0 of garbage(), since it had sent what no worker sends: bytes on a "
        "worker's channel are no frame: something else wrote there",
    ),
    "a forked copy uses the pool": Case(
        forked_copy,
        errors.PoolForkedError,
        "this pool belongs to process PID, of which this one (PID) is a forked copy; make a Pool of its own here",
    ),
    "the pool is closed": Case(closed, ValueError, "Pool not running"),
    "threads cannot be killed": Case(
        in_threads,
        errors.CannotKill,
        "timeout=1 cannot be kept: a thread cannot be killed; use backend='processes'",
    ),
    "an option is misspelt": Case(
        lambda pool: pool.apply(resize, ("a.jpg",), retrys=1),  # type: ignore[call-arg]
        TypeError,
        "there is no option 'retrys'; did you mean 'retries'?",
    ),
    "an option makes no sense": Case(
        lambda pool: pool.map(resize, ["a.jpg"], timeout=-1),
        ValueError,
        "timeout must be more than 0 seconds, not -1",
    ),
    "a backend is misspelt": Case(
        lambda pool: Pool(1, backend="proceses"),
        ValueError,
        "no backend is called 'proceses'; there are processes, threads, inline",
    ),
}


def shown(error: BaseException) -> str:
    """The message, and the notes under it; without what differs from run to run."""
    text = "\n".join([str(error), *getattr(error, "__notes__", [])])
    text = re.sub(r"\b(worker |process |this one \()\d+\b", r"\1PID", text)
    text = re.sub(r"0x[0-9a-f]+", "0xADDRESS", text)
    text = re.sub(r"and has \d+ MiB", "and has N MiB", text)
    text = re.sub(r"count_and_die\('.*'\)", "count_and_die('EVENTS')", text)
    text = re.sub(r"<tests\.\S* object at 0xADDRESS>", "<DiesWhenLoaded>", text)
    lines = []
    for line in text.splitlines():
        frame = re.fullmatch(r'( +File ")(?:.*/)?(.*?", line )\d+( in .*)', line)
        if frame is not None and frame[2].startswith(Path(__file__).name) and "in resize" in line:
            lines.append(f"{frame[1]}{frame[2]}N{frame[3]}")
        elif frame is None and not line.startswith("  Extension modules:"):
            lines.append(line)
    return "\n".join(lines).replace("\n\nthe last", "\nthe last")


@pytest.mark.parametrize("name", CASES)
def test_a_message(name: str) -> None:
    provoke, kind, text = CASES[name]
    with Pool(1, start_method="fork") as pool:
        with pytest.raises(kind) as found:
            provoke(pool)
        assert shown(found.value) == text
        if name != "the pool is closed":
            assert pool.apply(abs, (-1,)) == 1
