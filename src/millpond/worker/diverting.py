"""Sees to it that a worker's log records go to the parent (``records``) once there is something to divert.

Importing ``logging`` takes a spawned worker a tenth of its start, so it is left to the program: what has been
imported is diverted at once, what has not as soon as it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    import logging

    from millpond.worker.channel import WorkerChannel

Pack = Callable[["logging.LogRecord"], bytes]


class Levels(NamedTuple):
    """What the parent's loggers let pass."""

    disabled: int  # ``logging.disable``
    loggers: tuple[tuple[str, int, bool], ...]  # name ("": the root), level, propagate


def divert(channel: WorkerChannel, levels: Levels | None, pack: Pack | None = None) -> None:
    """From now on records go to the parent, whose loggers' levels are these (None: inherited).

    ``pack`` makes bytes of a record (default: ``records.pack``).
    """
    if "logging" in sys.modules:
        _divert(channel, levels, pack)
    else:
        sys.meta_path.insert(0, _Awaited(partial(_divert, channel, levels, pack)))


def _divert(channel: WorkerChannel, levels: Levels | None, pack: Pack | None) -> None:
    from millpond.worker import records

    records.divert(channel, levels, pack or records.pack)


class _Awaited:
    """Finds ``logging`` as the other finders do (PEP 451), and calls ``then`` once it has been executed.

    Only in this process: a copy that a task forks logs as if nothing were done here.
    """

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then
        self._pid = os.getpid()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "logging" or os.getpid() != self._pid:
            return None
        for finder in list(sys.meta_path):
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = cast("Any", _Telling(spec.loader, self._found))
                return spec
        return None

    def _found(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
            if os.getpid() == self._pid:
                self._then()


class _Telling:
    """A loader that tells when it has executed its module, in which it leaves no trace."""

    def __init__(self, loader: Any, then: Callable[[], None]) -> None:
        self._loader = loader
        self._then = then

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._then()
