"""The command line of a fresh interpreter, and what it reads first.

Nothing is on it but numbers of inherited descriptors. Where to look for modules stands at the front
of the first of them, in a form that needs no import to read.
"""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from millpond.backends.processes.starting import standard

_CODE = (
    "import marshal,sys;"
    "f=open({first},'rb');sys.path[:]=marshal.load(f);"
    "from millpond.backends.processes.starting.boot import {entry};"
    "{entry}({numbers})"
)


def run(entry: str, orders: int, fds: Sequence[int], inherited: Sequence[int] = ()) -> int:
    """Run ``boot.entry(f, *fds)`` in a fresh interpreter, ``f`` reading ``orders``; its pid."""
    if getattr(sys, "frozen", False):
        from millpond.backends.processes.starting import frozen

        return frozen.run(entry, orders, fds, inherited)
    numbers = ",".join(["f", *map(str, fds)])
    code = _CODE.format(first=orders, entry=entry, numbers=numbers)
    program: Any = standard.spawn.get_executable()
    flags: list[str] = standard.util._args_from_interpreter_flags()
    command = [program, *flags, "-c", code, "--multiprocessing-fork"]
    pid: int = standard.util.spawnv_passfds(program, command, sorted({orders, *fds, *inherited}))
    return pid


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
