"""The slate's pairs of words, a worker stopped between any two of its accesses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from millpond.worker.slate import (
    IDLE,
    RECALLED_FROM,
    RECALLED_TO,
    RUNNING,
    TIME,
    WORD,
    Slate,
    recalled,
    taken_back,
    word,
)
from tests.core.wire import new_slate


@pytest.fixture
def slate() -> Iterator[Slate]:
    with new_slate() as slate:
        yield slate


class Interrupted:
    """Words before whose n-th access something happens."""

    def __init__(self, words: Any, nth: int, act: Callable[[], object]) -> None:
        self._words = words
        self._left = nth
        self._act = act

    def __getitem__(self, index: int) -> int:
        self._left -= 1
        if self._left == 0:
            self._act()
        value: int = self._words[index]
        return value


@pytest.mark.parametrize("nth", range(1, 5))
def test_a_recall_is_read_whole(slate: Slate, nth: int) -> None:
    slate.recall(3, 10)
    words = Interrupted(slate.words, nth, lambda: slate.recall(15, 20))
    assert taken_back(words) in ((3, 10), (15, 20))


@pytest.mark.parametrize("nth", range(1, 5))
def test_a_task_that_was_noted_is_in_no_later_recall(slate: Slate, nth: int) -> None:
    slate.words[WORD] = word(12, 1, RUNNING)
    words = Interrupted(slate.words, nth, lambda: slate.recall(slate.unbegun(), 20))
    assert not recalled(words, 12)


@pytest.mark.parametrize("nth", range(1, 5))
def test_a_task_that_was_taken_back_before_stays_so(slate: Slate, nth: int) -> None:
    assert slate.recall(3, 10) == 3
    slate.words[WORD] = word(5, 1, RUNNING)  # noted; it has yet to ask
    given_back: list[int] = []
    words = Interrupted(slate.words, nth, lambda: given_back.append(slate.recall(6, 20)))
    assert recalled(words, 5)
    assert given_back in ([], [10]), "those before were given back with the first"


def test_recalls_of_a_worker_that_got_past_the_one_before_do_not_join(slate: Slate) -> None:
    slate.recall(3, 10)
    assert slate.recall(12, 20) == 12
    assert taken_back(slate.words) == (12, 20)


def test_coroutines_before_what_was_taken_back_join_it(slate: Slate) -> None:
    slate.recall(11, 20)
    assert slate.recall(6, 25) == 6
    assert taken_back(slate.words) == (6, 25)


def test_nothing_is_taken_back_twice(slate: Slate) -> None:
    assert slate.recall(3, 10) == 3
    assert slate.recall(3, 10) == 10
    assert (slate.words[RECALLED_FROM], slate.words[RECALLED_TO]) == (3, 10)


def test_a_task_comes_with_its_own_time(slate: Slate) -> None:
    words: Any = slate.words

    def go_on() -> None:
        words[WORD] = word(8, 0, IDLE)
        words[TIME] = 200
        words[WORD] = word(8, 1, RUNNING)

    for nth in range(1, 5):
        words[TIME] = 100
        words[WORD] = word(7, 1, RUNNING)
        slate.words = Interrupted(words, nth, go_on)  # type: ignore[assignment]
        seen = slate.now()
        slate.words = words
        assert seen in ((7, 8, RUNNING, 100), (8, 9, RUNNING, 200))


def test_a_worker_that_is_always_faster_is_between_two_tasks(slate: Slate) -> None:
    class Busy:
        """A word that is another one each time."""

        count = 0

        def __getitem__(self, index: int) -> int:
            self.count += 1
            return word(self.count, 1, RUNNING)

    words, slate.words = slate.words, Busy()  # type: ignore[assignment]
    first, stop, phase, _ = slate.now()
    slate.words = words
    assert first == stop
    assert phase == IDLE
