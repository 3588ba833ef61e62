"""The properties that ``make fuzz`` holds frames to, with streams that Hypothesis makes; bugs that they find."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from millpond.backends.processes.channel import ParentChannel
from millpond.errors import ProtocolError
from millpond.worker import frames
from millpond.worker.frames import HEADER_SIZE, LARGEST, Decoder, Frame, encode
from tests.fuzz import properties
from tests.fuzz.properties import SMALL_CAP, check_frames, check_laundered, check_value

QUICK = settings(
    deadline=None, max_examples=300, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
SMALL_FIRST = 1 << 8
SMALL_PIECE = 1 << 6

kinds = st.integers(frames.CHUNK, frames.RELEASED)
bodies = st.binary(max_size=40) | st.integers(0, 1500).map(lambda n: b"x" * n)


def a_frame(kind: int, body: bytes, seq: int, seconds: float) -> bytes:
    return b"".join(encode(kind, [body], count=len(body), seq=seq, seconds=seconds))


good = st.builds(a_frame, kinds, bodies, st.integers(0, 2**64 - 1), st.floats())
headers = st.builds(
    frames._HEADER.pack,
    st.just(frames.MAGIC) | st.integers(0, 2**16 - 1),
    kinds | st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.sampled_from([0, 1, 50, SMALL_CAP, SMALL_CAP + 1, LARGEST, LARGEST + 1, 2**64 - 1]),
    st.floats(),
)
streams = st.lists(good | headers | st.binary(max_size=60), max_size=6).map(b"".join)
edges = st.sampled_from(
    [HEADER_SIZE - 1, HEADER_SIZE, HEADER_SIZE + 1, -2, -3]
)  # -2: before the last byte
cuts = st.lists(st.integers(0, 10_000) | edges, max_size=12)


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body of some hundred bytes is a large one, so that all of the decoder is met."""
    monkeypatch.setattr(frames, "_FIRST", SMALL_FIRST)
    monkeypatch.setattr(frames, "PIECE", SMALL_PIECE)


any_pieces = given(streams, cuts, st.sampled_from([SMALL_CAP, LARGEST]), st.booleans())


@QUICK
@any_pieces
def test_any_bytes_in_any_pieces(
    stream: bytes, places: list[int], largest: int, in_place: bool
) -> None:
    check_frames(stream, places, largest, in_place)


@QUICK
@given(streams, st.sampled_from([SMALL_CAP, LARGEST]), st.booleans())
def test_one_byte_at_a_time(stream: bytes, largest: int, in_place: bool) -> None:
    check_frames(stream, range(len(stream)), largest, in_place)


@QUICK
@given(st.binary(max_size=300))
def test_any_bytes_are_a_value_or_none(data: bytes) -> None:
    check_value(data)


@QUICK
@given(st.integers(0, 13), st.integers(0, 4), st.integers(0, 4), st.binary(max_size=200))
def test_any_body_is_made_harmless_or_refused(
    kind: int, flags: int, count: int, body: bytes
) -> None:
    check_laundered(kind, flags, count, body)


def test_the_streams_to_begin_with_say_what_they_should() -> None:
    begin = properties.begin()
    found = {
        name: properties.read([begin[name]], LARGEST)
        for name in ("small", "large", "claim", "both")
    }
    assert [len(read.frames) for read in found.values()] == [11, 1, 0, 23]
    assert not any(read.broken for read in found.values())
    check_value(begin["value"])


# What came before garbage -------------------------------------------------------------------------

GARBAGE = b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n"


def test_frames_before_garbage_are_given_then_it_is_refused_for_ever() -> None:
    decoder = Decoder()
    stream = a_frame(frames.DONE, b"value", 7, 0.0) + GARBAGE
    (frame,) = decoder.feed(stream)
    assert (frame.seq, bytes(frame.body)) == (7, b"value")
    for data in (b"", a_frame(frames.DONE, b"more", 8, 0.0)):
        with pytest.raises(ProtocolError, match="something else wrote there"):
            decoder.feed(data)


@pytest.mark.parametrize("draining", [False, True])
def test_a_channel_gives_them_too_and_says_that_it_is_broken(draining: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = ParentChannel(ours)
        theirs.sendall(a_frame(frames.DONE, b"value", 7, 0.0) + GARBAGE)
        (frame,) = channel.drain() if draining else channel.receive()
        assert frame.seq == 7
        assert isinstance(channel.broken, ProtocolError)
        theirs.sendall(a_frame(frames.DONE, b"more", 8, 0.0))
        assert channel.receive() == []


# Planted bugs -------------------------------------------------------------------------------------


class LosesFramesBeforeGarbage(Decoder):
    def feed(self, data: bytes) -> list[Frame]:
        found = super().feed(data)
        if self.broken is not None:
            raise self.broken
        return found


class BelievesAnyLength(Decoder):
    """The cap is not looked at."""

    def __init__(self, largest: int = LARGEST) -> None:
        super().__init__(1 << 62)


class AllotsTheWholeClaim(Decoder):
    """Room for all that a header claims, before it has come."""

    def _extend(self, count: int) -> None:
        super()._extend(min(self._length, 1 << 16) if not self._body else count)


class ForgetsTheBeginOfAHeader(Decoder):
    def _cut(self, data: bytes, found: list[Frame]) -> None:
        super()._cut(data, found)
        if len(self._rest) < 3:
            self._rest = b""


class GivesAFrameEarly(Decoder):
    """A large body is given when its last byte but one has come."""

    def advance(self, count: int) -> list[Frame]:
        if self._big is not None and self._filled + count == self._length - 1:
            count += 1
        return super().advance(count)


class FailsOtherwise(Decoder):
    """An error that nobody expects."""

    def _header(self, data: bytes, at: int) -> Any:
        if data[at + 3] == 255:
            raise ValueError("flags")
        return super()._header(data, at)


PLANTED: list[type[Decoder]] = [
    LosesFramesBeforeGarbage, BelievesAnyLength, AllotsTheWholeClaim, ForgetsTheBeginOfAHeader, GivesAFrameEarly,
    FailsOtherwise,
]  # fmt: skip


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: type[Decoder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(properties, "Decoder", bug)
    quick = settings(QUICK, phases=[Phase.generate], max_examples=1000, report_multiple_bugs=False)
    inner: Any = test_any_bytes_in_any_pieces
    check: Callable[[], None] = quick(any_pieces(inner.hypothesis.inner_test))
    with pytest.raises((AssertionError, ValueError)):
        check()


def test_a_body_in_one_piece_with_its_header_may_be_larger_than_what_is_allotted_first() -> None:
    body = b"y" * (3 * SMALL_FIRST + 1)
    (frame,) = Decoder().feed(a_frame(frames.DONE, body, 1, 0.0))
    assert bytes(frame.body) == body
    decoder = Decoder()
    stream = a_frame(frames.DONE, body, 1, 0.0)
    assert decoder.feed(stream[: HEADER_SIZE + 2 * SMALL_FIRST]) == []
    (frame,) = decoder.feed(stream[HEADER_SIZE + 2 * SMALL_FIRST :])
    assert bytes(frame.body) == body
