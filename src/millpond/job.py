"""One call of a Pool method: its tasks, where their outcomes go, and who waits.

Rules: a job is changed by whoever drives the engine, and only there; what other threads read (``ready``, a
count, a deque) is changed by single stores. Nothing here runs the user's code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan
from typing import Any, ClassVar, Final, Protocol

from millpond import errors
from millpond.core.policy import NO_LIMITS, Limits
from millpond.worker.codec import CALL, GONE, STAR
from millpond.worker.outcome import VALUE, Error, Mixed, Sealed

SLICE: Final = 1 << 20
"""Calls of which as many may run as one slice as are short enough."""


class Receiver(Protocol):
    """What a call's outcome is given to, once."""

    def settle(self, outcome: Any) -> None: ...
    def claim(self) -> bool: ...
    def withdraw(self) -> None: ...
    def dropped(self) -> None: ...  # nobody wanted it, and it will never run
    def begun(self) -> None: ...  # it cannot be taken back


ABSENT: Final = object()
"""Stands for an outcome that did not come before its call was over."""


Held = Callable[[], Receiver | None]
"""A weak reference to a receiver: a pool whose results nobody holds may be collected, busy or not."""


class Job:
    """What every kind of job has. ``grain`` is multiprocessing's chunk, ``unit`` what may not be parted,
    ``slice`` how many tasks may run as one.
    """

    style: int = CALL
    streaming: ClassVar[bool] = False  # whether its input comes bit by bit
    on_error: str | None = None
    fail_fast = False
    limits: Limits = NO_LIMITS
    withdrawn = False  # the pool was terminated
    total: int | None = None  # tasks, where that is known
    settled = 0  # tasks that have ended
    failed = 0  # of these, with an error
    apart = False
    renewal = (
        0  # multiprocessing's chunk, where the function may keep state within it, and not beyond
    )
    reordered = False  # tasks do not run in the order of the call
    retried = 0  # runs that were not the last of their task

    def __init__(self, function: Any, name: str, grain: int = 1, unit: int = 1) -> None:
        self.id = -1  # given by the engine
        self.function = function  # as the backend prepared it
        self.name = name
        self.grain = self.slice = grain
        self.unit = unit
        self.source: Any = None  # the function itself
        self.missed: set[int] = set()  # tasks that met a worker without it, and were sent again
        self.unsendable = ""  # why the function could not be sent by value either
        self.shared = False  # kept when it is over, for more to come
        self._refused: dict[int, BaseException] = {}

    @property
    def over(self) -> bool:
        """Whether every task has ended and no more will come."""
        raise NotImplementedError

    def arguments(self, start: int, stop: int) -> Sequence[Any]:
        """The arguments of tasks, raw or as the backend prepared them."""
        raise NotImplementedError

    def place(self, index: int) -> int:
        """Where the task that is the so many-th to run stands in the call."""
        return index

    def refuse(self, index: int, error: BaseException) -> None:
        """The argument of a task cannot be sent; whatever is answered for it, this is its outcome."""
        if not isinstance(error, Exception):  # which would end the caller's program
            text = errors.escape(f"pickling an argument raised {type(error).__name__}")
            aborted = errors.TaskAborted(text)
            aborted.__cause__ = error
            error = aborted
        self._refused[index] = error

    def settle(self, start: int, batch: list[Any]) -> None:
        """The tasks from ``start`` on have these outcomes."""
        if self._refused:
            batch = Mixed(batch)
            for index in range(start, start + len(batch)):
                if index in self._refused:
                    batch[index - start] = Error(self._refused.pop(index))
        self.settled += len(batch)
        if type(batch) is Mixed:
            self.failed += errors_in(batch)
        self._settle(start, batch)

    def _settle(self, start: int, batch: list[Any]) -> None:
        raise NotImplementedError

    def dropped(self, start: int, stop: int) -> None:
        """These tasks, which nobody wants, will never run; their outcomes come next."""

    def begun(self, index: int) -> None:
        """This task, which nobody wanted if it had not begun, cannot be taken back."""

    def withdraw(self) -> None:
        """The pool was terminated: whoever waits is told."""
        raise NotImplementedError


Call = tuple["CallStream", Held, Any]
"""One call as it waits in the engine's inbox, and in its stream: with its receiver and its arguments."""


