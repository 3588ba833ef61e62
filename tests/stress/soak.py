"""The soak: a worker is killed every 0.2 s under mixed load with retries, for an hour by default.

``python -m tests.stress.soak METHOD SECONDS`` is the program; the judge starts it. Every call has to end with
the right value, as many as were made; memory and descriptors have to stay flat, by a line fitted through
samples that leave out the first fifth.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from millpond.testing import tasks
from tests import leaks
from tests.stress import judge
from tests.stress.stage import Stage

EVERY: Final = 0.2
"""Seconds from kill to kill."""
WORKERS: Final = 4
RETRIES: Final = 50
"""Of a task; in an hour some task is hit several times."""
GROWTH: Final = {"memory, MiB": 16.0, "descriptors": 2.0, "threads": 2.0}
"""What the fitted line may rise by from the first sample to the last."""


class Killer(threading.Thread):
    """Kills one worker after the other."""

    def __init__(self, pool: Any) -> None:
        super().__init__(name="killer", daemon=True)
        self._pool = pool
        self._over = threading.Event()
        self._dice = random.Random(7)
        self.kills = 0

    def run(self) -> None:
        while not self._over.wait(EVERY):
            alive = [worker for worker in self._pool._pool if worker.is_alive()]
            if alive:
                self._dice.choice(alive).kill()
                self.kills += 1

    def stop(self) -> None:
        self._over.set()
        self.join()


def load(pool: Any, number: int) -> Iterator[tuple[Any, Any]]:
    """One round of calls of every kind: pairs of what came and what should have come."""
    start = 1000 * number
    xs = range(start, start + 300)
    calls = [pool.apply_async(tasks.square, (x,)) for x in xs]
    waits = [pool.apply_async(tasks.sleep_for, (0.001 * (x % 20),)) for x in range(40)]
    large = [pool.apply_async(tasks.identity, (bytes([x]) * 300_000,)) for x in range(8)]
    rows = pool.map_async(tasks.identity, [(x, str(x)) for x in xs])
    yield list(pool.imap(tasks.square, iter(xs))), [x * x for x in xs]
    yield sorted(pool.imap_unordered(tasks.square, xs)), [x * x for x in xs]
    yield pool.map(tasks.square, xs, 7), [x * x for x in xs]
    yield rows.get(60), [(x, str(x)) for x in xs]
    yield [x.get(60) for x in calls], [x * x for x in xs]
    yield [x.get(60) for x in waits], [0.001 * (x % 20) for x in range(40)]
    yield [x.get(60) for x in large], [bytes([x]) * 300_000 for x in range(8)]


def sample() -> dict[str, float]:
    """What has to stay flat."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory, MiB": pages * os.sysconf("SC_PAGESIZE") / (1 << 20),
        "descriptors": len(leaks.entries("/proc/self/fd")),
        "threads": threading.active_count(),
    }


def fitted(times: list[float], values: list[float]) -> float:
    """By how much the line through the values rises over the time."""
    skip = len(times) // 5
    times, values = times[skip:], values[skip:]
    if len(times) < 3:
        return 0.0
    return statistics.linear_regression(times, values).slope * (times[-1] - times[0])


def soak(stage: Stage, seconds: float) -> dict[str, Any]:
    """The program: what went wrong, and what was counted."""
    faults: list[str] = []
    times: list[float] = []
    samples: list[dict[str, float]] = []
    calls = rounds = 0
    began = time.monotonic()
    with stage.pool(WORKERS, usable=False, retries=RETRIES) as pool:
        killer = Killer(pool)
        killer.start()
        try:
            while time.monotonic() - began < seconds and not faults:
                for got, wanted in load(pool, rounds):
                    calls += len(wanted)
                    if got != wanted:
                        faults.append(f"round {rounds}: {got!r:.200} and not {wanted!r:.200}")
                rounds += 1
                times.append(time.monotonic() - began)
                samples.append(sample())
        finally:
            killer.stop()
        stage.check_usable(pool, WORKERS)
    rises = {name: fitted(times, [one[name] for one in samples]) for name in GROWTH}
    faults += [f"{name} rise by {rise:.1f}" for name, rise in rises.items() if rise > GROWTH[name]]
    return {"faults": faults, "calls": calls, "kills": killer.kills, "rises": rises}


def main(minutes: float, methods: tuple[str, ...]) -> int:
    """Share the time among start methods; 1 if anything is not as it should be."""
    bad = 0
    for method in methods:
        seconds = 60 * minutes / len(methods)
        verdict = judge.run("tests.stress.soak", method, str(seconds), limit=seconds + 180)
        told = verdict.told
        rises = ", ".join(f"{name} {rise:+.2f}" for name, rise in told.get("rises", {}).items())
        print(
            f"{method}: {told.get('calls', 0)} calls, {told.get('kills', 0)} kills in {seconds:.0f} s; "
            f"rise of {rises}; {'; '.join(verdict.faults()) or 'nothing lost, wrong or left'}",
            flush=True,
        )
        bad += bool(verdict.faults())
    return int(bad > 0)


if __name__ == "__main__":
    import faulthandler
    import shutil

    faulthandler.enable()
    place = Stage(sys.argv[1], Path(tempfile.mkdtemp()))
    outcome = soak(place, float(sys.argv[2]))
    leaks.stop_servers()
    shutil.rmtree(place.folder)
    Path(os.environ["STRESS_VERDICT"]).write_text(json.dumps(outcome))
