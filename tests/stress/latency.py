"""How soon a death is known: from a kill to the caller's error, and from the program's to that of its last worker.

``python -m tests.stress.latency METHOD``: the program that measures; the judge starts it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from millpond import errors
from millpond.testing import tasks
from tests import leaks
from tests.stress import judge, work
from tests.stress.stage import SOON, Stage, error_of
from tests.stress.sweep import quantiles

KILLS = 200
PROGRAMS = 30
BUSY = """
pool.map_async(tasks.sleep_for, [60] * 4)
pool.apply_async(tasks.nothing)
print(1, flush=True)
time.sleep(60)
"""


def deaths(stage: Stage) -> list[float]:
    """Seconds from SIGKILL of a busy worker to the exception at its caller."""
    took = []
    with stage.pool() as pool:
        for n in range(KILLS):
            path = stage.path(f"pid-{n}")
            result = pool.apply_async(work.tell_and_wait, (path,))
            tasks.wait_until(partial(os.path.exists, path), "it runs")
            pid = int(Path(path).read_text())
            began = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            error_of(result, errors.WorkerDied)
            took.append(time.monotonic() - began)
    return took


def ends(stage: Stage) -> list[float]:
    """Seconds from SIGKILL of a program to the end of the last of its two busy workers."""
    took = []
    for _ in range(PROGRAMS):
        with stage.program(BUSY) as (program, pids):
            assert program.stdout is not None
            program.stdout.readline()
            poll = select.poll()
            left = [os.pidfd_open(pid) for pid in pids]
            for fd in left:
                poll.register(fd, select.POLLIN)
            began = time.monotonic()
            program.kill()
            while left:
                ended = poll.poll(SOON * 1000)
                assert ended, "workers that do not end"
                for fd, _ in ended:
                    poll.unregister(fd)
                    left.remove(fd)
                    os.close(fd)
            took.append(time.monotonic() - began)
            program.communicate()
    return took


def main(methods: tuple[str, ...]) -> int:
    """Print both for each start method; 1 if they could not be measured."""
    bad = 0
    for method in methods:
        verdict = judge.run("tests.stress.latency", method, limit=300)
        told = verdict.told
        for line in (
            *quantiles(
                f"{method}: from a worker's SIGKILL to the caller's error", told.get("deaths", [])
            ),
            *quantiles(
                f"{method}: from the program's SIGKILL to the last worker's end",
                told.get("ends", []),
            ),
            *verdict.faults(),
        ):
            print(line, flush=True)
        bad += bool(verdict.faults())
    return int(bad > 0)


if __name__ == "__main__":
    import shutil

    place = Stage(sys.argv[1], Path(tempfile.mkdtemp()))
    measured = {"faults": [], "deaths": deaths(place), "ends": ends(place)}
    leaks.stop_servers()
    shutil.rmtree(place.folder)
    Path(os.environ["STRESS_VERDICT"]).write_text(json.dumps(measured))
