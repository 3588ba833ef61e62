"""Functions that may keep state from one call to the next: made anew for each of multiprocessing's chunks.

multiprocessing pickles a call's function with each chunk of it, so what a task changes in a bound method's object
or in a partial's arguments is seen by the tasks of its chunk and by no others, however many workers there are.
Here it is the same, though the function is sent to a worker once: it is unpickled there for each such chunk. Large
buffers are not copied for that: each copy maps the same pages, and what it writes stays its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic_ns
from typing import Any

from millpond.worker import main_namespace
from millpond.worker.codec import Part, decode_argument
from millpond.worker.conduct import Conducted
from millpond.worker.frames import Buffer
from millpond.worker.parcels import Parcel


class Renewed:
    """A job's function as it was sent, for which ``take`` gives a copy that nobody has called yet.

    The first is made at once: raises what unpickling it raises.
    """

    __slots__ = ("_conducted", "_data", "_first", "_grain", "_taken")

    def __init__(self, data: Buffer | Parcel, grain: int) -> None:
        # Of its own: a view would keep the frame that it came in.
        self._data = data.kept() if type(data) is Parcel else bytes(data)
        self._grain = grain
        self._taken = 0  # when the last copy was
        self._first = [self._loaded()]
        self._conducted = type(self._first[0]) is Conducted

    def take(self) -> Any:
        """A copy, when the one before is no longer used. Raises what unpickling it raises."""
        copy = self._first.pop() if self._first else self._again()
        self._taken = monotonic_ns()
        return copy

    def _again(self) -> Any:
        main_namespace.renewing = True
        try:
            return self._loaded()
        finally:
            main_namespace.renewing = False

    @property
    def alone(self) -> bool:
        """Whether each task has a copy, and needs nothing else."""
        return self._grain == 1 and not self._conducted

    def call(self, *args: Any, **kwds: Any) -> Any:
        """Call a copy."""
        return self.take()(*args, **kwds)

    def _loaded(self) -> Any:
        data = self._data
        if type(data) is not Parcel:
            return decode_argument(data)
        return data.load_again((monotonic_ns() - self._taken) / 1e9)

    def pieces(self, part: Part) -> Iterator[Part]:
        """The part, cut where chunks begin."""
        left, at = part.tasks, 0
        while left:
            size = min(self._grain - (part.first + at) % self._grain, left)
            if size == part.tasks:
                yield part
                return
            plain, blobs = part.plain, part.blobs
            yield part._replace(
                first=part.first + at,
                function=None,
                plain=None if plain is None else plain[at : at + size],
                blobs=None if blobs is None else blobs[at : at + size],
            )
            at += size
            left -= size
