"""``imap`` and ``imap_unordered`` as jobs: see ``job``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from operator import length_hint
from typing import Any, Final

from millpond.core.ordering import Arrival, Ordering
from millpond.core.policy import Policy
from millpond.core.weights import Weights
from millpond.inputs import Inputs
from millpond.job import Job
from millpond.parking import Parking
from millpond.worker.outcome import Error, Mixed, Sealed

UNREAD: Final = 64 << 20
"""Bytes of unread results, or of inputs that wait, with which no more input is pulled."""

AHEAD: Final = 1024
"""Inputs a worker that are pulled ahead, at most."""


class StreamJob(Job):
    """``imap`` and ``imap_unordered``: input comes bit by bit, and so do results; both are bounded.

    ``inputs`` is added to by a feeder and read by the driver. Indexes count from the first input.
    """

    streaming = True

    def __init__(self, function: Any, name: str, style: int, grain: int, ordered: bool) -> None:
        super().__init__(function, name, grain, grain)
        self.style = style
        self.results: Ordering = Ordering() if ordered else Arrival()
        self.inputs = Inputs()
        self.pulled = 0  # inputs that the feeder has put in ``inputs``
        self.submitted = 0  # of these, known to the scheduler
        self.ended = False  # no more input will come
        self.failure: BaseException | None = None  # what the input raised at its end
        self.left = False  # nobody wants the rest
        self.hungry = True  # the driver has seen all input there was
        self.wanted = False  # somebody waits for a result
        self.held_since: float | None = None  # when input began to wait for more
        self.starving = False  # the feed stopped for want of room
        self.bound = 0  # inputs pulled ahead of the last result taken, at most
        self.fixed_bound: int | None = None  # the caller's ``buffersize``
        self.mixed = False  # not all outcomes were values that stand as they are
        self.batch: Iterator[Any] = iter(())  # results that are being taken
        self.unread_bytes = 0
        self.unread_limit = UNREAD
        self.result_size = 0.0  # bytes a result, lately
        self.weights = Weights()  # of its inputs
        self.least = 2  # inputs that may be pulled ahead, however large
        self.puller: int | None = None  # the thread whose event loop pulls the input
        self.changed = Parking()
        self.refill: Callable[[], None] = _nothing  # pulls input in the driver, where that is safe
        self.resume: Callable[[], None] = _nothing  # goes on pulling after there was no room

    @property
    def over(self) -> bool:
        if self.left:
            return self.settled == self.submitted
        return (self.ended and self.settled == self.submitted == self.pulled) or self.withdrawn

    def deserted(self) -> bool:
        """Whether no more input is wanted."""
        return self.withdrawn or self.left

    def fresh(self) -> int:
        """Inputs that the scheduler may be told of: whole chunks only, until the input has ended."""
        count = 0 if self.left else self.pulled - self.submitted
        return count if self.ended else count - count % self.grain

    def room(self) -> int:
        """How many more inputs may be pulled."""
        if self.unread_bytes > self.unread_limit or self.left:
            return 0
        if self.weights.waiting > UNREAD and self.pulled - self.settled >= self.least:
            return 0
        return self.bound - (self.pulled - self.results.released + self.unread())

    def unread(self) -> int:
        """How many results nobody has taken yet."""
        return len(self.results.ready) + length_hint(self.batch)

    def widen(self, cost: float | None, policy: Policy) -> None:
        """Set the bound: four chunks a worker, but never over ``AHEAD`` inputs, or what the caller said."""
        self.least = max(self.least, (policy.workers + 1) * self.unit)
        if self.fixed_bound is not None:
            self.bound = max(self.bound, self.fixed_bound)
            return
        chunk = 1.0 if not cost else policy.target / cost
        ahead = max(self.unit, min(4 * max(chunk, self.unit), AHEAD), 2 * self.limits.slots)
        ahead *= policy.workers
        if self.result_size * ahead > UNREAD:
            self.bound = max(self.unit * policy.workers, int(UNREAD / self.result_size))
        else:
            self.bound = max(self.bound, int(ahead))

    def lift(self) -> None:
        """No bounds any more."""
        self.wanted = True
        self.fixed_bound = self.bound = self.least = 1 << 62
        self.unread_limit = 1 << 62

    def has_room(self) -> bool:
        """Whether it is worth while to go on pulling."""
        return self.room() >= max(1, self.bound // 4)

    def arguments(self, start: int, stop: int) -> Sequence[Any]:
        return self.inputs.read(start, stop)

    def _settle(self, start: int, batch: list[Any]) -> None:
        self.inputs.let_go(start, start + len(batch))
        if self.weights:
            self.weights.settle(range(start, start + len(batch)))
            if self.starving and self.room() > 0:
                self.starving = False
                self.resume()
        if self.left:
            return
        if type(batch) is Mixed:
            self.mixed = True
            for index, outcome in enumerate(batch, start):
                if type(outcome) is Sealed:
                    outcome.index = index
        if type(batch) is Mixed or type(batch[0]) in _SIZED:
            size = sum(map(weight, batch))
            self.unread_bytes += size
            self.result_size = size / len(batch)
        self.results.put(start, batch)
        if self.ended:
            self.finish()
        self.changed.wake()

    def finish(self) -> None:
        """The input has ended: it is known how much there was. Deliver its error behind the last result, once."""
        self.total = self.pulled
        if self.failure is not None and self.settled == self.submitted == self.pulled:
            self.mixed = True
            self.results.put(self.pulled, Mixed([InputError(self.failure)]))
            self.failure = None

    @property
    def exhausted(self) -> bool:
        """Whether no more results will come."""
        return self.left or (self.over and self.failure is None and not self.unread())

    def leave(self) -> None:
        """Nobody wants the rest."""
        self.left = True
        self.results.ready.clear()
        deque(self.batch, 0)
        self.resume()

    def withdraw(self) -> None:
        self.withdrawn = True
        self.resume()
        self.changed.wake()


class InputError(Error):
    """What the input raised: it is no task's error, whatever is done about those."""

    __slots__ = ()


_SIZED = (bytes, str)


def weight(outcome: Any) -> int:
    """About how many bytes an unread outcome holds."""
    if type(outcome) is Sealed:
        return len(outcome.data)
    return len(outcome) if type(outcome) in _SIZED else 0


def _nothing() -> None:
    """No input that a driver may pull."""
