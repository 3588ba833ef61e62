"""The demo does what it says, under every start method, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT

PATIENCE = 5.0
DEMO = ROOT / "examples" / "demo.py"


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start the demo in a process group of its own, with ``folder`` for its temporary files."""
    return subprocess.Popen(
        [sys.executable, str(DEMO), *options],
        cwd=folder.parent,
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def expect_gone(group: int) -> None:
    """Wait until no process of the group is left; a fork server may need a moment to notice."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        assert time.monotonic() < deadline, "processes of the demo are left"
        time.sleep(0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_the_demo_agrees_three_times(folder: Path, method: str) -> None:
    demo = start(folder, "--quick", "--start-method", method)
    printed, complaints = demo.communicate(timeout=100)
    assert demo.returncode == 0, complaints
    assert complaints == ""
    assert printed.count("same results") == 3
    assert "30 of 30 files have the right SHA-256" in printed
    assert list(folder.iterdir()) == []
    expect_gone(demo.pid)


@pytest.mark.parametrize("words", ["one by one", "millpond"])
@pytest.mark.parametrize("job", ["compute", "download", "images"])
def test_ctrl_c_stops_the_demo_quietly(folder: Path, job: str, words: str) -> None:
    # The others come after it, so the demo cannot be over before the signal.
    demo = start(folder, "--quick", "--jobs", job, "compute", "images", "download")
    assert demo.stdout
    try:
        next(line for line in demo.stdout if line.startswith(f"  {words}"))
        os.killpg(demo.pid, signal.SIGINT)
        printed, complaints = demo.communicate(timeout=20)
    finally:
        demo.kill()
    assert (demo.returncode, complaints) == (130, "")
    assert printed.endswith("Stopped.\n")
    assert list(folder.iterdir()) == []
    expect_gone(demo.pid)
