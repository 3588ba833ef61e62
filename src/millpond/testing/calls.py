"""Every method of a pool: what goes in, what comes out, in which order."""

from __future__ import annotations

import functools
import math
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from millpond.testing import tasks
from millpond.testing.suite import SOON, Suite

if TYPE_CHECKING:
    from millpond import Pool

MAPS = ["map", "map_async", "imap", "imap_unordered"]
STARMAPS = ["starmap", "starmap_async"]
CHUNKSIZES = [1, 3, 7, 1000]


def all_values(
    pool: Pool, method: str, func: Callable[..., Any], values: Iterable[Any], *args: Any
) -> list[Any]:
    """Call one of the mapping methods and wait for the values, in the order that it gave them."""
    made: Any = getattr(pool, method)(func, values, *args)
    if hasattr(made, "get"):
        return list(made.get(timeout=SOON))
    return list(made)


def one_value(pool: Pool, method: str, func: Callable[[Any], Any], value: Any) -> Any:
    """func(value), through any of the methods."""
    if method in {"apply", "apply_async"}:
        made: Any = getattr(pool, method)(func, (value,))
        return made.get(timeout=SOON) if method == "apply_async" else made
    (got,) = all_values(pool, method, func, [(value,)] if "star" in method else [value])
    return got


class Countdown:
    """An iterable of known length that is no sequence."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.n))


class Multiplier:
    """Its bound method and its instances are sent as functions."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def times(self, x: int) -> int:
        return self.factor * x

    def __call__(self, x: int) -> int:
        return self.factor * x


class CallTests(Suite):
    """apply, apply_async and what may be sent as a function."""

    def test_apply_passes_args_and_kwds(self, pool: Pool) -> None:
        assert pool.apply(tasks.square, (7,)) == 49
        assert pool.apply(tasks.add, (1, 2), {"c": 3}) == (1, 2, 3)
        assert pool.apply(tasks.add, [1]) == (1, 10, 100)
        assert pool.apply(tasks.nothing) is None

    def test_apply_takes_keywords(self, pool: Pool) -> None:
        got = pool.apply(func=tasks.everything, args=(1, 2), kwds={"x": 3})
        assert got == ((1, 2), {"x": 3})

    def test_apply_async_gives_the_value(self, pool: Pool) -> None:
        assert pool.apply_async(tasks.square, (7,)).get(SOON) == 49
        assert pool.apply_async(tasks.add, (1,), {"c": 3}).get(timeout=SOON) == (1, 10, 3)
        assert pool.apply_async(tasks.nothing).get() is None

    def test_apply_async_takes_keywords(self, pool: Pool) -> None:
        seen: list[Any] = []
        result = pool.apply_async(
            func=tasks.add, args=(1,), kwds={"b": 2}, callback=seen.append, error_callback=None
        )
        assert result.get(SOON) == (1, 2, 100)
        assert seen == [(1, 2, 100)]

    def test_many_async_calls_keep_their_own_results(self, pool: Pool) -> None:
        results = [pool.apply_async(tasks.square, (i,)) for i in range(2000)]
        assert [r.get(SOON) for r in results] == [i * i for i in range(2000)]

    def test_results_may_be_taken_in_any_order(self, pool: Pool) -> None:
        results = [pool.apply_async(tasks.square, (i,)) for i in range(50)]
        assert [r.get(SOON) for r in reversed(results)] == [i * i for i in reversed(range(50))]

    @pytest.mark.parametrize(
        "func",
        [
            functools.partial(tasks.add, 1, c=2),
            Multiplier(3).times,
            Multiplier(3),
            math.sqrt,
            str,
            [1, 2, 3].__getitem__,
        ],
        ids=["partial", "bound-method", "callable-object", "builtin", "class", "builtin-method"],
    )
    def test_any_callable_can_be_sent(self, pool: Pool, func: Callable[[int], Any]) -> None:
        assert pool.apply(func, (2,)) == func(2)
        assert pool.map(func, [0, 1, 2]) == [func(x) for x in [0, 1, 2]]

    def test_a_method_of_an_object_finds_it_as_it_is_at_each_call(self, pool: Pool) -> None:
        numbers = [1]
        assert pool.apply(numbers.count, (1,)) == 1
        numbers.append(1)
        assert pool.apply(numbers.count, (1,)) == 2

    def test_the_pool_does_not_keep_the_object_of_a_method(self, pool: Pool) -> None:
        multiplier = Multiplier(3)
        gone = threading.Event()
        end = weakref.ref(multiplier, lambda _: gone.set())
        assert pool.apply(multiplier.times, (2,)) == 6
        assert pool.apply_async(multiplier.times, (2,)).get(SOON) == 6
        del multiplier
        assert gone.wait(SOON), f"something holds {end()!r}"

    @pytest.mark.parametrize(
        "value",
        [None, 0, 1.5, "é", b"\x00", (), [1, [2]], {"a": {3}}, 10**40, -0.0, float("inf")],
        ids=repr,
    )
    def test_values_come_back_as_they_went(self, pool: Pool, value: Any) -> None:
        got = pool.apply(tasks.identity, (value,))
        assert (got, type(got)) == (value, type(value))
        assert pool.map(tasks.identity, [value, value]) == [value, value]

    def test_big_values_travel_both_ways(self, pool: Pool) -> None:
        big = b"\xa5" * (5 << 20)
        assert pool.apply(tasks.identity, (big,)) == big
        assert pool.map(tasks.length, [big] * 6) == [len(big)] * 6
        assert [len(x) for x in pool.imap(tasks.make_bytes, [1 << 20] * 12)] == [1 << 20] * 12

    def test_closures_and_lambdas_can_be_sent(self, pool: Pool) -> None:
        offset = 5

        def shifted(x: int) -> int:
            return x + offset

        assert pool.map(shifted, range(4)) == [5, 6, 7, 8]
        assert pool.map(lambda x: x - offset, range(4)) == [-5, -4, -3, -2]
        assert pool.apply(lambda: offset) == 5


