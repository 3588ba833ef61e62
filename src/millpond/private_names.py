"""The names of ``multiprocessing.pool.Pool`` that are private there, and that programs use all the same.

A subclass may call what is here by ``super()``; what becomes of its own versions, ``overrides`` says. The recipe
that is best known adds ``istarmap`` to ``Pool``, by what ``imap`` does there:

    result = IMapIterator(pool)
    pool._taskqueue.put((pool._guarded_task_generation(result._job, starmapstar, batches), result._set_length))
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from millpond.backends.registry import Choice
    from millpond.engine import Engine
    from millpond.unfed import Task


class PrivateNames:
    """A part of ``Pool``."""

    _processes: int
    _choice: Choice
    _engine: Engine
    _backend: Any
    _set_up_with: ClassVar[Any] = None
    """The context, while a subclass makes its queues."""

    @property
    def _ctx(self) -> Any:
        return self._set_up_with or self._choice.context

    @property
    def _pool(self) -> list[Any]:
        """The workers' processes."""
        return list(self._backend.processes)

    @property
    def _taskqueue(self) -> TaskQueue:
        return TaskQueue(self)

    @property
    def _cache(self) -> dict[int, None]:
        """As many entries as there are calls of the pool's methods that have not ended."""
        return dict.fromkeys(range(self._seen("calls")))

    def _seen(self, count: str) -> int:
        self._engine.sync()
        seen: int = self._engine.info()[count]
        return seen

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:  # noqa: N802
        """A worker's process, which is not started yet."""
        return ctx.Process(*args, **kwds)

    def _setup_queues(self) -> None:
        """``multiprocessing``'s queues, for a subclass that changes something about them."""
        self._inqueue, self._outqueue = self._ctx.SimpleQueue(), self._ctx.SimpleQueue()
        self._quick_put = self._inqueue._writer.send
        self._quick_get = self._outqueue._reader.recv

    def _repopulate_pool(self) -> None:
        self._engine.repopulate()

    @staticmethod
    def _get_tasks(
        func: Callable[..., Any], it: Iterable[Any], size: int
    ) -> Iterator[tuple[Callable[..., Any], tuple[Any, ...]]]:
        """The function with so many arguments of its, again and again."""
        source = iter(it)
        while batch := tuple(itertools.islice(source, size)):
            yield func, batch

    def _guarded_task_generation(
        self, result_job: int, func: Callable[..., Any], iterable: Iterable[Any]
    ) -> Iterator[Task]:
        """A task for each argument; what the iterable raises comes where the next one would."""
        for index, argument in enumerate(iterable):
            yield result_job, index, func, (argument,), {}


class TaskQueue:
    """What stands for the queue between a pool's methods and its threads, of which there are none here."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def qsize(self) -> int:
        """How many tasks wait for a worker."""
        waiting: int = self._pool._seen("waiting")
        return waiting

    def empty(self) -> bool:
        """Whether none does."""
        return self.qsize() == 0

    def put(self, entry: tuple[Iterable[Task], Callable[[int], None] | None]) -> None:
        """Have the tasks run, whose results go to the iterator that ``_set_length`` belongs to."""
        from millpond.unfed import Unfed

        tasks, set_length = entry
        result = getattr(set_length, "__self__", None)
        if not isinstance(result, Unfed):
            raise NotImplementedError(
                "the tasks that are put into a Pool's _taskqueue need an IMapIterator(pool) or an "
                "IMapUnorderedIterator(pool) for their results, whose _set_length is put beside them; "
                "for all else there are apply_async, map_async and starmap_async"
            )
        result.feed(tasks)
