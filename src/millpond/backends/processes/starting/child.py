"""What each child does first, however it was started.

Rules: bind to the parent before anything of the user's can run; the standard library's
``_bootstrap`` does the rest, so what others hook into it keeps working; a forked child leaves
through ``os._exit``.
"""

from __future__ import annotations

import atexit
import gc
import os
import pickle
import signal
import sys
from _signal import pthread_sigmask  # type: ignore[import-not-found]  # signal's wraps each answer in enums
from collections.abc import Iterable, Mapping, Sequence
from multiprocessing import popen_fork
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn

from millpond.backends.processes.starting import half_imported, main_module, payload, standard
from millpond.backends.processes.starting.outcome_file import OutcomeFile
from millpond.backends.processes.starting.returned import leave
from millpond.backends.processes.starting.terms import terms_of
from millpond.worker import place
from millpond.worker.outcome import seal_error

_RUNS_EXIT_FUNCTIONS = hasattr(popen_fork, "atexit")
"""From 3.13 on a forked child runs the exit functions that it registered itself."""


def enter(process_obj: BaseProcess, outcome: OutcomeFile | None, parent_fd: int | None) -> int:
    """Run the process in this child; its exit code."""
    terms_of(process_obj).outcome = outcome
    if outcome is not None:
        outcome.adopt()
    started: Any = process_obj
    code: int = started._bootstrap(parent_sentinel=parent_fd)
    return code


def begin_forked() -> None:
    """A forked child forgets the exit functions that it inherited, and where its parent wakes for signals."""
    signal.set_wakeup_fd(
        -1
    )  # asyncio's: a signal of this process would be taken for one of the parent's
    if _RUNS_EXIT_FUNCTIONS:
        atexit._clear()
        atexit.register(standard.util._exit_function)


def leave_forked(code: int) -> NoReturn:
    """End a forked child as the running interpreter's multiprocessing ends it."""
    try:
        if _RUNS_EXIT_FUNCTIONS:
            atexit._run_exitfuncs()
    finally:
        os._exit(code)


def wake(mask: Iterable[int], collects: bool = True) -> None:
    """A server's child begins to take signals; none that came before was for it."""
    if collects:
        gc.enable()
    pthread_sigmask(signal.SIG_SETMASK, mask)


def report() -> None:
    """Show the exception that kept the process from running."""
    sys.excepthook(*sys.exc_info())
    standard.util._flush_std_streams()


def open_payload(fd: int, fds: Sequence[int]) -> tuple[payload.Opening, bytes, OutcomeFile | None]:
    """Read what was sent; leaves at once where the parent gave the start up."""
    found = payload.read(os.fdopen(fd, "rb"))
    if found is None:
        os._exit(1)
    opening, process_pickle = found
    return opening, process_pickle, payload.receive(fds, opening)


def run_inherited(process_obj: BaseProcess, parent_fd: int | None) -> int:
    """Run a process that this child has from its parent; its exit code."""
    own = terms_of(process_obj).place
    if own is not None:
        place.take(own)
    return enter(process_obj, None, parent_fd)


def run_sent(
    opening: payload.Opening,
    process_pickle: bytes,
    outcome: OutcomeFile | None,
    parent_fd: int | None,
    inherited: Mapping[str, object] | None,
) -> int:
    """Load the process that was sent, and run it; its exit code."""
    current = standard.process.current_process()
    if outcome is not None:
        outcome.adopt()
    current._inheriting = True  # multiprocessing's mark: nothing may be started yet
    try:
        if opening["place"] is not None:
            place.take(opening["place"])
        if "preparation" in opening:
            standard.spawn.prepare(pickle.loads(opening["preparation"]))
        if opening.get("half_imported"):
            half_imported.expect(opening["half_imported"])
        if opening.get("main") is not None:
            main_module.load(opening["main"])
        elif "main" in opening:
            main_module.unload()
        process_obj = payload.unpack(process_pickle, inherited)
    except BaseException as error:
        if outcome is not None:
            leave(outcome, seal_error(error))
        raise
    finally:
        del current._inheriting
    return enter(process_obj, outcome, parent_fd)
