"""The reader of a file of the arena: views, their ends, and what cannot be mapped."""

from __future__ import annotations

import gc
import mmap
import os
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from millpond.worker import borrower as borrowers
from millpond.worker import segments
from millpond.worker.borrower import Borrower, Claim, Released
from millpond.worker.lending import Lending, Loan
from millpond.worker.segments import open_file

MIB = 1 << 20


class Pair:
    """A writer and a reader of one file."""

    def __init__(self, giving: bool) -> None:
        self.fd = open_file()
        self.lending = Lending(self.fd)
        self.released: deque[Released] = deque()
        self.borrower = Borrower(os.dup(self.fd), self.released, giving=giving)

    def lend(self, data: bytes) -> Loan:
        loan = self.lending.put([data])
        assert loan is not None
        return loan

    def claim(self, loan: Loan) -> Claim:
        claim = self.borrower.claim(loan.segment)
        assert type(claim) is Claim
        return claim

    def numbers(self) -> list[int]:
        return [entry.number for entry in self.released]

    def pages(self) -> int:
        return os.fstat(self.fd).st_blocks * 512


@pytest.fixture(params=[True, False], ids=["linux", "elsewhere"])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """On Linux, and as on systems where a private mapping cannot be made to show the file again."""
    if not request.param:
        monkeypatch.setattr(borrowers, "_DONTNEED", None)
    yield from _pair(giving=False)


def test_the_same_bytes_again_are_as_they_came_whoever_wrote_to_them(pair: Pair) -> None:
    claim = pair.claim(pair.lend(b"abcd" * MIB))
    address = []
    for _ in range(4):
        again = np.asarray(claim.again(9.0))
        assert bytes(again[:4]) == b"abcd"
        address.append(again.__array_interface__["data"][0])
        other = np.asarray(claim.again(9.0))
        other[:4] = 0
        assert bytes(again[:4]) == b"abcd", "two at a time do not see one another"
        del again, other
    del claim
    assert len(pair.released) == 1


def test_a_mapping_serves_again_unless_it_was_written_to(pair: Pair) -> None:
    claim = pair.claim(pair.lend(b"abcd" * MIB))
    first: Any = claim.again(9.0)
    mapped = first._mapped
    np.asarray(first).sum()
    del first
    second: Any = claim.again(9.0)
    assert second._mapped is mapped
    np.asarray(second)[MIB] = 0
    del second
    third: Any = claim.again(9.0)
    assert third._mapped is not mapped
    mapped = third._mapped
    del third
    fourth: Any = claim.again(0.0)
    assert fourth._mapped is not mapped, "to look would take longer than it was used"


@pytest.fixture
def giving() -> Iterator[Pair]:
    for pair in _pair(giving=True):
        pair.borrower.keep = 2 * MIB
        yield pair


def _pair(giving: bool) -> Iterator[Pair]:
    pair = Pair(giving)
    yield pair
    pair.borrower.close()
    pair.lending.close()
    os.close(pair.fd)


def test_a_view_shows_what_was_put_and_is_given_back_with_its_last_part(pair: Pair) -> None:
    data = os.urandom(MIB + 3)
    loan = pair.lend(data)
    array = np.frombuffer(pair.claim(loan).export(), np.uint8)
    assert array.tobytes() == data
    part = array[5:9]
    del array
    assert pair.numbers() == []
    del part
    assert pair.numbers() == [loan.segment.at]


def test_what_is_written_to_a_view_stays_there(pair: Pair) -> None:
    loan = pair.lend(b"x" * MIB)
    array = pair.claim(loan).export()
    array[:] = 0
    assert os.pread(pair.fd, MIB, loan.segment.at) == b"x" * MIB
    del array
    again = pair.claim(loan).export()
    assert again.tobytes() == b"x" * MIB


def test_two_views_of_the_same_bytes_are_apart(pair: Pair) -> None:
    loan = pair.lend(b"x" * MIB)
    first, second = pair.claim(loan).export(), pair.claim(loan).export()
    first[:] = 0
    assert second.tobytes() == b"x" * MIB
    del second
    assert not first.any()
    third = pair.claim(loan).export()
    assert third.tobytes() == b"x" * MIB
    del first, third
    assert pair.numbers() == [loan.segment.at] * 3


