"""What a backend is: how workers exist, and nothing else.

A backend carries out what the scheduler ordered and reports what happened. It decides nothing: order, retry,
limits and progress are settled above it, once for all. Its own methods are called by one thread at a time, the
driver; ``info``, ``processes`` and those of ``packing`` and ``bells`` by any. A worker's reports come in the
order of its numbers, ``Lost`` last; nothing comes after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol

from millpond.core.commands import Span
from millpond.core.events import Event, WorkerId
from millpond.worker.frames import Buffer
from millpond.worker.printed import Printed


class Work(Protocol):
    """A job, as a backend sees it."""

    id: int
    style: int
    slice: int  # how many of its tasks may run as one
    renewal: int  # tasks for which one copy of its function serves, that may not be parted; 0: all
    function: Any  # as it was packed
    apart: bool  # each argument has a pickle of its own
    reordered: bool  # its tasks do not run in the order of the call

    def arguments(self, start: int, stop: int) -> Sequence[Any]: ...
    def place(self, index: int) -> int: ...  # in the call
    def refuse(self, index: int, error: BaseException) -> None: ...


class Logged(NamedTuple):
    """A worker logged a record (``worker.records``), or printed."""

    body: Buffer | Printed


class Report(NamedTuple):
    """Something happened; ``batch`` has the outcomes that came with it."""

    event: Event | Logged
    batch: list[Any] | None = None


class Cause(Protocol):
    """Why tasks ended without an outcome of their own (``Lost.detail``)."""

    def error(self, work: Work, index: int) -> BaseException: ...
    def bystander(self, work: Work, index: int) -> BaseException: ...  # of a coroutine not to blame


class WorkerInfo(NamedTuple):
    """A worker as ``Pool.info()`` shows it."""

    pid: int | None
    running: (
        tuple[int, float] | None
    )  # the number of the task that it is in, and for how many seconds
    memory: int | None  # bytes resident
    sandbox: dict[str, Any] | None = None  # what it says that it gave up, once it is ready


class Outside(Protocol):
    """The context in which the driver calls code of the user's, which may use the pool."""

    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...

    # For what a worker has to do before all else: it is given nothing more meanwhile.
    def of(self, worker: WorkerId) -> AbstractContextManager[None]: ...


class Nowhere(nullcontext[None]):
    """Without a driver."""

    def of(self, worker: WorkerId) -> AbstractContextManager[None]:
        """As in ``Outside``."""
        return self


class Packing(Protocol):
    """How functions and arguments are kept until they are sent. Each may raise what pickling raises."""

    outside: Outside

    def function(self, function: Any) -> Any: ...
    def argument(self, style: int, argument: Any, function: Any = None) -> Any: ...
    def keeps(self, function: Any) -> bool: ...  # packed once, it stays good
    def renews(
        self, function: Any, packed: Any
    ) -> bool: ...  # it may keep state: see ``Work.renewal``
    def by_value(self, function: Any) -> Any: ...  # for a worker that cannot import it


class Bells(Protocol):
    """How other threads get the attention of the two that wait: in ``poll``, and the caretaker."""

    def wake(self) -> None: ...  # end a poll; any thread, or a signal handler
    def rest(self, contended: bool) -> None: ...  # the caretaker, until ``rouse`` or a worker's end
    def rouse(self) -> None: ...  # any thread
    def release(self) -> None: ...  # nobody waits any more


class Backend(Protocol):
    """See the module."""

    packing: Packing
    bells: Bells
    kills: bool  # whether ``recall`` can end a task that runs

    # Posts Ready, later Lost. Raises OSError.
    def start(self, worker: WorkerId) -> None: ...
    # Never blocks; returns the bytes that were encoded.
    def send(self, worker: WorkerId, seq: int, work: Sequence[tuple[Work, Span]]) -> int: ...
    # A worker that is in one of the tasks ``unwanted``, for ``limit`` seconds at least, is killed: posts
    # Lost, with ``meant``. Else posts Recalled, always, unless Lost comes first.
    # ``anyhow``: a worker that is between two tasks gives back what it has, too.
    def recall(
        self,
        worker: WorkerId,
        unwanted: Sequence[tuple[int, int]] = (),
        limit: float = 0.0,
        anyhow: bool = False,
    ) -> None: ...
    # Coroutines that need not go on; each is answered all the same.
    def cancel(self, worker: WorkerId, seqs: Sequence[int]) -> None: ...
    # No more of this job.
    def forget(self, work: Work) -> None: ...
    # After its last chunk; it need not be ready yet.
    def stop(self, worker: WorkerId) -> None: ...
    # Now. Raises CannotKill.
    def kill(self, worker: WorkerId) -> None: ...
    # ``brisk``: something is due at once, and it pays to look out for it before going to sleep.
    def poll(self, timeout: float | None, brisk: bool = False) -> Sequence[Report]: ...
    def info(self, worker: WorkerId) -> WorkerInfo: ...
    # The first task that it has not begun, as far as can be seen; any thread may ask.
    def unbegun(self, worker: WorkerId) -> int: ...
    # Every worker is gone when it returns what they had logged. Raises CannotKill.
    def close(self, grace: float) -> Sequence[Report]: ...
    @property
    def processes(self) -> Sequence[Any]: ...  # for ``Pool._pool``
