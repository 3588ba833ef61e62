"""Runs a sweep over every place of a scenario in a program of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def places(program: str, *arguments: object) -> int:
    """How many places ``python -m tests.engine.PROGRAM`` went through; fails where the program does."""
    run = subprocess.run(
        [sys.executable, "-m", f"tests.engine.{program}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return int(run.stdout.split()[0])
