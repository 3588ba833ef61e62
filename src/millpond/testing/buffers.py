"""Large data: what travels beside its pickle, as an object with a buffer of pickle protocol 5."""

from __future__ import annotations

import os
import pickle
import signal
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from millpond import errors
from millpond.testing.suite import Suite

if TYPE_CHECKING:
    from millpond import Pool

LARGE = 1 << 20


class Block:
    """An object whose bytes go out of its pickle."""

    def __init__(self, data: Any) -> None:
        self.data = memoryview(data)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Block, (pickle.PickleBuffer(self.data),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and self.data == other.data

    __hash__ = None  # type: ignore[assignment]


def same(value: Any) -> Any:
    return value


def spoil(block: Block) -> int:
    """Its first byte, then it is another."""
    first: int = block.data[0]
    block.data[0] = 99
    return first


def blank(size: int) -> Block:
    return Block(bytearray(size))


def byte_of(block: Block, index: int) -> int:
    found: int = block.data[index]
    return found


def read_only(block: Block) -> bool:
    return block.data.readonly


def die_with(block: Block) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError(block)


class LargeDataTests(Suite):
    """Large buffers arrive as they were, and belong to who got them."""

    @pytest.mark.parametrize("size", [0, 1000, (1 << 16) - 1, 1 << 16, 5 << 20])
    def test_buffers_of_any_size_go_both_ways(self, pool: Pool, size: int) -> None:
        block = Block(bytearray(os.urandom(size)))
        assert pool.apply(same, (block,)) == block
        assert pool.map(same, [block] * 5) == [block] * 5
        assert list(pool.imap(same, iter([block] * 5))) == [block] * 5

    def test_buffers_stay_read_only_or_writable(self, pool: Pool) -> None:
        blocks = [Block(bytes(LARGE)), Block(bytearray(LARGE))]
        assert pool.map(read_only, blocks) == [True, False]
        assert [b.data.readonly for b in pool.map(same, blocks)] == [True, False]

    def test_what_a_task_does_to_its_argument_is_its_own_affair(self, pool: Pool) -> None:
        block = Block(bytearray(LARGE))
        assert pool.map(spoil, [block] * 6) == [0] * 6
        assert [pool.apply(spoil, (block,)) for _ in range(3)] == [0] * 3
        assert block.data[0] == 0

    def test_results_are_their_takers_own(self, pool: Pool) -> None:
        blocks = pool.map(blank, [LARGE] * 4)
        for number, block in enumerate(blocks):
            block.data[:2] = bytes([number, number])
        assert [b.data[0] for b in pool.map(blank, [LARGE] * 4)] == [0] * 4
        assert [b.data[1] for b in blocks] == [0, 1, 2, 3]

    def test_a_function_that_holds_large_data(self, pool: Pool) -> None:
        block = Block(bytes(range(256)) * (LARGE >> 8))
        assert pool.map(partial(byte_of, block), range(20), 1) == list(range(20))
        assert pool.map(lambda n: block.data[n], range(20), 1) == list(range(20))

    def test_large_results_are_good_after_the_pool(self) -> None:
        with self.make_pool(2) as pool:
            blocks = pool.map(blank, [LARGE] * 4)
        assert blocks == [Block(bytes(LARGE))] * 4


class LargeDataDeathTests(Suite):
    """A worker that dies with large data takes nothing else with it."""

    def test_a_death_with_large_data_costs_its_task_alone(self, pool: Pool) -> None:
        block = Block(bytearray(LARGE))
        deaths = [pool.apply_async(die_with, (block,)) for _ in range(2)]
        others = [pool.apply_async(spoil, (block,)) for _ in range(6)]
        for death in deaths:
            with pytest.raises(errors.WorkerDied):
                death.get()
        assert [other.get() for other in others] == [0] * 6
        assert pool.map(spoil, [block] * 4) == [0] * 4
