"""The worker's loop, step by step: what it notes on its slate, when it answers, what it does not begin."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator

import pytest

from millpond import errors
from millpond.backends import local
from millpond.backends.base import Report
from millpond.backends.registry import Start, choose
from millpond.core.commands import Span
from millpond.core.events import Done
from millpond.job import MapJob
from millpond.testing.clock import FakeClock
from millpond.worker import frames, loop
from millpond.worker.codec import CALL, MAP
from millpond.worker.conduct import Conduct, Conducted
from millpond.worker.frames import Buffer
from millpond.worker.outcome import AGAIN, Error, Sealed, Value, asks_again, offsets_again, take
from millpond.worker.slate import RUNNING, Slate
from tests.core import wire
from tests.core.wire import call, new_slate, run

PATIENCE = 20.0

_deeds: dict[int, Callable[[], object]] = {}
_begun: list[int] = []


def perform(index: int) -> int:
    _begun.append(index)
    _deeds.get(index, int)()
    return index * index


def chunk(count: int, grain: int, seq: int = 0) -> list[Buffer]:
    return wire.chunk(perform, range(count), grain=grain, seq=seq)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    monkeypatch.setattr(loop, "monotonic_ns", clock.nanoseconds)
    return clock


@pytest.fixture
def slate() -> Iterator[Slate]:
    _deeds.clear()
    _begun.clear()
    with new_slate() as slate:
        yield slate


def fail() -> None:
    raise ValueError


def test_tasks_longer_than_a_send_are_answered_one_by_one(clock: FakeClock, slate: Slate) -> None:
    _deeds.update(dict.fromkeys(range(3), lambda: clock.advance(0.1)))
    worker = run(slate, chunk(3, 1))
    assert [(f.kind, f.seq, f.count) for f in worker.sent] == [
        (frames.READY, 0, 0), (frames.DONE, 0, 1), (frames.DONE, 1, 1), (frames.DONE, 2, 1),
    ]  # fmt: skip
    assert [f.seconds for f in worker.sent[1:]] == pytest.approx([0.1] * 3)


def test_short_tasks_are_answered_together(clock: FakeClock, slate: Slate) -> None:
    worker = run(slate, chunk(50, 1))
    assert [(f.seq, f.count) for f in worker.sent[1:]] == [(0, 50)]
    assert worker.answers() == {n: n * n for n in range(50)}


def test_where_once_is_the_most_each_task_is_answered_before_the_next(
    clock: FakeClock, slate: Slate
) -> None:
    worker = run(slate, chunk(5, 5), at_most_once=True)
    assert [(f.seq, f.count) for f in worker.sent[1:]] == [(n, 1) for n in range(5)]


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
    worker = run(slate, chunk(4, grain), chunk(2, grain, seq=4))
    assert _begun == [0, 0, 1]
    assert worker.answers() == {0: 0, 4: 0, 5: 1}


def test_what_was_taken_back_is_not_begun_after_an_error_either(
    clock: FakeClock, slate: Slate
) -> None:
    """An error ends a slice early; the next one must not reach into what was taken back."""

    def take_back_and_fail() -> None:
        assert slate.read()[:2] == (1, 4)
        slate.recall(3, 4)
        fail()

    _deeds.update({0: lambda: clock.advance(0.00001), 1: take_back_and_fail})
    assert run(slate, chunk(4, 4)).answers() == {0: 0, 1: "ValueError", 2: 4}
    assert _begun == [0, 1, 2]


# Under a conduct ----------------------------------------------------------------------------------


def fail_by(name: str) -> None:
    raise getattr(builtins, name)


def gone(_: int) -> None:
    """No worker finds it."""


def spell(count: int) -> str:
    return "x" * count


def conducted(function: Callable[..., object], *retry_on: type[BaseException]) -> Conducted:
    return Conducted(function, Conduct(retry_on=retry_on))


def test_an_error_that_may_pass_asks_for_another_run(clock: FakeClock, slate: Slate) -> None:
    function = conducted(fail_by, LookupError, OSError)
    names = ["KeyError", "ValueError", "FileNotFoundError"]
    worker = run(slate, wire.chunk(function, names), wire.chunk(fail_by, names, seq=3))
    (first, asking), (second, not_asking) = worker.batches()
    assert (first.flags, second.flags) == (frames.MIXED | frames.AGAIN, frames.MIXED)
    assert offsets_again(asking) == (0, 2)
    assert offsets_again(not_asking) == ()
    assert list(worker.answers().values()) == names * 2


def test_only_frames_with_such_an_outcome_are_flagged(clock: FakeClock, slate: Slate) -> None:
    _deeds.update({0: fail, 1: lambda: clock.advance(0.1), 2: fail, 3: lambda: clock.advance(0.1)})
    function = conducted(perform, ValueError)
    worker = run(slate, wire.chunk(function, [0, 1, 5, 3, 2]))
    assert [(frame.flags, offsets_again(batch)) for frame, batch in worker.batches()] == [
        (frames.MIXED | frames.AGAIN, (0,)), (frames.PLAIN, ()), (frames.MIXED | frames.AGAIN, (0,)),
    ]  # fmt: skip


def test_a_call_of_a_conducted_function(clock: FakeClock, slate: Slate) -> None:
    function = conducted(spell, TypeError)
    worker = run(
        slate, wire.chunk(function, [((2,), {})], style=CALL), call(3, seq=1), call("?", seq=2)
    )
    assert worker.answers() == {0: "xx", 1: "xxx", 2: "TypeError"}
    assert [frame.flags for frame, _ in worker.batches()] == [0, 0, frames.MIXED | frames.AGAIN]
    assert slate.read() == (3, 3, 0)


def test_a_conducted_call_that_was_taken_back_is_not_begun(clock: FakeClock, slate: Slate) -> None:
    _deeds[1] = lambda: slate.recall(slate.read()[1], 3)
    function = conducted(perform)
    worker = run(
        slate, wire.chunk(function, [((0,), {})], style=CALL), call(1, seq=1), call(2, seq=2), call(3, seq=3)
    )  # fmt: skip
    assert _begun == [0, 1, 3]
    assert worker.answers() == {0: 0, 1: 1, 3: 9}


def test_a_conducted_task_runs_alone_whatever_its_grain(clock: FakeClock, slate: Slate) -> None:
    seen: list[tuple[int, int, int]] = []
    _deeds.update(dict.fromkeys(range(3), lambda: seen.append(slate.read())))
    run(slate, wire.chunk(conducted(perform), range(3), grain=3))
    assert seen == [(0, 1, RUNNING), (1, 2, RUNNING), (2, 3, RUNNING)]


@pytest.mark.parametrize("conduct", [True, False])
def test_calls_of_a_function_that_cannot_be_loaded_are_missing(
    clock: FakeClock, slate: Slate, monkeypatch: pytest.MonkeyPatch, conduct: bool
) -> None:
    function = conducted(gone, ImportError, AttributeError) if conduct else gone
    sent = wire.chunk(function, [((0,), {})], style=CALL)
    monkeypatch.delattr(f"{__name__}.gone")
    worker = run(slate, sent, call(1, seq=1))
    assert worker.answers() == {0: "TaskError", 1: "TaskError"}
    for frame, batch in worker.batches():
        assert (frame.flags, offsets_again(batch)) == (frames.MIXED, ())
        with pytest.raises(errors.TaskError, match="cannot load the task's function"):
            take(batch[0])


@pytest.mark.parametrize(
    ("error", "retry_on", "asks"),
    [
        (KeyError(), (LookupError,), True),
        (KeyError(), (OSError, KeyError), True),
        (LookupError(), (KeyError,), False),
        (KeyError(), (), False),
        (SystemExit(), (Exception,), False),
        (SystemExit(), (SystemExit,), True),
        (SystemExit(), (errors.TaskAborted,), True),
        (ValueError(), (errors.TaskAborted,), False),
    ],
)
def test_what_asks_for_another_run(
    error: BaseException, retry_on: tuple[type[BaseException], ...], asks: bool
) -> None:
    assert asks_again(error, retry_on) is asks


def test_whether_to_run_again_is_decided_without_the_users_code() -> None:
    class Loud(type):
        def __eq__(cls, other: object) -> bool:
            raise AssertionError

        __hash__ = type.__hash__

        def __instancecheck__(cls, instance: object) -> bool:
            raise AssertionError

        __subclasscheck__ = __instancecheck__

    class LoudError(Exception, metaclass=Loud):
        pass

    assert asks_again(LoudError(), (OSError, LoudError))
    assert not asks_again(LoudError(), (OSError,))
    assert not asks_again(ValueError(), (LoudError,))


def test_where_in_a_batch_another_run_is_asked_for() -> None:
    sealed = Sealed(1 | AGAIN, b"")
    assert offsets_again([1, Value(2), Error(KeyError(), True), Error(KeyError()), sealed]) == (
        2,
        4,
    )
    assert offsets_again([1, 2, 3]) == ()


def test_an_error_that_pickle_refuses_asks_too(clock: FakeClock, slate: Slate) -> None:
    def unsendable(_: object) -> None:
        raise OSError(lambda: None)

    _deeds[0] = lambda: unsendable(0)
    ((_, batch),) = run(slate, wire.chunk(conducted(perform, OSError), [0])).batches()
    assert offsets_again(batch) == (0,)
    with pytest.raises(errors.MaybeEncodingError):
        take(batch[0])


def test_the_remote_traceback_begins_at_the_task(clock: FakeClock, slate: Slate) -> None:
    for conduct in (Conduct(), Conduct(seed=(1,))):
        sent = wire.chunk(Conducted(fail_by, conduct), ["KeyError"])
        ((_, batch),) = run(slate, sent).batches()
        with pytest.raises(KeyError) as caught:
            take(batch[0])
        lines = str(caught.value.__cause__).splitlines()
        assert lines[2].startswith("Traceback")
        assert lines[3].endswith("in fail_by")


# In the caller's process --------------------------------------------------------------------------


def throw(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "again"), [(KeyError(), True), (ValueError(), False), (SystemExit(), True)]
)
def test_a_local_task_says_whether_it_asks_for_another_run(
    error: BaseException, again: bool
) -> None:
    function = conducted(throw, LookupError, SystemExit)
    assert offsets_again([local.run(function, MAP, error)]) == ((0,) if again else ())
    assert offsets_again([local.run(throw, MAP, error)]) == ()


@pytest.mark.parametrize("kind", ["inline", "threads"])
def test_a_local_backend_reports_what_asks_for_another_run(kind: str) -> None:
    start = Start(None, "", asked=False, ours=True, served=None)
    backend = choose(kind, start, None, ()).backend
    job = MapJob(conducted(throw, OSError), "f", MAP, [KeyError(), OSError()], 1, 1)
    reports: list[Report] = []
    try:
        backend.start(1)
        backend.send(1, 0, [(job, Span(1, 0, 2))])
        for _ in range(3):  # Ready and two times Done
            reports += backend.poll(PATIENCE if len(reports) < 3 else 0)
    finally:
        backend.close(PATIENCE)
    events = [report.event for report in reports]
    assert [event.again for event in events if type(event) is Done] == [(), (0,)]
