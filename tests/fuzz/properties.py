"""What must hold of bytes that nobody vouches for, whatever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from millpond.errors import ProtocolError
from millpond.worker import fixed_codec, frames, outcome, untrusted
from millpond.worker.frames import HEADER_SIZE, PIECE, Decoder, Frame, encode

SMALL_CAP: Final = 1 << 12
"""Bytes that a body may claim in half of all cases, so that many claims are beyond it."""


class Read(NamedTuple):
    """What came of a stream: its frames, and whether it was broken off."""

    frames: list[tuple[Any, ...]]
    broken: bool


def read(pieces: Iterable[bytes], largest: int, in_place: bool = False) -> Read:
    """Feed a decoder; any exception but ProtocolError gets through, and so does an assertion about memory."""
    decoder = Decoder(largest)
    found: list[Frame] = []
    try:
        for piece in pieces:
            while piece and in_place and (room := decoder.room()) is not None:
                assert room, "a large body under way, and no room for it"
                take = min(len(room), len(piece))
                room[:take] = piece[:take]
                found += decoder.advance(take)
                piece = piece[take:]
            found += decoder.feed(piece)
            check_memory(decoder, largest)
        decoder.feed(b"")
    except ProtocolError:
        return Read(list(map(plain, found)), True)
    return Read(list(map(plain, found)), False)


def plain(frame: Frame) -> tuple[Any, ...]:
    """A frame to compare; a time that is no number equals itself."""
    return (*frame[:4], repr(frame.seconds), bytes(frame.body))


def check_memory(decoder: Decoder, largest: int) -> None:
    """It holds no more than a body's declared and capped length, and that only as its bytes come."""
    assert len(decoder._rest) < HEADER_SIZE + PIECE
    if decoder._body is not None:
        assert len(decoder._body) <= decoder._length <= largest
        assert len(decoder._body) <= max(2 * decoder._filled, frames._FIRST)


def split(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The stream in pieces, each cut anywhere."""
    places = sorted({cut % (len(stream) + 1) for cut in cuts})
    return [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True) if b > a]


def check_frames(stream: bytes, cuts: Iterable[int], largest: int, in_place: bool) -> Read:
    """In any pieces the same frames, and the same end, in memory that is bounded."""
    whole = read([stream], largest)
    parted = read(split(stream, cuts), largest, in_place)
    assert parted == whole, (parted, whole)
    for _, _, _, _, _, body in whole.frames:
        assert len(body) <= largest
    # What came before the end of all sense is a stream that makes the same frames again.
    assert sum(HEADER_SIZE + len(frame[-1]) for frame in whole.frames) <= len(stream)
    return whole


def check_value(data: bytes) -> None:
    """The fixed codec gives a value that it writes again, or ProtocolError."""
    try:
        value = fixed_codec.decode(data)
    except ProtocolError:
        return
    fixed_codec.encode(value)


def check_laundered(kind: int, flags: int, count: int, body: bytes) -> None:
    """What a sandboxed worker sent becomes what a trusted one could have sent, or ProtocolError."""
    frame = Frame(kind, flags, count, 0, 0.0, body)
    try:
        clean = untrusted.laundered(frame)
    except ProtocolError:
        return
    if kind == frames.DONE:
        batch = outcome.decode_batch(clean.body, clean.flags != frames.PLAIN)
        assert len(batch) == count
    elif kind == frames.ENDED:
        batch = outcome.decode_batch(memoryview(clean.body)[8 * count :], flags != frames.PLAIN)
        assert len(batch) == count


def begin() -> dict[str, bytes]:
    """Streams to begin with: a well-formed one of each kind."""
    small = b"".join(
        b"".join(encode(kind, [bytes([kind]) * kind], count=kind, seq=kind))
        for kind in range(frames.CHUNK, frames.RELEASED + 1)
    )
    large = b"".join(encode(frames.DONE, [bytes(PIECE + 5)], count=1))
    claim = frames._HEADER.pack(frames.MAGIC, frames.DONE, 0, 1, 0, 1 << 39, 0.0)
    value = fixed_codec.encode([None, True, 1, -2.5, "text", b"bytes", (1, {2: {3}}), [[]]])
    return {
        "small": small,
        "large": large,
        "claim": claim,
        "both": small + large + small,
        "value": value,
    }


Target = Callable[[Any], None]
