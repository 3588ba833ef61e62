"""What the scheduler wants done about what happened."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Take back what the worker has not begun; answered by ``Recalled``.

    But if it is in one of the tasks ``unwanted`` (ranges of its numbers), and has been for ``limit`` seconds,
    it is to be killed instead: then ``Lost`` comes.
    """

    worker: WorkerId
    unwanted: Sequence[tuple[int, int]] = ()
    limit: float = 0.0
    anyhow: bool = False  # of a worker that is between two tasks, too


class Abandon(NamedTuple):
    """These coroutines in the worker need not go on; each is answered all the same."""

    worker: WorkerId
    seqs: Sequence[int]


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
    blamed: bool = True  # for a worker's death; the others were only in its company


class Begun(NamedTuple):
    """This task, which nobody wanted if it had not begun, has begun, or ended, or nobody can know."""

    job: JobId
    index: int  # type: ignore[assignment]  # a tuple has a method of that name


class Retry(NamedTuple):
    """This task failed and will run again; if it was ``answered``, the next outcome is of no use."""

    job: JobId
    index: int  # type: ignore[assignment]  # a tuple has a method of that name
    answered: bool


DROPPED = "dropped"
"""The cause of tasks that their caller gave up before they were sent."""

Command = Start | Send | Recall | Abandon | Stop | Kill | Settle | Begun | Retry
