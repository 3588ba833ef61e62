"""Coroutines in a worker, step by step: what is noted on its slate, what is answered, what is not begun."""

from __future__ import annotations

import asyncio
import inspect
import logging
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import pytest

from millpond import errors
from millpond.testing.clock import FakeClock
from millpond.worker import frames, loop, stepping
from millpond.worker.channel import WorkerChannel
from millpond.worker.codec import CALL, MAP, Part, encode_argument, encode_chunk
from millpond.worker.conduct import Conduct, Conducted, is_coroutine_function
from millpond.worker.frames import Buffer, Decoder, Frame
from millpond.worker.outcome import decode_batch, offsets_again, take
from millpond.worker.slate import RUNNING, Slate
from tests.core import wire
from tests.core.wire import new_slate

_deeds: dict[int, Callable[[], object]] = {}
_begun: list[int] = []
_line: list[socket.socket] = []  # the parent's end
STOP = frames.encode(frames.STOP)


async def perform(index: int) -> int:
    _begun.append(index)
    _deeds.get(index, int)()
    await asyncio.sleep(0)
    return index * index


async def stay(_: int) -> None:
    await asyncio.Event().wait()


async def fail_by(error: BaseException) -> None:
    raise error


def fail() -> None:
    raise RecursionError


def plain(index: int) -> int:
    _begun.append(index)
    _deeds.get(index, int)()
    return -index


@pytest.fixture
def slate() -> Iterator[Slate]:
    _deeds.clear()
    _begun.clear()
    with new_slate() as slate:
        yield slate


def conducted(function: object, slots: int = 100, **conduct: Any) -> Any:
    return Conducted(function, Conduct(slots=slots, **conduct))  # type: ignore[arg-type]


def chunk(function: object, count: int, seq: int = 0) -> list[Buffer]:
    return wire.chunk(function, range(seq, seq + count), seq=seq)


def cancel(seq: int) -> list[Buffer]:
    return frames.encode(frames.CANCEL, seq=seq)


def run(slate: Slate, *coming: list[Buffer], stop: bool = True) -> list[Frame]:
    """Let a worker do what comes, to its end; what it sent after it was ready."""
    ours, its = socket.socketpair()
    _line[:] = [ours]
    channel = WorkerChannel(its.detach())
    with ours:
        ours.sendall(b"".join([b"".join(frame) for frame in (*coming, STOP * stop)]))
        loop.Worker(channel, slate, loop.Settings()).run()
        channel.close()
        data = b"".join(iter(lambda: ours.recv(1 << 16), b""))
    return Decoder().feed(data)[1:]


def opened(sent: list[Frame]) -> list[tuple[tuple[int, ...], list[Any]]]:
    """The numbers and outcomes in each frame of coroutines that ended."""
    return [
        (
            tuple(memoryview(frame.body)[: 8 * frame.count].cast("Q")),
            decode_batch(memoryview(frame.body)[8 * frame.count :], frame.flags != frames.PLAIN),
        )
        for frame in sent
        if frame.kind == frames.ENDED
    ]