def test_without_numpy_a_view_is_a_copy(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    loan = pair.lend(b"x" * MIB)
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "numpy")
        copy = pair.claim(loan).export()
    assert type(copy) is bytearray
    assert copy == b"x" * MIB
    assert pair.numbers() == [loan.segment.at]


def test_what_cannot_be_mapped_is_copied(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    loan = pair.lend(b"x" * MIB)

    def refuse(*_: object, **__: object) -> mmap.mmap:
        raise OSError("no address space")

    with monkeypatch.context() as patch:
        patch.setattr(mmap, "mmap", refuse)
        copy: Any = pair.borrower.claim(loan.segment)
        with pytest.raises(EOFError, match="ends before"):
            pair.borrower.claim(loan.segment._replace(at=1 << 40))
    assert copy == b"x" * MIB
    assert pair.numbers() == [loan.segment.at]


def test_what_there_is_no_memory_for_is_got_when_it_is_wanted(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    loan = pair.lend(b"x" * MIB)

    def refuse(*_: object, **__: object) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(mmap, "mmap", refuse)
        patch.setattr(Borrower, "copied", refuse)
        unseen: Any = pair.borrower.claim(loan.segment)
        assert len(unseen) == MIB
        with pytest.raises(MemoryError, match=f"no memory in this process for the {MIB} bytes"):
            unseen.view()
    assert pair.numbers() == []
    assert unseen.view() == b"x" * MIB
    del unseen
    assert pair.numbers() == [loan.segment.at]


def test_views_outlive_the_borrower_and_the_file(pair: Pair) -> None:
    data = os.urandom(MIB)
    array = pair.claim(pair.lend(data)).export()
    pair.borrower.close()
    assert array.tobytes() == data


def test_a_fork_pins_what_is_seen(pair: Pair) -> None:
    """The copy of the process sees it as well, and may go on doing so."""
    loan, later = pair.lend(b"x" * MIB), pair.lend(b"y" * MIB)
    array = pair.claim(loan).export()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    del array
    assert pair.numbers() == []
    other = pair.claim(later).export()
    del other
    assert pair.numbers() == [later.segment.at]


def test_many_views_need_few_descriptors(giving: Pair) -> None:
    before = len(os.listdir("/proc/self/fd"))
    loans = [giving.lend(b"x" * 70_000) for _ in range(500)]
    arrays = [giving.claim(loan).export() for loan in loans]
    assert len(os.listdir("/proc/self/fd")) < before + 12
    assert all(array.any() for array in arrays)


def test_pages_beyond_a_bound_are_given_back_at_once(giving: Pair) -> None:
    loans = [giving.lend(b"x" * MIB) for _ in range(5)]
    arrays = [giving.claim(loan).export() for loan in loans]
    assert giving.pages() == 5 * MIB
    arrays.clear()
    gc.collect()
    assert giving.pages() == 2 * MIB
    assert sorted(entry.empty for entry in giving.released) == [False, False, True, True, True]


def test_after_the_writers_end_all_pages_are_given_back(giving: Pair) -> None:
    array = giving.claim(giving.lend(b"x" * MIB)).export()
    giving.borrower.close()
    assert giving.pages() == MIB
    del array
    assert giving.pages() == 0


def test_pages_that_the_writer_still_uses_are_not_given_back(giving: Pair) -> None:
    loan = giving.lend(b"x" * MIB)
    segment = loan.segment._replace(kept=True, skip=4096, size=MIB - 4096)
    claim = giving.borrower.claim(segment)
    assert len(claim) == MIB - 4096
    giving.borrower.close()
    del claim
    assert giving.pages() == MIB


def test_forks_are_counted_before_they_happen_and_after() -> None:
    """What another thread maps in between is the copy's too; what it lets go of in between was."""
    before = segments.forks
    pid = os.fork()
    if pid == 0:
        os._exit(0 if segments.forks == before + 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert segments.forks == before + 2
