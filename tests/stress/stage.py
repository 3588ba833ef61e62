"""What a scenario stands on: pools of the start method under test, files to meet tasks at, and the checks."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import millpond
from millpond.testing import tasks
from millpond.worker import failpoints
from tests import leaks

METHODS = ("fork", "forkserver", "spawn", "default")
SOON = float(os.environ.get("STRESS_SOON", "30"))
"""Seconds in which whatever should happen at once must have happened, on a busy machine too."""
SLACK = float(os.environ.get("STRESS_SLACK", "1"))
"""Seconds that a bound is stretched by, for machines that others use as well."""
PREAMBLE = """
import os, signal, sys, threading, time
import millpond
from millpond.testing import tasks
from tests.stress import work

if __name__ == "__main__":
    pool = millpond.Pool(2, **{options})
    print(*[worker.pid for worker in pool._pool], flush=True)
"""
SQUARES = [x * x for x in range(20)]


class Stage:
    """See the module. ``method`` is one of METHODS."""

    def __init__(self, method: str, folder: Path) -> None:
        self.method = method
        self.folder = folder
        self.journal = str(folder / "journal")
        self.measured: dict[
            str, tuple[float, float]
        ] = {}  # what was timed -> how long it took, and might

    def options(self, **options: Any) -> dict[str, Any]:
        """Those of a pool that is started by the method under test."""
        return options if self.method == "default" else {"start_method": self.method, **options}

    def make_pool(self, processes: int = 2, **options: Any) -> Any:
        return millpond.Pool(processes, **self.options(**options))

    def check(self) -> None:
        """A pool works."""
        with self.pool():
            pass

    @contextmanager
    def pool(self, processes: int = 2, *, usable: bool = True, **options: Any) -> Iterator[Any]:
        """A pool that must be as good as new at the end, and is terminated then."""
        pool = self.make_pool(processes, **options)
        try:
            yield pool
            if usable:
                self.check_usable(pool, processes)
        finally:
            pool.terminate()
            pool.join()

    def check_usable(self, pool: Any, processes: int = 2) -> None:
        """Every method of the pool gives the right values, and all of its workers are there."""
        assert pool.map_async(tasks.square, range(20)).get(SOON) == SQUARES, "usable after"
        assert pool.apply_async(tasks.square, (7,)).get(SOON) == 49
        tasks.wait_until(lambda: len(pool._pool) == processes, "all workers are there", SOON)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def runs(self) -> Counter[int]:
        """How often each number was noted in the journal."""
        try:
            return Counter(map(int, Path(self.journal).read_text().split()))
        except FileNotFoundError:
            return Counter()

    def anew(self) -> Stage:
        """The same with a journal of its own."""
        return Stage(self.method, Path(tempfile.mkdtemp(dir=self.folder)))

    def check_at_most_once(self) -> None:
        doubled = {x: n for x, n in self.runs().items() if n > 1}
        assert not doubled, f"run twice: {doubled}"

    def check_runs(self, count: int, *, at_least: int = 1) -> None:
        """Every task from 0 to ``count`` ran once, or at most so."""
        self.check_at_most_once()
        missing = set(range(count)) - set(self.runs())
        assert len(missing) <= 1 - at_least, f"never run: {sorted(missing)}"

    @contextmanager
    def failpoint(self, order: str) -> Iterator[Path]:
        """Workers and pools that start meanwhile pass it, and it acts once; gives the file that tells of it."""
        folder = tempfile.mkdtemp(dir=self.folder)
        os.environ[failpoints.VARIABLE] = order
        os.environ[failpoints.ONCE] = folder
        try:
            yield Path(folder, order.partition("=")[0])
        finally:
            os.environ[failpoints.VARIABLE] = ""
            del os.environ[failpoints.ONCE]

    @contextmanager
    def group(self, controller: str, limits: dict[str, int]) -> Iterator[str]:
        """A control group with the limits, as a folder to join; "" where none can be made."""
        group = Path("/sys/fs/cgroup", controller, Path(os.environ["TMPDIR"]).parent.name)
        try:
            group.mkdir()
        except OSError:
            yield ""
            return
        try:
            for name, limit in limits.items():
                if (group / name).exists():
                    (group / name).write_text(str(limit))
            yield str(group)
        finally:
            tasks.wait_until(
                lambda: not (group / "cgroup.procs").read_text(), "its last process ended"
            )
            group.rmdir()

    @contextmanager
    def program(
        self, body: str, *arguments: str
    ) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
        """A program with a pool of two, in a session of its own; its workers' pids."""
        script = self.folder / "program.py"
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        script.write_text(PREAMBLE.format(options=self.options()) + lines)
        with subprocess.Popen(
            [sys.executable, str(script), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True, cwd=self.folder,
        ) as program:  # fmt: skip
            try:
                assert program.stdout is not None
                line = program.stdout.readline()
                assert line, program.communicate()[1]
                yield program, [int(pid) for pid in line.split()]
            finally:
                program.kill()

    @contextmanager
    def within(self, seconds: float, what: str = "it") -> Iterator[None]:
        """Fail if the block takes longer."""
        began = time.monotonic()
        yield
        took = time.monotonic() - began
        self.measured[what] = max(took, self.measured.get(what, (0.0, 0.0))[0]), seconds
        assert took <= seconds + SLACK, f"{what} took {took:.2f} s and not {seconds:g}"


def error_of(result: Any, kind: Any, *words: str) -> BaseException:
    """The error that a call ends with; it must be of that kind, or one of these, with those words in its text."""
    try:
        value = result() if callable(result) else result.get(SOON)
    except kind as raised:
        error: BaseException = raised
        text = str(error)
        for word in words:
            assert word.lower() in text.lower(), f"{word!r} is not in {text!r}"
        return error
    raise AssertionError(f"no {kind}, but {value!r:.80}")


def settled(results: Any) -> list[Any]:
    """The values of calls, or their errors."""
    got = []
    for result in results:
        try:
            got.append(result.get(SOON))
        except Exception as error:
            got.append(error)
    return got


def errors_in(got: list[Any]) -> list[Any]:
    return [x for x in got if isinstance(x, BaseException)]


def judged(act: Callable[[Stage], None], method: str) -> dict[str, Any]:
    """Play a scenario here; what went wrong, and what was measured."""
    folder = Path(tempfile.mkdtemp())
    stage = Stage(method, folder)
    watcher = leaks.Watcher(Path(tempfile.gettempdir()), os.environ[leaks.MARK])
    before = watcher.snapshot()
    faults: list[str] = []
    try:
        act(stage)
    except BaseException as error:
        import traceback

        traceback.print_exc()
        faults.append(f"{type(error).__name__}: {error}"[:600])
    if not faults:
        faults += [f"leak: {text}" for text in watcher.leaks(before)]
    leaks.stop_servers()
    faults += [f"leak: {text}" for text in watcher.leaks(before, "process")] if not faults else []
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    sys.stderr.flush()
    return {"faults": faults, "measured": stage.measured}
