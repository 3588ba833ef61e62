"""One trial of the sweep: a pool, a little work, one failpoint, and a count of everything afterwards.

``python -m tests.stress.trials METHOD FILE``: plays the trials in the file, and tells of each as it ends, so
that of a program that hangs or is killed it is known which trial did it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from millpond import errors
from millpond.testing import tasks
from millpond.testing.deaths import gone
from tests import leaks
from tests.stress import work
from tests.stress.stage import SOON, SQUARES, Stage

TASKS = 16
SIZES = {"rows": 200, "large": 200_000, "arena": 2 << 20}
"""Bytes of an argument."""
LIMIT = 20.0
"""Seconds after which a trial hangs."""
THEN = ("goes on", "killed", "terminated")
"""What comes of a worker that was stopped."""


class Trial(NamedTuple):
    """An order for a failpoint, and how the tasks are given."""

    point: str
    action: str
    nth: int = 1
    arg: int = -1  # bytes
    load: str = "calls"
    then: str = ""  # of THEN, after a stop
    graceful: bool = False

    @property
    def order(self) -> str:
        return f"{self.point}={self.action}:{self.nth}" + (f":{self.arg}" if self.arg >= 0 else "")


class Told(NamedTuple):
    """What came of it."""

    acted: bool = False
    lost: int = 0
    doubled: int = 0
    failed: int = 0  # beyond the one that the death may cost
    wrong: int = 0
    orphans: int = 0
    leaks: int = 0
    hang: bool = False
    latency: float | None = None  # seconds from the act to the caller's error
    after: float | None = None  # seconds from the program's death to that of its last worker
    text: str = ""

    @property
    def good(self) -> bool:
        return not any(self[1:8])


class Collected:
    """What callers were told, and when first of an error."""

    def __init__(self) -> None:
        self.failed_at: int | None = None

    def note(self, _: BaseException) -> None:
        if self.failed_at is None:
            self.failed_at = time.monotonic_ns()


def give(pool: Any, trial: Trial, journal: str, collected: Collected) -> list[Any]:
    """Hand in the tasks 0 to TASKS, one result each."""
    apply = pool.apply_async
    if trial.load == "calls":
        return [apply(work.jot_here, (x,), error_callback=collected.note) for x in range(TASKS)]
    payload = b"p" * SIZES[trial.load]
    function = work.jot_slowly if trial.load == "rows" else work.jot_and_return
    return [
        apply(function, (journal, x, payload), error_callback=collected.note) for x in range(TASKS)
    ]


def play(trial: Trial, stage: Stage, watcher: leaks.Watcher) -> Told:
    """Do it, and count."""
    before = watcher.snapshot()
    collected = Collected()
    Path(stage.journal).unlink(missing_ok=True)
    with stage.failpoint(trial.order) as acted:
        pool: Any = stage.make_pool(initializer=work.keep_journal, initargs=(stage.journal,))
        try:
            results = give(pool, trial, stage.journal, collected)
            if trial.point == "stopping":
                pool.close()
            placed = trial.action != "stop" or _after_stop(trial, acted, pool, results)
            got = [_outcome(result) for result in results]
            closed = trial.then == "terminated" or trial.point == "stopping"
            usable = closed or pool.map(tasks.square, range(20)) == SQUARES
            if trial.graceful:
                pool.close()
                pool.join()
        finally:
            pool.terminate()
            pool.join()
        told = _count(trial, got, stage, acted, collected)
        told = told._replace(acted=told.acted and placed)
    del pool, results
    left = watcher.leaks(before)
    orphans = sum(text.startswith("process") for text in left)
    watcher.kill(before)
    if not usable:
        told = told._replace(wrong=told.wrong + 1)
    return told._replace(
        orphans=orphans, leaks=len(left) - orphans, text="; ".join([told.text, *left]).strip("; ")
    )


def _outcome(result: Any) -> Any:
    try:
        return result.get(SOON)
    except Exception as error:
        return error


def _over(trial: Trial, results: list[Any]) -> bool:
    """Whether the point will not be passed any more."""
    return trial.point != "stopping" and all(result.ready() for result in results)


def _after_stop(trial: Trial, acted: Path, pool: Any, results: list[Any]) -> bool:
    """A stopped worker goes on, or is killed; or the pool is terminated. Whether there was one."""
    tasks.wait_until(lambda: acted.exists() or _over(trial, results), "it stops", SOON)
    with contextlib.suppress(FileExistsError):
        acted.touch(exist_ok=False)  # nobody would let go on who stops from now on
        return False
    pid = int(acted.read_bytes().split()[0])
    # Who looks at a worker stops it and lets it go on, which may have undone what was ordered here.
    tasks.wait_until(
        lambda: gone(pid) or _state(pid) == "T" or _over(trial, results), "it has stopped", SOON
    )
    if trial.then == "terminated":
        pool.terminate()
        return True
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL if trial.then == "killed" else signal.SIGCONT)
    return True


def _state(pid: int) -> str:
    about = leaks.stat(pid)
    return "" if about is None else about.state


def _count(trial: Trial, got: list[Any], stage: Stage, acted: Path, collected: Collected) -> Told:
    """What callers got, against what was run."""
    if trial.load in ("large", "arena"):
        got = [x[0] if isinstance(x, tuple) else x for x in got]
    failures = [x for x in got if isinstance(x, BaseException)]
    deaths = [x for x in failures if isinstance(x, errors.WorkerDied)]
    runs = stage.runs()
    lost = wrong = 0
    for x, value in enumerate(got):
        if isinstance(value, BaseException):
            continue
        wrong += value != x
        lost += not runs[x]
    if trial.then == "terminated":
        failed = 0
    else:
        lost += sum(isinstance(x, TimeoutError) for x in failures)
        allowed = int(acted.exists() and (trial.action != "stop" or trial.then == "killed"))
        failed = max(0, len(deaths) - allowed) + len(failures) - len(deaths)
    doubled = sum(runs[x] > 1 for x in range(TASKS))
    latency = None
    if acted.exists() and collected.failed_at is not None and trial.action != "stop":
        latency = (collected.failed_at - int(acted.read_bytes().split()[1])) / 1e9
    text = (
        f"{[str(x)[:150] for x in failures]} {dict(runs)}"
        if failed or doubled or wrong or lost
        else ""
    )
    return Told(acted.exists(), lost, doubled, failed, wrong, latency=latency, text=text)


def main() -> None:
    method, file = sys.argv[1:]
    out = os.open(os.environ["STRESS_VERDICT"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stage = Stage(method, Path(tempfile.mkdtemp()))
    watcher = leaks.Watcher(Path(tempfile.gettempdir()), os.environ[leaks.MARK])
    if method == "forkserver":
        stage.check()  # the server is there from now on
    for trial in json.loads(Path(file).read_text()):
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        told = play(Trial(*trial), stage, watcher)
        faulthandler.cancel_dump_traceback_later()
        os.write(out, json.dumps(told).encode() + b"\n")
    leaks.stop_servers()
    import shutil

    shutil.rmtree(stage.folder)


if __name__ == "__main__":
    os.environ.setdefault("MILLPOND_FAILPOINTS", "")
    main()
