"""CPython's own tests of executors, from the running interpreter, turned onto `PoolExecutor`.

Rules: nothing of CPython's is kept here or changed on disk; in an interpreter of its own, the
executors of `concurrent.futures` are replaced before its test modules are imported. What is left
out is listed below, each with its reason. A test over its limit ends that interpreter.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.compat import sessions
from tests.compat.cpython_suite import Report, read_report

FAMILIES = ("ProcessPoolFork", "ProcessPoolForkserver", "ProcessPoolSpawn", "ThreadPool")
TOPICS = ("AsCompleted", "Deadlock", "Initializer", "PoolExecutor", "Shutdown", "Wait")
"""Parts of the names of its test classes."""
TEST_LIMIT = 60
CHILD = Path(__file__).with_name("cpython_executors_child.py")


class LeftOut(NamedTuple):
    """A test, or classes by a part of their name, that are not run for some families, or all."""

    test: str
    reason: str
    families: tuple[str, ...] = FAMILIES


_AT_ONCE = "a pool starts all of its workers at once, not on demand"
_ITS_OWN = "that task alone ends, with its own error; there the whole executor breaks"
_CONSTRUCTOR = "of the constructor: an executor on a pool has none with such arguments"
LEFT_OUT = (
    LeftOut("FailingInitializer", "InitializerError, from each result; the executor has no broken state"),
    LeftOut("test_cancel_futures", "whether a call has begun by then is chance; see test_executor.py"),
    LeftOut("test_default_workers", _CONSTRUCTOR),
    LeftOut("test_del_shutdown", "a pool ends with close or terminate, not when its executor is dropped"),
    LeftOut("test_error_at_task_unpickle", _ITS_OWN),
    LeftOut("test_error_during_result_pickle_on_worker", "MaybeEncodingError, as in multiprocessing"),
    LeftOut("test_error_during_result_unpickle_in_result_handler", _ITS_OWN),
    LeftOut("test_exit_at_task_unpickle", "TaskAborted: a task cannot end the caller's program"),
    LeftOut("test_exit_during_func_exec_on_worker", "TaskAborted, as above"),
    LeftOut("test_exit_during_result_pickle_on_worker", "MaybeEncodingError, as in multiprocessing"),
    LeftOut("test_exit_during_result_unpickle_in_result_handler", _ITS_OWN),
    LeftOut("test_gh105829_should_not_deadlock_if_wakeup_pipe_full", "of the standard library's pipe"),
    LeftOut("test_idle_process_reuse_multiple", _AT_ONCE),
    LeftOut("test_idle_process_reuse_one", _AT_ONCE),
    LeftOut("test_idle_thread_reuse", _AT_ONCE),
    LeftOut("test_killed_child", "a worker that dies does not break the executor; see test_executor.py"),
    LeftOut("test_max_tasks_per_child", "a pool may recycle forked workers too", FAMILIES[:1]),
    LeftOut("test_max_tasks_per_child_defaults_to_spawn_context", _CONSTRUCTOR),
    LeftOut("test_max_workers_negative", _CONSTRUCTOR),
    LeftOut("test_processes_terminate", _AT_ONCE, FAMILIES[1:3]),
    LeftOut("test_python_finalization_error", "of the standard library's own threads"),
    LeftOut("test_thread_names_assigned", _CONSTRUCTOR),
    LeftOut("test_thread_names_default", "a pool's threads have names of their own"),
    LeftOut("test_threads_terminate", _AT_ONCE),
)  # fmt: skip


def present() -> bool:
    """Whether the interpreter carries its tests; some are built without these."""
    try:
        return importlib.util.find_spec("test.test_concurrent_futures") is not None
    except ModuleNotFoundError:
        return False


def run(folder: Path, topic: str, family: str) -> Report:
    """Run a family's classes of one topic to their end, in an interpreter of their own."""
    out = folder / f"{topic}-{family}.jsonl"
    left_out = [entry.test for entry in LEFT_OUT if family in entry.families]
    path = [str(CHILD.parent), *(p for p in sys.path if p)]
    # Warnings as the interpreter has them, whatever they are in the run around this one.
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(path), PYTHONWARNINGS="ignore")
    command = [sys.executable, str(CHILD), family, topic, str(out), str(TEST_LIMIT), *left_out]
    with open(f"{out}.stdio", "wb") as stdio:
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=stdio, stderr=stdio,
            start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(150)
        finally:
            sessions.end(process)
    said = Path(f"{out}.stdio").read_text(errors="replace")[-4000:]
    return read_report(out, status, said)
