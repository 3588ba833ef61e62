"""What is compared: everything that can open a pool, each with the verbs of ``multiprocessing.Pool``.

A library with other verbs enters by an adapter that uses it the way its documentation says; what it has no verb
for raises ``NotOffered``, and its cell in the table stays empty. One that is not installed takes no part.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from dataclasses import dataclass
from importlib import import_module
from typing import Any

START_METHODS = ("fork", "forkserver", "spawn")


class NotOffered(Exception):
    """A contender has nothing that does this."""


class ExecutorPool:
    """An executor of ``concurrent.futures``' kind, with a pool's verbs."""

    def __init__(self, executor: Any, **at_once: bool) -> None:
        self._executor = executor
        self._at_once = at_once  # how its shutdown is told to be quick

    def apply(self, func: Callable[..., Any], args: Iterable[Any] = ()) -> Any:
        return self._executor.submit(func, *args).result()

    def apply_async(self, func: Callable[..., Any], args: Iterable[Any] = ()) -> Any:
        return Result(self._executor.submit(func, *args))

    def map(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        return list(self._executor.map(func, iterable, chunksize=chunksize or 1))

    def imap(self, func: Callable[..., Any], iterable: Iterable[Any]) -> Iterator[Any]:
        yield from self._executor.map(func, iterable)

    def imap_unordered(self, func: Callable[..., Any], iterable: Iterable[Any]) -> Iterator[Any]:
        pending = [self._executor.submit(func, x) for x in iterable]
        return (future.result() for future in futures.as_completed(pending))

    def close(self) -> None:
        self._executor.shutdown(wait=True)

    def terminate(self) -> None:
        self._executor.shutdown(wait=True, **self._at_once)

    def join(self) -> None:
        pass


@dataclass
class Result:
    """A future, with the verb of an ``AsyncResult``."""

    future: Any

    def get(self) -> Any:
        return self.future.result()


class JoblibPool:
    """``Parallel``, which has a way to map and no way to submit."""

    def __init__(self, workers: int) -> None:
        joblib = import_module("joblib")
        self._workers, self._parallel, self._delayed = workers, joblib.Parallel, joblib.delayed

    def _call(
        self, func: Callable[..., Any], iterable: Iterable[Any], batch: int | str, **options: Any
    ) -> Any:
        parallel = self._parallel(n_jobs=self._workers, batch_size=batch, **options)
        task = self._delayed(func)
        return parallel(task(x) for x in iterable)

    def apply(self, func: Callable[..., Any], args: Iterable[Any] = ()) -> Any:
        return self._parallel(n_jobs=self._workers)([self._delayed(func)(*args)])[0]

    def apply_async(self, func: Callable[..., Any], args: Iterable[Any] = ()) -> Any:
        raise NotOffered

    def map(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        return list(self._call(func, iterable, chunksize or "auto"))

    def imap(self, func: Callable[..., Any], iterable: Iterable[Any]) -> Iterator[Any]:
        yield from self._call(func, iterable, "auto", return_as="generator")

    def imap_unordered(self, func: Callable[..., Any], iterable: Iterable[Any]) -> Iterator[Any]:
        yield from self._call(func, iterable, "auto", return_as="generator_unordered")

    def close(self) -> None:
        import_module("joblib.externals.loky").get_reusable_executor().shutdown(wait=True)

    terminate = close

    def join(self) -> None:
        pass


class MpirePool:
    """``WorkerPool``, kept alive from call to call."""

    def __init__(self, workers: int, method: str, initializer: Any, initargs: Any) -> None:
        if initializer is not None:
            raise NotOffered  # its initializers run once a call
        self._pool = import_module("mpire").WorkerPool(
            workers, start_method=method, keep_alive=True
        )

    def apply(self, func: Callable[..., Any], args: Iterable[Any] = ()) -> Any:
        return self._pool.apply(func, tuple(args))

    def apply_async(self, func: Callable[..., Any], args: Iterable[Any] = ()) -> Any:
        return self._pool.apply_async(func, tuple(args))

    def map(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> Any:
        return self._pool.map(func, list(_single(iterable)), chunk_size=chunksize)

    def imap(self, func: Callable[..., Any], iterable: Iterable[Any]) -> Any:
        return self._pool.imap(func, _single(iterable))

    def imap_unordered(self, func: Callable[..., Any], iterable: Iterable[Any]) -> Any:
        return self._pool.imap_unordered(func, _single(iterable))

    def close(self) -> None:
        self._pool.stop_and_join()

    def terminate(self) -> None:
        self._pool.terminate()

    def join(self) -> None:
        pass


def _single(arguments: Iterable[Any]) -> Iterator[Any]:
    """For mpire, which takes a tuple for several arguments."""
    return ((one,) if type(one) is tuple else one for one in arguments)


class PebblePool:
    """``ProcessPool``."""

    def __init__(self, workers: int, method: str, initializer: Any, initargs: Any) -> None:
        import multiprocessing

        self._pool = import_module("pebble").ProcessPool(
            workers, initializer=initializer, initargs=list(initargs),
            context=multiprocessing.get_context(method),
        )  # fmt: skip

    def apply(self, func: Callable[..., Any], args: Iterable[Any] = ()) -> Any:
        return self._pool.schedule(func, args=list(args)).result()

    def apply_async(self, func: Callable[..., Any], args: Iterable[Any] = ()) -> Any:
        return Result(self._pool.schedule(func, args=list(args)))

    def map(
        self, func: Callable[..., Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        return list(self._pool.map(func, iterable, chunksize=chunksize or 1).result())

    def imap(self, func: Callable[..., Any], iterable: Iterable[Any]) -> Iterator[Any]:
        yield from self._pool.map(func, iterable).result()

    def imap_unordered(self, func: Callable[..., Any], iterable: Iterable[Any]) -> Iterator[Any]:
        raise NotOffered

    def close(self) -> None:
        self._pool.close()

    def terminate(self) -> None:
        self._pool.stop()

    def join(self) -> None:
        self._pool.join()


@dataclass(frozen=True)
class Contender:
    """A library by its name, and how it opens a pool."""

    name: str
    module: str
    _open: Callable[[int, str, Any, Any], Any]
    methods: tuple[str, ...] = START_METHODS

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    def open(
        self, workers: int, method: str | None = None, initializer: Any = None, initargs: Any = ()
    ) -> Any:
        """A pool of so many workers; the method is the contender's first if none is named."""
        method = method or self.methods[0]
        if method not in self.methods:
            raise NotOffered
        return self._open(workers, method, initializer, initargs)


