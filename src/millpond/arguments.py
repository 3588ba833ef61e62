"""What the methods of a Pool are given: checked, and named for messages."""

from __future__ import annotations

import operator
import weakref
from functools import partial
from typing import Any, Final

from millpond import amounts, cpus
from millpond.job import Held
from millpond.results import AsyncResult

_MOST_PROCESSES: Final = 1 << 22
"""No Linux has more."""
_MOST_AT_ONCE: Final = 1 << 62
"""Tasks: more than any call has; few enough for all that computes with them."""


def check_count(processes: Any) -> int:
    """How many workers there are to be."""
    if processes is None:
        return cpus.available()
    try:
        count = operator.index(processes)
    except TypeError:
        raise TypeError(f"processes must be an integer or None, not {processes!r}") from None
    if count < 1:
        raise ValueError("Number of processes must be at least 1")
    return amounts.whole("processes", count, 1, _MOST_PROCESSES)


def check_recycling(maxtasksperchild: Any) -> int | None:
    """Chunks that a worker takes in its life. Whatever is wrong with it is a ValueError, as in multiprocessing."""
    if maxtasksperchild is None:
        return None
    try:
        return amounts.whole("maxtasksperchild", maxtasksperchild, 1)
    except (TypeError, ValueError):
        raise ValueError("maxtasksperchild must be a positive int or None") from None


def held(result: AsyncResult[Any], wanted: bool) -> Held:
    """How the engine refers to a result: strongly only where callbacks wait for it, whoever else does."""
    return partial(_same, result) if wanted else weakref.ref(result)


def _same(result: AsyncResult[Any]) -> AsyncResult[Any]:
    return result


def check_buffersize(buffersize: Any) -> int | None:
    """Inputs that are pulled ahead."""
    if buffersize is None:
        return None
    try:
        size = operator.index(buffersize)
    except TypeError:
        raise TypeError(f"buffersize must be an integer or None, not {buffersize!r}") from None
    if size < 1:
        raise ValueError(f"buffersize must be 1 or more, or None, not {buffersize!r}")
    return min(size, _MOST_AT_ONCE)


def check_chunksize(chunksize: Any) -> int | None:
    """Tasks that are never parted."""
    if chunksize is None:
        return None
    try:
        size = operator.index(chunksize)
    except TypeError:
        raise TypeError(f"chunksize must be an integer or None, not {chunksize!r}") from None
    if size < 1:
        raise ValueError(f"Chunksize must be 1+, not {size}")
    return min(size, _MOST_AT_ONCE)


def length_of(iterable: Any) -> int | None:
    """How many inputs there are, where that can be known; a ``__len__`` that fails says nothing (tqdm's does)."""
    try:
        return len(iterable)
    except Exception:
        return None
