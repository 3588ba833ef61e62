"""What the workers of the simulated world are given to do, and what each task should come to.

Every task has a number that says what it does; what it does is decided by the one who submits it. A task's
value is its own name, so that an answer which reached the wrong task is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from millpond.core.policy import NO_LIMITS, Limits
from millpond.testing.simulation_worker import current_worker
from millpond.worker.codec import MAP
from millpond.worker.conduct import Conduct, Conducted

# What a task may do.
INSTANT, SHORT, MEDIUM, LONG, RAISE, RICH, LARGE, REFUSED, DIE, DIE_DECODING, DIE_ENCODING, HANG = (
    range(12)
)
HARMLESS = (INSTANT, SHORT, MEDIUM, LONG, RAISE, RICH, LARGE, REFUSED)
DEADLY = (DIE, DIE_DECODING, DIE_ENCODING)

_SECONDS = {INSTANT: 0.0, SHORT: 5e-6, MEDIUM: 0.0015, LONG: 0.03, HANG: 1e9}
_LARGE = 1 << 17
_EXIT = 7


class Argument:
    """An argument that does something when it is unpickled."""

    def __init__(self, job: int, index: int, deed: int) -> None:
        self.job = job
        self.index = index
        self.deed = deed

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        worker = current_worker()
        worker.world.observer.unpickled(worker, self.job, self.index)
        worker.strand.step()
        if self.deed == DIE_DECODING:
            worker.die(_EXIT)


class Parcel:
    """A value that is not plain."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Parcel) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


class Unsendable:
    """A value that cannot be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")


class Poison:
    """A value that ends its worker when it is pickled."""

    def __reduce__(self) -> Any:
        current_worker().die(_EXIT)
        raise AssertionError("a dead worker goes on")


class Chore:
    """The function of a simulated job: called in a worker with the number of a task and what it shall do."""

    def __init__(self, job: int) -> None:
        self.job = job

    def __call__(self, argument: Any) -> Any:
        if isinstance(argument, Argument):
            index, deed = argument.index, argument.deed
        else:
            index, deed = divmod(argument, 16)
        worker = current_worker()
        observer = worker.world.observer
        observer.began(worker, self.job, index)
        worker.strand.step()
        value = self._perform(index, deed)
        worker.strand.step()
        return value

    def _perform(self, index: int, deed: int) -> Any:
        worker = current_worker()
        if deed == DIE:
            worker.die(_EXIT)
        elif deed in (INSTANT, SHORT):
            worker.world.clock.advance(_SECONDS[deed])
        elif deed in (MEDIUM, LONG, HANG):
            worker.world.sleep(_SECONDS[deed])
        return _VALUES.get(deed, _plain)((self.job, index))


def _plain(task: tuple[int, int]) -> Any:
    return "{}:{}".format(*task)


def _raise(task: tuple[int, int]) -> Any:
    raise ValueError(*task)


_VALUES: dict[int, Callable[[tuple[int, int]], Any]] = {
    RAISE: _raise,
    RICH: Parcel,
    LARGE: lambda task: _plain(task) * _LARGE,
    REFUSED: lambda _: Unsendable(),
    DIE_ENCODING: lambda _: Poison(),
}


def expected(job: int, index: int, deed: int) -> Any:
    """The value that a task comes to, or the name of the exception's class."""
    if deed == RAISE:
        return "ValueError"
    if deed == REFUSED:
        return "MaybeEncodingError"
    return _VALUES.get(deed, _plain)((job, index))


class SimulatedJob:
    """A job whose tasks are known by what they shall do; it may grow."""

    style = MAP
    apart = False
    reordered = False

    renewal = 0

    def place(self, index: int) -> int:
        return index

    def __init__(
        self, number: int, grain: int, plain: bool, encode: Callable[[Any], Any], limits: Limits
    ) -> None:
        self.id = number
        self.limited = limits != NO_LIMITS
        self.grain = self.slice = 1 if self.limited else grain  # each task is on the slate
        self.limits = limits
        self.plain = plain  # tasks travel as numbers, else as ``Argument``
        conduct = Conduct(retry_on=(ValueError,) if limits.retries else ())
        self.function = encode(Conducted(Chore(number), conduct) if self.limited else Chore(number))
        self.cancelled: set[int] = set()
        self.spared: set[int] = set()  # nobody wants these if they have not begun
        self.deeds: list[int] = []
        self.settled: set[int] = set()
        self.growing = False
        self.dropped = False
        self.forgotten = False

    @property
    def left(self) -> int:
        """Tasks that have not ended."""
        return len(self.deeds) - len(self.settled)

    def arguments(self, start: int, stop: int) -> Sequence[Any]:
        """As a backend asks for them."""
        if self.plain:
            return [index * 16 + self.deeds[index] for index in range(start, stop)]
        return [Argument(self.id, index, self.deeds[index]) for index in range(start, stop)]

    def refuse(self, index: int, error: BaseException) -> None:
        """Every argument here can be pickled."""
        raise AssertionError(f"task {index} of job {self.id} was refused") from error
