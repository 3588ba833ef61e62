"""Process(timeout=): who runs too long is killed, and it is said so."""

from __future__ import annotations

import asyncio
import ctypes
import fractions
import gc
import os
import signal
import threading
import time
import weakref
from typing import Any

import pytest

import millpond
from millpond import errors
from millpond.backends.processes import deadlines
from tests.processes import work
from tests.processes.waiting import LIMIT, ends, until

SHORT = 0.3


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "millpond-deadlines"]


def started(context: Any, target: Any, *args: Any, daemon: bool = True, **options: Any) -> Any:
    """A process that runs; daemonic, so that no failing test has to wait for it."""
    process = context.Process(target=target, args=args, daemon=daemon, **options)
    process.start()
    return process


# What the children run ----------------------------------------------------------------------------


def busy() -> None:
    while True:
        pass


def stuck() -> None:
    """Native code that holds the interpreter's lock."""
    ctypes.PyDLL(None).sleep(1000)


def deaf() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    work.wait_for_end()


def stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def unready_to_leave() -> str:
    """Return, but have a thread that keeps the process."""
    threading.Thread(target=work.wait_for_end).start()
    return "whole"


class Slow(millpond.Process):
    """Sets its own limit, and has attributes with names that come to mind."""

    def __init__(self, timeout: float) -> None:
        super().__init__(timeout=timeout)
        self.timeout = self._timeout = self._deadline = self.limit = "mine"

    def run(self) -> None:
        assert {self.timeout, self._timeout, self._deadline, self.limit} == {"mine"}
        work.wait_for_end()


# Late -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [work.wait_for_end, busy, stuck, deaf, stopped])
def test_one_that_is_late_is_killed(context: Any, target: Any) -> None:
    process = started(context, target, timeout=SHORT)
    with pytest.raises(errors.TaskTimeout) as caught:
        process.result(LIMIT)
    text = str(caught.value)
    assert process.name in text
    assert f"pid {process.pid}" in text
    assert "0.3 s" in text
    assert process.exitcode == -signal.SIGKILL
    assert not process.is_alive()
    assert process not in millpond.active_children()
    process.join()
    process.close()


@pytest.mark.parametrize("daemon", [True, False])
def test_it_has_its_time(context: Any, daemon: bool) -> None:
    before = time.monotonic()
    process = started(context, work.wait_for_end, daemon=daemon, timeout=SHORT)
    begun = time.monotonic()
    assert isinstance(process.exception(LIMIT), errors.TaskTimeout)
    over = time.monotonic()
    assert over - before >= SHORT
    assert over - begun < SHORT + LIMIT / 10


def test_nobody_needs_to_wait_for_it(context: Any) -> None:
    process = started(context, work.wait_for_end, timeout=SHORT)
    assert ends(process.sentinel, LIMIT)
    assert not process.is_alive()


def test_awaiting_raises_it(context: Any) -> None:
    async def main() -> None:
        await started(context, work.wait_for_end, timeout=SHORT)

    with pytest.raises(errors.TaskTimeout):
        asyncio.run(main())


def test_a_subclass_gives_its_own_limit_and_keeps_its_attributes() -> None:
    process = Slow(SHORT)
    process.start()
    with pytest.raises(errors.TaskTimeout, match="Slow-"):
        process.result(LIMIT)
    assert process.timeout == process._timeout == process._deadline == "mine"


def test_a_result_that_was_whole_before_counts(context: Any) -> None:
    process = started(context, unready_to_leave, timeout=2 * SHORT)
    assert process.result(LIMIT) == "whole"
    assert process.exception() is None
    assert process.exitcode == -signal.SIGKILL


def test_it_is_told_from_another_s_kill(context: Any) -> None:
    process = started(context, work.shoot, int(signal.SIGKILL), timeout=LIMIT)
    with pytest.raises(errors.WorkerDied, match="SIGKILL"):
        process.result(LIMIT)


def test_a_limit_of_the_caller_s_patience_is_another(context: Any) -> None:
    process = started(context, work.wait_for_end, timeout=2 * SHORT)
    with pytest.raises(millpond.TimeoutError):
        process.result(0)
    with pytest.raises(errors.TaskTimeout):
        process.result(LIMIT)


