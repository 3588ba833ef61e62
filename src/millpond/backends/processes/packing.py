"""What is sent to worker processes, as bytes."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import FunctionType
from typing import Any

from millpond.backends.base import Nowhere, Outside, Work
from millpond.backends.processes.state import is_reference, may_keep_state
from millpond.core.commands import Span
from millpond.worker.codec import (
    CALL,
    GONE,
    Part,
    all_plain,
    encode_argument,
    encode_by_value,
    encode_call,
    encode_chunk,
)
from millpond.worker.conduct import Conducted, is_global
from millpond.worker.frames import Buffer
from millpond.worker.lending import Loan
from millpond.worker.outcome import PLAIN, SMALL, is_large
from millpond.worker.parcels import Parcel, Put, dump, lay

_FEW = 8
"""Plain arguments that are looked at one by one, at most."""

_ALL_TUPLES = frozenset({tuple}).issuperset


class Encoded(bytes):
    """An argument that was encoded when it was handed in."""


def encoded_call(payload: Any) -> Any:
    """What ``ProcessPacking.argument`` made of a call, as bytes."""
    return encode_call(payload, {}, True) if type(payload) is tuple else payload


def _one_by_one(work: Sequence[tuple[Work, Span]]) -> Iterator[tuple[Work, Span]]:
    """The same work, each task of a reordered job a part of its own, since it has to tell its place."""
    for job, span in work:
        if job.reordered:
            for index in range(span.start, span.stop):
                yield job, Span(span.job, index, index + 1)
        else:
            yield job, span


def _is_newer(defined: Mapping[str, weakref.ref[Any]] | None, function: Any) -> bool:
    """Whether the workers' main module has another function of that name, or none."""
    if defined is None or type(function) is not FunctionType or function.__module__ != "__main__":
        return False
    theirs = defined.get(function.__name__)
    return theirs is None or theirs() is not function