def answers(sent: list[Frame]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for seqs, batch in opened(sent):
        for seq, outcome in zip(seqs, batch, strict=True):
            assert seq not in found
            try:
                found[seq] = take(outcome)
            except Exception as error:
                found[seq] = type(error).__name__
    return found


def test_those_that_end_in_one_turn_are_answered_together(slate: Slate) -> None:
    sent = run(slate, chunk(conducted(perform), 50))
    assert [(frame.kind, frame.count, frame.flags) for frame in sent] == [
        (frames.ENDED, 50, frames.PLAIN)
    ]
    assert answers(sent) == {n: n * n for n in range(50)}


def test_the_slate_names_the_one_that_is_being_stepped(slate: Slate) -> None:
    seen: list[Any] = []
    _deeds.update(dict.fromkeys(range(7, 10), lambda: seen.append((slate.read(), slate.unbegun()))))
    run(slate, chunk(conducted(perform), 3, seq=7))
    assert seen == [((n, n + 1, RUNNING), n + 1) for n in range(7, 10)]
    assert slate.read() == (10, 10, 0)


def test_each_that_has_begun_has_a_row(slate: Slate) -> None:
    seen: list[Any] = []
    _deeds[12] = lambda: seen.append(slate.begun())
    run(slate, chunk(conducted(perform), 5, seq=10))
    assert [set(rows) for rows in seen] == [{10, 11, 12}]
    assert slate.begun() == {}


def test_what_waits_for_a_slot_has_not_begun(slate: Slate) -> None:
    seen: list[Any] = []
    _deeds.update(
        dict.fromkeys(range(4), lambda: seen.append((slate.unbegun(), len(slate.begun()))))
    )
    run(slate, chunk(conducted(perform, slots=1), 4))
    assert seen == [(1, 1), (2, 1), (3, 1), (4, 1)]


@pytest.mark.parametrize("slots", [1, 100])
def test_what_was_taken_back_is_not_begun(slate: Slate, slots: int) -> None:
    _deeds[1] = lambda: slate.recall(slate.unbegun(), 6)
    function = conducted(perform, slots=slots)
    sent = run(slate, chunk(function, 5), chunk(function, 3, seq=5))
    assert _begun == [0, 1, 6, 7]
    assert set(answers(sent)) == {0, 1, 6, 7}


def test_what_was_taken_back_is_let_go_before_plain_tasks_hide_it(slate: Slate) -> None:
    """A second recall, while one of them runs, begins behind them."""

    def take_back_and_send_more() -> None:
        slate.recall(slate.unbegun(), 3)
        more = [*chunk(plain, 3, seq=3), *chunk(conducted(perform), 1, seq=6), *STOP]
        _line[0].sendall(b"".join(more))

    _deeds[0] = take_back_and_send_more
    _deeds[4] = lambda: slate.recall(slate.unbegun(), 6)
    sent = run(slate, chunk(conducted(perform, slots=1), 3), stop=False)
    assert _begun == [0, 3, 4, 6]
    assert set(answers(sent)) == {0, 6}


def test_plain_tasks_run_between(slate: Slate) -> None:
    sent = run(slate, chunk(conducted(perform), 3), chunk(plain, 3, seq=3))
    done = [frame for frame in sent if frame.kind == frames.DONE]
    assert [(frame.seq, frame.count) for frame in done] == [(3, 3)]
    assert set(answers(sent)) == {0, 1, 2}


def test_one_that_nobody_wants_is_answered_at_once(slate: Slate) -> None:
    sent = run(
        slate, chunk(conducted(stay, slots=2), 3), cancel(2), cancel(0), cancel(0), cancel(1)
    )
    assert answers(sent) == dict.fromkeys(range(3), "TaskAborted")
    assert slate.begun() == {}


def test_cancelling_after_the_word_to_stop(slate: Slate) -> None:
    sent = run(slate, chunk(conducted(stay), 1), STOP, cancel(0))
    assert answers(sent) == {0: "TaskAborted"}


@pytest.mark.parametrize("callback", [(int, "x"), (sys.exit, 3), (fail,)])
def test_a_callback_of_a_task_that_raises_is_nobody_elses_affair(
    slate: Slate, callback: Any, caplog: pytest.LogCaptureFixture
) -> None:
    _deeds[0] = lambda: asyncio.get_running_loop().call_soon(*callback)
    assert answers(run(slate, chunk(conducted(perform), 3))) == {0: 0, 1: 1, 2: 4}
    said = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    assert len(said) == (callback[0] is not sys.exit), said


def test_a_late_one_is_answered_with_its_limit(slate: Slate) -> None:
    sent = run(slate, chunk(conducted(stay, timeout=0.01, retry_on=(Exception,)), 1, seq=4))
    ((_, (outcome,)),) = opened(sent)
    with pytest.raises(errors.TaskTimeout, match=r"task 0 of stay ran longer .* 0\.01 s"):
        take(outcome)
    assert sent[0].flags == frames.MIXED | frames.AGAIN


def test_an_error_that_may_pass_asks_for_another_run(slate: Slate) -> None:
    function = conducted(fail_by, retry_on=(LookupError,))
    given: list[object] = [encode_argument(error, True) for error in (KeyError(), ValueError())]
    part = Part(1, MAP, 0, 1, encode_argument(function, True), None, given)  # type: ignore[arg-type]
    sent = run(slate, frames.encode(frames.CHUNK, encode_chunk([part]), count=2))
    ((seqs, batch),) = opened(sent)
    assert [seqs[offset] for offset in offsets_again(batch)] == [0]
    assert sent[0].flags == frames.MIXED | frames.AGAIN
    with pytest.raises(KeyError) as caught:
        take(batch[0])
    lines = str(caught.value.__cause__).splitlines()
    assert lines[3].endswith("in fail_by")


def test_an_argument_that_is_gone_is_answered_without_a_run(slate: Slate) -> None:
    part = Part(1, CALL, 0, 1, encode_argument(conducted(perform), True), None, [None])
    sent = run(slate, frames.encode(frames.CHUNK, encode_chunk([part]), count=1))
    assert (answers(sent), _begun) == ({0: None}, [])


def test_a_function_that_cannot_be_loaded(slate: Slate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows then what it was: it is answered as any other."""
    sent = chunk(conducted(perform), 2)
    monkeypatch.delattr(f"{__name__}.perform")
    (frame,) = run(slate, sent)
    assert (frame.kind, frame.count) == (frames.DONE, 2)


def test_one_that_blocks_the_loop_is_named_once(
    slate: Slate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(stepping, "monotonic_ns", clock.nanoseconds)
    _deeds.update(
        {
            1: lambda: clock.advance(0.25),
            2: lambda: clock.advance(0.25),
            3: lambda: clock.advance(0.05),
        }
    )
    with caplog.at_level(logging.WARNING, "millpond"):
        run(slate, chunk(conducted(perform), 4))
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("millpond", "WARNING")
    assert record.getMessage().startswith(
        "task 1 of perform blocked the event loop of its worker for 0.2 s"
    )


class Awaited:
    async def __call__(self, x: int) -> int:
        return x

    async def method(self) -> None:
        pass

    def plain(self) -> None:
        pass


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (perform, True), (partial(partial(perform)), True), (Awaited(), True), (partial(Awaited()), True),
        (Awaited().method, True), (plain, False), (partial(plain), False),
        (Awaited, False), (Awaited().plain, False), (len, False), (int, False), (mock.Mock(), False), (3, False),
    ],
)  # fmt: skip
def test_what_a_coroutine_function_is(function: Any, expected: bool) -> None:
    assert is_coroutine_function(function) is expected


if hasattr(inspect, "markcoroutinefunction"):  # new in Python 3.12

    def test_a_marked_function_is_one() -> None:
        mark: Any = vars(inspect)["markcoroutinefunction"]
        assert is_coroutine_function(mark(lambda: perform(1)))


def test_asyncio_is_not_loaded_for_those_who_have_no_coroutines() -> None:
    script = (
        "import sys, millpond\n"
        "with millpond.Pool(1, start_method='fork') as pool:\n"
        "    pool.map(abs, [1])\n"
        "    print('asyncio' in sys.modules, pool.apply(eval, ('\"asyncio\" in __import__(\"sys\").modules',)))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert out.stdout.split() == ["False", "False"]
