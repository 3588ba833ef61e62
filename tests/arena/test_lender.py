"""The writer of a file of the arena: room, recycling, and memory that is short."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from millpond.worker import memory
from millpond.worker.frames import Buffer
from millpond.worker.lender import Lender, Slot, affordable
from millpond.worker.lending import Lending
from millpond.worker.segments import PAGE, open_file

MIB = 1 << 20


@pytest.fixture
def fd() -> Iterator[int]:
    fd = open_file()
    yield fd
    os.close(fd)


def pages(fd: int) -> int:
    """Bytes of memory that the file has."""
    return os.fstat(fd).st_blocks * 512


def put(lender: Lender, data: bytes) -> Slot | None:
    slot = lender.take(len(data))
    if slot is not None:
        assert lender.fill(slot, [data], len(data))
    return slot


def must(lender: Lender, size: int, letter: bytes = b"x") -> Slot:
    slot = put(lender, letter * size)
    assert slot is not None
    return slot


def content(fd: int, slot: Slot, size: int) -> bytes:
    return os.pread(fd, size, slot.at)


def test_a_file_costs_no_memory_before_it_is_written_to(fd: int) -> None:
    assert pages(fd) == 0
    assert Lender(fd).take(MIB) is not None
    assert pages(fd) == 0


@pytest.mark.parametrize("size", [1, PAGE, PAGE + 1, 3 * MIB + 5])
def test_what_is_put_is_there(fd: int, size: int) -> None:
    lender = Lender(fd)
    data = os.urandom(size)
    for _ in range(3):  # written, then copied to pages that there are
        slot = put(lender, data)
        assert slot is not None
        assert content(fd, slot, size) == data
        lender.free(slot.at)


def test_several_pieces_lie_one_behind_another(fd: int) -> None:
    lender = Lender(fd)
    pieces: list[Buffer] = [b"a" * 10, memoryview(b"b" * 5000), bytearray(b"c" * 7)]
    for _ in range(2):
        slot = lender.take(5017)
        assert slot is not None
        assert lender.fill(slot, pieces, 5017)
        assert content(fd, slot, 5017) == b"a" * 10 + b"b" * 5000 + b"c" * 7
        lender.free(slot.at)


def test_what_is_lent_is_never_written_to(fd: int) -> None:
    lender = Lender(fd)
    slots = [must(lender, 100_000 + n, bytes([65 + n])) for n in range(20)]
    for n, slot in enumerate(slots):
        assert set(content(fd, slot, 100_000 + n)) == {65 + n}
    places = sorted((slot.at, slot.at + slot.room) for slot in slots)
    assert all(end <= start for (_, end), (start, _) in pairwise(places))


def test_the_last_used_is_used_again_first(fd: int) -> None:
    lender = Lender(fd)
    first, second = must(lender, MIB), must(lender, MIB)
    lender.free(first.at)
    lender.free(second.at)
    assert must(lender, MIB) is second
    assert must(lender, MIB - PAGE * 4) is first
    assert pages(fd) == 2 * MIB


def test_a_small_need_does_not_take_a_large_segment(fd: int) -> None:
    lender = Lender(fd)
    large = must(lender, 8 * MIB)
    lender.free(large.at)
    assert must(lender, MIB) is not large


def test_beyond_a_bound_free_pages_are_given_back_the_longest_unused_first(fd: int) -> None:
    lender = Lender(fd, keep=3 * MIB)
    slots = [must(lender, MIB) for _ in range(5)]
    for slot in slots:
        lender.free(slot.at)
    assert pages(fd) == 3 * MIB
    assert [slot.backed for slot in slots] == [0, 0, MIB, MIB, MIB]
    assert lender.usage() == (3 * MIB, 0)
    again = [must(lender, MIB, b"y") for _ in range(5)]  # also what had given its pages back
    assert {content(fd, slot, MIB) for slot in again} == {b"y" * MIB}
    assert pages(fd) == 5 * MIB


def test_a_segment_whose_reader_gave_its_pages_back(fd: int) -> None:
    lender = Lender(fd)
    slot = must(lender, MIB)
    other = must(lender, MIB)
    lender.free(other.at)
    lender.free(slot.at, empty=True)
    assert slot.backed == 0
    assert must(lender, MIB) is other  # which has pages
    assert must(lender, MIB, b"y") is slot
    assert content(fd, slot, MIB) == b"y" * MIB


def test_where_memory_is_short_free_pages_go_first_and_then_nothing_is_lent(fd: int) -> None:
    limit = 4 * MIB

    def afford(more: int) -> int:
        left = limit - pages(fd)
        return left if left >= more else 0

    lender = Lender(fd, afford=afford)
    slots = [must(lender, MIB) for _ in range(4)]
    assert put(lender, b"x" * MIB) is None
    for slot in slots:
        lender.free(slot.at)
    assert put(lender, b"x" * 3 * MIB) is not None
    assert pages(fd) <= limit
    assert put(lender, b"x" * 2 * MIB) is None
    assert put(lender, b"x" * MIB) is not None


def test_how_much_may_be_taken_is_asked_once_in_a_while(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def afford(more: int) -> int:
        asked.append(more)
        return more + 8 * MIB

    lender = Lender(fd, afford=afford)
    for _ in range(9):
        must(lender, MIB)
    assert asked == [MIB]
    must(lender, MIB)
    assert len(asked) == 2


def test_an_eighth_of_all_memory_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found = memory.Memory(total=800, spare=150)
    monkeypatch.setattr(memory, "look", lambda: found)
    assert affordable(50) == 50
    assert affordable(51) == 0
    monkeypatch.setattr(memory, "look", lambda: None)
    assert affordable(51) >= 51


@pytest.mark.parametrize("what", ["pwrite", "ftruncate"])
def test_a_full_memory_is_no_segment(fd: int, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    lending = Lending(fd)
    with monkeypatch.context() as patch:
        patch.setattr(os, what, full)
        assert lending.put([b"x" * MIB]) is None
    loan = lending.put([b"y" * MIB])
    assert loan is not None
    assert os.pread(fd, MIB, loan.segment.at) == b"y" * MIB
    del loan
    assert lending.usage()["lent"] == 0


def test_a_file_size_limit_is_no_segment(fd: int) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    lending = Lending(fd)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 * MIB, limits[1]))
    try:
        assert lending.put([b"x" * MIB]) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_file_never_shrinks(fd: int) -> None:
    must(Lender(fd), MIB)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)


def test_a_loan_is_free_with_its_last_holder(fd: int) -> None:
    lending = Lending(fd)
    loan = lending.put([b"x" * MIB])
    assert loan is not None
    again = loan
    at = loan.segment.at
    del loan
    assert lending.usage()["lent"] == MIB
    del again
    assert lending.usage() == {"arguments": MIB, "lent": 0}
    other = lending.put([b"y" * MIB])
    assert other is not None
    assert other.segment.at == at


def test_a_loan_that_dies_while_the_lender_is_being_changed_is_free_afterwards(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Garbage collection may come anywhere, also in the thread that has the lock."""
    lending = Lending(fd)
    dying = [lending.put([b"x" * MIB])]
    take = lending._lender.take

    def take_amid_a_collection(size: int) -> Any:
        dying.clear()
        assert lending._lender.usage() == (MIB, MIB)
        return take(size)

    monkeypatch.setattr(lending._lender, "take", take_amid_a_collection)
    other = lending.put([b"y" * MIB])
    assert other is not None
    assert lending.usage()["lent"] == MIB


