"""What lives to the very end of the interpreter, when modules have been cleared, says nothing there."""

from __future__ import annotations

import subprocess
import sys
from textwrap import indent

import pytest

PROGRAM = """
import threading
import time

import numpy

import millpond

if __name__ == "__main__":
    kept = threading.main_thread().kept = []  # its module is cleared after those of millpond
"""

KEPT = {
    "a process that has ended": """
process = millpond.Process(target=int)
process.start()
process.join()
kept.append(process)
""",
    "one whose result was taken": """
process = millpond.Process(target=int)
process.start()
kept += process, process.result()
""",
    "one that runs": """
process = millpond.Process(target=time.sleep, args=(0.2,))
process.start()
kept.append(process)
""",
    "a process of a server": """
process = millpond.get_context("forkserver").Process(target=int)
process.start()
kept.append(process)
""",
    "large results": """
pool = millpond.Pool(2)
kept += pool.map(numpy.zeros, [1 << 18] * 2), pool
""",
    "a large argument": """
pool = millpond.Pool(2)
array = millpond.empty((1 << 18,))
kept += array, pool.map_async(len, [array] * 2), pool
kept[1].get()
""",
    "results half taken": """
pool = millpond.Pool(2)
results = pool.imap(abs, iter(range(1000)))
next(results)
kept += results, pool
""",
    "an executor's results half taken": """
pool = millpond.Pool(2)
results = pool.executor.map(abs, range(1000))
next(results)
kept += results, pool
""",
    "a call that is not over": """
kept.append(millpond.Pool(2).apply_async(time.sleep, (30,)))
""",
}


@pytest.mark.parametrize("what", KEPT)
def test_what_lives_to_the_end_is_quiet(what: str) -> None:
    program = PROGRAM + indent(KEPT[what], "    ")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
