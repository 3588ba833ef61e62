"""The twenty messages that people meet most, whole: what happened, to whom, and what to do."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from millpond import Pool, errors


class Session:
    """Has what pickle refuses."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Config:
    """Holds one."""

    def __init__(self) -> None:
        self.session = Session()

    def __repr__(self) -> str:
        return "Config()"


class Strict(Exception):
    """Is pickled, and not unpickled."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")


class Locked(Exception):
    """Is not pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def double(x: Any) -> Any:
    return x * 2


def killed(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exits(_: int) -> None:
    os._exit(3)


def crashes(_: int) -> None:
    print("about to crash", file=sys.stderr, flush=True)
    ctypes.string_at(0)


def configured(_: int) -> Config:
    return Config()


def strict(_: int) -> None:
    raise Strict(7, "no")


def locked(_: int) -> None:
    raise Locked


def leaves(_: int) -> None:
    sys.exit(2)


def refuses() -> None:
    raise ValueError("no settings")


def ends() -> None:
    os._exit(4)


IN_A_POOL: dict[str, tuple[Callable[[Any], Any], type[BaseException], str]] = {
    "killed": (
        lambda pool: pool.map(killed, [7]),
        errors.WorkerDied,
        "worker N was killed by SIGKILL before returning, while running task 0 of killed(7)",
    ),
    "exited": (
        lambda pool: pool.apply(exits, (7,)),
        errors.WorkerDied,
        "worker N exited with code 3 before returning, while running task 0 of exits(7)",
    ),
    "late": (
        lambda pool: pool.map(time.sleep, [60], timeout=0.05),
        errors.TaskTimeout,
        "task 0 of sleep(60) ran longer than its limit of 0.05 s; its worker was killed and replaced",
    ),
    "an argument": (
        lambda pool: pool.map(double, [Config()]),
        TypeError,
        "cannot pickle '_thread.lock' object, which is the argument.session.lock",
    ),
    "an argument of a call": (
        lambda pool: pool.apply(double, (1, {"config": [Config()]})),
        TypeError,
        "cannot pickle '_thread.lock' object, which is arguments[1]['config'][0].session.lock",
    ),
    "a result": (
        lambda pool: pool.map(configured, [1]),
        errors.MaybeEncodingError,
        ("Error sending result: 'Config()'. Reason: 'TypeError(\"cannot pickle '_thread.lock' object, which is "
        "the result.session.lock\")'"),
    ),
    "an exception that is not unpickled": (
        lambda pool: pool.map(strict, [1]),
        errors.TaskError,
        ('Strict: 7: no (stands for the original, which cannot be unpickled: TypeError("Strict.__init__() '
        "missing 1 required positional argument: 'reason'\"))"),
    ),
    "an exception that is not pickled": (
        lambda pool: pool.map(locked, [1]),
        errors.MaybeEncodingError,
        ("Error sending result: 'Locked()'. Reason: 'TypeError(\"cannot pickle '_thread.lock' object, which is "
        "the exception.lock\")'"),
    ),
    "sys.exit": (
        lambda pool: pool.map(leaves, [1]),
        errors.TaskAborted,
        "the task raised SystemExit(2)",
    ),
    "an option's name": (
        lambda pool: pool.map(double, [1], retires=2),
        TypeError,
        "there is no option 'retires'; did you mean 'retries'?",
    ),
    "an option's value": (
        lambda pool: pool.map(double, [1], timeout=-1),
        ValueError,
        "timeout must be more than 0 seconds, not -1",
    ),
    "one of three": (
        lambda pool: pool.map(double, [1], on_error="skp"),
        ValueError,
        "on_error must be 'raise', 'return', 'skip' or None, not 'skp'",
    ),
    "cost of a stream": (
        lambda pool: pool.imap(double, [1], cost=abs),
        TypeError,
        "cost= orders the input of map() and starmap(); there is nothing to order here",
    ),
    "a chunk": (
        lambda pool: pool.map(double, [1], chunksize=0),
        ValueError,
        "Chunksize must be 1+, not 0",
    ),
    "no iterable": (
        lambda pool: pool.map(double, 5),
        TypeError,
        "'int' object is not iterable",
    ),
}  # fmt: skip

WITHOUT: dict[str, tuple[Callable[[], Any], type[BaseException], str]] = {
    "an initializer that raises": (
        lambda: Pool(1, refuses, start_method="fork").apply(double, (1,)),
        errors.InitializerError,
        "the initializer refuses raised ValueError: no settings; no worker can run tasks",
    ),
    "an initializer that ends": (
        lambda: Pool(1, ends, start_method="fork").apply(double, (1,)),
        errors.InitializerError,
        "worker N exited with code 4 in the initializer ends; no worker can run tasks",
    ),
    "no worker": (lambda: Pool(0), ValueError, "Number of processes must be at least 1"),
    "a backend": (
        lambda: Pool(1, backend="ray2"),
        ValueError,
        "no backend is called 'ray2'; there are processes, threads, inline",
    ),
    "a limit for threads": (
        lambda: Pool(1, backend="threads").map(double, [1], timeout=1),
        errors.CannotKill,
        "timeout=1 cannot be kept: a thread cannot be killed; use backend='processes'",
    ),
}  # fmt: skip


def said(error: BaseException) -> str:
    """Its text, without what is chance."""
    return re.sub(r"\bworker \d+", "worker N", str(error))


@pytest.mark.parametrize("case", IN_A_POOL)
def test_of_calls(case: str) -> None:
    act, kind, text = IN_A_POOL[case]
    with Pool(1, start_method="fork") as pool:
        with pytest.raises(kind) as caught:
            act(pool)
        assert said(caught.value) == text
        assert pool.apply(double, (2,)) == 4


@pytest.mark.filterwarnings("ignore:.*Pool:ResourceWarning")
@pytest.mark.parametrize("case", WITHOUT)
def test_of_pools(case: str) -> None:
    act, kind, text = WITHOUT[case]
    with pytest.raises(kind) as caught:
        act()
    assert said(caught.value) == text


def test_of_a_closed_pool() -> None:
    pool = Pool(1, start_method="fork")
    pool.close()
    pool.join()
    with pytest.raises(ValueError, match=r"^Pool not running$"):
        pool.map(double, [1])


def test_of_a_crash(capfd: pytest.CaptureFixture[str]) -> None:
    """The stack of native code, and the last lines that it wrote."""
    with Pool(1, start_method="fork") as pool, pytest.raises(errors.WorkerDied) as caught:
        pool.map(crashes, [1])
    lines = said(caught.value).splitlines()
    assert lines[:2] == [
        "worker N was killed by SIGSEGV before returning, while running task 0 of crashes(1)",
        "its stack:",
    ]
    assert "  Fatal Python error: Segmentation fault" in lines
    assert any(
        re.fullmatch(r'    File ".*test_messages.py", line \d+ in crashes', line) for line in lines
    )
    assert "about to crash" in capfd.readouterr().err
