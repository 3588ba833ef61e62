"""A worker's part in the arena: its own file for large results, its parent's for large arguments."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from typing import Any

from millpond.worker.borrower import Borrower
from millpond.worker.frames import Buffer, Frame
from millpond.worker.lending import Lending, Loan
from millpond.worker.slate import FORKED

borrower: Borrower | None = None
lending: Lending | None = None
put: Any = None
"""In a worker: what reads the parent's file, what writes its own, and what lays buffers there to be sent."""

_sent: dict[int, list[Loan]] = {}
_page: Any = None


def begin(own: int, parents: int, released: deque[Any], page: Any) -> None:
    """In a worker, from now on: descriptors of the two files, where what is released goes, the slate's words."""
    global borrower, lending, put, _page
    borrower, lending, put, _page = Borrower(parents, released), Lending(own), _put, page


def take_back(frame: Frame) -> None:
    """The parent does not see a segment any more."""
    loans = _sent.get(frame.seq)
    if loans:
        loans.pop().empty = bool(frame.flags)
        if not loans:
            del _sent[frame.seq]


def _put(pieces: Sequence[Buffer]) -> Loan | None:
    loan = lending.put(pieces) if lending is not None else None
    if loan is not None:
        _sent.setdefault(loan.segment.at, []).append(loan)
    return loan


def _note_fork() -> None:
    """A copy of this worker sees what the worker sees of its parent's file, and may outlive it."""
    if _page is not None:
        _page[FORKED] = 1


def _forget() -> None:
    """A copy of a worker has no part in its files."""
    global borrower, lending, put, _page
    borrower = lending = put = _page = None


os.register_at_fork(before=_note_fork, after_in_child=_forget)
