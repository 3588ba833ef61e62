"""Any bytes in any pieces give whole frames or ProtocolError, and memory only for what was declared."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from millpond.errors import ProtocolError
from millpond.worker import frames
from millpond.worker.frames import Decoder, Frame, encode

Sent = tuple[int, bytes, int, int, int, float]

KINDS = st.integers(frames.CHUNK, frames.FAILED)
BODIES = st.binary(max_size=300) | st.integers(0, 3).map(
    lambda n: bytes([n]) * (frames.PIECE + n - 1)
)

a_frame = st.builds(
    lambda kind, body, flags, count, seq, seconds: (kind, body, flags, count, seq, seconds),
    KINDS,
    BODIES,
    st.integers(0, 255),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.floats(allow_nan=False),
)


def joined(kind: int, body: bytes, flags: int, count: int, seq: int, seconds: float) -> bytes:
    parts = encode(kind, [body], flags=flags, count=count, seq=seq, seconds=seconds)
    return b"".join(parts)


def plain(frame: Frame) -> tuple[object, ...]:
    return (frame.kind, bytes(frame.body), frame.flags, frame.count, frame.seq, frame.seconds)


def read(decoder: Decoder, data: bytes, *, in_place: bool) -> list[Frame]:
    """Give a decoder bytes as a channel does: into its room where it has one."""
    room = decoder.room() if in_place else None
    if room is None:
        return decoder.feed(data)
    take = min(len(room), len(data))
    room[:take] = data[:take]
    found = decoder.advance(take)
    return found + read(decoder, data[take:], in_place=in_place) if take < len(data) else found


@given(st.lists(a_frame, max_size=5), st.data())
@settings(deadline=None, max_examples=150)
def test_frames_in_any_pieces_come_out_whole(sent: list[Sent], data: st.DataObject) -> None:
    stream = b"".join(joined(*frame) for frame in sent)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12).map(sorted))
    in_place = data.draw(st.booleans())
    decoder, found = Decoder(), []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if stop > start:
            found += read(decoder, stream[start:stop], in_place=in_place)
    assert [plain(frame) for frame in found] == sent
    assert decoder.room() is None


@given(st.lists(a_frame, min_size=1, max_size=2), st.booleans())
@settings(deadline=None, max_examples=20)
def test_one_byte_at_a_time(sent: list[Sent], in_place: bool) -> None:
    stream = b"".join(joined(frame[0], frame[1][:50], *frame[2:]) for frame in sent)
    decoder, found = Decoder(), []
    for n in range(len(stream)):
        found += read(decoder, stream[n : n + 1], in_place=in_place)
    assert [frame.seq for frame in found] == [frame[4] for frame in sent]


@given(st.lists(st.binary(max_size=200), max_size=10))
@example([b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"])
@settings(deadline=None)
def test_garbage_gives_frames_or_protocol_error(pieces: list[bytes]) -> None:
    decoder = Decoder()
    try:
        for piece in pieces:
            for frame in decoder.feed(piece):
                assert frames.CHUNK <= frame.kind <= frames.FAILED
    except ProtocolError:
        return
    whole = b"".join(pieces)
    assert len(whole) < frames.HEADER_SIZE or whole[:2] == frames.MAGIC.to_bytes(2, "little")


# The upper bytes of a length, which make it terabytes, have a test of their own below.
LENGTH_ABOVE_16_MIB = range(frames._HEADER.size - 13, frames._HEADER.size - 8)


@given(a_frame, st.integers(0, 10_000), st.integers(1, 255))
@settings(deadline=None)
def test_a_flipped_byte_is_seen_or_harmless(sent: Sent, place: int, flip: int) -> None:
    stream = bytearray(joined(sent[0], sent[1][:100], *sent[2:]))
    place %= len(stream)
    assume(place not in LENGTH_ABOVE_16_MIB)
    stream[place] ^= flip
    try:
        found = Decoder().feed(bytes(stream))
    except ProtocolError:
        return
    assert len(found) <= 2


def test_a_length_beyond_all_reason_is_refused_before_memory_is_allotted() -> None:
    header = frames._HEADER.pack(frames.MAGIC, frames.DONE, 0, 1, 0, frames.LARGEST + 1, 0.0)
    with pytest.raises(ProtocolError, match="something else wrote there"):
        Decoder().feed(header)


def test_memory_is_allotted_for_what_a_frame_declares_and_no_more() -> None:
    size = 8 << 20
    stream = b"".join(encode(frames.DONE, [bytes(size)]))
    decoder = Decoder()
    tracemalloc.start()
    try:
        assert decoder.feed(stream[: frames.PIECE]) == []
        at = frames.PIECE
        found: list[Frame] = []
        while not found:
            room = decoder.room()
            assert room is not None
            take = min(len(room), frames.PIECE)
            room[:take] = stream[at : at + take]
            at += take
            room.release()
            found = decoder.advance(take)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found[0].body) == size
    assert peak < size + (1 << 20)


@pytest.mark.parametrize("kind", [0, frames.RELEASED + 1, 255])
def test_a_kind_that_there_is_not_is_refused(kind: int) -> None:
    with pytest.raises(ProtocolError):
        Decoder().feed(frames._HEADER.pack(frames.MAGIC, kind, 0, 0, 0, 0, 0.0))


def test_a_body_in_parts_travels_as_one() -> None:
    (frame,) = Decoder().feed(
        b"".join(encode(frames.CHUNK, [b"ab", bytearray(b"cd"), memoryview(b"e")]))
    )
    assert bytes(frame.body) == b"abcde"


def test_an_end_in_the_middle_of_a_frame_gives_nothing() -> None:
    stream = b"".join(encode(frames.DONE, [b"value"], seq=1))
    for cut in range(len(stream)):
        assert Decoder().feed(stream[:cut]) == []


def test_a_body_that_there_is_no_memory_for_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    large = b"".join(frames.encode(frames.DONE, [bytes(3 * frames.PIECE)], count=1, seq=5))
    small = b"".join(frames.encode(frames.DONE, [b"abc"], count=1, seq=6))
    for step in (1000, frames.PIECE):
        decoder = frames.Decoder(skips=True)
        found = []
        with monkeypatch.context() as patch:
            patch.setattr(frames.Decoder, "_extend", refuse)
            data = large + small
            for at in range(0, len(data), step):
                found += decoder.feed(data[at : at + step])
        assert [frame.seq for frame in found] == [5, 6]
        assert found[0].body is frames.NO_ROOM
        assert bytes(found[1].body) == b"abc"
