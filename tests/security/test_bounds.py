"""What a worker that was taken over sends is bounded: in size, in number, in depth and in time."""

from __future__ import annotations

import os
import resource
import struct
import time
import tracemalloc
from typing import Any

import pytest

from millpond import MaybeEncodingError, Pool, ProtocolError, Sandbox
from millpond.backends.processes.sandboxed import Doubt, GuardedDecoder
from millpond.worker import fixed_codec, frames
from millpond.worker.fixed_codec import encode, weigh
from millpond.worker.frames import Frame
from millpond.worker.untrusted import laundered
from tests.security.hostile import channel, send, send_raw

PRIME = (1 << 61) - 1
"""Python's hash of a whole number is its remainder by this."""


def counted(tag: bytes, count: int, rest: bytes = b"") -> bytes:
    return tag + struct.pack("<Q", count) + rest


def header(kind: int, length: int, count: int = 1) -> bytes:
    return struct.pack("<HBBIQQd", frames.MAGIC, kind, 0, count, 0, length, 0.0)


# Size ---------------------------------------------------------------------------------------------


def test_a_frame_is_refused_at_its_header() -> None:
    largest = 1 << 24
    for kind, length in [
        (frames.DONE, largest + (1 << 21)),
        (frames.ENDED, largest + (1 << 21)),
        (frames.LOG, 1 << 22),
        (frames.READY, 1 << 22),
        (frames.FAILED, 1 << 22),
        (frames.CHUNK, 0),
        (frames.STOP, 0),
        (frames.RELEASED, 0),
    ]:
        with pytest.raises(ProtocolError):
            GuardedDecoder(largest).feed(header(kind, length))
    assert GuardedDecoder(largest).feed(header(frames.DONE, largest)) == []


def test_how_large_an_answer_may_be() -> None:
    assert Doubt(Sandbox()).largest == 128 << 20
    assert Doubt(Sandbox(memory=1 << 32)).largest == 1 << 32
    assert Doubt(Sandbox(memory=1 << 32, answer=1 << 20)).largest == 1 << 20
    with pytest.raises(ValueError, match="answer"):
        Pool(1, sandbox=Sandbox(answer=5))


def stream(size: int) -> None:
    """A frame as large as that."""
    own, piece = channel(), bytes(1 << 20)
    own.sendall(header(frames.DONE, size))
    while size > 0:
        size -= own.send(piece[:size])


def test_a_worker_cannot_fill_the_programs_memory() -> None:
    with Pool(1, sandbox=True) as pool:
        assert pool.apply(abs, (-1,)) == 1
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(ProtocolError):
            pool.apply(stream, (600 << 20,))
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10
        assert pool.apply(abs, (-2,)) == 2


def large(size: int) -> bytes:
    return bytes(size)


def test_an_honest_answer_that_is_too_large_is_an_error_of_its_task() -> None:
    with Pool(1, sandbox=Sandbox(answer=1 << 20)) as pool:
        assert len(pool.apply(large, (1_000_000,))) == 1_000_000
        with pytest.raises(MaybeEncodingError, match=r"answers no more than 1048576"):
            pool.apply(large, (1 << 20,))
        with pytest.raises(MaybeEncodingError, match=r"about [0-9]+ bytes"):
            pool.apply(list, (range(20_000),))
        assert pool.info()["lost"] == 0


def test_answers_that_are_too_large_together_come_one_after_another() -> None:
    with Pool(1, sandbox=Sandbox(answer=1 << 20)) as pool:
        found = pool.map(large, [300_000] * 40, chunksize=40)
        assert [len(value) for value in found] == [300_000] * 40
        texts = pool.map(str, range(20_000), chunksize=20_000)
        assert texts == [str(n) for n in range(20_000)]
        coroutines: list[Any] = pool.map(later, [300_000] * 20, chunksize=20)
        assert coroutines == [bytes(300_000)] * 20
        assert pool.info()["lost"] == 0


async def later(size: int) -> bytes:
    return bytes(size)


# Number and memory --------------------------------------------------------------------------------


def done(body: bytes, count: int = 1) -> Frame:
    head = encode([(0, len(body))])
    return Frame(
        frames.DONE, frames.MIXED, count, 0, 0.0, len(head).to_bytes(4, "little") + head + body
    )


@pytest.mark.parametrize("tag", [b"S", b"l", b"d", b"t", b"Z", b"B"])
def test_many_small_values_are_weighed_before_they_are_made(tag: bytes) -> None:
    body = counted(b"l", 1_000_000, counted(tag, 0) * 1_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="more memory"):
            laundered(done(body), 32 << 20)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_what_values_weigh() -> None:
    values: list[Any] = [
        None,
        True,
        5,
        2.5,
        1j,
        "text",
        b"bytes",
        [1, 2],
        (3,),
        {4: 5},
        {6},
        frozenset([7]),
    ]
    for value in values:
        data = encode(value)
        assert len(data) <= weigh(data) <= len(data) * fixed_codec.HEAVIEST
    assert weigh(encode(values)) == 64 + sum(weigh(encode(value)) for value in values)
    for data in (b"?", b"i\0", b"l"):
        with pytest.raises(ProtocolError):
            decoded = weigh(data)
            assert decoded == fixed_codec.decode(data)


