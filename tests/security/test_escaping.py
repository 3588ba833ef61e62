"""Text from elsewhere is escaped before it is part of a message: no control character gets to a terminal."""

from __future__ import annotations

import os
import signal
import sys
import unicodedata
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from millpond import Pool, TaskAborted, WorkerDied, errors
from millpond.backends.local import InitializerFailure, aborted
from millpond.backends.processes.death import Broken, Death, Late, StartFailure, Unwanted
from millpond.errors import ProtocolError, escape, escape_lines
from millpond.watch.snapshot import Snapshot
from millpond.watch.wording import line
from millpond.worker.codec import MAP
from millpond.worker.last_words import LastWords, _last_lines, _stack
from millpond.worker.outcome import (
    ABORTED,
    MISSING,
    _plain,
    rebuild_error,
)

BIDI = {
    *map(chr, range(0x202A, 0x202F)),
    *map(chr, range(0x2066, 0x206A)),
    *"\u061c\u200e\u200f",
}
NASTY = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\n\x00\x7f\u202egnp.exe\u2066\u061c\u200f"

# Text that is likely to have such characters in it.
texts = st.text(
    st.sampled_from(sorted(BIDI))
    | st.characters(categories=["Cc", "Cs", "Zl", "Zp"])
    | st.characters(),
    max_size=40,
)


def offenders(text: str, allowed: str = "") -> list[str]:
    """Characters that a terminal might obey, and halves of such as a stream would not take."""
    return [
        char
        for char in text
        if char not in allowed
        and (unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} or char in BIDI)
    ]


@given(texts)
@settings(deadline=None)
@example(NASTY)
@example("".join(map(chr, range(0x100))))
def test_the_escaper_lets_none_through(text: str) -> None:
    assert offenders(escape(text)) == []
    assert offenders(escape_lines(text), "\n\t") == []
    assert escape_lines(text).count("\n") == text.count("\n")


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Zl", "Zp", "Cs"])))
@settings(deadline=None)
def test_the_escaper_leaves_all_else_alone(text: str) -> None:
    assert escape(text) == escape_lines(text) == text


class Shown:
    """Its repr is what a stranger chose."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def work(text: str) -> Any:
    """A job whose function and argument have such names."""
    return SimpleNamespace(
        place=lambda index: index,
        name=text,
        style=MAP,
        arguments=lambda start, stop: [Shown(text)] * (stop - start),
    )


Made = Callable[[str], BaseException]
ERRORS: dict[str, Made] = {
    "died": lambda t: Death(1, -9, 2, words(t)).error(work(t), 0),
    "bystander": lambda t: Death(1, 3, 2, words(t)).bystander(work(t), 0),
    "late": lambda t: Late(1.0).error(work(t), 0),
    "unwanted": lambda t: Unwanted().error(work(t), 0),
    "broken": lambda t: Broken(1, ProtocolError("no frame")).error(work(t), 0),
    "start": lambda t: StartFailure(1, 1, None, None, words(t)).error(work(t), 0),
    "aborted": lambda t: rebuild_error(ABORTED, _plain("SystemExit", t, "")),
    "aborted here": lambda t: aborted(SystemExit(t)),
    "missing": lambda t: rebuild_error(MISSING, _plain("ImportError", t, "")),
    "stand-in": lambda t: rebuild_error(1, _plain(t, t, "", b"\x80")),
    "initializer": lambda t: InitializerFailure(len, ValueError(t)).error(work(t), 0),
}


def words(text: str) -> LastWords:
    """As the parent reads them from a slate on which a worker wrote anything."""
    data = text.encode("utf-8", "surrogatepass")
    tail = len(data).to_bytes(8, sys.byteorder) + data.ljust(4088, b"\0")
    return LastWords(_last_lines(tail), _stack(b"Fatal Python error: " + data))


@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
@given(text=texts)
@settings(deadline=None)
@example(text=NASTY)
@example(text="\ud800")  # half of a surrogate pair
def test_messages_of_errors(make: Made, text: str) -> None:
    assert offenders(str(make(text)), "\n") == []


@given(texts)
@settings(deadline=None)
@example(NASTY)
def test_remote_tracebacks(text: str) -> None:
    error = rebuild_error(ABORTED, _plain("SystemExit", text, f"Traceback\n\tx\n{text}"))
    assert offenders(str(error.__cause__), "\n\t") == []


@given(texts)
@settings(deadline=None)
@example(NASTY)
def test_a_progress_line(text: str) -> None:
    snapshot = Snapshot(text, 10, 3, 0, 0, 2, 1, 3.5)
    assert offenders(line(snapshot, last=True)) == []


def shout(text: str) -> None:
    print(text, file=sys.stderr)
    os.kill(os.getpid(), signal.SIGKILL)


def leave(text: str) -> None:
    sys.exit(text)


def test_of_a_real_worker(method: str, capfd: pytest.CaptureFixture[str]) -> None:
    with Pool(1, start_method=method) as pool:
        with pytest.raises(WorkerDied) as died:
            pool.apply(shout, (NASTY,))
        with pytest.raises(TaskAborted) as stopped:
            pool.apply(leave, (NASTY,))
    assert "owned" in str(died.value)
    for text in (
        str(died.value),
        died.value.stderr,
        str(stopped.value),
        str(stopped.value.__cause__),
    ):
        assert offenders(text, "\n\t") == []
    capfd.readouterr()
    assert isinstance(stopped.value, errors.MillpondError)
