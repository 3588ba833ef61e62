"""Programs that are frozen (PyInstaller and the like): their executable runs the program and no ``-c``.

    the program:   [executable, "--multiprocessing-fork", "tracker_fd=None", "pipe_handle=9"]
    its copy:      freeze_support()  ->  multiprocessing.spawn reads a pickle from 9  ->  boot.py

Rules: the command line is multiprocessing's, so its ``freeze_support`` and those that freezers put in its place
know it, too; a copy that comes to its first pool or process without having called ``freeze_support`` becomes
there what it was started for, so no program starts itself without end.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from millpond.backends.processes.starting import commands, standard
from millpond.backends.processes.starting.outcome_file import write_at
from millpond.system.files import unnamed_file

_HELPERS = tuple(
    f"{front}from multiprocessing.{name} import main"
    for front in ("", "import sys; ")
    for name in ("resource_tracker", "forkserver")
)
"""How the code begins that multiprocessing has run by ``-c``."""

_again: list[str] | None = None  # once this process has become what it was started for


def is_frozen() -> bool:
    """Whether this program's executable is the program."""
    return bool(getattr(sys, "frozen", False))


class _Call:
    """Unpickled, it calls ``boot.thawed``."""

    def __init__(self, *args: Any) -> None:
        self._args = args

    def __reduce__(self) -> tuple[Any, ...]:
        from millpond.backends.processes.starting import boot

        return boot.thawed, self._args


def run(
    entry: str, orders: int, fds: Sequence[int], inherited: Sequence[int],
    environment: Mapping[str, str] | None,
) -> int:  # fmt: skip
    """``commands.run`` in a frozen program."""
    call = unnamed_file("millpond-frozen")
    try:
        write_at(call, pickle.dumps(_Call(entry, call, orders, tuple(fds))), 0)
        command = standard.spawn.get_command_line(tracker_fd=None, pipe_handle=call)
        passed = sorted({call, orders, *fds, *inherited})
        program = standard.spawn.get_executable()
        return commands.execute(program, command, passed, environment)
    finally:
        os.close(call)


def note(call: int) -> None:
    """This process becomes what it was started for."""
    global _again
    _again = sys.argv[1:]
    os.lseek(call, 0, os.SEEK_SET)  # to be read once more by a server that begins again


def arguments() -> list[str] | None:
    """Those that this process was started with to become what it is; None where they were not of this kind."""
    return _again


def support() -> None:
    """``freeze_support``: become what multiprocessing or millpond started this process for, if they did."""
    if not is_frozen() or _again is not None:
        return
    code = _helper(sys.argv)
    if code is not None:
        exec(code, {"__name__": "__main__"})
        sys.exit()
    standard.spawn.freeze_support()


def check() -> None:
    """What a program that did not call ``freeze_support`` comes to with its first pool or process."""
    try:
        support()
    except SystemExit as end:
        _leave(end.code)


def _helper(argv: Sequence[str]) -> str | None:
    """The code that multiprocessing wants run, where that is what this process was started for."""
    if "-c" not in argv[1:-1]:
        return None
    at = argv.index("-c", 1)
    code = argv[at + 1]
    flags: list[str] = standard.util._args_from_interpreter_flags()
    return code if code.startswith(_HELPERS) and set(argv[1:at]) <= set(flags) else None


def _leave(code: Any) -> NoReturn:
    """End as the interpreter ends, without what the program has around its pool (``finally``, ``except``)."""
    import atexit

    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        standard.util._flush_std_streams()
    finally:
        os._exit(code if isinstance(code, int) else int(code is not None))
