"""What a worker leaves for ``WorkerDied``: the last lines of its stderr, and the stack of a crash."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import faulthandler
import io
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from millpond import InitializerError, Pool, WorkerDied
from millpond.worker import last_words
from millpond.worker.slate import FAULT, SIZE, TAIL, Slate

FAULTS = [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL]


@pytest.fixture
def slate() -> Iterator[Slate]:
    page = os.memfd_create("slate")
    os.ftruncate(page, SIZE)
    slate = Slate(page)
    os.close(page)
    yield slate
    slate.close()


# Tasks ------------------------------------------------------------------------------------------


def print_and_exit(lines: list[str], code: int = 3) -> None:
    for line in lines:
        print(line, file=sys.stderr)
    os._exit(code)


def crash(number: int) -> None:
    print("on the way", file=sys.stderr)
    os.kill(os.getpid(), number)


def read_nowhere() -> None:
    ctypes.string_at(0)


def crash_in_a_thread() -> None:
    thread = threading.Thread(target=read_nowhere)
    thread.start()
    thread.join()


def crash_in_a_fork_then_exit(code: int) -> None:
    pid = os.fork()
    if pid == 0:
        print("the fork's", file=sys.stderr)
        read_nowhere()
    os.waitpid(pid, 0)
    os.kill(os.getpid(), code) if code else os._exit(1)


def own_stream() -> tuple[bool, bool, int, str]:
    """The worker's stderr is the object that it was, and says all that it said."""
    print("seen", file=sys.stderr, flush=True)
    return (
        sys.stderr is sys.__stderr__,
        isinstance(sys.stderr, io.TextIOWrapper),
        sys.stderr.fileno(),
        sys.stderr.encoding,
    )


def die_without_a_stream() -> None:
    assert sys.stderr is None
    os._exit(5)


def close_stderr() -> None:
    os.close(2)


# Tests ------------------------------------------------------------------------------------------


def death(pool: Pool, function: Any, *args: Any) -> WorkerDied:
    with pytest.raises(WorkerDied) as info:
        pool.apply(function, args)
    return info.value


def test_the_last_lines_are_in_the_error(method: str) -> None:
    with Pool(1, start_method=method) as pool:
        error = death(pool, print_and_exit, ["one", "two \x1b[31m"])
    assert error.stderr == "one\ntwo \\x1b[31m"
    assert error.stack == ""
    first, *rest = str(error).splitlines()
    assert first.startswith(f"worker {error.pid} exited with code 3 before returning")
    assert rest == ["the last lines of its stderr:", "  one", "  two \\x1b[31m"]


@pytest.mark.parametrize("number", FAULTS, ids=lambda number: number.name)
def test_a_crash_leaves_its_stack(number: signal.Signals) -> None:
    with Pool(1, start_method="fork") as pool:
        error = death(pool, crash, number)
    assert error.exitcode == -number
    assert error.stack.startswith("Fatal Python error: ")
    assert ", line " in error.stack
    assert " in crash" in error.stack
    assert error.stderr == "on the way"
    assert "its stack:\n  Fatal Python error: " in str(error)


def test_a_crash_s_stack_under_every_start_method(method: str) -> None:
    with Pool(1, start_method=method) as pool:
        error = death(pool, crash_in_a_thread)
        again = death(pool, read_nowhere)
    assert error.signal == again.signal == "SIGSEGV"
    assert " in read_nowhere" in error.stack
    assert " in crash_in_a_thread" in error.stack  # the other thread
    assert "Thread" not in again.stack.replace("Current thread", "")  # a new worker, a new slate


def test_a_copy_s_words_are_not_the_worker_s() -> None:
    with Pool(1, start_method="fork") as pool:
        exited = death(pool, crash_in_a_fork_then_exit, 0)
        killed = death(pool, crash_in_a_fork_then_exit, signal.SIGKILL)
        crashed = death(pool, crash_in_a_fork_then_exit, signal.SIGABRT)
    assert [exited.stack, killed.stack] == ["", ""]
    assert crashed.stack.startswith("Fatal Python error: Aborted")
    assert crashed.stack.count("Fatal Python error") == 1
    assert exited.stderr == killed.stderr == crashed.stderr == ""


