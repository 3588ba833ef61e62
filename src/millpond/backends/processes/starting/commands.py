"""The command line of a fresh interpreter, and what it reads first.

Nothing is on it but numbers of inherited descriptors. Where to look for modules stands at the front of
the first of them, in a form that needs no import to read.
"""

from __future__ import annotations

import marshal
import sys
from collections.abc import Sequence
from multiprocessing import process, spawn, util

_CODE = (
    "import marshal,sys;"
    "f=open({first},'rb');sys.path[:]=marshal.load(f);"
    "from millpond.backends.processes.starting.boot import {entry};"
    "{entry}({numbers})"
)


def run(entry: str, orders: int, fds: Sequence[int], inherited: Sequence[int] = ()) -> int:
    """Run ``boot.entry(f, *fds)`` in a fresh interpreter, ``f`` reading ``orders``; its pid."""
    numbers = ",".join(["f", *map(str, fds)])
    code = _CODE.format(first=orders, entry=entry, numbers=numbers)
    program = spawn.get_executable()  # type: ignore[attr-defined]
    flags: list[str] = util._args_from_interpreter_flags()  # type: ignore[attr-defined]
    command = [program, *flags, "-c", code, "--multiprocessing-fork"]
    pid: int = util.spawnv_passfds(  # type: ignore[attr-defined]
        program, command, sorted({orders, *fds, *inherited})
    )
    return pid


def module_path() -> bytes:
    """What stands at the front of ``orders``."""
    original = process.ORIGINAL_DIR  # type: ignore[attr-defined]
    path = [original if entry == "" else entry for entry in sys.path]
    return marshal.dumps([entry for entry in path if isinstance(entry, str)])
