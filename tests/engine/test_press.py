"""Pressing a worker for what it has gathered: once, whole, and without a trace in the task that it comes amid."""

from __future__ import annotations

import inspect
import signal
import sys
import threading
from typing import Any

import pytest

from millpond.worker import outcome
from millpond.worker.answers import PRESS, Answers


class Channel:
    """Keeps what is sent."""

    taken: object = None

    def __init__(self) -> None:
        self.frames: list[list[Any]] = []

    def amid(self) -> bool:
        return False

    def send(self, frame: list[Any]) -> None:
        self.frames.append(frame)


class Wire:
    """``outcome``, but the signal comes once more while a batch is being encoded."""

    def __init__(self) -> None:
        self.again: Any = None

    def encode_batch(self, outcomes: list[Any], mixed: bool) -> list[Any]:
        body: list[Any] = outcome.encode_batch(outcomes, mixed)
        if self.again is not None:
            self.again(PRESS, sys._getframe())
        return body


@pytest.fixture
def channel() -> Channel:
    return Channel()


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def answers(channel: Any, wire: Any) -> Answers:
    answers = Answers(channel, wire, at_once=False)
    answers.add(1)
    answers.add(2)
    answers.amid = 2
    return answers


def test_what_is_gathered_is_sent_once(answers: Answers, channel: Channel, wire: Wire) -> None:
    wire.again = answers.press
    answers.press(PRESS, sys._getframe())
    answers.press(PRESS, sys._getframe())
    assert len(channel.frames) == 1
    assert answers.amid == 2, "it may be asked again"


def test_between_two_tasks_nothing_is_sent(answers: Answers, channel: Channel) -> None:
    answers.amid = None
    answers.press(PRESS, sys._getframe())
    assert not channel.frames


def test_a_task_near_the_limit_of_recursion_does_not_notice(
    answers: Answers, channel: Channel
) -> None:
    def descend(left: int) -> int:
        if left == 0:
            signal.raise_signal(PRESS)
            return 0
        return descend(left - 1) + 1

    deepest = sys.getrecursionlimit() - len(inspect.stack(0)) - 15
    before = signal.signal(PRESS, answers.press)
    try:
        assert descend(deepest) == deepest
        assert not channel.frames
        assert descend(0) == 0
        assert len(channel.frames) == 1
    finally:
        signal.signal(PRESS, before)


def test_a_handler_of_the_task_s_own_waits_until_the_frame_is_sent(
    answers: Answers, channel: Channel, wire: Wire
) -> None:
    def too_late(_number: int, _frame: object) -> None:
        raise TimeoutError

    main = threading.get_ident()
    wire.again = lambda *_: signal.pthread_kill(main, signal.SIGALRM)
    before = signal.signal(signal.SIGALRM, too_late)
    try:
        with pytest.raises(TimeoutError):
            answers.press(PRESS, sys._getframe())
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(channel.frames) == 1
    assert answers.amid == 2
    assert signal.SIGALRM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
