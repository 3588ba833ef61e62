"""An ``imap`` iterator that is made before its tasks are known, as recipes for ``multiprocessing`` make it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

Task = tuple[int, int, Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""As they go through ``multiprocessing``'s queues: job, index, function, arguments, named arguments."""

_numbers = itertools.count()


class Unfed:
    """``IMapIterator(pool)``: an iterator whose tasks come through the pool's ``_taskqueue``."""

    def __init__(self, pool: Any, *, ordered: bool) -> None:
        self._call = pool.imap if ordered else pool.imap_unordered
        self._job = next(_numbers)
        self._results: Any = None

    def feed(self, tasks: Iterable[Task]) -> None:
        """These are its tasks."""
        self._results = self._call(_run, (task[2:] for task in tasks))

    def next(self, timeout: float | None = None) -> Any:
        """The next result, as an iterator of ``imap`` has it."""
        if self._results is None:
            raise RuntimeError(
                "no tasks have been put into the pool's _taskqueue for this iterator"
            )
        return self._results.next(timeout)

    def __next__(self) -> Any:
        return self.next()

    def __iter__(self) -> Unfed:
        return self

    def _set_length(self, length: int) -> None:
        """Said to no end: the length is where the tasks end."""


def _run(task: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> Any:
    function, args, kwds = task
    return function(*args, **kwds)
