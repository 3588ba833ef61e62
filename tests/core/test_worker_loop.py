"""The worker's loop, step by step: what it notes on its slate, when it answers, what it does not begin."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from millpond.testing.clock import FakeClock
from millpond.worker import frames, loop
from millpond.worker.codec import MAP, Part, encode_argument, encode_chunk
from millpond.worker.frames import Buffer, Decoder, Frame
from millpond.worker.outcome import decode_batch, take
from millpond.worker.slate import RUNNING, SIZE, Slate

_deeds: dict[int, Callable[[], object]] = {}
_begun: list[int] = []


def perform(index: int) -> int:
    _begun.append(index)
    _deeds.get(index, int)()
    return index * index


class Wire:
    """A worker's channel: what it is sent, and what it sent."""

    def __init__(self, *chunks: list[Buffer]) -> None:
        self._coming = list(chunks)
        self.sent: list[Frame] = []

    def receive(self) -> list[Frame]:
        if not self._coming:
            raise EOFError
        return Decoder().feed(b"".join(self._coming.pop(0)))

    def send(self, buffers: list[Buffer]) -> None:
        self.sent += Decoder().feed(b"".join(buffers))

    def answers(self) -> dict[int, Any]:
        """What came for each number; the name of its class for an error."""
        answers: dict[int, Any] = {}
        for frame in self.sent:
            if frame.kind == frames.DONE:
                batch = decode_batch(frame.body, frame.flags == frames.MIXED)
                for number, outcome in enumerate(batch, frame.seq):
                    try:
                        answers[number] = take(outcome)
                    except Exception as error:
                        answers[number] = type(error).__name__
        return answers


def chunk(count: int, grain: int, seq: int = 0) -> list[Buffer]:
    part = Part(1, MAP, 0, grain, encode_argument(perform, True), list(range(count)), None)
    return frames.encode(frames.CHUNK, encode_chunk([part]), count=count, seq=seq)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    monkeypatch.setattr(loop, "monotonic_ns", clock.nanoseconds)
    return clock


@pytest.fixture
def slate() -> Iterator[Slate]:
    _deeds.clear()
    _begun.clear()
    page = os.memfd_create("slate")
    os.ftruncate(page, SIZE)
    slate = Slate(page)
    os.close(page)
    yield slate
    slate.close()


def run(slate: Slate, *chunks: list[Buffer], at_most_once: bool = False) -> Wire:
    wire: Any = Wire(*chunks)
    with pytest.raises(EOFError):
        loop.Worker(wire, slate, loop.Settings(at_most_once=at_most_once)).run()
    assert isinstance(wire, Wire)
    return wire


def fail() -> None:
    raise ValueError


def test_tasks_longer_than_a_send_are_answered_one_by_one(clock: FakeClock, slate: Slate) -> None:
    _deeds.update(dict.fromkeys(range(3), lambda: clock.advance(0.1)))
    wire = run(slate, chunk(3, 1))
    assert [(f.kind, f.seq, f.count) for f in wire.sent] == [
        (frames.READY, 0, 0), (frames.DONE, 0, 1), (frames.DONE, 1, 1), (frames.DONE, 2, 1),
    ]  # fmt: skip
    assert [f.seconds for f in wire.sent[1:]] == pytest.approx([0.1] * 3)


def test_short_tasks_are_answered_together(clock: FakeClock, slate: Slate) -> None:
    wire = run(slate, chunk(50, 1))
    assert [(f.seq, f.count) for f in wire.sent[1:]] == [(0, 50)]
    assert wire.answers() == {n: n * n for n in range(50)}


def test_where_once_is_the_most_each_task_is_answered_before_the_next(
    clock: FakeClock, slate: Slate
) -> None:
    wire = run(slate, chunk(5, 5), at_most_once=True)
    assert [(f.seq, f.count) for f in wire.sent[1:]] == [(n, 1) for n in range(5)]


def test_the_slate_names_the_task(clock: FakeClock, slate: Slate) -> None:
    seen: list[tuple[int, int, int]] = []
    _deeds.update(dict.fromkeys(range(3), lambda: seen.append(slate.read())))
    run(slate, chunk(3, 1, seq=70))
    assert seen == [(70, 71, RUNNING), (71, 72, RUNNING), (72, 73, RUNNING)]
    assert slate.read() == (73, 73, 0)


def test_the_slate_names_a_slice_that_stays_in_its_grain(clock: FakeClock, slate: Slate) -> None:
    seen: list[tuple[int, int, int]] = []
    _deeds.update(dict.fromkeys(range(20), lambda: seen.append(slate.read())))
    run(slate, chunk(20, 10))
    assert seen[0] == (0, 1, RUNNING)
    assert {(stop - 1) // 10 - first // 10 for first, stop, _ in seen} == {0}
    assert all(first <= n < stop for n, (first, stop, _) in enumerate(seen))


@pytest.mark.parametrize("grain", [1, 4])
def test_an_error_is_its_tasks_alone(clock: FakeClock, slate: Slate, grain: int) -> None:
    _deeds[2] = fail
    assert run(slate, chunk(4, grain)).answers() == {0: 0, 1: 1, 2: "ValueError", 3: 9}


@pytest.mark.parametrize("grain", [1, 4])
def test_what_was_taken_back_is_not_begun(clock: FakeClock, slate: Slate, grain: int) -> None:
    _deeds[0] = lambda: slate.recall(slate.read()[1], 4)
    wire = run(slate, chunk(4, grain), chunk(2, grain, seq=4))
    assert _begun == [0, 0, 1]
    assert wire.answers() == {0: 0, 4: 0, 5: 1}


def test_what_was_taken_back_is_not_begun_after_an_error_either(
    clock: FakeClock, slate: Slate
) -> None:
    """An error ends a slice early; the next one must not reach into what was taken back."""

    def take_back_and_fail() -> None:
        assert slate.read()[:2] == (1, 3)
        slate.recall(3, 4)
        fail()

    _deeds.update({0: lambda: clock.advance(0.0004), 1: take_back_and_fail})
    assert run(slate, chunk(4, 4)).answers() == {0: 0, 1: "ValueError", 2: 4}
    assert _begun == [0, 1, 2]
