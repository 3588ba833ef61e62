"""A worker does not import ``logging`` for its own sake; once a task does, its records go to the parent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LIMIT = 60.0

PROGRAM = """
import sys

from millpond import Pool


def say(number):
    late = "logging" not in sys.modules
    import logging

    logging.getLogger("late").debug("not asked for")
    logging.getLogger("late").info("number %d", number)
    return late


if __name__ == "__main__":
    import logging

    logging.basicConfig(format="%(levelname)s %(name)s %(message)s", level=logging.INFO, stream=sys.stdout)
    with Pool(1, start_method=sys.argv[1]) as pool:
        late = pool.map(say, [1, 2], chunksize=1)
    print(*late)
"""


FORKING = """
import importlib.util, os, sys

from millpond import Pool


def look_and_fork(_):
    looked = importlib.util.find_spec("logging").loader is not None
    if "logging" in sys.modules:
        return "it was there"
    pid = os.fork()
    if not pid:
        import logging

        logging.warning("of a copy")
        os._exit(0)
    os.waitpid(pid, 0)
    import logging

    logging.warning("of the worker")
    return looked, logging.__loader__ is logging.__spec__.loader, type(logging.__loader__).__name__


if __name__ == "__main__":
    import logging

    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    with Pool(1, start_method="spawn") as pool:
        print(pool.map(look_and_fork, [0]))
"""


def test_a_copy_that_a_task_forks_logs_for_itself_and_looking_is_no_import(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(FORKING)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=LIMIT)
    assert done.stderr == "WARNING:root:of a copy\n"
    assert done.stdout.splitlines() == ["of the worker", "[(True, True, 'SourceFileLoader')]"]


def test_logging_that_is_imported_late_is_diverted_too(method: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, program, method], capture_output=True, text=True, timeout=LIMIT
    )
    assert done.stderr == ""
    *records, late = done.stdout.splitlines()
    assert records == ["INFO late number 1", "INFO late number 2"]
    assert late == ("True False" if method == "spawn" else "False False")
