"""What the documents show works: every Python block runs, and prints what the document says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import Program, all_programs, programs_in

PROGRAMS = all_programs()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.place)
def test_a_program_in_the_documents_runs(program: Program, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(program.source, "utf-8")
    finished = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    if program.output is not None:
        assert finished.stdout == program.output


def test_the_tutorial_is_among_them() -> None:
    tutorial = [program for program in PROGRAMS if program.place.startswith("README.md")]
    assert len(tutorial) >= 5
    assert all(program.output for program in tutorial)


def test_blocks_are_found_with_their_output() -> None:
    document = (
        "Words\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n\n```sh\nls\n```\n\n"
        "```python fragment\n...\n```\n\n```python\nprint(2)\n```\n\nWords\n\n```text\n3\n```\n"
    )
    assert list(programs_in(document, "x.md")) == [
        Program("x.md:3", "print(1)\n", "1\n"),
        Program("x.md:19", "print(2)\n", None),
    ]