def test_a_lasting_loan_is_never_used_again(fd: int) -> None:
    lending = Lending(fd)
    loan = lending.put([b"x" * MIB])
    assert loan is not None
    at, loan.lasting = loan.segment.at, True
    del loan
    other = lending.put([b"y" * MIB])
    assert other is not None
    assert other.segment.at != at
    assert os.pread(fd, MIB, at) == b"x" * MIB


def test_many_threads_lend_at_once(fd: int) -> None:
    lending = Lending(fd, keep=2 * MIB)
    wrong: list[str] = []

    def work(letter: bytes) -> None:
        for n in range(60):
            size = 70_000 + 9_000 * (n % 7)
            loan = lending.put([letter * size])
            if loan is None or os.pread(fd, size, loan.segment.at) != letter * size:
                wrong.append(f"{letter!r} {n}")

    threads = [threading.Thread(target=work, args=(bytes([65 + n]),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert lending.usage()["lent"] == 0
    assert pages(fd) <= 2 * MIB


def test_a_forked_copy_writes_nothing_and_frees_nothing(fd: int) -> None:
    lending = Lending(fd)
    loan = lending.put([b"x" * MIB])
    assert loan is not None
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            at = loan.segment.at
            del loan
            refused = lending.put([b"y" * MIB]) is None
            code = 0 if refused and os.pread(fd, MIB, at) == b"x" * MIB else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert lending.usage()["lent"] == MIB
