"""The command line of a fresh interpreter, and what it reads first.

Nothing is on it but numbers of inherited descriptors. Where to look for modules stands at the front
of the first of them, in a form that needs no import to read.
"""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from millpond.backends.processes.starting import standard

_CODE = (
    "import marshal,sys;"
    "f=open({first},'rb');sys.path[:]=marshal.load(f);"
    "from millpond.backends.processes.starting.boot import {entry};"
    "{entry}({numbers})"
)


def run(
    entry: str, orders: int, fds: Sequence[int], inherited: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
) -> int:  # fmt: skip
    """Run ``boot.entry(f, *fds)`` in a fresh interpreter, ``f`` reading ``orders``; its pid.

    ``environment``: instead of this process's own.
    """
    if getattr(sys, "frozen", False):
        from millpond.backends.processes.starting import frozen

        return frozen.run(entry, orders, fds, inherited, environment)
    numbers = ",".join(["f", *map(str, fds)])
    code = _CODE.format(first=orders, entry=entry, numbers=numbers)
    program: Any = standard.spawn.get_executable()
    flags: list[str] = standard.util._args_from_interpreter_flags()
    command = [program, *flags, "-c", code, "--multiprocessing-fork"]
    return execute(program, command, sorted({orders, *fds, *inherited}), environment)


def execute(
    program: Any, command: list[Any], fds: list[int], environment: Mapping[str, str] | None
) -> int:
    """Run a program that inherits these descriptors, and 0 to 2; its pid."""
    if environment is None:
        pid: int = standard.util.spawnv_passfds(program, command, fds)
        return pid
    import subprocess

    child = subprocess.Popen(
        command, executable=program, env=environment, pass_fds=fds, restore_signals=False
    )
    child.returncode = 0  # it is waited for by others
    return child.pid


def again() -> NoReturn:
    """Begin anew what ``run`` began."""
    frozen = sys.modules.get("millpond.backends.processes.starting.frozen")
    program, arguments = sys.executable, sys.orig_argv[1:]
    if frozen is not None and frozen.arguments() is not None:
        program, arguments = os.fsdecode(standard.spawn.get_executable()), frozen.arguments()
    os.execv(program, [program, *arguments])


def module_path() -> bytes:
    """What stands at the front of ``orders``."""
    original = standard.process.ORIGINAL_DIR
    path = [original if entry == "" else entry for entry in sys.path]
    return marshal.dumps([entry for entry in path if isinstance(entry, str)])