def test_only_the_last_lines_are_kept() -> None:
    lines = [f"line {n} " + "x" * (n % 90) for n in range(1000)]
    with Pool(1, start_method="fork") as pool:
        error = death(pool, print_and_exit, lines)
        long = death(pool, print_and_exit, ["y" * 100_000 + "end"])
    assert error.stderr.splitlines() == lines[-20:]
    assert len(long.stderr) < 4096
    assert long.stderr.endswith("yyyend")


def test_the_initializer_s_end_says_it_too() -> None:
    with (
        Pool(1, print_and_exit, (["no", "luck"],), start_method="fork") as pool,
        pytest.raises(InitializerError, match=r"stderr:\n  no\n  luck$"),
    ):
        pool.apply(int)


def test_stderr_stays_what_it_is(method: str, capfd: pytest.CaptureFixture[str]) -> None:
    with Pool(1, start_method=method) as pool:
        same, plain, number, encoding = pool.apply(own_stream)
    assert encoding.lower() == "utf-8"
    if method != "fork":  # pytest's own object stands there in a copy of this process
        assert (same, plain, number) == (True, True, 2)
        assert capfd.readouterr().err == "seen\n"


def test_a_worker_without_stderr_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with Pool(1, start_method="fork") as pool:
        assert death(pool, die_without_a_stream).stderr == ""


def test_a_closed_stderr_is_the_task_s_affair() -> None:
    with Pool(1, start_method="fork") as pool:
        pool.apply(close_stderr)
        assert pool.apply(abs, (-1,)) == 1


@pytest.mark.parametrize("copied", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_an_error_s_words_travel(copied: Any) -> None:
    error = WorkerDied("m", pid=1, exitcode=-11, phase="running", task=2, blamed=False)
    error.stderr, error.stack = "a\nb", "c"
    assert vars(copied(error)) == vars(error)
    assert str(copied(error)) == "m"


# The layout ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def keeping(slate: Slate, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(faulthandler, "enable", lambda *_: None)
    page = os.memfd_create("page")
    last_words.keep(slate, page)
    os.close(page)
    yield stream
    del stream.write  # it holds the slate


def test_the_ring_has_the_end_of_what_was_written(
    slate: Slate, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = ""
    with keeping(slate, monkeypatch) as stream:
        for n in range(3000):
            text = f"{n}é\n" * (n % 4)
            written += text
            assert sys.stderr.write(text) == len(text)
            if n % 97 == 0:
                kept = last_words.read(slate, 0).stderr
                assert kept == "\n".join(written.splitlines()[-20:])
        assert stream.getvalue() == written


def test_what_was_being_written_is_left_out(slate: Slate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may end between any two stores: what it had written before is there, whole and in order."""
    with keeping(slate, monkeypatch), slate.words.cast("B") as page:
        for written, kept in [("first\n", "first"), (f"{'x' * 50}\n" * 200, f"{'x' * 50}\n" * 20)]:
            sys.stderr.write(written)
            count = page[TAIL : TAIL + 8].cast("Q")
            count[0] += 30  # begun, and some of it there
            assert last_words.read(slate, 0).stderr == kept.rstrip()
            count[0] -= 30
            count.release()


def test_garbage_on_the_slate_is_text(slate: Slate) -> None:
    fault = b"\0Fatal Python error: \x1b\xff\n\nx\0\0\0"
    with slate.words.cast("B") as page:
        page[TAIL:FAULT] = bytes(range(256)) * ((FAULT - TAIL) // 256)
        page[FAULT : FAULT + len(fault)] = fault
    words = last_words.read(slate, None)
    assert "\\x1b" in words.stderr
    assert "\x1b" not in words.stderr
    assert words.stack == "Fatal Python error: \\x1b\ufffd\n\nx"
