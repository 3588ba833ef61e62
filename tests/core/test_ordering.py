"""Batches in any order come out in call order, each as soon as it can."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from millpond.core.ordering import Arrival, Ordering

sizes = st.lists(st.integers(1, 4), max_size=12)


def batches(lengths: list[int]) -> list[tuple[int, list[int]]]:
    starts = [sum(lengths[:n]) for n in range(len(lengths))]
    return [
        (start, list(range(start, start + n))) for start, n in zip(starts, lengths, strict=True)
    ]


@given(sizes.map(batches).flatmap(st.permutations))
def test_results_come_in_call_order_and_as_soon_as_they_can(
    coming: list[tuple[int, list[int]]],
) -> None:
    ordering, here = Ordering(), set()
    for start, batch in coming:
        ordering.put(start, list(batch))
        here |= set(batch)
        run = next(n for n in range(len(here) + 1) if n not in here)
        assert list(ordering.ready) == list(range(run))
        assert ordering.released == run


@given(sizes.map(batches).flatmap(st.permutations))
def test_without_order_results_come_as_they_are_put(coming: list[tuple[int, list[int]]]) -> None:
    arrival = Arrival()
    for start, batch in coming:
        arrival.put(start, list(batch))
    assert list(arrival.ready) == [value for _, batch in coming for value in batch]
    assert arrival.released == len(arrival.ready)


def test_results_may_be_taken_meanwhile() -> None:
    ordering = Ordering()
    ordering.put(0, ["a"])
    assert ordering.ready.popleft() == "a"
    ordering.put(2, ["c"])
    assert not ordering.ready
    ordering.put(1, ["b"])
    assert list(ordering.ready) == ["b", "c"]
