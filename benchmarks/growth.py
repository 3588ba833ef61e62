"""What a task costs the caller, counted and not timed: ``python -m benchmarks.growth [--record]``.

Bytecodes of millpond's own code in the caller's process, of all its threads, for each task: from the call to its
result, for calls and for a map, in the simulated world. It is chance whether the caller or the caretaker drives,
and how many calls he finds when he does: so the least of several runs counts. And system calls of a real pool,
by strace: those that a round trip needs, less the looks of one who waits without sleeping, whose number is chance
too.

Fails if a figure is more than 15 % over the recorded one, in ``growth.json``.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import millpond
from benchmarks.tasks import successor
from millpond.pool import Pool
from millpond.testing.simulation_pool import SimulatedPool
from millpond.testing.simulation_world import World

RECORD = Path(__file__).with_suffix(".json")
MOST = 1.15
TASKS = 1_000
RUNS = 5
OURS = str(Path(millpond.__file__).parent)
OTHERS = tuple(f"{OURS}/{part}" for part in ("testing/", "worker/loop.py", "worker/answers.py"))
"""The worker's side, which the simulated world has in the same process."""
LOOKS = frozenset({"epoll_wait", "poll", "ppoll", "clock_gettime", "futex", "sched_yield"})


class Meter:
    """Counts the bytecodes of the caller's side, in whatever thread that starts while it is there."""

    def __init__(self) -> None:
        self.count = 0
        self._counting = False

    def __enter__(self) -> Meter:
        threading.settrace(self._enter)
        sys.settrace(self._enter)
        return self

    def __exit__(self, *failure: object) -> None:
        sys.settrace(None)
        threading.settrace(None)

    def of(self, act: Callable[[], object]) -> int:
        """How many ``act`` takes."""
        self.count = 0
        self._counting = True
        act()
        self._counting = False
        return self.count

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if not name.startswith(OURS) or name.startswith(OTHERS):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode" and self._counting:
            self.count += 1
        return self._step


def bytecodes() -> dict[str, float]:
    """For each task."""
    return {
        "submit: bytecodes": _least(_submit, TASKS),
        "map: bytecodes": _least(lambda pool: pool.map(successor, range(10 * TASKS)), 10 * TASKS),
        "map, chunksize=1: bytecodes": _least(
            lambda pool: pool.map(successor, range(TASKS), 1), TASKS
        ),
    }


def _submit(pool: Pool) -> None:
    for result in [pool.apply_async(successor, (n,)) for n in range(TASKS)]:
        result.get()


def _least(act: Callable[[Pool], object], tasks: int) -> float:
    counts = []
    for _ in range(RUNS):
        with Meter() as meter, SimulatedPool(2, world=World(seed=1)) as pool:
            pool.map(successor, range(100), 1)
            counts.append(meter.of(partial(act, pool)))
    return min(counts) / tasks


PROGRAM = """
import millpond
from benchmarks.tasks import successor
with millpond.Pool(1, start_method="fork") as pool:
    for number in range({count}):
        pool.apply(successor, (number,))
"""


def system_calls() -> dict[str, float]:
    """For each round trip of ``apply``: of a long program less those of a short one."""
    few, many = (_traced(count) for count in (100, 100 + TASKS))
    return {"apply: system calls": (many - few) / TASKS}


def _traced(count: int) -> int:
    with tempfile.NamedTemporaryFile("r") as trace:
        command = ["strace", "-o", trace.name, sys.executable, "-c", PROGRAM.format(count=count)]
        subprocess.run(command, check=True, timeout=120)
        calls = Counter(re.findall(r"^(\w+)\(", trace.read(), re.MULTILINE))
    return sum(number for name, number in calls.items() if name not in LOOKS)


def main(arguments: list[str]) -> int:
    """Compare, or record."""
    found = bytecodes()
    if shutil.which("strace"):
        found |= system_calls()
    else:
        print("strace is not here: system calls are not counted")
    if "--record" in arguments:
        RECORD.write_text(json.dumps(found, indent=1) + "\n")
    recorded = json.loads(RECORD.read_text())
    grown = 0
    for name, figure in found.items():
        limit = recorded[name] * MOST
        verdict = "" if figure <= limit else f"  MORE THAN {limit:.1f}"
        grown += figure > limit
        print(f"{name:40} {figure:8.2f} a task, recorded {recorded[name]:8.2f}{verdict}")
    return int(grown > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
