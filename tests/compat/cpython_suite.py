"""CPython's own tests of Pool and Process, from the running interpreter, turned onto millpond.

Rules: nothing of CPython's is kept here; its test module is read where the interpreter carries it,
the name `multiprocessing` in it becomes `millpond`, and the copy lives in a temporary folder for
the run. Each class runs in an interpreter of its own. A test over its limit ends that interpreter
with the stacks of all threads; it counts as hung and the rest of the class as not run.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

from tests.compat import sessions

METHODS = ("fork", "forkserver", "spawn")
POOL = (
    "WithProcessesTestPool",
    "WithProcessesTestPoolWorkerErrors",
    "WithProcessesTestPoolWorkerLifetime",
    "TestPoolNotLeakOnFailure",
    "TestInitializers",
)
PROCESS = (
    "WithProcessesTestProcess",
    "WithProcessesTestSubclassingProcess",
    "TestStdinBadfiledescriptor",
    "TestNoForkBomb",
    "TestStartMethod",
    "TestCloseFds",
    "TestFlags",
    "TestTimeouts",
    "TestWait",
    "TestIgnoreEINTR",
)
COPY = "cpython_test_multiprocessing"  # one of its tests wants a file name that ends like this
SCRIPTS = ("mp_fork_bomb.py", "mp_preload.py")
TEST_LIMIT = 60
CHILD = Path(__file__).with_name("cpython_child.py")


def source() -> Path | None:
    """The interpreter's own test module, or None where it was left out."""
    try:
        spec = importlib.util.find_spec("test._test_multiprocessing")
    except ModuleNotFoundError:
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)


def renamed(text: str, name: str) -> str:
    """The program with `multiprocessing` called by another name, wherever it is a name."""
    lines = text.splitlines(keepends=True)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    places = [t.start for t in tokens if t.type == tokenize.NAME and t.string == "multiprocessing"]
    for row, column in reversed(places):
        line = lines[row - 1]
        lines[row - 1] = line[:column] + name + line[column + len("multiprocessing") :]
    # A program that a Pool test runs with -c is text inside the text.
    return "".join(lines).replace("from multiprocessing import Pool", f"from {name} import Pool")


def build(folder: Path, module: Path, name: str) -> None:
    """Write the renamed copy, and a module a start method with the test classes installed."""
    text = module.read_text(encoding="utf-8")
    text = text.replace("'test.test_multiprocessing_forkserver'", repr(COPY))
    (folder / f"{COPY}.py").write_text(renamed(text, name), encoding="utf-8")
    for script in SCRIPTS:
        text = (module.parent / script).read_text(encoding="utf-8")
        (folder / script).write_text(renamed(text, name), encoding="utf-8")
    for method in METHODS:
        (folder / f"suite_{method}.py").write_text(
            f"from {COPY} import install_tests_in_module_dict as install\n"
            f"install(globals(), {method!r})\n"
        )


@dataclass
class Report:
    """What became of each test of one class."""

    passed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)


def run_class(folder: Path, method: str, cls: str) -> Report:
    """Run one class of one start method to its end, in an interpreter of its own."""
    out = folder / f"{method}-{cls}.jsonl"
    work = folder / f"{method}-{cls}.d"
    work.mkdir()
    path = [str(folder), *(p for p in sys.path if p)]
    # Warnings as the interpreter has them, whatever they are in the run around this one.
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(path), PYTHONWARNINGS="ignore")
    command = [sys.executable, str(CHILD), method, cls, str(out), str(TEST_LIMIT)]
    with open(f"{out}.stdio", "wb") as stdio:
        process = subprocess.Popen(
            command, cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=stdio, stderr=stdio,
            start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(150)
        finally:
            sessions.end(process)
    said = Path(f"{out}.stdio").read_text(errors="replace")[-4000:]
    return read_report(out, status, said)


def read_report(out: Path, status: int, said: str) -> Report:
    """Make a report of the child's lines, which end early if a test ended the interpreter."""
    report, running, finished = Report(), None, False
    for line in out.read_text().splitlines() if out.exists() else []:
        event, test, text = json.loads(line)
        match event:
            case "start":
                running = test
            case "pass":
                report.passed.append(test)
            case "skip":
                report.skipped.append(test)
            case "finished":
                finished = True
            case _:
                report.bad[test] = f"{event}: {text}"
    if not finished or status:
        report.bad[f"{running} (the last to start)"] = f"exit status {status}\n{said}"
    return report
