"""Chunks <-> bodies of frames.

A chunk is parts; a part is tasks of one job. Its function goes to a worker once, with the first part of its
job that the worker gets. Plain arguments share the index's pickle (``outcome.encode_together``); any other has a
pickle of its own, so that one that cannot be loaded is one task's failure.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from millpond.worker.conduct import Conducted
from millpond.worker.frames import Buffer
from millpond.worker.outcome import PLAIN, PROTOCOL, encode_together, pack, unpack

CALL, MAP, STAR = range(3)
"""How a task's argument meets its function: ``f(*a[0], **a[1])``, ``f(a)``, ``f(*a)``.

Plain arguments of a CALL, of which none has a name, come as for STAR.
"""

UNSENDABLE: Final = -1
"""Instead of an argument's length: it could not be encoded; the parent has the error and wants no answer."""


class Gone:
    """An argument that there is no more: its task was cancelled, or it could not be encoded."""


GONE: Final = Gone()


class Part(NamedTuple):
    """Tasks of one job as they travel. ``plain`` or ``blobs`` has the arguments, the other is None."""

    job: int
    style: int
    first: int  # the index in the job of the first task
    slice: int  # how many may run as one
    function: Buffer | None  # encoded; None where the worker has it
    plain: Sequence[Any] | None
    blobs: Sequence[Buffer | None] | None  # None: this one could not be encoded

    @property
    def tasks(self) -> int:
        """How many there are."""
        items = self.plain if self.plain is not None else self.blobs
        assert items is not None
        return len(items)


def encode_chunk(parts: Iterable[Part]) -> list[Buffer]:
    """A chunk as the body of a frame; raises ``NotTogether`` if arguments that should share a pickle cannot."""
    index = []
    blobs: list[Buffer] = []
    for part in parts:
        size = -1
        if part.function is not None:
            size = len(part.function)
            blobs.append(part.function)
        lengths = None
        if part.blobs is not None:
            lengths = [UNSENDABLE if b is None else len(b) for b in part.blobs]
            blobs.extend(b for b in part.blobs if b is not None)
        index.append((part.job, part.style, part.first, part.slice, size, part.plain, lengths))
    return pack(encode_together(index), blobs)


def decode_chunk(body: Buffer) -> list[Part]:
    """The parts of a chunk; their blobs are views into the body."""
    index, rest = unpack(body)
    parts = []
    at = 0
    for job, style, first, slice_, size, plain, lengths in index:
        function = None
        if size >= 0:
            function = rest[at : at + size]
            at += size
        blobs: list[Buffer | None] | None = None
        if lengths is not None:
            blobs = []
            for length in lengths:
                if length == UNSENDABLE:
                    blobs.append(None)
                else:
                    blobs.append(rest[at : at + length])
                    at += length
        parts.append(Part(job, style, first, slice_, function, plain, blobs))
    return parts


def all_plain(values: Iterable[object]) -> bool:
    """Whether every value is exactly of a plain type."""
    return PLAIN.issuperset(map(type, values))


def encode_call(args: tuple[Any, ...], kwds: dict[str, Any], main_importable: bool) -> bytes:
    """The arguments of one call."""
    if not kwds and all_plain(args):
        return pickle.dumps((args, kwds), PROTOCOL)
    return encode_argument((args, kwds), main_importable)


def encode_argument(value: object, main_importable: bool) -> bytes:
    """One argument, or a function: by reference where the worker can import it, else by value."""
    from millpond.worker.by_value import dumps

    return dumps(value, main_importable=main_importable)


def encode_by_value(function: Any) -> bytes:
    """A function for a worker that could not import it: with all of its module that it uses."""
    import sys

    import cloudpickle  # type: ignore[import-untyped]

    from millpond.worker.by_value import dumps_by_value

    source = function.function if type(function) is Conducted else function
    module = sys.modules.get(getattr(source, "__module__", None) or "")
    if module is None or module.__name__ == "__main__":
        return dumps_by_value(function, main_importable=False)
    cloudpickle.register_pickle_by_value(module)
    try:
        return dumps_by_value(function, main_importable=False)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def decode_argument(data: Buffer) -> Any:
    """What ``encode_argument`` or ``encode_call`` encoded."""
    from millpond.worker.by_value import loads

    return loads(data)