class CallStream(Job):
    """Calls of one function, each with a receiver of its own (``apply`` and ``apply_async``)."""

    def __init__(self, function: Any, name: str) -> None:
        super().__init__(function, name)
        self.slice = SLICE
        self.count = 0  # calls so far
        self._calls: dict[int, Call] = {}  # those that have not ended
        self._claimed = 0  # calls before this one have been asked for
        self._kept: set[Receiver] = set()  # cancelled: they have yet to say so when they are asked

    @property
    def over(self) -> bool:
        return not self._calls

    @property
    def unanswered(self) -> int:
        """Calls that have not ended."""
        return len(self._calls)

    def add(self, calls: list[Call]) -> None:
        """More calls."""
        self._calls.update(enumerate(calls, self.count))
        self.count += len(calls)

    def keep(self, receiver: Receiver) -> None:
        """The receiver was cancelled before its call was sent, and nobody else may hold it. Any thread."""
        self._kept.add(receiver)

    def arguments(self, start: int, stop: int) -> Sequence[Any]:
        calls = self._calls
        for index in range(max(start, self._claimed), stop):
            _, held, _ = calls[index]
            receiver = held()
            if receiver is not None and not receiver.claim():
                calls[index] = self, held, GONE  # it was cancelled
        self._claimed = max(self._claimed, stop)
        return [calls[index][2] for index in range(start, stop)]

    def _settle(self, start: int, batch: list[Any]) -> None:
        take = self._calls.pop
        for index, outcome in enumerate(batch, start):
            receiver = take(index)[1]()
            if receiver is not None:
                if self._kept:
                    self._kept.discard(receiver)
                receiver.settle(outcome)

    def dropped(self, start: int, stop: int) -> None:
        for index in range(start, stop):
            receiver = self._calls[index][1]()
            if receiver is not None:
                receiver.dropped()

    def begun(self, index: int) -> None:
        call = self._calls.get(index)
        receiver = None if call is None else call[1]()
        if receiver is not None:
            receiver.begun()

    def index_of(self, receiver: Receiver) -> int | None:
        """Which call's receiver this is; None if that has ended. Any thread may ask."""
        for index, (_, held, _) in list(self._calls.items()):
            if held() is receiver:
                return index
        return None

    def withdraw(self) -> None:
        self.withdrawn = True
        for _, held, _ in self._calls.values():
            receiver = held()
            if receiver is not None:
                receiver.withdraw()
        self._calls.clear()
        self._kept.clear()


class MapJob(Job):
    """``map`` and ``starmap``: all tasks are known, the receiver gets the list of their outcomes."""

    def __init__(
        self, function: Any, name: str, style: int, inputs: Sequence[Any], grain: int, unit: int
    ) -> None:
        super().__init__(function, name, grain, unit)
        self.style = style
        self.inputs: Sequence[Any] = inputs
        self.total = self.left = len(inputs)
        self.plain = True  # every outcome is a plain value
        self.outcomes: list[Any] = [ABSENT] * len(inputs)
        self.ending = False  # the others are being given up
        self.failed_fast = False  # an error has ended it before the last outcome
        self.receiver: Held = _nobody

    @property
    def over(self) -> bool:
        return self.left == 0

    def keep(self, receiver: Receiver) -> None:
        """As for a call: the receiver was cancelled before any task was sent, and has yet to say so."""
        self.receiver = lambda: receiver

    def arguments(self, start: int, stop: int) -> Sequence[Any]:
        receiver = self.receiver()
        if receiver is not None and not receiver.claim():
            return [GONE] * (stop - start)  # it was cancelled
        return self.inputs[start:stop]

    def _settle(self, start: int, batch: list[Any]) -> None:
        if type(batch) is Mixed:
            self.plain = False
        self.left -= len(batch)
        if self.left == 0:
            self.inputs = ()
        if self.failed_fast:
            return
        self._keep(start, batch)
        self.failed_fast = self.fail_fast and self.failed > 0
        if self.left == 0 or self.failed_fast:
            receiver = self.receiver()
            if receiver is not None:
                receiver.settle(self)

    def _keep(self, start: int, batch: list[Any]) -> None:
        self.outcomes[start : start + len(batch)] = batch

    def withdraw(self) -> None:
        self.withdrawn = True
        self.inputs = ()
        receiver = self.receiver()
        if receiver is not None:
            receiver.withdraw()


class ReorderedJob(MapJob):
    """A map that begins with the tasks of the highest ``cost``: longest processing time first (Graham, "Bounds on
    multiprocessing timing anomalies", SIAM J. Appl. Math. 17, 1969).
    """

    reordered = True

    def __init__(
        self, function: Any, name: str, style: int, inputs: Sequence[Any], grain: int, unit: int,
        cost: Callable[..., Any],
    ) -> None:  # fmt: skip
        costs = [cost(*item) if style == STAR else cost(item) for item in inputs]
        if any(isinstance(one, float) and isnan(one) for one in costs):
            raise ValueError("cost= gave nan for a task, by which nothing can be ordered")
        self._order = sorted(range(len(inputs)), key=costs.__getitem__, reverse=True)
        given = [inputs[index] for index in self._order]
        super().__init__(function, name, style, given, grain, unit)

    def place(self, index: int) -> int:
        return self._order[index]

    def _keep(self, start: int, batch: list[Any]) -> None:
        for index, outcome in enumerate(batch, start):
            self.outcomes[self._order[index]] = outcome


def errors_in(batch: list[Any]) -> int:
    """How many of the outcomes are errors."""
    return sum(
        type(outcome) is Error or (type(outcome) is Sealed and outcome.tag != VALUE)
        for outcome in batch
    )


def _nobody() -> None:
    """No receiver."""
