"""What the scheduler wants done about what happened."""

from __future__ import annotations

from typing import NamedTuple

from millpond.core.events import JobId, WorkerId


class Span(NamedTuple):
    """Tasks ``start`` to ``stop`` (exclusive) of a job."""

    job: JobId
    start: int
    stop: int


class Start(NamedTuple):
    """Start a worker with this number."""

    worker: WorkerId


class Send(NamedTuple):
    """Send a chunk; ``seq`` is the worker's number of its first task."""

    worker: WorkerId
    seq: int
    spans: list[Span]
    alone: bool = False  # one task that is under suspicion of having killed a worker


class Recall(NamedTuple):
    """Take back what the worker has not begun; answered by ``Recalled``."""

    worker: WorkerId


class Stop(NamedTuple):
    """Let the worker end after what it has."""

    worker: WorkerId


class Kill(NamedTuple):
    """End the worker now: it broke the protocol."""

    worker: WorkerId


class Settle(NamedTuple):
    """These tasks have ended. Without a cause, their outcomes are the next ones in the worker's answer."""

    job: JobId
    start: int
    stop: int
    cause: object = None


DROPPED = "dropped"
"""The cause of tasks that their caller gave up before they were sent."""

Command = Start | Send | Recall | Stop | Kill | Settle
