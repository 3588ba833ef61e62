"""mypy --strict and pyright in strict mode agree with what the samples beside this file assert."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SAMPLES = sorted(str(path) for path in HERE.glob("*_types.py") if path != Path(__file__))


def run(command: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, text=True, capture_output=True, timeout=110,
        env=dict(os.environ, PYRIGHT_PYTHON_IGNORE_WARNINGS="1", NO_COLOR="1"),
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.stdout


def test_there_are_samples() -> None:
    assert len(SAMPLES) >= 2


def test_mypy_agrees(tmp_path: Path) -> None:
    shown = run(["mypy", "--strict", "--cache-dir", str(tmp_path), *SAMPLES])
    assert shown.startswith("Success: no issues found"), shown


def test_pyright_agrees() -> None:
    shown = json.loads(run(["pyright", "--outputjson", "--pythonpath", sys.executable, *SAMPLES]))
    found = shown["generalDiagnostics"]
    said = [f"{d['file']}:{d['range']['start']['line'] + 1}: {d['message']}" for d in found]
    assert not said, "\n".join(said)
    assert shown["summary"]["filesAnalyzed"] == len(SAMPLES)
