"""``millpond.empty``: arrays that travel without being copied."""

from __future__ import annotations

import builtins
import functools
import gc
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import millpond
from millpond.backends.processes import arena
from tests.arena import work

MIB = 1 << 20


@pytest.fixture
def pool() -> Iterator[millpond.Pool]:
    with millpond.Pool(2, start_method="fork") as pool:
        yield pool


@pytest.fixture
def written(pool: millpond.Pool) -> list[int]:
    """Sizes of what is written to the program's file from now on."""
    return work.note_writing(pool)


def ones(shape: Any, dtype: Any = float) -> Any:
    array = millpond.empty(shape, dtype)
    array[...] = 1
    return array


@pytest.mark.parametrize("shape", [1 << 17, (512, 256), (8, 4, 4096), (), 0, (0, 3), 5, [512, 256]])
@pytest.mark.parametrize("dtype", [float, "f4", "i8,f4", "S3", bool])
def test_it_is_like_numpys(shape: Any, dtype: Any) -> None:
    ours, theirs = millpond.empty(shape, dtype), np.empty(shape, dtype)
    assert type(ours) is np.ndarray
    assert (ours.shape, ours.dtype, ours.strides) == (theirs.shape, theirs.dtype, theirs.strides)
    assert ours.flags.writeable
    assert ours.flags.c_contiguous
    assert ours.flags.aligned


@pytest.mark.parametrize("shape", [-1, (3, -2), "x", 2.5])
def test_what_numpy_refuses(shape: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        millpond.empty(shape)


def test_objects_cannot_be_shared() -> None:
    with pytest.raises(TypeError, match="objects"):
        millpond.empty(1 << 17, object)


def test_without_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwds: Any) -> Any:
        if name == "numpy":
            raise ModuleNotFoundError("No module named 'numpy'", name="numpy")
        return real(name, *args, **kwds)

    empty = millpond.empty
    monkeypatch.delitem(sys.modules, "numpy")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(millpond.ExtraMissing, match=r"millpond\[numpy\]"):
        empty(5)


def test_it_is_sent_without_being_written(pool: millpond.Pool, written: list[int]) -> None:
    array = ones((1024, 1024))
    assert pool.apply(work.total, (array,)) == 1 << 20
    assert pool.map(work.total, [array, array[:512], array[100:], array.T, {"a": array}["a"]]) == [
        1 << 20, 1 << 19, (1 << 20) - 102_400, 1 << 20, 1 << 20,
    ]  # fmt: skip
    assert pool.map(functools.partial(work.at, array.reshape(-1)), range(3)) == [1.0] * 3
    assert pool.map(lambda n: float(array[n, n]), range(3)) == [1.0] * 3
    assert written == []


def test_what_is_no_contiguous_part_is_copied(pool: millpond.Pool, written: list[int]) -> None:
    array = ones((1024, 1024))
    assert pool.apply(work.total, (array[:, ::2],)) == 1 << 19
    assert len(written) <= 1


def test_tasks_write_to_their_own(pool: millpond.Pool) -> None:
    array = ones(1 << 17)
    assert pool.map(work.ruin, [array] * 8, 1) == [1 << 17] * 8
    assert (array == 1).all()


def test_tasks_see_what_its_owner_wrote_before(pool: millpond.Pool) -> None:
    array = ones(1 << 17)
    for number in range(5):
        array[:] = number
        assert set(pool.map(work.total, [array] * 4)) == {number * float(1 << 17)}


def test_it_lives_as_long_as_anybody_sees_it(pool: millpond.Pool) -> None:
    array = ones(1 << 17)
    part = array[100:200]
    result = pool.apply_async(work.total, (array,))
    del array
    others = [ones(1 << 17) for _ in range(8)]
    for other in others:
        other[:] = 5
    assert result.get() == 1 << 17
    assert (part == 1).all()


def test_its_memory_is_used_again(pool: millpond.Pool) -> None:
    for _ in range(50):
        pool.apply(work.total, (ones(1 << 17),))
    assert pool.info()["arena"]["arguments"] <= 8 * MIB


def test_before_any_pool_and_after_it() -> None:
    array = ones(1 << 17)
    for method in ("fork", "spawn"):
        with millpond.Pool(1, start_method=method) as pool:
            assert pool.apply(work.total, (array,)) == 1 << 17
    assert (array == 1).all()
    assert arena.current().fd >= 0


def test_a_task_returns_one_without_a_copy(pool: millpond.Pool) -> None:
    found = [pool.apply(work.fresh, ((1 << 17,), float(n))) for n in range(6)]
    assert [float(array[5]) for array in found] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert pool.info()["arena"]["results"] <= 8 * MIB  # and not twice that
    found[0][:] = 9
    assert [float(array[5]) for array in found[1:]] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_one_that_is_returned_twice(pool: millpond.Pool) -> None:
    whole, half = pool.apply(work.fresh_twice, (3.0,))
    assert (whole == 3).all()
    assert half.shape == (1 << 16,)
    whole[:] = 0
    assert (half == 3).all()
    del whole
    for number in range(10):
        pool.apply(work.fresh, ((1 << 17,), float(number)))
    assert (half == 3).all()


def test_without_room_it_is_an_ordinary_array(pool: millpond.Pool) -> None:
    lender = pool._backend._arena._lender
    lender._afford = lambda more: 0
    array = ones(1 << 17)
    assert pool.apply(work.total, (array,)) == 1 << 17
    assert pool.info()["arena"]["arguments"] == 0


def test_a_forked_copy_shares_it() -> None:
    array = ones(1 << 17)
    pid = os.fork()
    if pid == 0:
        array[:] = 7
        os._exit(0)
    os.waitpid(pid, 0)
    assert (array == 7).all()


def test_it_is_gone_with_its_last_view() -> None:
    array = ones(1 << 17)
    fd = arena.current().fd
    del array
    gc.collect()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