class MapTests(Suite):
    """map and its kin: order, chunk sizes, every kind of input."""

    @pytest.mark.parametrize("method", MAPS[:3])
    def test_results_are_in_call_order(self, pool: Pool, method: str) -> None:
        got = all_values(pool, method, tasks.sleep_a_little, range(40))
        assert got == list(range(40))

    @pytest.mark.parametrize("chunksize", CHUNKSIZES)
    @pytest.mark.parametrize("method", MAPS)
    def test_chunksize_changes_no_value(self, pool: Pool, method: str, chunksize: int) -> None:
        got = all_values(pool, method, tasks.square, range(50), chunksize)
        assert sorted(got) == [x * x for x in range(50)]
        if method != "imap_unordered":
            assert got == sorted(got)

    @pytest.mark.parametrize("chunksize", [None, *CHUNKSIZES])
    @pytest.mark.parametrize("method", STARMAPS)
    def test_starmap_unpacks_its_tuples(
        self, pool: Pool, method: str, chunksize: int | None
    ) -> None:
        pairs = [(x, x + 1) for x in range(20)]
        got = all_values(pool, method, tasks.add, pairs, chunksize)
        assert got == [(a, b, 100) for a, b in pairs]

    @pytest.mark.parametrize("method", [*MAPS, *STARMAPS])
    @pytest.mark.parametrize(
        "empty", [[], (), range(0), iter([]), {}], ids=lambda x: type(x).__name__
    )
    def test_empty_input_gives_nothing(self, pool: Pool, method: str, empty: Any) -> None:
        assert all_values(pool, method, tasks.square, empty) == []

    @pytest.mark.parametrize("method", MAPS)
    def test_input_without_a_length_works(self, pool: Pool, method: str) -> None:
        assert sorted(all_values(pool, method, tasks.identity, (x for x in range(30)))) == list(
            range(30)
        )
        assert sorted(all_values(pool, method, str.upper, {"a": 1, "b": 2})) == ["A", "B"]
        assert sorted(all_values(pool, method, tasks.square, {1, 2, 3})) == [1, 4, 9]
        assert sorted(all_values(pool, method, tasks.square, Countdown(4))) == [0, 1, 4, 9]

    @pytest.mark.parametrize("method", STARMAPS)
    def test_starmap_takes_iterables_of_iterables(self, pool: Pool, method: str) -> None:
        rows = (range(i, i + 2) for i in range(5))
        assert all_values(pool, method, tasks.add, rows) == [(i, i + 1, 100) for i in range(5)]

    def test_map_methods_take_keywords(self, pool: Pool) -> None:
        assert pool.map(func=tasks.square, iterable=[2, 3], chunksize=1) == [4, 9]
        assert list(pool.imap(func=tasks.square, iterable=[2, 3], chunksize=1)) == [4, 9]
        unordered = pool.imap_unordered(func=tasks.square, iterable=[2, 3], chunksize=1)
        assert sorted(unordered) == [4, 9]
        assert pool.starmap(func=pow, iterable=[(2, 3)], chunksize=1) == [8]

    def test_async_map_methods_take_keywords(self, pool: Pool) -> None:
        seen: list[Any] = []
        same: dict[str, Any] = {"chunksize": 2, "callback": seen.append, "error_callback": None}
        made = pool.map_async(func=tasks.square, iterable=[2, 3], **same)
        assert made.get(SOON) == [4, 9]
        made = pool.starmap_async(func=pow, iterable=[(2, 3)], **same)
        assert made.get(SOON) == [8]
        assert seen == [[4, 9], [8]]

    def test_async_map_methods_take_positions(self, pool: Pool) -> None:
        seen: list[Any] = []
        assert pool.map_async(tasks.square, [2], 1, seen.append, None).get(SOON) == [4]
        assert pool.starmap_async(pow, [(2, 3)], 1, seen.append, None).get(SOON) == [8]
        assert pool.apply_async(pow, (2, 4), {}, seen.append, None).get(SOON) == 16
        assert seen == [[4], [8], 16]

    @pytest.mark.parametrize("method", ["imap", "imap_unordered"])
    @pytest.mark.parametrize("chunksize", [0, -1])
    def test_imap_refuses_a_chunksize_below_one(
        self, pool: Pool, method: str, chunksize: int
    ) -> None:
        with pytest.raises(ValueError, match=r"[Cc]hunksize"):
            next(getattr(pool, method)(tasks.square, [1, 2], chunksize))

    @pytest.mark.parametrize("method", ["map", "map_async", "starmap", "imap", "imap_unordered"])
    def test_what_cannot_be_iterated_is_a_type_error(self, pool: Pool, method: str) -> None:
        with pytest.raises(TypeError):
            all_values(pool, method, tasks.square, 5)  # type: ignore[arg-type]
        assert pool.map(tasks.square, [3]) == [9]

    def test_calls_of_all_kinds_may_be_mixed(self, pool: Pool) -> None:
        lazily = pool.imap(tasks.square, range(20))
        first = next(lazily)
        later = pool.map_async(tasks.square, range(30))
        one = pool.apply_async(tasks.square, (9,))
        assert pool.apply(tasks.square, (8,)) == 64
        assert pool.starmap(pow, [(2, 5)]) == [32]
        assert [first, *lazily] == [x * x for x in range(20)]
        assert one.get(SOON) == 81
        assert later.get(SOON) == [x * x for x in range(30)]

    def test_twenty_thousand_tiny_tasks(self, pool: Pool) -> None:
        assert pool.map(tasks.square, range(20_000)) == [x * x for x in range(20_000)]
        assert sum(1 for _ in pool.imap(tasks.identity, range(20_000))) == 20_000
