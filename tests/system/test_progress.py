"""What a person sees of ``progress=True``: bars, drawn in place, in a real terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.terminal import Terminal

pytestmark = pytest.mark.system

SCRIPT = """
import os
import os
import sys

if sys.argv[1] == "plain":
    sys.modules["rich.console"] = None

from millpond.watch import progress
from tests.watch.jobs import FakeJob

def turn():
    with open(sys.argv[2]) as pipe:  # until the test has opened and closed it
        pipe.read()

squares, cubes = FakeJob(10), FakeJob(None, "cubes")
watches = progress.start(squares, "squares \\x1b[2J"), progress.start(cubes, True)
squares.settled, squares.failed, cubes.settled = 3, 1, 70
turn()
squares.complete()
watches[0].finish()
turn()
cubes.total = 100
cubes.complete()
watches[1].finish()
print("next")
"""


class Program:
    """It goes on when it is told to."""

    def __init__(self, folder: Path, layout: str) -> None:
        script, self._turn = folder / "program.py", folder / "turn"
        script.write_text(SCRIPT)
        os.mkfifo(self._turn)
        root = Path(__file__).parents[2]
        self.terminal = Terminal(
            folder,
            ["env", f"PYTHONPATH={root}", sys.executable, str(script), layout, str(self._turn)],
        )

    def go_on(self) -> None:
        with open(self._turn, "w"):
            pass

    def shows(self, *texts: str) -> None:
        """Wait until the screen has so many lines, with these texts in order."""

        def seen() -> bool:
            lines = self.terminal.screen().splitlines()
            return len(lines) == len(texts) and all(map(str.__contains__, lines, texts))

        self.terminal.wait(f"{texts}", seen, 20)


@pytest.fixture(params=["rich", "plain"])
def program(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Program]:
    program = Program(tmp_path, request.param)
    yield program
    program.terminal.close()


def test_bars_are_drawn_in_place_and_left_when_they_end(program: Program) -> None:
    program.shows("3/10", "70 done")
    assert "squares \\x1b[2J" in program.terminal.screen()
    program.go_on()
    program.shows("10/10", "70 done")
    assert "1 failed" in program.terminal.screen()
    program.go_on()
    program.shows("10/10", "100/100", "next", "[ended with 0]")
    assert program.terminal.screen().count("100%") == 2
