"""Large data between a pool and its workers: values, owners, deaths at every stage, and nothing left."""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import millpond
from millpond.worker.segments import SMALLEST
from tests.arena import work
from tests.arena.work import ARRAY, MIB, TOTAL, lent, nothing_is_lent
from tests.processes.waiting import until


def worker_files() -> int:
    """Mappings of arena files in this process."""
    with open("/proc/self/maps") as file:
        return sum("millpond-arena" in line for line in file)


# What travels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        ARRAY,
        ARRAY.reshape(512, 256),
        np.asfortranarray(ARRAY.reshape(512, 256)),
        ARRAY[::2],
        np.zeros((0, 5)),
        np.array(3.5),
        np.array([(n, n / 2, b"ab") for n in range(9000)], dtype="i8,f4,S2"),
        np.array([None, {}, "x"] * 30_000, dtype=object),
        ARRAY.astype(">f8"),
        np.zeros(100_000, "M8[s]"),
        {"a": [ARRAY, b"x" * 3 * MIB], "b": bytearray(2 * MIB), "c": "y" * (2 * MIB)},
        b"z" * 3 * MIB,
        bytearray(b"z") * 3 * MIB,
        "ä" * 2 * MIB,
        [ARRAY] * 3,
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_are_equal_after_both_ways(forked: millpond.Pool, value: Any) -> None:
    def check(found: Any, wanted: Any) -> None:
        assert type(found) is type(wanted)
        if isinstance(wanted, np.ndarray):
            assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
            assert found.tolist() == wanted.tolist() if wanted.dtype.hasobject else True
            assert wanted.dtype.hasobject or found.tobytes() == wanted.tobytes()
        elif isinstance(wanted, dict):
            for name in wanted:
                check(found[name], wanted[name])
        elif isinstance(wanted, list):
            for one, other in zip(found, wanted, strict=True):
                check(one, other)
        else:
            assert found == wanted

    check(forked.apply(work.same, (value,)), value)
    for found in forked.map(work.same, [value] * 3):
        check(found, value)
    for found in forked.imap(work.same, (value for _ in range(3))):
        check(found, value)


def test_one_object_twice_is_one_object_there(pool: millpond.Pool) -> None:
    first, second = pool.apply(work.same, ([ARRAY, ARRAY],))
    assert first is second


def test_what_may_be_written_to_and_the_order_of_axes(pool: millpond.Pool) -> None:
    readonly = np.frombuffer(bytes(MIB), np.uint8).reshape(1024, 1024)
    fortran = np.asfortranarray(np.zeros((300, 400)))
    assert pool.map(work.flags, [ARRAY.reshape(512, 256), readonly, fortran]) == [
        (True, True, False), (False, True, False), (True, False, True),
    ]  # fmt: skip
    for array, writeable in ((fortran, True), (readonly, False)):
        assert pool.apply(work.same, (array,)).flags.writeable is writeable


def test_a_task_cannot_change_its_caller_nor_the_next_task(pool: millpond.Pool) -> None:
    array = ARRAY.copy()
    assert pool.map(work.ruin, [array] * 6) == [TOTAL] * 6
    assert [pool.apply(work.ruin, (array,)) for _ in range(6)] == [TOTAL] * 6
    assert array.sum() == TOTAL


def test_a_call_sees_its_arguments_as_they_were_when_it_was_made(forked: millpond.Pool) -> None:
    array = ARRAY.copy()
    results = [forked.apply_async(work.total, (array,)) for _ in range(6)]
    array[:] = 0
    assert [result.get() for result in results] == [TOTAL] * 6


def test_results_are_their_callers_alone(pool: millpond.Pool) -> None:
    found = pool.map(work.full, range(6))
    for array in found:
        array += 1
    more = pool.map(work.full, range(6))
    assert [float(array[0]) for array in found] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert [float(array[-1]) for array in more] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_results_outlive_the_pool() -> None:
    with millpond.Pool(2, start_method="fork") as pool:
        found = pool.map(work.full, range(6))
    assert [float(array.sum()) for array in found] == [n * (1 << 17) for n in range(6)]
    assert worker_files()
    del found
    until(lambda: gc.collect() or not worker_files())


def test_a_kept_argument_stays_what_it_is(forked: millpond.Pool) -> None:
    with millpond.Pool(1, start_method="fork") as one:
        one.apply(work.keep, (ARRAY,))
        for number in range(1, 20):
            one.apply(work.ruin, (np.full(1 << 17, number, dtype=float),))
        one.apply(work.keep, (ARRAY,))
        one.apply(work.ruin, (ARRAY,))
        assert one.apply(work.kept_total) == [TOTAL, TOTAL]
        assert lent(one) == 2 * MIB


def test_large_buffers_go_through_the_arena_and_small_ones_do_not(forked: millpond.Pool) -> None:
    sent: list[int] = []
    put = forked._backend.packing._put

    def noting(pieces: Any) -> Any:
        sent.append(sum(map(len, pieces)))
        return put(pieces)

    forked._backend.packing._put = noting
    small = np.zeros(SMALLEST - 1, np.uint8)
    forked.map(work.total, [small] * 4)
    forked.apply(work.same, (b"x" * (MIB - 100),))
    assert sent == []
    large = np.zeros(SMALLEST, np.uint8)
    forked.map(work.total, [large] * 2)
    assert sent == [SMALLEST] * 2
    forked.apply(work.same, (b"x" * MIB,))
    assert sent[2:] != []


