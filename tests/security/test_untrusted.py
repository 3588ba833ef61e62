"""What a worker that has been taken over can send: nothing of it is unpickled, and its lies end with it."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from millpond import (
    MaybeEncodingError,
    Pool,
    ProtocolError,
    Sandbox,
    TaskAborted,
    TaskError,
    TaskTimeout,
    WorkerDied,
)
from millpond.backends.processes import backend
from millpond.worker import fixed_codec, frames, outcome, records, untrusted
from millpond.worker.fixed_codec import encode
from millpond.worker.frames import Frame
from millpond.worker.outcome import ERROR, MISSING, REFUSED, VALUE, Sealed, decode_batch
from millpond.worker.slate import FIRST_ROW, NEXT, STEP, TIME, WORD
from millpond.worker.untrusted import laundered
from tests.security.hostile import channel, send, send_raw, slate

# Frames, without a worker -------------------------------------------------------------------------


class Evil:
    """Unpickling it makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


class Watched(pickle.Unpickler):
    """Notes the name of whatever a pickle wants to be looked up, which all that could do harm needs."""

    def __init__(self, data: Any, asked: list[str]) -> None:
        super().__init__(io.BytesIO(data))
        self._asked = asked

    def find_class(self, module: str, name: str) -> Any:
        self._asked.append(f"{module}.{name}")
        return super().find_class(module, name)


def frame(
    kind: int, body: Any = b"", flags: int = 0, count: int = 0, seconds: float = 0.0
) -> Frame:
    return Frame(kind, flags, count, 0, seconds, body)


@pytest.fixture
def evil(tmp_path: Path) -> Iterator[bytes]:
    """A pickle that must not be loaded."""
    trap = tmp_path / "trap"
    yield pickle.dumps(Evil(str(trap)))
    assert not trap.exists()


def bodies(evil: bytes) -> dict[str, Frame]:
    """Where a trusted worker has a pickle."""
    blob = fixed_codec.encode([(VALUE, len(evil))])
    error = fixed_codec.encode([(ERROR, len(evil))])
    size = (4).to_bytes(4, "little")
    trusted = b"".join(outcome.encode_batch([Sealed(VALUE, evil)], True))
    return {
        "a plain batch": frame(frames.DONE, evil, frames.PLAIN, 1),
        "an index": frame(frames.DONE, len(evil).to_bytes(4, "little") + evil, frames.MIXED, 1),
        "a batch as from a trusted worker": frame(frames.DONE, trusted, frames.MIXED, 1),
        "a value": frame(
            frames.DONE, len(blob).to_bytes(4, "little") + blob + evil, frames.MIXED, 1
        ),
        "an error": frame(
            frames.DONE, len(error).to_bytes(4, "little") + error + evil, frames.MIXED, 1
        ),
        "no index": frame(frames.DONE, size + evil, frames.MIXED, 1),
        "coroutines": frame(frames.ENDED, bytes(8) + evil, frames.PLAIN, 1),
        "an initializer's error": frame(frames.FAILED, evil, ERROR),
        "a log record": frame(frames.LOG, evil),
        "a chunk": frame(frames.CHUNK, evil),
        "a call": frame(frames.CALL, evil),
    }


@pytest.mark.parametrize("which", bodies(b""))
def test_no_pickle_is_loaded(which: str, evil: bytes) -> None:
    with pytest.raises(ProtocolError):
        laundered(bodies(evil)[which])


def test_a_trusted_reader_would_load_them(tmp_path: Path) -> None:
    """So that the test above can fail."""
    trap = tmp_path / "trap"
    sent = bodies(pickle.dumps(Evil(str(trap))))["a plain batch"]
    assert decode_batch(sent.body, False) is None
    assert trap.exists()


def batch(outcomes: list[Any], mixed: bool) -> Frame:
    body = b"".join(untrusted.encode_batch(outcomes, mixed))
    return frame(frames.DONE, body, int(mixed), len(outcomes))


def test_batches_come_out_as_they_went_in() -> None:
    assert decode_batch(laundered(batch([1, "a", None], False)).body, False) == [1, "a", None]
    outcomes = [1, untrusted.seal_value([2]), untrusted.seal_value(object()), b"x"]
    outcomes += [untrusted.seal_error(ValueError("v\x1b")), untrusted.seal_missing(KeyError("f"))]
    found = decode_batch(laundered(batch(outcomes, True)).body, True)
    assert (found[0], found[1].open(), found[3]) == (1, [2], b"x")
    assert [found[n].tag for n in (2, 4, 5)] == [REFUSED, ERROR, MISSING]
    with pytest.raises(TaskError, match=r"^ValueError: v\\x1b$"):
        found[4].open()