def _multiprocessing(workers: int, method: str, initializer: Any, initargs: Any) -> Any:
    import multiprocessing

    return multiprocessing.get_context(method).Pool(workers, initializer, initargs)


def _millpond(workers: int, method: str, initializer: Any, initargs: Any) -> Any:
    import millpond

    return millpond.Pool(workers, initializer, initargs, start_method=method)


def _executor(workers: int, method: str, initializer: Any, initargs: Any) -> Any:
    import multiprocessing

    context = multiprocessing.get_context(method)
    return ExecutorPool(
        futures.ProcessPoolExecutor(
            workers, mp_context=context, initializer=initializer, initargs=initargs
        ),
        cancel_futures=True,
    )


def _loky(workers: int, method: str, initializer: Any, initargs: Any) -> Any:
    return ExecutorPool(
        import_module("loky").ProcessPoolExecutor(
            workers, initializer=initializer, initargs=initargs
        ),
        kill_workers=True,
    )


def _joblib(workers: int, method: str, initializer: Any, initargs: Any) -> Any:
    if initializer is not None:
        raise NotOffered
    return JoblibPool(workers)


def _ray(workers: int, method: str, initializer: Any, initargs: Any) -> Any:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray = import_module("ray")
    if not ray.is_initialized():
        ray.init(
            num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
            object_store_memory=4 << 30,
        )  # fmt: skip
    return import_module("ray.util.multiprocessing").Pool(workers, initializer, initargs)


BASELINE = Contender("multiprocessing", "multiprocessing", _multiprocessing)
CONTENDERS = (
    BASELINE,
    Contender("millpond", "millpond", _millpond),
    Contender("ProcessPoolExecutor", "concurrent.futures", _executor),
    Contender("loky", "loky", _loky, ("loky",)),
    Contender("joblib", "joblib", _joblib, ("loky",)),
    Contender("mpire", "mpire", MpirePool),
    Contender("pebble", "pebble", PebblePool),
    Contender("ray", "ray", _ray, ("ray",)),
)
