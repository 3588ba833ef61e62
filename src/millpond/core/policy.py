"""Options of a pool, parsed once and frozen.

A tuple, not a dataclass: importing ``dataclasses`` costs as much as half of millpond.
"""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """What a job's tasks may take, and how often they may be tried."""

    timeout: float | None = None
    """Seconds that a task may run."""
    retries: int = 0
    """Runs after the first that a failed task may have."""
    backoff: float = 0.0
    """Seconds before the second run; twice as long before each further one, and jittered."""
    after_death: bool = False
    """A task may run again whose worker died in it."""
    after_timeout: bool = False
    """A task may run again that took too long."""
    slots: int = 0
    """Coroutines of the job that a worker holds at once; 0: the tasks are no coroutines."""


NO_LIMITS = Limits()


class Policy(NamedTuple):
    """What a scheduler may decide. Times are seconds, sizes bytes."""

    workers: int = 1
    max_chunks: int | None = None
    """Chunks that a worker takes in its life (``maxtasksperchild``)."""
    at_most_once: bool = False
    """Never run a task again, even if only its answer was lost."""
    starts: int = 3
    """Failures to start, one after another, after which the pool gives up if no worker was ever ready."""
    restarts: int = 30
    """The same if one was: then something kills them from outside, and may stop."""

    target: float = 0.004
    """Work that a chunk should hold: long enough to hide a message's cost, short enough to balance."""
    horizon: float = 0.002
    """A worker with less work than this before it gets its next chunk already."""
    wake: float = 50e-6
    """What it takes to wake an idle worker; for less work than this none is woken."""
    growth: int = 16
    """How much larger than the last chunk of its job a chunk may be."""
    chunk_bytes: int = 1 << 20
    """What a chunk should weigh at most, and what may wait in a worker's channel."""
    cpus: int = 1
    """CPUs that this process and its workers may use."""
    blink: float = 60e-6
    """An outcome that is due sooner is looked out for without sleeping, while a CPU is free: to be woken takes
    about as long."""
    patience: float = 0.005
    """A task that runs this long has the tasks behind it taken back if a worker is idle."""
