"""Which functions may keep state, and in which pieces the tasks of one that does are run."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import lru_cache, partial, reduce
from typing import Any

import numpy as np
import pytest

from millpond.backends.processes.packing import ProcessPacking
from millpond.backends.processes.state import may_keep_state
from millpond.core.commands import Span
from millpond.testing.stateful import Walk, gather, write
from millpond.worker.codec import MAP, Part, encode_argument
from millpond.worker.conduct import Conduct, Conducted
from millpond.worker.renewal import Renewed


@lru_cache
def cached(x: int) -> int:
    return x


def closure(held: Any) -> Callable[[], Any]:
    return lambda: held


def rebinding() -> Callable[[], int]:
    count = 0

    def count_up() -> int:
        nonlocal count
        count += 1
        return count

    return count_up


def recursive() -> Callable[[int], int]:
    def factorial(n: int) -> int:
        return n * factorial(n - 1) if n else 1

    return factorial


class Meta(type):
    pass


class Made(metaclass=Meta):
    @classmethod
    def make(cls) -> Made:
        return cls()


anything: Any = gather
KEEP_NONE = [
    gather, Walk, Made, Made.make, abs, math.sqrt, str.upper, "{}".format, int.from_bytes, np.sin, cached,
    operator.itemgetter(1), partial(anything, 3), partial(partial(anything, 1), x="y"), lambda: 1,
    partial(reduce, operator.add), partial(anything, (1, ("a", None))), lambda x=1: x, closure(3),
    closure(gather), recursive(), Conducted(gather, Conduct()), Conducted(Walk().walk, Conduct(slots=1)),
]  # fmt: skip
MAY_KEEP = [
    Walk().step, Walk(), [].append, {}.get, partial(anything, []), partial(anything, kept={}), closure([]),
    partial(Walk().step), lambda x=[]: x, rebinding(), partial(write, np.zeros(3)), partial(anything, (1, [])),
    closure(closure([])), np.random.default_rng(1).random, Conducted(Walk().step, Conduct(seed=(1,))),
]  # fmt: skip


@pytest.mark.parametrize("function", KEEP_NONE, ids=repr)
def test_what_keeps_nothing_is_unpickled_once(function: Any) -> None:
    packing = ProcessPacking(True)
    assert not packing.renews(function, packing.function(function))


@pytest.mark.parametrize("function", MAY_KEEP, ids=repr)
def test_what_may_keep_something_is_renewed(function: Any) -> None:
    packing = ProcessPacking(True)
    assert packing.renews(function, packing.function(function))


def test_nothing_of_the_user_s_is_called_to_find_out() -> None:
    class Untouchable:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

    assert may_keep_state(Untouchable())
    assert may_keep_state(partial(anything, Untouchable()))


@pytest.mark.parametrize(
    ("first", "count", "grain", "sizes"),
    [(0, 6, 3, [3, 3]), (4, 6, 4, [4, 2]), (2, 6, 4, [2, 4]), (0, 3, 5, [3]), (7, 1, 1, [1])],
)
def test_a_part_is_cut_where_chunks_begin(
    first: int, count: int, grain: int, sizes: list[int]
) -> None:
    part = Part(1, MAP, first, 1, None, list(range(first, first + count)), None, grain)
    renewed = Renewed(encode_argument(Walk().step, True), grain)
    pieces = list(renewed.pieces(part))
    assert [piece.tasks for piece in pieces] == sizes
    assert [x for piece in pieces for x in piece.plain or ()] == part.plain
    assert all(piece.first == (piece.plain or [0])[0] for piece in pieces)


class Job:
    """As much of a job as is looked at."""

    reordered = False

    def __init__(self, renewal: int) -> None:
        self.renewal = renewal


def test_what_is_taken_back_begins_where_a_chunk_begins() -> None:
    from millpond.backends.processes.child import Whole

    whole = Whole()
    whole.sent([(Job(0), Span(1, 0, 10)), (Job(4), Span(2, 6, 16))], 100)  # type: ignore[list-item]
    taken = {seq: whole.boundary(seq, 0) for seq in range(100, 122)}
    assert all(taken[seq] == seq for seq in range(100, 111)), "of the first, any"
    assert [taken[seq] for seq in (111, 112)] == [112, 112], "6 and 7 are of a chunk"
    assert [taken[seq] for seq in (113, 115, 116)] == [116] * 3
    assert [taken[seq] for seq in (117, 119, 120)] == [120] * 3
    assert taken[121] == 121
    assert whole.boundary(111, 120) == 111, "it has answered them"
