"""What a person sees who presses Ctrl-C: in a real terminal, where every process gets it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.terminal import Terminal

pytestmark = pytest.mark.system

SCRIPT = """
import sys
import time
import millpond


def work(x):
    print(f"working on {x}", flush=True)
    time.sleep(300)


if __name__ == "__main__":
    with millpond.get_context(sys.argv[1]).Pool(2) as pool:
        pool.map(work, range(8), chunksize=1)
"""


@pytest.fixture
def terminal(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    script = tmp_path / "program.py"
    script.write_text(SCRIPT)
    terminal = Terminal(tmp_path, [sys.executable, str(script), request.param])
    yield terminal
    terminal.close()


@pytest.mark.parametrize("terminal", ["fork", "forkserver", "spawn"], indirect=True)
def test_one_ctrl_c_is_one_keyboard_interrupt_and_leaves_no_process(terminal: Terminal) -> None:
    terminal.wait_for_text("working on", 2, 20)
    terminal.type("C-c")
    terminal.wait("the end", terminal.ended, 5)
    terminal.wait("no process left", lambda: not terminal.processes(), 1)
    screen = terminal.screen()
    assert screen.count("Traceback (most recent call last)") == 1, screen
    assert screen.splitlines().count("KeyboardInterrupt") == 1, screen
    assert screen.count("working on") == 2, screen
    assert terminal.exit_code() == 128 + signal.SIGINT, screen
