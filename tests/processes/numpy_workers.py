"""A program with NumPy: what its workers do with NumPy's threads and random numbers, as JSON.

A program of its own, so that the tests' process does not load NumPy, which every other test would inherit.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
from typing import Any

AT_IMPORT = os.environ.get("OPENBLAS_NUM_THREADS"), sorted(os.sched_getaffinity(0))

import numpy as np  # noqa: E402

import millpond  # noqa: E402


def native_threads() -> int:
    """Threads that the kernel knows of."""
    return len(os.listdir("/proc/self/task"))


def variable() -> str | None:
    """What the environment says to a library that is loaded from now on."""
    return os.environ.get("OPENBLAS_NUM_THREADS")


def threadpoolctl() -> Any:
    return importlib.import_module("threadpoolctl")


def threads(_: int = 0) -> list[int]:
    """Of each BLAS and OpenMP library."""
    return [library["num_threads"] for library in threadpoolctl().threadpool_info()]


def at_import() -> tuple[str | None, list[int]]:
    """What the main module found when it was imported."""
    return AT_IMPORT


def runs_on() -> list[int]:
    """The CPUs that this worker may use."""
    return sorted(os.sched_getaffinity(0))


def draw(_: int) -> tuple[int, float, float]:
    return os.getpid(), float(np.random.random()), random.random()


def limits(method: str, options: dict[str, Any]) -> Any:
    if "parent" in options:
        threadpoolctl().threadpool_limits(options.pop("parent"))
    if "preload" in options:
        millpond.set_forkserver_preload(options.pop("preload"))
    before = threads()
    with millpond.Pool(2, start_method=method, **options) as pool:
        info = pool.info()
        return {
            "parent": [before, threads()],
            "workers": pool.map(threads, range(4), 1),
            "native": pool.apply(native_threads),
            "at_import": pool.apply(at_import),
            "runs_on": pool.apply(runs_on),
            "variable": pool.apply(variable),
            "info": [info["share"], info["blas_threads"], info["blas_limited_by"]],
        }


def nested_threads(workers: int) -> Any:
    """What a pool in a task does about the limits that the task itself has."""
    with millpond.Pool(workers) as pool:
        return [threads(), pool.apply(threads), pool.apply(variable)]


def nested(method: str, options: dict[str, Any]) -> Any:
    with millpond.Pool(2, start_method=method, **options) as pool:
        return pool.apply(nested_threads, (4,))


def draws(method: str, options: dict[str, Any]) -> Any:
    """Each from a worker of its own: two at first, and those that replace them."""
    np.random.seed(1)
    random.seed(1)
    if options.pop("other_generator", False):
        generators: Any = np.random
        generators.set_bit_generator(generators.PCG64(1))
    with millpond.Pool(2, start_method=method, maxtasksperchild=1, **options) as pool:
        return pool.map(draw, range(6), 1)


def initialized(method: str, options: dict[str, Any]) -> Any:
    """An initializer may seed as it likes."""
    with millpond.Pool(
        1, np.random.seed, (7,), start_method=method, maxtasksperchild=1, **options
    ) as pool:
        return pool.map(draw, range(2), 1)


if __name__ == "__main__":
    what, method, options = sys.argv[1:]
    print(json.dumps(globals()[what](method, json.loads(options))))
