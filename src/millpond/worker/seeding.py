"""Random numbers of tasks: in a call with a seed, each task has a stream of its own.

Rules of this module:

1. A task's numbers depend on its call's seed and its index in the call, and on nothing else: no worker, chunk,
   retry, start method, platform or version of Python.
2. Every task has ``rng()``, found through a context variable. ``random`` and NumPy's legacy generator are one
   each for the whole process: they are seeded only where no other task of the process runs meanwhile, and are
   given back as they were.
3. NumPy is imported only for a task that may use it; that it is missing matters to ``rng()`` alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar, Token
from functools import cache
from typing import TYPE_CHECKING, Any

from millpond.errors import ExtraMissing

if TYPE_CHECKING:
    from numpy.random import Generator

Seed = tuple[int, ...]


class Stream:
    """What ``rng()`` gives in one task, made when it is first asked for."""

    __slots__ = ("_generator", "_index", "_pid", "_seed")

    def __init__(self, seed: Seed, index: int) -> None:
        self._seed = seed
        self._index = index
        self._pid = os.getpid()
        self._generator: Generator | None = None

    def here(self) -> bool:
        """Whether this is the task's process, and not a fork of it, which must not draw the same numbers."""
        return self._pid == os.getpid()

    def generator(self, numpy_random: Any) -> Generator:
        """The task's Generator, always the same one."""
        if self._generator is None:
            sequence = numpy_random.SeedSequence(self._seed, spawn_key=(self._index,))
            self._generator = numpy_random.Generator(numpy_random.PCG64(sequence))
        return self._generator


_stream: ContextVar[Stream | None] = ContextVar("millpond_stream", default=None)


def rng() -> Generator:
    """The running task's own NumPy ``Generator``, in a call with ``seed=``; the same object for the whole task.

    It is ``Generator(PCG64(SeedSequence(seed, spawn_key=(index,))))``, where ``index`` counts the inputs of the
    call from 0 (``apply``: 0), so its numbers are the same for any number of workers, chunk size, start method
    and retry. Found through a ``contextvars`` context: coroutines have their own each, and a thread that the
    task starts has none; hand it the Generator.

    Outside a task, and in a call without ``seed=``, each call gives a new Generator seeded by the operating
    system (about 20 us). Raises ExtraMissing where NumPy is not installed.
    """
    try:
        import numpy.random as numpy_random
    except ModuleNotFoundError as missing:
        if missing.name != "numpy":
            raise
        raise ExtraMissing(
            "millpond.rng() needs NumPy, which is not installed: pip install 'millpond[numpy]'"
        ) from None
    stream = _stream.get()
    if stream is None or not stream.here():
        return numpy_random.default_rng()
    return stream.generator(numpy_random)


def begin(seed: Seed, index: int) -> Token[Stream | None]:
    """From here on ``rng()`` gives the task's own Generator, in this context."""
    return _stream.set(Stream(seed, index))


class Seeded:
    """A function that is called as the tasks of a seeded call, one after another.

    ``index`` tells which task it is now. ``alone``: no other task of this process runs meanwhile, so that
    ``random`` and NumPy's legacy generator may be seeded; the caller has ``Borrowed`` them. About 25 us a task
    then, else 2.
    """

    __slots__ = ("_alone", "_function", "_index", "_seed")

    def __init__(
        self, function: Callable[..., Any], seed: Seed, index: Callable[[], int], alone: bool
    ) -> None:
        self._function = function
        self._seed = seed
        self._index = index
        self._alone = alone

    def __call__(self, *args: Any, **kwds: Any) -> Any:
        index = self._index()
        if self._alone:
            _seed_globals(self._seed, index)
        token = begin(self._seed, index)
        try:
            return self._function(*args, **kwds)
        finally:
            _stream.reset(token)


class Borrowed:
    """A context in which tasks may seed the process's generators; on leaving, they are as they were.

    Imports NumPy where it is installed: a task may be the first that does. About 0.1 ms, and the import.
    """

    def __enter__(self) -> None:
        import random

        self._stream = _stream.get()
        self._state = random.getstate()
        legacy = _legacy()
        if legacy is not None:
            self._bits = legacy.get_bit_generator()
            self._legacy_state = legacy.get_state(legacy=False)

    def __exit__(self, *_: object) -> None:
        import random

        _stream.set(self._stream)  # a Ctrl-C may have come before the task's own ``finally``
        random.setstate(self._state)
        legacy = _legacy()
        if legacy is not None:
            if legacy.get_bit_generator() is not self._bits:
                legacy.set_bit_generator(self._bits)  # the task put another there
            legacy.set_state(self._legacy_state)


def _seed_globals(seed: Seed, index: int) -> None:
    import random
    from hashlib import sha512

    words = " ".join(f"{number:x}" for number in (*seed, index))
    digest = sha512(f"millpond {words}".encode()).digest()
    random.seed(int.from_bytes(digest[:32], "little"))
    legacy = _legacy()
    if legacy is not None:
        legacy.seed([int.from_bytes(digest[at : at + 4], "little") for at in range(32, 64, 4)])


@cache
def _legacy() -> Any:
    """The module of NumPy's legacy generator; None where NumPy is not installed, or broken."""
    try:
        import numpy.random as legacy
    except Exception:
        return None
    return legacy
