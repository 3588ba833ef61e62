"""Frames on a worker's channel: a fixed header, then a body of the length that it names.

Rules: bytes in any pieces give whole frames or ``ProtocolError``, and the same ones: frames that came before what
is none are given first; memory is allotted for a body only after its header passed the checks; nothing here reads
or writes a descriptor.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeVar

from millpond.errors import ProtocolError

MAGIC: Final = 0x6D70
LARGEST: Final = 1 << 40
"""Bytes that a body may claim. Far beyond any machine's memory, and far below garbage read as a length."""
PIECE: Final = 1 << 16
"""Bytes read at once: larger buffers cost more to allocate than they save."""

_FIRST: Final = 1 << 26
"""Bytes that are allotted to a large body before as many of it have come."""

_HEADER: Final = struct.Struct("<HBBIQQd")  # magic, kind, flags, count, seq, length, seconds
HEADER_SIZE: Final = _HEADER.size

# Kinds, to the worker and from it.
CHUNK, FORGET, STOP, READY, DONE, FAILED, CALL, ENDED, CANCEL, LOG, RELEASED = range(1, 12)
# Flags of DONE and ENDED, to be added up.
PLAIN, MIXED, AGAIN = range(3)

Buffer = bytes | bytearray | memoryview
_Bytes = TypeVar("_Bytes", bytes, memoryview)


NO_ROOM: Final = bytearray()
"""The body of a frame that there was no memory for."""


class Frame(NamedTuple):
    """A header's fields and a body."""

    kind: int
    flags: int
    count: int  # type: ignore[assignment]  # a tuple has a method of that name
    seq: int
    seconds: float
    body: Buffer


def encode(
    kind: int,
    body: Sequence[Buffer] = (),
    *,
    flags: int = 0,
    count: int = 0,
    seq: int = 0,
    seconds: float = 0.0,
) -> list[Buffer]:
    """A frame as buffers to be written one after another."""
    length = len(body[0]) if len(body) == 1 else sum(map(len, body))
    return [_HEADER.pack(MAGIC, kind, flags, count, seq, length, seconds), *body]


class Decoder:
    """Turns the bytes of a channel into frames. ``broken``: why there will be no more."""

    __slots__ = (
        "_big",
        "_body",
        "_filled",
        "_head",
        "_largest",
        "_length",
        "_rest",
        "_room",
        "_skipping",
        "_skips",
        "broken",
    )

    def __init__(self, largest: int = LARGEST, *, skips: bool = False) -> None:
        """``skips``: a body that there is no memory for is passed over, and is ``NO_ROOM`` then."""
        self._largest = largest  # bytes that a body may claim
        self._skips = skips
        self._skipping = 0  # bytes that are still to be passed over
        self._rest: bytes = b""  # the begin of a frame
        self._big: memoryview | None = None  # a body that is being filled in place
        self._room: memoryview | None = None  # the part of it that was given out
        self._body: bytearray | None = None
        self._filled = 0
        self._length = 0  # of the whole of it
        self._head: tuple[int, int, int, int, float] | None = None
        self.broken: ProtocolError | None = None

    @property
    def rest(self) -> bytes:
        """The begin of a frame that came with the last bytes, where no large body is under way."""
        return self._rest

    @rest.setter
    def rest(self, rest: bytes) -> None:
        """Forget what came since."""
        self._rest, self._big, self._room, self._body = rest, None, None, None

    def room(self) -> memoryview | None:
        """Where the next bytes may be read to directly, of a large body under way; else None."""
        if self._big is None:
            return None
        self._room = self._big[self._filled :]
        return self._room

    def advance(self, count: int) -> list[Frame]:
        """``count`` bytes were read into ``room()``."""
        if self._room is not None:
            self._room.release()
            self._room = None
        if self._skipping:
            return self._skip(self._skipping - count)
        self._filled += count
        if self._big is None or self._filled < len(self._big) or self._head is None:
            return []
        if self._filled < self._length:
            self._grow()
            return []
        body, self._body = self._body, None
        self._big.release()
        self._big = None
        assert body is not None
        return [Frame(*self._head, body)]

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next bytes; return the frames that they complete.

        Raises ProtocolError, but no frame is lost by that: where there were some before, the next call raises it.
        """
        if self.broken is not None:
            raise self.broken
        frames: list[Frame] = []
        if self._big is not None:
            data = self._fill(data, frames)
        if self._rest:
            data = self._rest + data
            self._rest = b""
        try:
            self._cut(data, frames)
        except ProtocolError as error:
            self.broken = error
            if not frames:
                raise
        return frames

    def _cut(self, data: bytes, frames: list[Frame]) -> None:
        """The frames of which these are the bytes; their rest is kept."""
        at, end = 0, len(data)
        while end - at >= HEADER_SIZE:
            head, length = self._header(data, at)
            start = at + HEADER_SIZE
            if end - start < length:
                if length > PIECE:
                    self._begin_big(head, length)
                    self._fill(memoryview(data)[start:], frames)
                    return
                break
            at = start + length
            frames.append(Frame(*head, memoryview(data)[start:at]))
        if at < end:
            self._rest = data[at:]

    def _header(self, data: bytes, at: int) -> tuple[tuple[int, int, int, int, float], int]:
        magic, kind, flags, count, seq, length, seconds = _HEADER.unpack_from(data, at)
        if magic != MAGIC or length > self._largest or not CHUNK <= kind <= RELEASED:
            raise ProtocolError(
                "bytes on a worker's channel are no frame: something else wrote there"
            )
        return (kind, flags, count, seq, seconds), length

    def _begin_big(self, head: tuple[int, int, int, int, float], length: int) -> None:
        self._head, self._length = head, length
        self._body = bytearray()
        self._filled = 0
        self._grow()

    def _grow(self) -> None:
        """Make room for more of the body: as much again as has come, since its length may be a lie."""
        assert self._body is not None
        if self._big is not None:
            self._big.release()
            self._big = None
        try:
            self._extend(min(max(self._filled, _FIRST), self._length - self._filled))
        except MemoryError:
            if not self._skips:
                raise ProtocolError(f"no memory for a frame of {self._length} bytes") from None
            self._body = None
            self._skip(self._length - self._filled)
            return
        self._big = memoryview(self._body)

    def _skip(self, left: int) -> list[Frame]:
        """Pass over so many bytes; the frame, once none is left."""
        self._skipping, self._filled = left, 0
        self._big = memoryview(bytearray(min(left, PIECE))) if left else None
        if left or self._head is None:
            return []
        return [Frame(*self._head, NO_ROOM)]

    def _extend(self, count: int) -> None:
        if self._body:
            self._body.extend(bytes(count))
        else:
            self._body = bytearray(count)  # no larger than asked for

    def _fill(self, data: _Bytes, frames: list[Frame]) -> _Bytes:
        """Fill a large body, and give it to ``frames`` when it is whole; what is left of the bytes."""
        while data and (room := self.room()) is not None:
            take = min(len(room), len(data))
            room[:take] = data[:take]
            frames += self.advance(take)
            data = data[take:]
        return data