@pytest.mark.parametrize(
    "sent",
    [
        batch([], False),
        batch([1], False)._replace(count=2),
        batch([1], False)._replace(flags=2),
        batch([1], False)._replace(flags=7),
        batch([1], False)._replace(seconds=float("nan")),
        batch([1], False)._replace(seconds=float("inf")),
        batch([1], False)._replace(seconds=-1.0),
        batch([[1]], False),
        batch([untrusted.seal_value([1])], True)._replace(flags=frames.PLAIN),
        batch([Sealed(9, fixed_codec.encode(("a", "b", "c")))], True),
        batch([Sealed(16, fixed_codec.encode(("a", "b", "c")))], True),
        batch([Sealed(ERROR, fixed_codec.encode(("a", "b", 3)))], True),
        batch([Sealed(ERROR, fixed_codec.encode(("a", "b")))], True),
        batch([Sealed(REFUSED, fixed_codec.encode(("a", "b", "c")))], True),
        frame(frames.DONE, b"", frames.MIXED, 1),
        frame(frames.DONE, b"\xff\xff\xff\xff", frames.MIXED, 1),
        frame(frames.ENDED, bytes(4), frames.PLAIN, 1),
        frame(frames.ENDED, b"", frames.PLAIN, 1 << 31),
        frame(frames.FAILED, fixed_codec.encode(("a", "b", "c")), VALUE),
        frame(frames.LOG, fixed_codec.encode({"name": "x"})),
    ],
)
def test_what_no_worker_sends(sent: Frame) -> None:
    with pytest.raises(ProtocolError):
        laundered(sent)


kinds = st.integers(0, 20)
pieces = st.binary(max_size=60) | st.recursive(
    st.none() | st.integers(-3, 40) | st.text(max_size=5) | st.binary(max_size=20),
    lambda x: st.lists(x, max_size=3) | st.tuples(x, x) | st.dictionaries(st.text(max_size=6), x),
    max_leaves=6,
).map(fixed_codec.encode)


@given(kinds, pieces, pieces, st.booleans(), st.integers(0, 40), st.integers(0, 3), st.floats())
@example(frames.DONE, fixed_codec.encode([1]), b"", False, 0, 1, 0.0)
@settings(deadline=None, max_examples=500)
def test_any_frame_gives_a_harmless_one_or_protocol_error(
    kind: int, head: bytes, tail: bytes, sized: bool, flags: int, count: int, seconds: float
) -> None:
    body = (len(head).to_bytes(4, "little") if sized else b"") + head + tail
    try:
        found = laundered(frame(kind, body, flags, count, seconds))
    except ProtocolError:
        return
    asked: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pickle, "loads", lambda data: Watched(data, asked).load())
        for one in decode_batch(found.body, bool(flags)) if kind == frames.DONE else ():
            with contextlib.suppress(TaskError, TaskAborted, MaybeEncodingError):
                outcome.take(one)
        if kind == frames.LOG:
            assert isinstance(records.unpack(found.body).getMessage(), str)
    assert asked == []


record_keys = st.sampled_from(
    ["name", "msg", "levelno", "levelname", "args", "exc_info", "exc_text", "created", "extra"]
) | st.sampled_from(dir(logging.LogRecord))


@given(
    st.dictionaries(
        record_keys,
        st.none() | st.integers() | st.text(max_size=5) | st.lists(st.none(), max_size=1),
    )
)
@settings(deadline=None, max_examples=300)
def test_any_log_record_can_be_formatted(state: dict[str, Any]) -> None:
    full = {"name": "x", "msg": "%s", "levelno": 20, "levelname": "INFO", **state}
    try:
        found = laundered(frame(frames.LOG, fixed_codec.encode(full)))
    except ProtocolError:
        return
    record = records.unpack(found.body)
    shown = logging.Formatter("%(levelname)s %(name)s %(message)s").format(record)
    assert isinstance(shown, str)


# A worker that was taken over ---------------------------------------------------------------------


@pytest.mark.parametrize("which", bodies(b""))
def test_a_worker_that_sends_a_pickle(which: str, evil: bytes) -> None:
    kind, flags, count, _, _, body = bodies(evil)[which]
    with Pool(1, sandbox=True) as pool:
        assert pool.apply(abs, (-1,)) == 1
        with pytest.raises(ProtocolError, match=r"was killed in task 0 of send\(.*it had sent"):
            pool.apply(send, (kind, bytes(body), flags, count, 1))
        assert pool.apply(abs, (-2,)) == 2
        assert pool.info()["lost"] == 1


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n" * 10,
        b"".join(frames.encode(frames.READY, [fixed_codec.encode({"landlock": 99})])),
        b"".join(frames.encode(frames.DONE, [fixed_codec.encode([1])], count=1, seq=1 << 60)),
        b"".join(frames.encode(99)),
    ],
    ids=["garbage", "ready again", "another's task", "unknown kind"],
)
def test_a_worker_that_sends_nonsense(data: bytes, method: str) -> None:
    with Pool(1, sandbox=True, start_method=method) as pool:
        assert pool.apply(abs, (-1,)) == 1
        said = pool.info()["sandbox"]
        with pytest.raises(ProtocolError):
            pool.apply(send_raw, (data,))
        assert pool.apply(abs, (-2,)) == 2
        assert pool.info()["sandbox"]["landlock"] == said["landlock"]


