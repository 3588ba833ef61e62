"""What a subclass of ``Pool`` overrides of ``multiprocessing.pool.Pool``'s own, beneath its public methods.

Honoured: ``Process``, which makes the workers; ``_setup_queues``, whose queues pickle what travels. Everything
else belongs to threads and loops that a millpond pool has not: one warning, when the pool is made, names it.
"""

from __future__ import annotations

import copy
import itertools
import os
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing import synchronize
from typing import Any, Final

from millpond.backends.registry import Start
from millpond.worker import queued

_NEVER_CALLED: Final = (
    "_get_sentinels", "_get_worker_sentinels", "_guarded_task_generation", "_handle_results", "_handle_tasks",
    "_handle_workers", "_help_stuff_finish", "_join_exited_workers", "_maintain_pool", "_map_async",
    "_repopulate_pool", "_repopulate_pool_static", "_terminate_pool", "_wait_for_updates", "_wrap_exception",
)  # fmt: skip
"""What ``multiprocessing``'s pool asks of itself, or of its class, and this one does not."""
_numbers = itertools.count()


class Overrides:
    """Of the class of one pool, which is about to be made."""

    def __init__(self, pool: Any, base: type) -> None:
        self._pool = pool
        self._base = base
        self._ignored = [name for name in _NEVER_CALLED if self._has(name)]

    def _has(self, name: str) -> bool:
        theirs = getattr(type(self._pool), name, None)
        return theirs is not getattr(self._base, name, None)

    def started(self, start: Start, *, processes: bool, sandbox: bool) -> Start:
        """How workers start, with what can be honoured. ``processes``: they are; ``sandbox``: they have one."""
        names = [name for name in ("Process", "_setup_queues") if self._has(name)]
        if not processes:
            self._ignored += names
            return start
        if "_setup_queues" in names:
            if sandbox:  # whose workers send nothing that is unpickled
                self._ignored.append("_setup_queues")
            else:
                start = start._replace(queues=self._set_up(start.context))
        if "Process" in names:
            start = start._replace(
                context=self._making(start.context), served=self._making(start.served)
            )
        return start

    def _making(self, context: Any) -> Any:
        """The context, of which the subclass makes the processes."""
        made = copy.copy(context)
        made.Process = partial(self._pool.Process, context)
        return made

    def _set_up(self, context: Any) -> str | None:
        """Have the subclass make its queues; under which key they are known, None if they cannot be used."""
        pool = self._pool
        private = copy.copy(context)
        private.Lock = private.RLock = queued.PrivateLock
        private.get_context = lambda method=None: private
        pool._set_up_with = private
        try:
            pool._setup_queues()
        finally:
            del pool._set_up_with
        return self._register(pool, pool._inqueue, pool._outqueue)

    def _register(self, pool: Any, inqueue: Any, outqueue: Any) -> str | None:
        if not (_usable(inqueue) and _usable(outqueue)):
            self._ignored.append(
                "_setup_queues (whose queues are not pipes with locks of their context)"
            )
            return None
        put = getattr(pool, "_quick_put", inqueue.put)
        get = getattr(pool, "_quick_get", outqueue.get)
        key = f"{os.getpid()}-{next(_numbers)}"
        pool._queues = queued.Queues(inqueue._writer, put, outqueue._reader, get)
        pool._queues.use(key)
        return key

    def initializer(
        self, queues: str, initializer: Callable[..., object] | None
    ) -> Callable[..., object]:
        """What each worker calls first, so that it has the queues."""
        return queued.Equipment(queues, self._pool._inqueue, self._pool._outqueue, initializer)

    def warn(self, stacklevel: int) -> None:
        """Say what is not honoured."""
        if self._ignored:
            name = type(self._pool).__qualname__
            warnings.warn(
                f"{name} overrides {', '.join(self._ignored)}: millpond's Pool works without, so the pool is "
                "made as if it did not; use multiprocessing.pool.Pool as its base where that matters",
                RuntimeWarning,
                stacklevel=stacklevel,
            )


def _usable(queue: Any) -> bool:
    """Whether what the queue pickles can be had from it, and nothing in it is shared by processes."""
    locks = (getattr(queue, "_rlock", None), getattr(queue, "_wlock", None))
    if any(isinstance(lock, synchronize.SemLock) for lock in locks):
        return False
    try:
        return bool(min(queue._reader.fileno(), queue._writer.fileno()) > 2)
    except (AttributeError, OSError):
        return False
