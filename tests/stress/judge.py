"""The judge outside: runs a program in a process tree of its own, with a hard limit, and counts what is left.

Rules: whatever the program started is found by a mark in its environment, which all of it inherits, and by the
name that forked processes keep; what is found is ended; the verdict is written to a file, since descriptors 1
and 2 are the tasks' to play with.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import leaks

LIMIT = 60.0
"""Seconds after which a program is taken to hang."""
PATIENCE = 2.0
"""Seconds in which whatever is about to end has to end, once the program has."""

_numbers = itertools.count(1)


@dataclass
class Verdict:
    """What was seen of one program from outside."""

    told: dict[str, Any] = field(default_factory=dict)  # by the program itself
    hung: bool = False
    status: int | None = None
    survivors: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # files and segments
    after: float = 0.0  # seconds from the program's end to that of the last that it started
    stderr: str = ""

    def faults(self) -> list[str]:
        """What went wrong, a line each; nothing if all is well."""
        found = ["hang"] if self.hung else []
        if not self.hung and "faults" not in self.told:
            found.append(
                f"the program ended with {self.status} and no verdict: {self.stderr[-500:]}"
            )
        found += self.told.get("faults", [])
        found += [f"survivor: {text}" for text in self.survivors]
        return found + [f"left: {text}" for text in self.left]


@dataclass
class Tree:
    """A program's place: its mark, its folder for temporary files, and where it tells its verdict."""

    mark: str
    folder: Path

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    def environment(self) -> dict[str, str]:
        """What the program starts with."""
        return {
            **os.environ,
            leaks.MARK: self.mark,
            "TMPDIR": str(self.temporary),
            "STRESS_VERDICT": str(self.folder / "verdict"),
            "PYTHONPATH": os.pathsep.join(
                [os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
        }

    def living(self) -> list[int]:
        """The processes that carry the mark and have not ended."""
        pids = [int(name) for name in leaks.entries("/proc") if name.isdigit()]
        return [pid for pid in pids if pid != os.getpid() and self._owns(pid)]

    def _owns(self, pid: int) -> bool:
        about = leaks.stat(pid)
        return about is not None and about.state not in "ZX" and leaks.marked(pid, self.mark)

    def end(self) -> list[str]:
        """Wait for what is about to end; end the others, and name them."""
        deadline = time.monotonic() + PATIENCE
        while (left := self.living()) and time.monotonic() < deadline:
            time.sleep(0.002)
        named = []
        for pid in left:
            about = leaks.stat(pid)
            if about is not None:
                named.append(leaks.describe(pid, about))
                leaks.end(pid)
        return named


@contextmanager
def tree() -> Iterator[Tree]:
    """A place for one program; nothing is left of it afterwards."""
    mark = f"s{os.getpid():x}-{next(_numbers):x}"
    folder = Path(tempfile.mkdtemp(prefix="stress-"))
    place = Tree(mark, folder)
    place.temporary.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(*command: str, limit: float = LIMIT) -> Verdict:
    """Run ``python -m command...`` and judge it."""
    verdict = Verdict()
    segments = leaks.entries("/dev/shm")
    with tree() as place:
        errors = place.folder / "stderr"
        with open(errors, "wb") as stderr, subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
            env=place.environment(), start_new_session=True,
        ) as program:  # fmt: skip
            try:
                verdict.status = program.wait(limit)
            except subprocess.TimeoutExpired:
                verdict.hung = True
                program.send_signal(signal.SIGABRT)  # faulthandler shows where it hangs
                time.sleep(0.2)
                program.kill()
        ended = time.monotonic()
        survivors = place.end()
        verdict.after = time.monotonic() - ended
        verdict.survivors = [] if verdict.hung else survivors
        verdict.stderr = errors.read_text(errors="replace")
        told = place.folder / "verdict"
        if told.exists():
            lines = [json.loads(line) for line in told.read_text().splitlines()]
            verdict.told = lines[0] if lines and isinstance(lines[0], dict) else {"trials": lines}
        verdict.left = [f"{place.temporary.name}/{name}" for name in leaks.entries(place.temporary)]
        verdict.left += [
            f"/dev/shm/{name}"
            for name in leaks.entries("/dev/shm") - segments
            if not leaks.held_by_others(f"shared memory: /dev/shm/{name}", place.mark)
        ]
    return verdict
