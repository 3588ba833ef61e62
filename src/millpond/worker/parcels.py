"""Pickles and the buffers beside them (pickle protocol 5), in a frame or in the arena.

A parcel is a pickle and its buffers; each lies in the frame that tells of it, or in a segment of the sender's
file. Small pickles without buffers are no parcels but bytes.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from collections import ChainMap
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.reduction import ForkingPickler
from typing import Any, Final, final

from millpond.errors import ProtocolError
from millpond.worker.borrower import Borrower
from millpond.worker.frames import Buffer
from millpond.worker.segments import BODY, SMALLEST, Segment

Entry = tuple[Any, ...]
"""Of a parcel, in an index: of each part its length in the frame, or its place in the arena."""

PROTOCOL: Final = 5

Aside = list[memoryview]
Put = Callable[[Sequence[Buffer]], Any]
"""Lays buffers one behind another in the arena; returns what has a ``segment``, or None where that cannot be."""


class Pickler(pickle.Pickler):
    """pickle's, with ForkingPickler's reducers: ForkingPickler makes a table of its own for each object."""

    # On the class, where pickle's C code looks for it; both are seen as they grow.
    dispatch_table: Any = ChainMap(  # noqa: RUF012
        ForkingPickler._extra_reducers,  # type: ignore[attr-defined]
        copyreg.dispatch_table,
    )


def dump(value: object, aside: Aside | None = None) -> bytes:
    """A value's pickle; its large buffers are put ``aside``, in their order."""
    file = io.BytesIO()
    if aside is None:
        Pickler(file, PROTOCOL).dump(value)
    else:
        Pickler(file, PROTOCOL, True, partial(stays, aside)).dump(value)
    return file.getvalue()


def stays(aside: Aside, buffer: pickle.PickleBuffer) -> bool:
    """Whether a buffer stays in the pickle; else it is put aside."""
    try:
        raw = buffer.raw()
    except BufferError:
        return True  # not contiguous; pickle says so
    if len(raw) < SMALLEST:
        return True
    aside.append(raw)
    return False


def parcel(data: bytes, aside: Aside, put: Put) -> bytes | Parcel:
    """A pickle and what was put aside; what is large of it is laid in the arena, if there is room."""
    if not aside and len(data) < BODY:
        return data
    parts: list[Any] = [put((data,)) or data if len(data) >= BODY else data]
    for raw in aside:
        part = put((raw,))
        parts.append(bytes(raw) if part is None else part)
    return Parcel(parts)


class _Gather:
    """A file that keeps what is written to it as it is."""

    __slots__ = ("pieces", "write")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.write = self.pieces.append


def lay(value: object, put: Put) -> bytes | Parcel:
    """A value made of text and bytes: what is large of it is not copied but into the arena."""
    file = _Gather()
    Pickler(file, PROTOCOL).dump(value)
    if sum(map(len, file.pieces)) >= BODY:
        part = put(file.pieces)
        if part is not None:
            return Parcel([part])
    return b"".join(file.pieces)


@final
class Parcel:
    """See the module. Its parts: bytes, or what is in the arena, the pickle first."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        """Bytes, wherever they are."""
        return sum(map(len, self.parts))

    def entry(self, blobs: list[Buffer]) -> Entry:
        """What an index says of it; the parts for the frame are appended to ``blobs``."""
        entry: list[Any] = []
        for part in self.parts:
            if type(part) is bytes:
                entry.append(len(part))
                blobs.append(part)
            else:
                entry.append(tuple(part.segment))
        return tuple(entry)

    def load(self) -> Any:
        """What was pickled; its buffers are those of the parcel, and no copies."""
        return _load(*self.parts)

    def kept(self) -> Parcel:
        """The same to be kept: a view of a frame would keep all of it."""
        return Parcel([bytes(part) if isinstance(part, Buffer) else part for part in self.parts])

    def load_again(self, seconds: float) -> Any:
        """What was pickled, once more, with buffers of its own; those given before were used so many seconds."""
        body, *buffers = self.parts
        data = body if isinstance(body, Buffer) else body.view()
        again = (_exported(b if isinstance(b, Buffer) else b.again(seconds)) for b in buffers)
        return pickle.loads(data, buffers=again)

    def unload(self) -> Any:
        """The same, once: the parcel keeps nothing."""
        parts, self.parts = self.parts, ()
        return _load(*parts)


def _load(body: Any, *buffers: Any) -> Any:
    data = body if isinstance(body, Buffer) else body.view()
    return pickle.loads(
        data, buffers=map(_exported, buffers)
    )  # one by one, as pickle asks for them


def _exported(part: Any) -> Any:
    """A buffer for an object to keep. What will see it has been imported by now."""
    if type(part) is bytearray:
        return part
    return bytearray(part) if isinstance(part, Buffer) else part.export()


def open_parcel(
    entry: Entry, rest: memoryview, at: int, arena: Borrower | None
) -> tuple[Parcel, int]:
    """The parcel of which an index says this, its parts in the frame from ``at`` on; and where they end."""
    parts: list[Any] = []  # held from here on, wanted or not
    for part in entry:
        if type(part) is int:
            parts.append(rest[at : at + part])
            at += part
        elif arena is None:
            raise ProtocolError("a frame tells of an arena that there is not")
        else:
            parts.append(arena.claim(Segment(*part)))
    return Parcel(parts), at
