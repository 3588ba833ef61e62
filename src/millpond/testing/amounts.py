"""Numbers that are no plain ``int`` or ``float``, or out of all range; input whose length cannot be asked for."""

from __future__ import annotations

import enum
import math
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from millpond.testing import tasks
from millpond.testing.suite import SOON, Suite

if TYPE_CHECKING:
    from millpond import Pool

METHODS = ["map", "imap", "imap_unordered"]


class Two(int):
    """One of one's own; whatever computes with it computes with something else."""

    def __mul__(self, other: Any) -> Any:
        raise AssertionError("nobody computes with it")

    __rmul__ = __add__ = __radd__ = __lt__ = __gt__ = __mul__


class Size(enum.IntEnum):
    """An enumeration."""

    TWO = 2


class Indexed:
    """As NumPy's integers: no ``int``, but as good as one."""

    def __index__(self) -> int:
        return 2


class Seconds(float):
    """A float of one's own."""

    def __add__(self, other: Any) -> Any:
        raise AssertionError("nobody computes with it")

    __radd__ = __sub__ = __lt__ = __add__


TWOS = [Two(2), Size.TWO, Indexed()]


class Unsized:
    """Input that has a length, which cannot be asked for: tqdm's, over a generator."""

    def __init__(self, fail: Callable[[], Any], count: int = 5) -> None:
        self.fail = fail
        self.items = iter(range(count))

    def __len__(self) -> int:
        return self.fail()  # type: ignore[no-any-return]

    __length_hint__ = __len__

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        return next(self.items)


def nothing() -> None:
    """``len()`` cannot be None."""


def failing() -> int:
    raise ZeroDivisionError("in __len__")


def negative() -> int:
    return -1


class NumberTests(Suite):
    """For any backend."""

    @pytest.mark.parametrize("two", TWOS, ids=lambda two: type(two).__name__)
    def test_a_number_that_is_no_plain_int(self, two: Any) -> None:
        pool = self.make_pool(two, maxtasksperchild=two)
        for method in METHODS:
            got = getattr(pool, method)(tasks.square, range(7), two)
            assert sorted(got) == [x * x for x in range(7)]
        assert sorted(pool.imap(tasks.square, range(7), buffersize=two)) == [
            x * x for x in range(7)
        ]
        assert pool.apply(tasks.square, (3,), retries=two, seed=two, concurrency=two) == 9
        assert list(pool.executor.map(tasks.square, range(4), chunksize=two)) == [0, 1, 4, 9]
        pool.terminate()
        pool.join()

    @pytest.mark.parametrize("long", [9_999_999, threading.TIMEOUT_MAX, 10**400, math.inf, 1e300])
    def test_a_wait_that_is_long(self, pool: Pool, long: float) -> None:
        assert pool.apply_async(tasks.square, (3,)).get(long) == 9
        assert pool.apply_async(tasks.square, (3,)).result(long) == 9
        pool.map_async(tasks.square, range(4)).wait(long)
        assert pool.imap(tasks.square, [3]).next(long) == 9
        assert list(pool.executor.map(tasks.square, [3], timeout=long)) == [9]
        assert pool.apply(tasks.square, (3,)) == 9, "the pool goes on"

    @pytest.mark.parametrize("seconds", [Seconds(SOON), Two(20), Size.TWO])
    def test_a_wait_of_seconds_that_are_no_plain_float(self, pool: Pool, seconds: Any) -> None:
        assert pool.map_async(tasks.square, range(4)).get(seconds) == [0, 1, 4, 9]
        assert pool.imap(tasks.square, [3]).next(seconds) == 9

    def test_numbers_that_make_no_sense_are_named(self, pool: Pool) -> None:
        for wrong, kind in (0, ValueError), (-3, ValueError), (2.5, TypeError), ("2", TypeError):
            for method in METHODS:
                with pytest.raises(kind, match=r"(?i)chunksize"):
                    getattr(pool, method)(tasks.square, [1], wrong)
            given: Any = wrong
            with pytest.raises(kind, match="chunksize"):
                pool.executor.map(tasks.square, [1], chunksize=given)
            with pytest.raises(kind, match="buffersize"):
                pool.executor.map(tasks.square, [1], buffersize=given)
            with pytest.raises(kind, match="buffersize"):
                pool.imap(tasks.square, [1], buffersize=given)
            with pytest.raises(ValueError, match="maxtasksperchild"):
                self.make_pool(2, maxtasksperchild=wrong)
            with pytest.raises(kind, match="processes"):
                self.make_pool(given)
        with pytest.raises(ValueError, match="processes"):
            self.make_pool(10**20)
        for name in "timeout", "backoff", "retries", "concurrency", "seed":
            for strange in math.nan, -1, "1":
                options: dict[str, Any] = {name: strange}
                with pytest.raises((TypeError, ValueError), match=name):
                    pool.apply_async(tasks.square, (1,), **options)
        with pytest.raises(ValueError, match="cost"):
            pool.map(tasks.square, [1, 2], cost=lambda _: math.nan)
        assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9], "the pool goes on"

    def test_numbers_without_bounds(self, pool: Pool) -> None:
        huge = 10**30
        assert pool.map(tasks.square, range(4), chunksize=huge) == [0, 1, 4, 9]
        assert list(pool.imap(tasks.square, range(4), huge)) == [0, 1, 4, 9]
        assert list(pool.imap(tasks.square, iter(range(4)), buffersize=huge)) == [0, 1, 4, 9]
        options: dict[str, Any] = {"retries": huge, "backoff": 1e308, "seed": huge}
        assert pool.map(tasks.square, range(4), **options) == [0, 1, 4, 9]

    @pytest.mark.parametrize("fail", [nothing, failing, negative])
    @pytest.mark.parametrize("method", METHODS)
    def test_input_without_the_length_that_it_has(self, pool: Pool, method: str, fail: Any) -> None:
        got = getattr(pool, method)(tasks.square, Unsized(fail))
        assert sorted(got) == [0, 1, 4, 9, 16]
        assert pool.starmap(pow, zip(Unsized(fail), Unsized(fail), strict=True)) == [
            1, 1, 4, 27, 256,
        ]  # fmt: skip
        assert list(pool.executor.map(tasks.square, Unsized(fail))) == [0, 1, 4, 9, 16]
