"""Sees to it that a worker's log records go to the parent (``records``) once there is something to divert.

Importing ``logging`` takes a spawned worker a tenth of its start, so it is left to the program: what has been
imported is diverted at once, what has not as soon as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import logging

    from millpond.worker.channel import WorkerChannel

    Pack = Callable[[logging.LogRecord], bytes]


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
    """Finds ``logging`` as ever (PEP 451), and calls ``then`` when it has been executed."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "logging":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self._then()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
