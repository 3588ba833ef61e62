"""What the methods of a Pool are given: checked, and named for messages."""

from __future__ import annotations

import operator
import weakref
from functools import partial
from typing import Any

from millpond import cpus
from millpond.job import Held
from millpond.results import AsyncResult


def check_count(processes: int | None) -> int:
    if processes is None:
        return cpus.available()
    processes = operator.index(processes)
    if processes < 1:
        raise ValueError("Number of processes must be at least 1")
    return processes


def check_options(maxtasksperchild: Any, initializer: Any) -> None:
    if maxtasksperchild is not None and (
        not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0
    ):
        raise ValueError("maxtasksperchild must be a positive int or None")
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")


def held(result: AsyncResult[Any], wanted: bool) -> Held:
    """How the engine refers to a result: strongly only where callbacks wait for it, whoever else does."""
    return partial(_same, result) if wanted else weakref.ref(result)


def _same(result: AsyncResult[Any]) -> AsyncResult[Any]:
    return result


def check_buffersize(buffersize: Any) -> None:
    if buffersize is None:
        return
    if not isinstance(buffersize, int):
        raise TypeError(f"buffersize must be an integer or None, not {buffersize!r}")
    if buffersize < 1:
        raise ValueError(f"buffersize must be 1 or more, or None, not {buffersize!r}")


def check_chunksize(chunksize: int | None) -> None:
    if chunksize is not None and operator.index(chunksize) < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
