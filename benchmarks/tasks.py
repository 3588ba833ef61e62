"""The functions that the pools run; nearly all do next to nothing, so what is measured is the pool."""

from __future__ import annotations

import time
from typing import Any


def successor(number: int) -> int:
    """A task with a small argument and a small result."""
    return number + 1


def length(content: Any) -> int:
    """A task with a big argument."""
    return len(content)


def zeros(size: int) -> Any:
    """A task with a big result, an array of bytes."""
    import numpy as np

    return np.zeros(size, np.uint8)


def item(array: Any, index: int) -> int:
    """A task with a big object bound to it."""
    return int(array[index])


def sleep(seconds: float) -> float:
    """A task that waits."""
    time.sleep(seconds)
    return seconds


def spin(seconds: float) -> float:
    """A task that computes for so long a CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return seconds


_held: Any = None


def hold(array: Any) -> None:
    """An initializer that keeps a big object."""
    global _held
    _held = array


def held(index: int) -> int:
    """A task that looks into it."""
    return int(_held[index])
