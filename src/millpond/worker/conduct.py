"""How a job's tasks are run, where that is not the plain way; it travels with the job's function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Conduct(NamedTuple):
    """What a worker has to know of a job's options."""

    retry_on: tuple[type[BaseException], ...] = ()
    """After an exception of these classes a task may be run again."""
    seed: tuple[int, ...] | None = None
    """Entropy of the tasks' random streams; a task's index in its call tells its own from the others'."""
    slots: int = 0
    """The function is a coroutine function, and a worker runs at most so many at once."""
    timeout: float | None = None
    """Seconds that a coroutine may take; other tasks are watched by the parent."""


class Conducted(NamedTuple):
    """A function and how it is to be called."""

    function: Callable[..., Any]
    conduct: Conduct
