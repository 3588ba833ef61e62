"""What is compared: everything that can open a pool with ``multiprocessing.Pool``'s verbs.

A library with other verbs enters by an adapter that offers those of ``AnyPool``; what it has no
verb for raises ``NotOffered``, and its cell in the table stays empty.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context as standard_context
from typing import Any, Protocol

from millpond import get_context as millpond_context

StartMethod = str


class NotOffered(Exception):
    """A contender has nothing that does this."""


class AnyResult(Protocol):
    """What ``apply_async`` gives back."""

    def get(self, timeout: float | None = None) -> Any: ...


class AnyPool(Protocol):
    """The verbs that the benchmarks use."""

    def apply(self, func: Callable[..., Any], args: Iterable[Any] = ()) -> Any: ...

    def apply_async(self, func: Callable[..., Any], args: Iterable[Any] = ()) -> AnyResult: ...

    def map(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]: ...

    def imap(self, func: Callable[..., Any], iterable: Iterable[Any]) -> Iterator[Any]: ...

    def imap_unordered(
        self, func: Callable[..., Any], iterable: Iterable[Any]
    ) -> Iterator[Any]: ...

    def close(self) -> None: ...

    def terminate(self) -> None: ...

    def join(self) -> None: ...


@dataclass(frozen=True)
class Contender:
    """A library by its name, and how it opens a pool of so many workers."""

    name: str
    open: Callable[[int, StartMethod], AnyPool]


def _open_standard(workers: int, start_method: StartMethod) -> AnyPool:
    pool: AnyPool = standard_context(start_method).Pool(workers)
    return pool


def _open_millpond(workers: int, start_method: StartMethod) -> AnyPool:
    pool: AnyPool = millpond_context(start_method).Pool(workers)
    return pool


BASELINE = Contender("multiprocessing", _open_standard)
CONTENDERS = (BASELINE, Contender("millpond", _open_millpond))
