"""What is said of a snapshot."""

from __future__ import annotations

import pytest

from millpond.watch.snapshot import Snapshot
from millpond.watch.wording import duration, line, pace
from tests.watch.jobs import snapshot


@pytest.mark.parametrize(
    ("seen", "last", "text"),
    [
        (snapshot(0, 10, elapsed=0.0), False, "squares: 0/10, 0%, 0.0 s so far"),
        (
            snapshot(6120, 10000, failed=2, retried=1, rate=153, eta=25.3),
            False,
            "squares: 6,120/10,000, 61%, 2 failed, 1 retried, 25 s left, 153/s",
        ),
        (snapshot(999, 1000, rate=9, eta=0.1), False, "squares: 999/1,000, 99%, 0.1 s left, 9.0/s"),
        (snapshot(7, None, rate=0.5), False, "squares: 7 done, 12 s so far, 30/min"),
        (snapshot(10, 10, rate=0.8, eta=0), True, "squares: 10/10, 100%, in 12 s, 48/min"),
        (snapshot(0, 0, elapsed=0, eta=0), True, "squares: 0/0, 100%, in 0.0 s"),
    ],
)
def test_a_line(seen: Snapshot, last: bool, text: str) -> None:
    assert line(seen, last) == text


def test_a_description_cannot_steer_the_terminal() -> None:
    seen = snapshot(1, 2, description="a\x1b[2J\nb\u202e", elapsed=1)
    assert line(seen, last=True) == "a\\x1b[2J\\x0ab\\u202e: 1/2, 50%, in 1 s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.44, "0.4 s"), (1, "1 s"), (59.9, "59 s"), (60, "1:00"), (185, "3:05"), (7385, "2:03:05"),
        (3 * 86400 + 7385, "3 d 2:03:05"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (12345.6, "12,346/s"), (10, "10/s"), (9.96, "10.0/s"), (1, "1.0/s"), (0.99, "59/min"),
        (1 / 60, "1.0/min"), (0.01, "36/h"), (1e-9, "0.0/h"),
    ],
)  # fmt: skip
def test_paces(rate: float, text: str) -> None:
    assert pace(rate) == text