# Time ---------------------------------------------------------------------------------------------


def colliding(tag: bytes, count: int) -> bytes:
    keys = [encode(n * PRIME) + b"n" * (tag == b"d") for n in range(1, count + 1)]
    return counted(tag, count, b"".join(keys))


@pytest.mark.parametrize("tag", [b"d", b"S", b"Z"])
def test_keys_that_collide_are_refused(tag: bytes) -> None:
    begin = time.thread_time()
    with pytest.raises(ProtocolError, match="collide"):
        fixed_codec.decode(colliding(tag, 40_000))
    assert time.thread_time() - begin < 3  # it would be minutes


def nested(depth: int, last: int) -> bytes:
    """A frozenset of eight; all of a depth have the same hash, and differ in the last number of the innermost."""
    if depth < 0:
        return encode(1 + last * PRIME)
    parts = [nested(depth - 1, n) for n in (*range(7), 7 + last)]
    return counted(b"Z", 8, b"".join(parts))


def test_frozensets_that_collide_at_each_level_are_refused() -> None:
    """Comparing two of them takes some thirty times as long with each level, in one call of the interpreter's."""
    begin = time.thread_time()
    with pytest.raises(ProtocolError, match="collide"):
        fixed_codec.decode(nested(5, 0))
    assert time.thread_time() - begin < 5  # it would be minutes


def test_keys_of_any_kind_that_do_not_collide_are_not_refused() -> None:
    for keys in (
        [frozenset({n, str(n)}) for n in range(20_000)],
        [frozenset({frozenset({n}), frozenset({-n})}) for n in range(10_000)],
        [n << 40 for n in range(50_000)],
        [-n for n in range(50_000)],
        [n / 7 for n in range(50_000)],
        [(n, str(n)) for n in range(20_000)],
        [bytes(10_000) + str(n).encode() for n in range(500)],
    ):
        assert len(fixed_codec.decode(encode(dict.fromkeys(keys)))) == len(keys)


def test_a_worker_that_answers_with_colliding_keys() -> None:
    body = done(colliding(b"d", 40_000)).body
    with Pool(2, sandbox=True) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
        bad = pool.apply_async(send, (frames.DONE, bytes(body), frames.MIXED, 1, 1))
        others = [pool.apply_async(abs, (-n,)) for n in range(20)]
        with pytest.raises(ProtocolError):
            bad.get()
        assert [other.get() for other in others] == list(range(20))


def flood_for_ever() -> None:
    state = {"name": "x", "msg": "y", "levelno": 10, "levelname": "DEBUG"}
    piece = b"".join(frames.encode(frames.LOG, [encode(state)])) * 2000
    own = channel()
    while True:
        own.sendall(piece)


def test_a_worker_that_sends_without_end_does_not_stop_the_others() -> None:
    with Pool(2, sandbox=True) as pool:
        pool.map(abs, [-1, -2])
        flood = pool.apply_async(flood_for_ever)
        assert [pool.apply_async(abs, (-n,)).get(20) for n in range(50)] == list(range(50))
        assert flood.cancel()
        assert pool.apply(abs, (-1,)) == 1


# What it says of itself ---------------------------------------------------------------------------


def get_stuck() -> None:
    body = encode(("KeyError", "no model", "Traceback"))
    channel().sendall(b"".join(frames.encode(frames.FAILED, [body], flags=1)))
    os.kill(os.getpid(), 9)


def test_a_worker_that_is_ready_cannot_say_that_its_initializer_failed() -> None:
    with Pool(1, sandbox=True) as pool:
        assert pool.apply(abs, (-1,)) == 1
        with pytest.raises(ProtocolError):
            pool.apply(get_stuck)
        assert pool.apply(abs, (-2,)) == 2


@pytest.mark.parametrize("seqs", [(1, 1), (7,), (1 << 63,)])
def test_coroutines_that_it_does_not_have_cannot_end(seqs: tuple[int, ...]) -> None:
    body = struct.pack(f"<{len(seqs)}Q", *seqs) + encode([5] * len(seqs))
    data = b"".join(frames.encode(frames.ENDED, [body], count=len(seqs)))
    with Pool(1, sandbox=True) as pool:
        assert pool.apply(abs, (-1,)) == 1
        with pytest.raises(Exception, match="worker"):
            pool.apply(send_raw, (data,))
        assert pool.apply(abs, (-2,)) == 2


@pytest.mark.parametrize(
    "body",
    [
        encode(("x" * 5_000, "text", "trace")),
        encode(("Error", "x" * 200_000, "trace")),
        encode(("Error", "text", "x" * 200_000)),
    ],
)
def test_texts_of_errors_are_bounded(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="too long"):
        laundered(Frame(frames.FAILED, 1, 0, 0, 0.0, body))


class Long(Exception):
    pass


def fail_at_length() -> None:
    raise Long("x" * 1_000_000)


def test_an_honest_error_is_cut() -> None:
    with Pool(1, sandbox=True) as pool:
        with pytest.raises(Exception, match=r"^Long: x{100000}$"):
            pool.apply(fail_at_length)
        assert pool.info()["lost"] == 0