def test_it_is_known_though_nobody_knows_the_exit_status(method: str) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        process = started(millpond.get_context(method), work.wait_for_end, timeout=SHORT)
        with pytest.raises(errors.TaskTimeout):
            process.result(LIMIT)
    finally:
        signal.signal(signal.SIGCHLD, before)


# In time --------------------------------------------------------------------------------------------


def test_one_that_is_in_time_is_left_alone_and_not_kept(context: Any) -> None:
    process = started(context, work.double, 21, timeout=1000)
    assert len(watchers()) <= 1
    assert process.result(LIMIT) == 42
    assert process.exitcode == 0
    process.close()
    gone = weakref.ref(process)
    del process
    gc.collect()
    assert gone() is None
    until(lambda: not watchers())


@pytest.mark.parametrize("timeout", [None, float("inf"), fractions.Fraction(1000)])
def test_limits_that_do_not_matter(timeout: Any) -> None:
    process = started(millpond, work.double, 21, timeout=timeout)
    assert process.result(LIMIT) == 42


def test_without_a_limit_there_is_no_thread() -> None:
    ours, theirs = millpond.Pipe()
    process = started(millpond, work.told, theirs)
    assert ours.recv() == process.pid
    assert watchers() == []
    ours.send("end")
    assert process.result(LIMIT) == "end"
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        (0, ValueError),
        (-1.5, ValueError),
        (float("nan"), ValueError),
        ("2", TypeError),
        (b"2", TypeError),
        (1j, TypeError),
        ([], TypeError),
    ],
)
def test_what_is_no_limit(timeout: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"timeout must be .* seconds"):
        millpond.Process(target=work.double, timeout=timeout)


# The one thread -------------------------------------------------------------------------------------


def test_each_has_its_own_limit_whatever_the_order_of_their_starts(context: Any) -> None:
    limits = (3 * SHORT, SHORT, 1000, 2 * SHORT)
    processes = [started(context, work.wait_for_end, timeout=limit) for limit in limits]
    assert len(watchers()) == 1
    for n in (1, 3, 0):
        with pytest.raises(errors.TaskTimeout):
            processes[n].result(LIMIT)
        assert time.monotonic() >= processes[n]._popen.deadline.at
    assert processes[2].is_alive()
    processes[2].kill()
    with pytest.raises(errors.WorkerDied):
        processes[2].result(LIMIT)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many are watched, each time that the thread goes to sleep."""
    counts = []
    wait = deadlines._wait

    def counted(bell: Any, watched: Any) -> Any:
        counts.append(len(watched))
        return wait(bell, watched)

    monkeypatch.setattr(deadlines, "_wait", counted)
    return counts


def test_it_wakes_for_ends_and_new_ones_only(waits: list[int]) -> None:
    ours, theirs = millpond.Pipe()
    first = started(millpond, work.told, theirs, timeout=1000)
    assert ours.recv() == first.pid
    until(lambda: waits == [1])
    second = started(millpond, work.wait_for_end, timeout=SHORT)
    with pytest.raises(errors.TaskTimeout):
        second.result(LIMIT)
    until(lambda: waits == [1, 2, 1])
    ours.send("end")
    assert first.result(LIMIT) == "end"
    until(lambda: not watchers())
    assert waits == [1, 2, 1]
    ours.close()
    theirs.close()


def test_starts_from_several_threads() -> None:
    found: list[Any] = []

    def run() -> None:
        process = started(millpond.get_context("spawn"), work.wait_for_end, timeout=SHORT)
        found.append(process.exception(LIMIT))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(error) for error in found] == [errors.TaskTimeout] * 4
    until(lambda: not watchers())


def test_a_start_that_cannot_be_watched_leaves_nothing(
    context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    process = context.Process(target=work.wait_for_end, daemon=True, timeout=SHORT)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            process.start()
    assert process not in millpond.active_children()
    assert process.pid is None
    process.start()  # it may be tried again
    with pytest.raises(errors.TaskTimeout):
        process.result(LIMIT)
