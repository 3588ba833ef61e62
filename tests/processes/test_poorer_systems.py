"""Systems without the newer calls of Linux, without /proc, without /dev/shm: slower or less exact, and right."""

from __future__ import annotations

import subprocess
import sys

import pytest

import millpond
from tests import refusing

ALL = ",".join(refusing.CALLS)


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


def test_nothing_is_missing_here() -> None:
    with millpond.Pool(1) as pool:
        assert pool.info()["missing"] == ""
