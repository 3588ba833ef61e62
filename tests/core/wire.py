"""What the tests of the worker's loop are written with: frames in, frames out, no process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from millpond.worker import frames, loop
from millpond.worker.codec import CALL, MAP, Part, encode_argument, encode_call, encode_chunk
from millpond.worker.frames import Buffer, Decoder, Frame
from millpond.worker.outcome import decode_batch, take
from millpond.worker.slate import SIZE, Slate

JOB = 1


class Wire:
    """A worker's channel: what it is sent, and what it sent."""

    taken: object = None
    torn = False

    def __init__(self, *coming: list[Buffer]) -> None:
        self._coming = list(coming)
        self.sent: list[Frame] = []

    def receive(self) -> list[Frame]:
        if not self._coming:
            raise EOFError
        return Decoder().feed(b"".join(self._coming.pop(0)))

    def send(self, buffers: list[Buffer]) -> None:
        self.sent += Decoder().feed(b"".join(buffers))

    def batches(self) -> Iterator[tuple[Frame, list[Any]]]:
        """The frames with outcomes."""
        for frame in self.sent:
            if frame.kind == frames.DONE:
                yield frame, decode_batch(frame.body, bool(frame.flags & frames.MIXED))

    def answers(self) -> dict[int, Any]:
        """What came for each number; the name of its class for an error."""
        answers: dict[int, Any] = {}
        for frame, batch in self.batches():
            for number, outcome in enumerate(batch, frame.seq):
                try:
                    answers[number] = take(outcome)
                except Exception as error:
                    answers[number] = type(error).__name__
        return answers


@contextmanager
def new_slate() -> Iterator[Slate]:
    page = os.memfd_create("slate")
    os.ftruncate(page, SIZE)
    slate = Slate(page)
    os.close(page)
    try:
        yield slate
    finally:
        slate.close()


def run(slate: Slate, *coming: list[Buffer], at_most_once: bool = False) -> Wire:
    """Let a worker do what comes."""
    wire: Any = Wire(*coming)
    with pytest.raises(EOFError):
        loop.Worker(wire, slate, loop.Settings(at_most_once=at_most_once)).run()
    assert isinstance(wire, Wire)
    return wire


def chunk(
    function: object,
    arguments: Sequence[Any],
    *,
    grain: int = 1,
    seq: int = 0,
    first: int = 0,
    style: int = MAP,
) -> list[Buffer]:
    """Tasks of a job, with its function."""
    packed = encode_argument(function, True)
    if style == CALL:
        calls = [encode_call(args, kwds, True) for args, kwds in arguments]
        part = Part(JOB, style, first, grain, packed, None, calls)
    else:
        part = Part(JOB, style, first, grain, packed, list(arguments), None)
    body = encode_chunk([part])
    return frames.encode(frames.CHUNK, body, count=len(arguments), seq=seq)


def call(*arguments: object, seq: int) -> list[Buffer]:
    """A call of the job's function, which the worker has."""
    body = encode_call(arguments, {}, True)
    return frames.encode(frames.CALL, [body], count=JOB, seq=seq)
