"""Systems without the newer calls of Linux, without /proc, without /dev/shm: slower or less exact, and right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import millpond
from tests import refusing

ALL = ",".join(refusing.CALLS)

BLIND = """
import os, sys
import millpond

def blind():
    "Modules can no longer be read, as after chroot, or setuid to a user who may not."
    sys.meta_path.clear()

def fail(x):
    blind()
    raise ValueError(x)

def unsendable(x):
    blind()
    return lambda: x

def told(call):
    try:
        return call()
    except Exception as error:
        return type(error).__name__

if __name__ == "__main__":
    with millpond.Pool(1, start_method={method!r}) as pool:
        pool.apply(abs, (1,))
        if {program}:
            blind()
        said = [told(lambda: pool.apply(fail, (1,)))]
        if not {program}:
            said.append(told(lambda: pool.apply(unsendable, (1,))))
        said += [told(lambda: pool.apply(os._exit, (3,))), pool.map(abs, [-1, -2])]
    print(said)
"""


def run(method: str, error: str = "", calls: str = "", folders: str = "") -> str:
    """A program in such a system; what it says is missing."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.refusing", method, error, calls, folders],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not done.stderr, done.stderr[-3000:]
    return done.stdout.strip()


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_without_any_of_the_newer_calls(method: str, error: str) -> None:
    said = run(method, error, ALL)
    for call in ("pidfd_open", "memfd_create", "eventfd"):
        assert f"no {call}: " in said


@pytest.mark.parametrize("call", sorted(refusing.CALLS))
def test_without_one_of_them(call: str) -> None:
    said = run("fork", "EPERM", call)
    assert said.startswith(f"no {call}: ") or (call == "epoll_pwait2" and not said)


def test_without_proc_and_dev_shm(method: str) -> None:
    said = run(method, folders=",".join(refusing.FOLDERS))
    if said:  # else this is not root
        assert "no /proc/self: " in said
        assert "no /dev/shm: " in said


def test_without_anything() -> None:
    run("fork", "ENOSYS", ALL, ",".join(refusing.FOLDERS))


@pytest.mark.parametrize("program", [True, False])
def test_without_modules_that_can_be_read(method: str, program: bool, tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(BLIND.format(method=method, program=program))
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=60)
    unsendable = [] if program else ["MaybeEncodingError"]
    assert done.stdout == f"{['ValueError', *unsendable, 'WorkerDied', [1, 2]]}\n", done.stderr[
        -3000:
    ]


def test_nothing_is_missing_here() -> None:
    with millpond.Pool(1) as pool:
        assert pool.info()["missing"] == ""