def lie_and_die(words: list[tuple[int, int]]) -> None:
    """Write on the slate what it wants to be believed, and crash."""
    page = slate().words
    for at, value in words:
        page[at] = value
    os.kill(os.getpid(), 9)


LIES = {
    "nothing begun": [(WORD, 0)],
    "in a task long past": [(WORD, 0 * STEP + 4 + 2)],
    "in a task to come": [(WORD, 999 * STEP + 4 + 2)],
    "all ones": [(WORD, (1 << 64) - 1), (TIME, (1 << 64) - 1), (NEXT, (1 << 64) - 1)],
    "rows": [(FIRST_ROW + n, (1 << 64) - 1 - n) for n in range(64)] + [(WORD, 3 * STEP)],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_slate_that_lies_ends_nothing_but_its_task(lie: str) -> None:
    with Pool(1, sandbox=True) as pool:
        for _ in range(3):
            assert pool.apply(abs, (-1,)) == 1
        with pytest.raises(WorkerDied):
            pool.apply(lie_and_die, (LIES[lie],))
        assert pool.info()["lost"] <= 2  # run again alone at most once
        assert pool.map(abs, range(-5, 0)) == [5, 4, 3, 2, 1]


def poison(row: tuple[int, list[tuple[int, int]]]) -> int:
    x, words = row
    if x == 5:
        lie_and_die(words)
    return x


@pytest.mark.parametrize("lie", LIES)
def test_a_slate_that_lies_among_others(lie: str) -> None:
    with Pool(1, sandbox=True) as pool:
        for _ in range(3):
            assert (
                pool.apply(abs, (-1,)) == 1
            )  # the first tasks are past, whatever is gathered later
        rows = [(x, LIES[lie]) for x in range(12)]
        found: list[Any] = pool.map(poison, rows, chunksize=4, on_error="return")
        died = [x for x, value in enumerate(found) if isinstance(value, Exception)]
        assert died == [5]
        assert isinstance(found[5], WorkerDied)
        assert pool.info()["lost"] <= 3


def outlive() -> None:
    """Run for ever, and say that it has just begun."""
    page = slate().words
    while True:
        page[TIME] = time.monotonic_ns()


def test_a_slate_that_lies_about_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_LOADING", 0.3)
    with Pool(1, sandbox=True) as pool:
        with pytest.raises(TaskTimeout):
            pool.apply(outlive, timeout=0.2)
        assert pool.apply(abs, (-1,)) == 1


def log_on() -> None:
    """The same, and be heard of all the time."""
    page, own = slate().words, channel()
    state = {"name": "x", "msg": "y", "levelno": 10, "levelname": "DEBUG"}
    record = b"".join(frames.encode(frames.LOG, [encode(state)]))
    while True:
        page[TIME] = time.monotonic_ns()
        own.sendall(record)
        time.sleep(0.01)


def test_log_records_do_not_put_off_a_limit_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_LOADING", 0.3)
    with Pool(1, sandbox=Sandbox(cpu_seconds=30)) as pool:
        assert pool.apply(abs, (-1,)) == 1
        with pytest.raises(TaskTimeout):
            pool.apply_async(log_on, timeout=0.2).get(20)
        assert pool.apply(abs, (-1,)) == 1


def idle_out() -> None:
    page = slate().words
    page[WORD] = 0
    while True:
        page[TIME] = 1 << 63


def test_a_slate_that_says_that_it_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "_LOADING", 0.3)
    with Pool(1, sandbox=Sandbox(cpu_seconds=30)) as pool:
        assert pool.apply(abs, (-1,)) == 1
        with pytest.raises(TaskTimeout):
            pool.apply(idle_out, timeout=0.2)
        assert pool.apply(abs, (-1,)) == 1


def flood(count: int) -> int:
    """Many honest frames of log records with hostile content."""
    own = channel()
    for n in range(count):
        state = {"name": "x", "msg": f"\x1b]0;{n}\x07", "levelno": 30, "levelname": "WARNING"}
        own.sendall(b"".join(frames.encode(frames.LOG, [fixed_codec.encode(state)])))
    return count


def test_log_records_of_a_stranger_are_escaped(caplog: pytest.LogCaptureFixture) -> None:
    with Pool(1, sandbox=True) as pool:
        assert pool.apply(flood, (20,)) == 20
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [f"\\x1b]0;{n}\\x07" for n in range(20)]


def test_what_is_not_sandboxed_is_as_before() -> None:
    """The tests above are about the sandbox, and nothing else."""
    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [(abs, (-1,)), (sorted, ([2, 1],))]
    with Pool(1) as pool:
        found = list(itertools.starmap(pool.apply, calls))
    assert found == [1, [1, 2]]
