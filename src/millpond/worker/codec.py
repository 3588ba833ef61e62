"""Chunks <-> bodies of frames.

A chunk is parts; a part is tasks of one job. Its function goes to a worker once, with the first part of its
job that the worker gets. Plain arguments share the index's pickle (``outcome.encode_together``); any other has a
pickle of its own, so that one that cannot be loaded is one task's failure.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from millpond.worker import arena
from millpond.worker.conduct import Conducted
from millpond.worker.frames import Buffer
from millpond.worker.outcome import PLAIN, PROTOCOL, encode_together, pack, unpack
from millpond.worker.parcels import Entry, Parcel, Put, open_parcel

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
    function: Buffer | Parcel | None  # encoded; None where the worker has it
    plain: Sequence[Any] | None
    blobs: Sequence[Buffer | Parcel | None] | None  # None: this one could not be encoded
    renewal: int = 0  # tasks after which the function is made anew; 0: never

    @property
    def tasks(self) -> int:
        """How many there are."""
        items = self.plain if self.plain is not None else self.blobs
        assert items is not None
        return len(items)

    def after(self, skip: int) -> Part:
        """The part without so many tasks at its begin."""
        if not skip:
            return self
        part = self._replace(first=self.first + skip)
        if part.plain is not None:
            return part._replace(plain=part.plain[skip:])
        return part._replace(blobs=part.blobs and part.blobs[skip:])


def encode_chunk(parts: Iterable[Part], parcels: list[Parcel] | None = None) -> list[Buffer]:
    """A chunk as the body of a frame; its parcels are appended to ``parcels``. Raises ``NotTogether`` if arguments
    that should share a pickle cannot."""
    index = []
    blobs: list[Buffer] = []
    for part in parts:
        size: int | Entry = -1
        if part.function is not None:
            (size,) = _lay([part.function], blobs, parcels)
        lengths: Sequence[int | Entry] | None = None
        if part.blobs is not None:
            lengths = _lay(part.blobs, blobs, parcels)
        head = part.job, part.style, part.first, part.slice, part.renewal
        index.append((*head, size, part.plain, lengths))
    return pack(encode_together(index), blobs)


def decode_chunk(body: Buffer) -> list[Part]:
    """The parts of a chunk; their blobs are views into the body, or lie in the arena."""
    index, rest = unpack(body)
    parts = []
    at = 0
    for job, style, first, slice_, renewal, size, plain, lengths in index:
        function, at = (None, at) if size == -1 else _cut(rest, at, size)
        blobs: list[Any] | None = None
        if type(lengths) is tuple:
            blobs, at = _open_all(lengths, rest, at)
        elif lengths is not None:
            blobs = []
            for length in lengths:
                if length == UNSENDABLE:
                    blobs.append(None)
                else:
                    blobs.append(rest[at : at + length])
                    at += length
        parts.append(Part(job, style, first, slice_, function, plain, blobs, renewal))
    return parts


def _lay(
    given: Sequence[Any], blobs: list[Buffer], parcels: list[Parcel] | None
) -> Sequence[int | Entry]:
    """Add what is given to the blobs of a frame; what the index says of it: a tuple where there are parcels."""
    if Parcel not in set(map(type, given)):
        blobs.extend(blob for blob in given if blob is not None)
        return [UNSENDABLE if blob is None else len(blob) for blob in given]
    said: list[int | Entry] = []
    for blob in given:
        if type(blob) is Parcel:
            said.append(blob.entry(blobs))
            if parcels is not None:
                parcels.append(blob)
        elif blob is None:
            said.append(UNSENDABLE)
        else:
            said.append(len(blob))
            blobs.append(blob)
    return tuple(said)


def _open_all(said: Entry, rest: memoryview, at: int) -> tuple[list[Any], int]:
    """The blobs of which the index says this, from ``at`` on, and where they end."""
    blobs: list[Any] = []
    for entry in said:
        if entry == UNSENDABLE:
            blobs.append(None)
        else:
            blob, at = _cut(rest, at, entry)
            blobs.append(blob)
    return blobs, at


def _cut(rest: memoryview, at: int, said: int | Entry) -> tuple[Any, int]:
    """The blob that begins there, and where it ends."""
    if type(said) is tuple:
        return open_parcel(said, rest, at, arena.borrower)
    assert isinstance(said, int)
    return rest[at : at + said], at + said


def all_plain(values: Iterable[object]) -> bool:
    """Whether every value is exactly of a plain type."""
    return PLAIN.issuperset(map(type, values))


def encode_call(args: tuple[Any, ...], kwds: dict[str, Any], main_importable: bool) -> bytes:
    """The arguments of one call, within the frame."""
    if not kwds and all_plain(args):
        return pickle.dumps((args, kwds), PROTOCOL)
    from millpond.worker.by_value import dumps

    return dumps((args, kwds), main_importable=main_importable)


def encode_argument(value: object, main_importable: bool, put: Put | None = None) -> bytes | Parcel:
    """One argument, or a function: by reference where the worker can import it, else by value."""
    from millpond.worker.by_value import pack

    return pack(value, main_importable=main_importable, put=put)


def encode_by_value(function: Any, put: Put | None = None) -> bytes | Parcel:
    """A function for a worker that could not import it: with all of its module that it uses."""
    import sys

    import cloudpickle  # type: ignore[import-untyped]

    from millpond.worker.by_value import pack_by_value

    source = function.function if type(function) is Conducted else function
    module = sys.modules.get(getattr(source, "__module__", None) or "")
    if module is None or module.__name__ == "__main__":
        return pack_by_value(function, main_importable=False, put=put)
    cloudpickle.register_pickle_by_value(module)
    try:
        return pack_by_value(function, main_importable=False, put=put)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def decode_argument(data: Buffer | Parcel) -> Any:
    """What ``encode_argument`` or ``encode_call`` encoded."""
    if type(data) is Parcel:
        return data.unload()
    from millpond.worker.by_value import loads

    return loads(data)
