"""A module that is imported makes a pool at its top level."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes.waiting import LIMIT

MODULE = """
import os, millpond

with open({imports!r}, "a") as file:
    file.write(f"{{os.getpid()}}\\n")

def add(x):
    return x + 1

POOL = millpond.Pool(2, **{options!r})

class Point:
    def __init__(self, x):
        self.x = x

def point(x):
    return Point(x)

TABLE = POOL.map(add, range(3))
LATER = 7

def later(x):
    return x + LATER
"""
PROGRAM = """
import sys, threading
if {thread}:
    leave = threading.Event()
    threading.Thread(target=leave.wait, daemon=True).start()
import tables

def twice(x):
    return 2 * x

if __name__ == "__main__":
    pool = tables.POOL
    print(tables.TABLE, pool.map(twice, range(3)), pool.map(tables.later, range(3)))
    print([p.x for p in pool.map(tables.point, range(3))])
    with tables.millpond.Pool(1, start_method="spawn") as other:  # of the whole module
        print(other.map(tables.later, range(3)))
    pool.terminate()
    pool.join()
"""
METHODS = ["fork", "forkserver", "spawn", None]


@pytest.mark.parametrize("thread", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_it_has_the_values(method: str | None, thread: bool, tmp_path: Path) -> None:
    imports = tmp_path / "imports"
    options = {} if method is None else {"start_method": method}
    (tmp_path / "tables.py").write_text(MODULE.format(imports=str(imports), options=options))
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(thread=thread))
    done = run(program)
    assert done.stderr == ""
    assert done.stdout.splitlines()[0] == "[1, 2, 3] [0, 2, 4] [7, 8, 9]"
    assert done.stdout.splitlines()[-1].strip() == "[7, 8, 9]"
    assert (
        done.stdout.splitlines()[1] == "[0, 1, 2]"
    )  # of a class that a forked worker is sent by value
    # The program; two workers, which import it as far as needed; one of another pool, and two of that one's.
    assert len(set(imports.read_text().split())) <= 9


def run(program: Path) -> subprocess.CompletedProcess[str]:
    """Of the program, which leaves nothing: a fixture looks."""
    return subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )


LEFT = """
import tables
from millpond.errors import PoolForkedError

def use(x):
    return tables.POOL.map(abs, [x])

if __name__ == "__main__":
    try:
        tables.POOL.map(use, [1])
    except PoolForkedError as error:
        print(error)
    tables.POOL.terminate()
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_workers_do_not_have_that_pool(method: str, tmp_path: Path) -> None:
    module = f"import millpond\nPOOL = millpond.Pool(1, start_method={method!r})\n"
    (tmp_path / "tables.py").write_text(module)
    program = tmp_path / "program.py"
    program.write_text(LEFT)
    assert run(program).stdout.startswith("this pool is the program's, which made it while it")


SERVER = """
import millpond

if __name__ == "__main__":
    import helper  # here, so that no worker imports it
    with millpond.Pool(1, start_method="forkserver") as pool:
        print(pool.apply(abs, (-1,)))
    helper.POOL.terminate()
"""


@pytest.mark.parametrize(
    "what", ["millpond.Pool(1)", "started(millpond.Process(target=abs, args=(1,)))"]
)
def test_a_server_starts_nothing_as_it_imports(what: str, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text(
        "import os, millpond\n"
        "def started(p):\n    p.start()\n    p.join()\n    p.terminate = lambda: None\n    return p\n"
        f"POOL = {what}\n"
        f"open({str(tmp_path / 'made')!r}, 'a').write('.')\n"
    )
    program = tmp_path / "program.py"
    program.write_text(SERVER)
    done = run(program)
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr
    assert (tmp_path / "made").read_text() == "."  # by the program alone
