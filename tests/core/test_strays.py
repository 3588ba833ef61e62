"""A handler that a task left behind raises at every place of the worker's loop where one may."""

from __future__ import annotations

import asyncio
import contextlib
import dis
import gc
import itertools
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import pytest

from millpond.worker import frames, loop
from millpond.worker.channel import WorkerChannel
from millpond.worker.codec import CALL, MAP, STAR
from millpond.worker.conduct import Conduct, Conducted
from millpond.worker.frames import Buffer, Decoder
from millpond.worker.outcome import decode_batch, take
from millpond.worker.slate import Slate
from tests.core import wire
from tests.core.wire import Wire, new_slate

OURS = ("loop.py", "answers.py", "channel.py", "frames.py", "codec.py", "strays.py", "slate.py")
PLACES = ("worker", "asyncio")
TASKS = 12
SOON = 4.0


class Stray(Exception):
    """What the handler raises."""


class Stroke:
    """Raises at the n-th place at which CPython runs handlers: a function's begin, a jump backward, the end of a
    call of what is not written in Python."""

    def __init__(self, place: int, kind: type[BaseException] = Stray) -> None:
        self.left = place
        self._kind = kind
        self.where = ""
        self._before: dict[FrameType, str] = {}

    def trace(self, frame: FrameType, _event: str, _arg: object) -> Any:
        caller = frame.f_back
        if caller is not None:
            self._before.pop(caller, None)
        if (
            os.path.basename(frame.f_code.co_filename) not in OURS
            or os.path.basename(os.path.dirname(frame.f_code.co_filename)) not in PLACES
        ):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, _arg: object) -> Any:
        if event != "opcode":
            self._before.pop(frame, None)
            return self._step
        before = self._before.get(frame, "")
        self._before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        if before in ("RESUME", "CALL", "CALL_KW", "CALL_FUNCTION_EX", "JUMP_BACKWARD"):
            self.left -= 1
            if self.left == 0:
                self.where = f"{frame.f_code.co_qualname}:{frame.f_lineno}"
                self._before.clear()
                sys.settrace(None)
                raise self._kind(self.where)
        return self._step


@pytest.fixture
def slate() -> Iterator[Slate]:
    with new_slate() as slate:
        yield slate


_runs: dict[int, int] = {}


def perform(x: int) -> int:
    _runs[x] = _runs.get(x, 0) + 1
    if x == 7:
        raise KeyError(x)
    return -x


def rich(x: int) -> list[int]:
    _runs[x] = _runs.get(x, 0) + 1
    return [x, x]


def two(x: int, y: int) -> int:
    return x + y


def work(function: Any, style: int, grain: int) -> list[list[Buffer]]:
    arguments: Sequence[Any] = range(TASKS)
    if style == STAR:
        arguments = [(n, 1) for n in arguments]
    if style == CALL:
        arguments = [((n,), {}) for n in arguments]
    half = TASKS // 2
    chunks = [wire.chunk(function, arguments[:half], grain=grain, style=style)]
    if style == CALL:
        return chunks + [wire.call(n, seq=n) for n in range(half, TASKS)]
    chunks.append(
        wire.chunk(function, arguments[half:], grain=grain, seq=half, first=half, style=style)
    )
    return chunks


class Hearer:
    """The parent of a worker with coroutines: says stop once that many are answered, and gives up in the end."""

    def __init__(self, end: socket.socket, channel: WorkerChannel, said: Wire, count: int) -> None:
        self._end, self._said, self._count = end, said, count
        self._decoder = Decoder()
        self._told = False
        self._push = channel.push
        channel.push = self._push_and_hear  # type: ignore[method-assign]
        end.setblocking(False)
        self._watchdog = threading.Timer(SOON, end.shutdown, (socket.SHUT_WR,))
        self._watchdog.start()

    def hear(self) -> None:
        self._said.sent += self._decoder.feed(b"".join(iter(lambda: _received(self._end), b"")))

    def _push_and_hear(self) -> None:
        try:
            self._push()
        finally:
            self.hear()
            if not self._told and len(ended(self._said)) >= self._count:
                self._told = True
                self._end.sendall(b"".join(frames.encode(frames.STOP)))

    def close(self) -> None:
        self._watchdog.cancel()
        self._watchdog.join()


