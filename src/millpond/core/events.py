"""What can happen to a pool, as plain facts.

Ids travel here, never payloads: a job and a worker are numbers, a task is its index in its job. A worker
numbers the tasks it is given, from 0 on; ``seq`` below is such a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from millpond.core.policy import NO_LIMITS, Limits

JobId = int
WorkerId = int


class Opened(NamedTuple):
    """The pool exists: its workers are wanted."""


class Submitted(NamedTuple):
    """``count`` more tasks of a job; they continue its numbering."""

    job: JobId
    count: int  # type: ignore[assignment]  # a tuple has a method of that name
    grain: int = 1  # tasks that may not be parted: an explicit chunksize
    limits: Limits = NO_LIMITS


class Sized(NamedTuple):
    """What the tasks of a job weigh on the wire, in bytes a task."""

    job: JobId
    size: float


class Forgotten(NamedTuple):
    """Every task of the job has ended and no more will come."""

    job: JobId


class Ready(NamedTuple):
    """A worker has started and can take tasks."""

    worker: WorkerId


class Done(NamedTuple):
    """A worker answered its next ``count`` tasks, from ``seq`` on, which took it ``seconds``.

    ``again`` has the offsets of those that failed in a way in which another run may help.
    """

    worker: WorkerId
    seq: int
    count: int  # type: ignore[assignment]  # a tuple has a method of that name
    seconds: float
    again: Sequence[int] = ()


class Ended(NamedTuple):
    """Coroutines in a worker have ended, in any order; ``again`` as in ``Done``."""

    worker: WorkerId
    seqs: Sequence[int]
    again: Sequence[int] = ()


class Lost(NamedTuple):
    """A worker ended, and every answer that it sent has been handled.

    It was in tasks ``first`` to ``stop`` (exclusive, by its own numbers; none if they are equal): it had
    finished those before and not begun those after. ``failed`` says that it never got ready.
    Coroutines before ``reach`` had begun. ``meant`` says that it was killed by order.
    ``detail`` is not read here: it comes back in ``Settle`` for whoever writes the error.
    """

    worker: WorkerId
    first: int
    stop: int
    detail: object = None
    failed: bool = False
    hopeless: bool = False  # starting another would end the same way (its initializer raised)
    meant: bool = False
    reach: int = 0


class Recalled(NamedTuple):
    """A worker will not begin its tasks from ``seq`` on; they are free for others.

    It has been in the task that it is in for ``elapsed`` seconds. ``number`` says which recall of this worker
    is answered, from 1 on: an answer that comes late or twice must not be taken for the next one's. 0: none does.
    """

    worker: WorkerId
    seq: int
    elapsed: float = 0.0
    number: int = 0


class Dropped(NamedTuple):
    """The caller no longer wants what has not been sent of a job."""

    job: JobId


class Cancelled(NamedTuple):
    """The caller no longer wants these tasks, even if they run."""

    job: JobId
    start: int
    stop: int


class Spared(NamedTuple):
    """The caller no longer wants this task if no worker has begun it. Answered by ``Settle`` or ``Begun``."""

    job: JobId
    index: int  # type: ignore[assignment]  # a tuple has a method of that name


class Requeued(NamedTuple):
    """These tasks were answered in a way that asks for another run."""

    job: JobId
    start: int
    stop: int


class Closing(NamedTuple):
    """No more tasks will come; workers may go once all have ended."""


class Repopulated(NamedTuple):
    """Somebody asked for the pool to be brought to its full number of workers."""


class Ticked(NamedTuple):
    """Time passed."""


Event = (
    Opened | Submitted | Sized | Forgotten | Ready | Done | Ended | Lost | Recalled | Dropped
    | Cancelled | Spared | Requeued | Closing | Repopulated | Ticked
)  # fmt: skip