def test_a_large_pickle_without_buffers(forked: millpond.Pool) -> None:
    value = work.large_pickle(60_000)
    assert forked.apply(work.same, (value,)) == value
    assert forked.map(work.large_pickle, [60_000] * 2) == [value] * 2


def test_workers_without_numpy(tmp_path: Path) -> None:
    """A worker that has not imported it sees the first array without a copy, too."""
    with millpond.Pool(1, start_method="spawn") as pool:
        assert pool.apply(work.total, (ARRAY,)) == TOTAL
        assert pool.apply(work.numpy_is_loaded)


# Functions -------------------------------------------------------------------------------------------


def test_a_large_function_is_written_once_for_all_workers(pool: millpond.Pool) -> None:
    written = work.note_writing(pool)
    function = functools.partial(work.at, np.arange(1 << 20, dtype=float))
    assert pool.map(function, range(20), 1) == [float(n) for n in range(20)]
    assert written == [8 * MIB]
    model = work.Model(np.arange(1 << 20, dtype=float))
    assert pool.map(model.predict, range(20), 1) == [float(n) for n in range(20)]
    assert written == [8 * MIB] * 2
    until(lambda: nothing_is_lent(pool))


def test_a_closure_over_an_array(pool: millpond.Pool) -> None:
    array = ARRAY.copy()
    assert pool.map(lambda n: float(array[n]), range(9)) == [float(n) for n in range(9)]


# Memory --------------------------------------------------------------------------------------------


def test_a_stream_of_arrays_uses_the_same_few_segments(forked: millpond.Pool) -> None:
    for _ in forked.imap(work.same, (np.full(1 << 20, n, float) for n in range(60))):
        pass
    arena = forked.info()["arena"]
    # Inputs of 64 MiB wait, one more was being pulled, and each worker has one and one more waits for it.
    assert 0 < arena["arguments"] <= (64 + 8 + 4 * 8) * MIB
    until(lambda: nothing_is_lent(forked))


@pytest.mark.parametrize("chunksize", [None, 5])
def test_inputs_are_not_pulled_far_ahead_when_they_are_large(
    forked: millpond.Pool, chunksize: int | None
) -> None:
    most = 0

    def arrays() -> Iterator[Any]:
        nonlocal most
        for _ in range(60):
            most = max(most, lent(forked))
            yield np.ones(1 << 20)  # 8 MiB

    assert list(forked.imap(work.first, arrays(), chunksize)) == [1.0] * 60
    # 64 MiB and one more, or as many chunks as there are workers and one more; and what workers are to release.
    assert most <= (72 if chunksize is None else 3 * 5 * 8) * MIB + 4 * (chunksize or 1) * 8 * MIB


def test_arguments_are_released_when_their_tasks_end(pool: millpond.Pool) -> None:
    pool.map(work.total, [ARRAY] * 12)
    results = [pool.apply_async(work.ruin, (ARRAY,)) for _ in range(12)]
    assert {result.get() for result in results} == {TOTAL}
    with pytest.raises(AttributeError):
        pool.map(work.total, [ARRAY, None, ARRAY])
    until(lambda: nothing_is_lent(pool))


def test_what_results_hold_beyond_a_bound_is_given_back_without_the_worker(
    forked: millpond.Pool,
) -> None:
    for child in forked._backend._children.values():
        child.arena.keep = 2 * MIB
    found = forked.map(work.full, range(40))
    assert forked.info()["arena"]["results"] >= 40 * MIB
    del found
    assert forked.info()["arena"]["results"] <= 4 * MIB
    assert [float(a[7]) for a in forked.map(work.full, range(20))] == [float(n) for n in range(20)]


@pytest.mark.parametrize("side", ["arguments", "results"])
def test_without_room_all_travels_in_frames(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from millpond.worker import lender

    if side == "results":  # the workers are copies of this process
        monkeypatch.setattr(lender, "affordable", lambda more: 0)
        monkeypatch.setattr(lender.Lender.__init__, "__defaults__", (lender.ALL, lambda more: 0))
    with millpond.Pool(2, start_method="fork") as pool:
        pool._backend._arena._lender._afford = lambda more: 0
        values: list[Any] = [ARRAY, b"x" * 3 * MIB, np.frombuffer(bytes(MIB), np.uint8)]
        for value in values:
            for found in [*pool.map(work.same, [value] * 3), pool.apply(work.same, (value,))]:
                assert np.array_equal(found, value)
                if isinstance(value, np.ndarray):
                    assert found.flags.writeable == value.flags.writeable
        assert pool.map(work.ruin, [ARRAY] * 4) == [TOTAL] * 4
        arena = pool.info()["arena"]
        assert arena["arguments"] == 0
        assert (arena["results"] == 0) is (side == "results")