@contextlib.contextmanager
def hearing(
    end: socket.socket, channel: WorkerChannel, said: Wire, coroutines: int
) -> Iterator[None]:
    """Until the worker ends: what it sent is heard, and what it says on stderr is not."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
        if coroutines:
            hearer = Hearer(end, channel, said, coroutines)
            try:
                yield
            finally:
                sys.settrace(None)
                hearer.close()
            hearer.hear()
            return
        end.shutdown(socket.SHUT_WR)
        try:
            with pytest.raises(EOFError):
                yield
        finally:
            sys.settrace(None)
    end.setblocking(False)
    said.sent += Decoder().feed(b"".join(iter(lambda: _received(end), b"")))


def serve(slate: Slate, coming: list[list[Buffer]], stroke: Stroke, *, coroutines: int = 0) -> Wire:
    """A worker with a channel of its own, until the parent is gone or, with coroutines, says stop, which it does
    once that many are answered; what the worker sent."""
    ours, its = socket.socketpair()
    said = Wire()
    slate.words[:8] = memoryview(bytes(64)).cast("Q")
    with ours, contextlib.closing(WorkerChannel(its.detach())) as channel:
        ours.sendall(b"".join(itertools.chain(*coming)))
        worker = loop.Worker(channel, slate, loop.Settings())
        real = channel.send

        def send(buffers: list[Buffer]) -> None:
            real(buffers)
            if (
                stroke.left > 0 and sys.gettrace() is None
            ):  # from the first frame on: the worker is ready
                # CPython 3.12 looks at it when tracing begins.
                sys._getframe().f_trace_opcodes = True
                sys.settrace(stroke.trace)

        channel.send = send  # type: ignore[method-assign]
        with hearing(ours, channel, said, coroutines):
            worker.run()
    return said


def _received(end: socket.socket) -> bytes:
    try:
        return end.recv(1 << 20)
    except BlockingIOError:
        return b""


def strike_everywhere(
    slate: Slate, coming: list[list[Buffer]], expected: Callable[[int], Any], stride: int = 1
) -> int:
    place = 1
    while True:
        _runs.clear()
        stroke = Stroke(place)
        said = serve(slate, coming, stroke)
        if not stroke.where:
            return place
        answers = said.answers()
        assert answers.keys() == set(range(TASKS)), (stroke.where, place)
        counts = [
            n for frame, batch in said.batches() for n in range(frame.seq, frame.seq + len(batch))
        ]
        assert counts == sorted(set(counts)), stroke.where
        wrong = {
            n: value
            for n, value in answers.items()
            if value not in (expected(n), "Stray", "TaskError")
        }
        assert not wrong, (stroke.where, wrong)
        assert sum(value == "Stray" for value in answers.values()) <= TASKS // 2, stroke.where
        assert max(_runs.values(), default=0) <= 1, (stroke.where, place)
        place += stride


@pytest.mark.parametrize("style", [MAP, CALL])
@pytest.mark.parametrize("grain", [1, TASKS])
def test_each_task_has_its_own_answer_and_runs_once(slate: Slate, style: int, grain: int) -> None:
    assert (
        strike_everywhere(
            slate, work(perform, style, grain), lambda n: "KeyError" if n == 7 else -n
        )
        > 150  # how many there are depends on the interpreter
    )


@pytest.mark.parametrize("grain", [1, TASKS])
def test_so_it_is_with_values_that_have_a_pickle_of_their_own(slate: Slate, grain: int) -> None:
    strike_everywhere(slate, work(rich, MAP, grain), lambda n: [n, n])


def test_and_with_functions_that_are_not_written_in_python(slate: Slate) -> None:
    strike_everywhere(slate, work(abs, MAP, TASKS), lambda n: n)
    strike_everywhere(slate, work(two, STAR, TASKS), lambda n: n + 1)


def test_and_under_a_conduct(slate: Slate) -> None:
    function = Conducted(perform, Conduct(retry_on=(OSError,), seed=(1,)))
    strike_everywhere(slate, work(function, MAP, 1), lambda n: "KeyError" if n == 7 else -n)


async def perform_in_turns(x: int) -> int:
    await asyncio.sleep(0)
    return perform(x)


def ended(said: Wire) -> list[tuple[int, Any]]:
    """The numbers and outcomes of coroutines, in the order in which they were sent."""
    return [
        (seq, opened(outcome))
        for frame in said.sent
        if frame.kind == frames.ENDED
        for seq, outcome in zip(
            memoryview(frame.body)[: 8 * frame.count].cast("Q"),
            decode_batch(memoryview(frame.body)[8 * frame.count :], frame.flags != frames.PLAIN),
            strict=True,
        )
    ]


def opened(outcome: Any) -> Any:
    try:
        return take(outcome)
    except Exception as error:
        return type(error).__name__


def strike_coroutines(
    slate: Slate, function: Conducted, place: int, kind: type[BaseException]
) -> str:
    """A worker with coroutines, which is told to stop when all are answered; the place where it was struck."""
    _runs.clear()
    stroke = Stroke(place, kind)
    try:
        said = serve(slate, work(function, MAP, 1), stroke, coroutines=TASKS)
    except RuntimeError as error:
        if "already running" not in str(error):
            raise
        return (
            stroke.where
        )  # a loop that was struck before it ran may not run again: the worker dies
    answers = ended(said)
    assert sorted(seq for seq, _ in answers) == [*range(TASKS)], (stroke.where, place)
    errors = (kind.__name__, "CancelledError", "TaskAborted")
    wrong = [
        (seq, value)
        for seq, value in answers
        if value not in ("KeyError" if seq == 7 else -seq, *errors)
    ]
    assert not wrong, (stroke.where, place)
    assert max(_runs.values(), default=0) <= 1, (stroke.where, place)
    assert not slate.begun(), (stroke.where, place)
    return stroke.where


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # loops half made
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize(
    ("ours", "kind"),
    [
        ("framed.py", Stray), ("channel.py", Stray), ("coroutines.py", Stray), ("stepping.py", Stray),
        ("base_events.py", Stray), ("events.py", Stray), ("events.py", KeyboardInterrupt),
        ("coroutines.py", SystemExit),
    ],
)  # fmt: skip
def test_coroutines_are_answered_once_each_with_its_own(
    slate: Slate, ours: str, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Struck in our files or asyncio's."""
    monkeypatch.setattr(sys.modules[__name__], "OURS", (ours,))
    function = Conducted(perform_in_turns, Conduct(slots=3, timeout=60.0))
    place = 1
    while strike_coroutines(slate, function, place, kind):
        place += 1
    gc.collect()  # loops that cannot be closed
    assert place > 5  # how many there are depends on the interpreter
