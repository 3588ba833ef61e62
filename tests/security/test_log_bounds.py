"""What a worker that was taken over logs: which records are let through, how many, and by how many names."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import pytest

from millpond import Pool, ProtocolError, Sandbox
from millpond.backends.processes.sandboxed import Doubt
from millpond.worker import frames, records, untrusted_records
from millpond.worker.fixed_codec import encode
from millpond.worker.frames import Frame
from millpond.worker.untrusted import laundered
from tests.security.hostile import send

HONEST: dict[Any, Any] = {
    "name": "x",
    "msg": "y",
    "levelno": 20,
    "levelname": "INFO",
    "created": 1.7e9,
}
HOSTILE: dict[str, dict[Any, Any]] = {
    "a number of five thousand digits for a name": {"name": 10**5000},
    "a number of many digits": {"more": 10**5000},
    "a level beyond all": {"levelno": 10**30},
    "a level of many digits": {"levelno": 10**5000},
    "ten thousand dots": {"name": "." * 10_000},
    "a hundred dots": {"name": "." * 100},
    "a time that calendars have no year for": {"created": 1e300},
    "no time at all": {"created": float("nan")},
    "a part of a second that is none": {"msecs": float("inf")},
    "a line of many digits": {"lineno": 10**5000},
    "too many fields": {str(n): n for n in range(101)},
    "a field without a name": {5: 5},
    "a field with a long name": {"x" * 1000: 5},
    "a method": {"getMessage": "x"},
    "a long message": {"msg": "x" * 100_000},
    "long text": {"more": "x" * 5_000},
    "a list": {"more": [1]},
    "no message": {"msg": None},
    "more than a record may be": {f"m{n}": b"x" * 5_000 for n in range(90)},
}


@pytest.fixture
def loggers() -> Iterator[None]:
    """Those that a test brings into being are forgotten."""
    before, brought = set(logging.root.manager.loggerDict), set(untrusted_records._brought)
    yield
    for name in set(logging.root.manager.loggerDict) - before:
        del logging.root.manager.loggerDict[name]
    untrusted_records._brought.clear()
    untrusted_records._brought.update(brought)


@pytest.mark.parametrize("what", HOSTILE)
def test_log_records_that_no_worker_sends(what: str) -> None:
    body = encode({**HONEST, **HOSTILE[what]})
    with pytest.raises(ProtocolError):
        laundered(Frame(frames.LOG, 0, 0, 0, 0.0, body))
    known = len(logging.root.manager.loggerDict)
    with Pool(2, sandbox=True) as pool:
        pool.map(abs, [-1, -2])
        bad = pool.apply_async(send, (frames.LOG, body, 0, 0, 0))
        others = [pool.apply_async(abs, (-n,)) for n in range(10)]
        with pytest.raises(ProtocolError):
            bad.get()
        assert [other.get() for other in others] == list(range(10))
    assert len(logging.root.manager.loggerDict) - known < 5


class Level(IntEnum):
    LOUD = 35


def log_oddly() -> None:
    extra = {
        "big": 10**5000,
        "level": Level.LOUD,
        "long": "y" * 5_000,
        "thing": object,
        "list": [1] * 10_000,
    }
    logging.getLogger("a." * 5_000).warning("x" * 50_000, extra=extra)
    logging.getLogger("b").log(Level.LOUD, "%s", "fine", extra={str(n): n for n in range(200)})
    logging.getLogger("b").log(10**7, "too loud")


def test_an_honest_worker_keeps_to_the_bounds(
    caplog: pytest.LogCaptureFixture, loggers: None
) -> None:
    with Pool(1, sandbox=True) as pool:
        pool.apply(log_oddly)
        assert pool.info()["lost"] == 0
    first, second, third = caplog.records
    assert len(first.getMessage()) == 10_000
    assert first.name.count(".") < 20
    assert (second.levelno, second.getMessage()) == (35, "fine")
    assert third.getMessage() == "too loud"


def log_much(count: int) -> None:
    for n in range(count):
        logging.getLogger("much").warning("%s", n)


class Clock:
    """The time by which the program counts what its workers log: it goes on only where a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    given = Clock()
    monkeypatch.setattr("millpond.backends.processes.sandboxed.time", given)
    return given


def test_how_fast_a_worker_may_log(clock: Clock) -> None:
    """5,000 records at once, and 1,000 a second; 1,024 bytes count as one more."""
    doubt = Doubt(Sandbox())

    def admitted(length: int) -> int:
        return sum(doubt.admits(length) for _ in range(20_000))

    assert admitted(0) == 5_000
    assert admitted(0) == 0
    clock.now += 2
    assert admitted(0) == 2_000
    clock.now += 3
    assert admitted(1 << 10) == 1_500
    clock.now += 3_600
    assert admitted(0) == 5_000


def test_more_records_than_a_worker_may_log_are_left_out(
    caplog: pytest.LogCaptureFixture, loggers: None, clock: Clock
) -> None:
    with Pool(1, sandbox=True) as pool:
        pool.apply(log_much, (6_000,))
        assert 2_500 < shown(caplog) <= 5_000  # a record's bytes count, too
        clock.now += 1
        caplog.clear()
        pool.apply(log_much, (2_000,))
        assert 500 < shown(caplog, told=0) <= 1_000
        clock.now += 5
        caplog.clear()
        pool.apply(log_much, (6_000,))
        assert 2_500 < shown(caplog) <= 5_000


def shown(caplog: pytest.LogCaptureFixture, told: int = 1) -> int:
    """How many records of the worker's were, and that the program said so often that others are left out."""
    said = [record.getMessage() for record in caplog.records if record.name == "millpond"]
    assert len(said) == told
    assert all("logs or prints more than one in a sandbox may" in text for text in said)
    return len(caplog.records) - told


def log_by_many_names() -> None:
    for n in range(2_000):
        logging.getLogger(f"one.{n}").error("x")


def test_strangers_bring_few_loggers_into_being(
    caplog: pytest.LogCaptureFixture, loggers: None
) -> None:
    before = len(logging.root.manager.loggerDict)
    with Pool(1, sandbox=True) as pool:
        pool.apply(log_by_many_names)
    assert len(caplog.records) == 2_000
    assert len(logging.root.manager.loggerDict) - before <= 300


def test_any_record_that_is_let_through_can_be_shown(loggers: None) -> None:
    shown = "%(asctime)s %(levelname)s %(name)s %(lineno)d %(msecs)03d %(process)d %(thread)d %(message)s"
    extremes: list[dict[str, Any]] = [
        {"created": 0, "msecs": 0},
        {"created": 253_401_999_999.0, "msecs": 1_000},
        {"levelno": 1_000_000},
    ]
    for extreme in extremes:
        state = {**HONEST, "lineno": 1, "msecs": 5.0, "process": 1, "thread": 1, **extreme}
        frame = laundered(Frame(frames.LOG, 0, 0, 0, 0.0, encode(state)))
        assert logging.Formatter(shown).format(records.unpack(frame.body))