class ProcessPacking:
    """``main_importable``: workers have this process's ``__main__``.

    ``defined``: they have it as it was when these were its functions; it may have others now, of the same names.
    """

    def __init__(self, main_importable: bool, put: Put | None = None) -> None:
        self._main_importable = main_importable
        self.defined: Mapping[str, weakref.ref[Any]] | None = None
        self._put = put
        self._dump = partial(encode_argument, main_importable=main_importable)
        self.outside: Outside = Nowhere()
        self.large: set[int] = set()  # jobs whose plain arguments are each a blob, too

    def keeps(self, function: Any) -> bool:
        known = self._main_importable and not _is_newer(self.defined, function)
        return is_global(function) and (known or function.__module__ != "__main__")

    def function(self, function: Any) -> bytes | Parcel:
        source = function.function if type(function) is Conducted else function
        if _is_newer(self.defined, source):
            return self.by_value(function)
        try:
            return encode_argument(function, self._main_importable, self._put)
        except Exception as refusal:
            raise _explaining().function(refusal, function, self._dump) from None

    def renews(self, function: Any, packed: Any) -> bool:
        return may_keep_state(function) and not is_reference(packed)

    def by_value(self, function: Any) -> bytes | Parcel:
        try:
            return encode_by_value(function, self._put)
        except Exception as refusal:
            raise _explaining().function(refusal, function, encode_by_value) from None

    def argument(self, style: int, argument: Any, function: Any = None) -> Any:
        """Encoded, so that it is what it was at the call; a call's plain arguments are kept as they are.

        ``function``, of which it is an argument, is named where it is refused.
        """
        if style == CALL and not argument[1] and all_plain(argument[0]):
            return argument[0]
        try:
            packed = encode_argument(argument, self._main_importable, self._put)
        except Exception as refusal:
            raise _explaining().argument(refusal, style, argument, function, self._dump) from None
        return packed if style == CALL or type(packed) is Parcel else Encoded(packed)

    def chunk(
        self, known: set[int], work: Sequence[tuple[Work, Span]]
    ) -> tuple[list[Buffer], list[Loan]]:
        """A chunk as the body of a frame, and what it lends; ``known``: jobs whose function the worker has."""
        if any(job.reordered for job, _ in work):
            work = list(_one_by_one(work))
        # All of them first: a pickling hook may use the pool, and what the others are may have ended then.
        given = [job.arguments(span.start, span.stop) for job, span in work]
        parts = [
            self._part(known, job, span, items)
            for (job, span), items in zip(work, given, strict=True)
        ]
        parcels: list[Parcel] = []
        try:
            body = encode_chunk(parts, parcels)
        except Exception:  # NotTogether; another thread changes a container meanwhile; no memory
            body = []
        if not body or len(body[1]) > SMALL * sum(part.tasks for part in parts):
            apart = [
                self._taken_apart(job, part) for (job, _), part in zip(work, parts, strict=True)
            ]
            parcels.clear()
            body = encode_chunk(apart, parcels)
        loans = [loan for parcel in parcels for loan in parcel.parts if type(loan) is Loan]
        return body, loans

    def _part(self, known: set[int], job: Work, span: Span, items: Sequence[Any]) -> Part:
        plain: Sequence[Any] | None = None
        blobs: list[Buffer | Parcel | None] | None = None
        if job.style == CALL:
            if job.slice > 1 and _ALL_TUPLES(map(type, items)) and not self._is_large(job, items):
                plain = items
            else:
                blobs = [None if item is GONE else self._call(job, item) for item in items]
        elif (not job.apart or all_plain(items)) and not self._is_large(job, [items]):
            plain = items
        else:
            blobs = self._blobs(job, span.start, items)
        function = None
        if job.id not in known:
            known.add(job.id)
            function = job.function
        first = job.place(span.start) if job.reordered else span.start
        return Part(job.id, job.style, first, job.slice, function, plain, blobs, job.renewal)

    def _taken_apart(self, job: Work, part: Part) -> Part:
        """The part with a pickle for each argument, unless all are as plain as can be."""
        if part.plain is None or part.style == CALL or all_plain(part.plain):
            return part
        job.apart = True
        return part._replace(plain=None, blobs=self._blobs(job, part.first, part.plain))

    def _is_large(self, job: Work, calls: Sequence[Sequence[Any]]) -> bool:
        """Whether plain arguments of the job are large. One call alone is looked at: large ones come so."""
        if job.id in self.large:
            return True
        if len(calls) == 1 and len(calls[0]) < _FEW and any(map(is_large, calls[0])):
            self.large.add(job.id)
            return True
        return False

    def forget(self, job: int) -> None:
        """The job has ended."""
        self.large.discard(job)

    def _call(self, job: Work, item: Any) -> Buffer | Parcel:
        if type(item) is tuple and job.id in self.large:
            return self._laid((item, {}))
        return encoded_call(item)  # type: ignore[no-any-return]

    def _laid(self, plain: Any) -> bytes | Parcel:
        return dump(plain) if self._put is None else lay(plain, self._put)

    def _blobs(self, job: Work, first: int, items: Sequence[Any]) -> list[Buffer | Parcel | None]:
        return [self._blob(job, index, item) for index, item in enumerate(items, first)]

    def _blob(self, job: Work, index: int, item: Any) -> Buffer | Parcel | None:
        if type(item) is Encoded or type(item) is Parcel:
            return item
        if item is GONE:
            return None
        try:
            if type(item) in PLAIN:
                return self._laid(item)
            with self.outside:
                return encode_argument(item, self._main_importable, self._put)
        except BaseException as refusal:  # a pickling hook may raise anything
            with self.outside:
                job.refuse(index, _explaining().task(refusal, job, index, item, self._dump))
            return None


def refused(known: set[int], work: Sequence[tuple[Work, Span]], failure: Exception) -> list[Buffer]:
    """A chunk without arguments: ``failure`` is the outcome of each task, whatever is answered for it."""
    parts = []
    for job, span in work:
        known.add(job.id)
        for index in range(span.start, span.stop):
            job.refuse(index, failure)
        blobs = [None] * (span.stop - span.start)
        parts.append(Part(job.id, job.style, span.start, 1, job.function, None, blobs))
    return encode_chunk(parts)


def _explaining() -> Any:
    """What tells where in an argument a refusal comes from; not loaded before there is one."""
    from millpond.backends.processes import explaining

    return explaining
