"""What a fork server imports before it serves, so that its children need not.

Rules: what ``set_forkserver_preload`` named, else what the parent has imported, and its main module where
that has a guard (one without would run the program); a module that cannot be imported is left out without
a word; one that leaves a Python thread running is found out and left out of a second try, since a fork
would copy the locks that the thread holds.
"""

from __future__ import annotations

import importlib
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from millpond.backends.processes.starting import (
    commands,
    half_imported,
    main_module,
    standard,
)
from millpond.backends.processes.starting.outcome_file import write_at
from millpond.system.files import unnamed_file

_MAIN = "__main__"
_DEFAULT = [_MAIN]
_MOST_DROPPED = 5

_at_work = False  # importing what was ordered


def orders(preload: Sequence[str] | None, parent: int, tracker: int) -> int:
    """The file that a fork server reads when it boots."""
    quiet, main = False, False
    if preload is None:
        preload, quiet, main = _chosen()
        main = main and not half_imported.names() and main_module.guarded()
    facts = {
        "preload": list(preload),
        "quiet": quiet,
        "parent": parent,
        "tracker": tracker,
        "main": main_module.source() if main else None,
        "argv": sys.argv,
    }
    fd = unnamed_file("millpond-server")
    _write(fd, facts)
    return fd


def _write(fd: int, facts: dict[str, Any]) -> None:
    os.ftruncate(fd, 0)
    write_at(fd, commands.module_path() + pickle.dumps(facts), 0)
    os.lseek(fd, 0, os.SEEK_SET)


def _chosen() -> tuple[list[str], bool, bool]:
    """What the user named, else our own choice, which is to be quiet; and whether the main module is wanted."""
    named = standard.preload_modules()
    if named != _DEFAULT:
        return [name for name in named if name != _MAIN], False, _MAIN in named
    return imported(), True, True


def imported() -> list[str]:
    """The modules of this process that another could import, in the order of their import."""
    names = []
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if name.startswith("__m") or spec is None or spec.loader is None or spec.name != name:
            continue
        if getattr(spec, "_initializing", False):
            continue  # it may be what makes the pool: the server would make one, too
        if spec.origin in ("built-in", "frozen") or spec.has_location:
            names.append(name)
    return names


class NotHere(BaseException):
    """Ends the import of a module that wants a process while a server imports it."""


def check() -> None:
    """End an import of this server's that wants a pool or a process: those who need it are the children."""
    if _at_work:
        raise NotHere


def read(file: BinaryIO) -> dict[str, Any]:
    """In the server: its orders."""
    facts: dict[str, Any] = pickle.load(file)
    return facts


def carry_out(facts: dict[str, Any], orders_fd: int, alive: Callable[[bool], None]) -> None:
    """In the server: import what was ordered, saying ``alive`` now and then, and whether silence follows.

    Begins again, in a new image of the process, without a module that left a thread.
    """
    global _at_work
    silence = _Silence() if facts["quiet"] else None
    said = time.monotonic()
    current = standard.process.current_process()
    _at_work = current._inheriting = True  # multiprocessing's mark: nothing may be started yet
    try:
        for name in facts["preload"]:
            if name in sys.modules:
                continue
            _import(name)
            if threading.active_count() > 1:
                _begin_again(name, facts, orders_fd, silence)
            if time.monotonic() - said > 1.0:
                alive(False)
                said = time.monotonic()
        if facts["main"] is not None:
            alive(True)  # it may compute for as long as it likes
            _import_main(facts["main"], facts["argv"])
            if threading.active_count() > 1:
                _begin_again(_MAIN, facts, orders_fd, silence)
            alive(False)
    finally:
        _at_work = False
        del current._inheriting
        if silence is not None:
            silence.end()


def _begin_again(without: str, facts: dict[str, Any], fd: int, silence: _Silence | None) -> None:
    _drop(without, facts)
    _write(fd, facts)
    if silence is not None:
        silence.end()
    commands.again()


def _drop(name: str, facts: dict[str, Any]) -> None:
    """Leave the module out, and its submodules; after some of these, leave out everything."""
    if name == _MAIN:
        facts["main"] = None
        return
    facts["dropped"] = facts.get("dropped", 0) + 1
    left = [other for other in facts["preload"] if not f"{other}.".startswith(f"{name}.")]
    facts["preload"] = left if facts["dropped"] < _MOST_DROPPED else []


def _import(name: str) -> None:
    try:
        importlib.import_module(name)
    except BaseException:  # a module may even exit
        pass


def _import_main(source: main_module.Source, argv: list[str]) -> None:
    """The main module, whole; else each child tries it by itself, and shows what is wrong."""
    process = standard.process.current_process()
    before, process.name = process.name, "ForkServer"
    own, sys.argv = sys.argv, list(argv)
    try:
        main_module.load(source)
    except BaseException:  # it may even exit
        pass
    finally:
        sys.argv, process.name = own, before


class _Silence:
    """Nothing that is imported again writes on the program's output."""

    def __init__(self) -> None:
        self._saved = [(fd, os.dup(fd)) for fd in (1, 2)]
        nothing = os.open(os.devnull, os.O_WRONLY)
        for fd, _ in self._saved:
            os.dup2(nothing, fd)
        os.close(nothing)

    def end(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, ValueError, OSError):
                pass
        for fd, saved in self._saved:
            os.dup2(saved, fd)
            os.close(saved)
        self._saved = []
