"""Runs programs from the package index with multiprocessing, then with millpond in its place.

    python -m tests.compat.third_party.run [NAME ...]

They are installed into a virtual environment in a temporary folder (MILLPOND_THIRD_PARTY_VENV names
one to keep and use again). Each must give the same output, files and exit status both times, and
must really have used millpond's Pool or Process. Prints a table; the status is 1 if any differed.
"""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.compat.third_party.programs import PROGRAMS, Program, comparable

ROOT = Path(__file__).parents[3]
SWAP = Path(__file__).parent / "swap"
LIMIT = 180


@dataclass
class Outcome:
    """What a program did, in a form that can be compared."""

    status: int | str
    lines: list[str]
    written: dict[str, str]
    used: Counter[str]
    seconds: float


def make_environment(folder: Path) -> Path:
    """An interpreter with millpond and all the programs."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    wanted = sorted({name for program in PROGRAMS for name in program.requires})
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "-e", str(ROOT), *wanted], check=True)
    return python


def run(program: Program, python: Path, folder: Path, *, swapped: bool) -> Outcome:
    folder.mkdir()
    program.prepare(folder)
    journal = folder.with_suffix(".journal")
    env = {**os.environ, "PYTHONHASHSEED": "0", "NO_COLOR": "1", "PYTHONWARNINGS": "ignore",
           "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}  # fmt: skip
    if swapped:
        env |= {"PYTHONPATH": str(SWAP), "MILLPOND_JOURNAL": str(journal)}
    command = [part.replace("{python}", str(python)) for part in program.command]
    began, status = time.monotonic(), "hung"  # type: tuple[float, int | str]
    try:
        done = subprocess.run(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=LIMIT,
        )  # fmt: skip
        status, shown = done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        shown = str(error.stdout)
    used = Counter(journal.read_text().split()) if journal.exists() else Counter[str]()
    seconds = time.monotonic() - began
    return Outcome(status, comparable(shown, folder), written(program, folder), used, seconds)


def written(program: Program, folder: Path) -> dict[str, str]:
    """The texts of the files that the program was to write."""
    found: dict[str, str] = {}
    for name in program.results:
        path = folder / name
        for file in sorted(path.rglob("*.*")) if path.is_dir() else [path]:
            if file.is_file():
                found[str(file.relative_to(folder))] = file.read_text(errors="replace")
            elif not file.exists():
                found[str(file.relative_to(folder))] = "missing"
    return found


def differences(program: Program, theirs: Outcome, ours: Outcome) -> list[str]:
    """What is not as it should be; empty if all is well."""
    found = []
    if theirs.status not in program.exit_codes:
        found.append(
            f"with multiprocessing: status {theirs.status}\n" + "\n".join(theirs.lines[-20:])
        )
    if ours.status != theirs.status:
        found.append(f"status {ours.status}, not {theirs.status}")
    diff = difflib.unified_diff(
        theirs.lines, ours.lines, "multiprocessing", "millpond", lineterm=""
    )
    found += list(diff)[:40]
    found += [
        f"{name} differs"
        for name in theirs.written
        if theirs.written[name] != ours.written.get(name)
    ]
    if not ours.used:
        found.append("neither Pool nor Process of millpond was used")
    return found


def main(names: list[str]) -> int:
    bad = 0
    with tempfile.TemporaryDirectory(prefix="third-party-") as name:
        folder = Path(name)
        kept = os.environ.get("MILLPOND_THIRD_PARTY_VENV")
        python = make_environment(Path(kept) if kept else folder / "venv")
        print(f"{'program':22} {'status':>6} {'std s':>6} {'ours s':>6}  used", flush=True)
        for program in PROGRAMS:
            if names and program.name not in names:
                continue
            theirs = run(program, python, folder / f"{program.name}-1", swapped=False)
            ours = run(program, python, folder / f"{program.name}-2", swapped=True)
            wrong = differences(program, theirs, ours)
            bad += bool(wrong)
            used = ", ".join(f"{count} {what}" for what, count in sorted(ours.used.items()))
            seconds = f"{theirs.seconds:6.1f} {ours.seconds:6.1f}"
            ending = "  DIFFERS" if wrong else ""
            print(f"{program.name:22} {ours.status:>6} {seconds}  {used}{ending}", flush=True)
            for line in wrong:
                print("    " + line.replace("\n", "\n    "))
    print(f"{'some differ' if bad else 'all the same'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
