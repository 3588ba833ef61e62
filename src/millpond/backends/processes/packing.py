"""What is sent to worker processes, as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from millpond.backends.base import Work
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
from millpond.worker.conduct import is_global
from millpond.worker.frames import Buffer
from millpond.worker.outcome import SMALL, NotTogether

_ALL_TUPLES = frozenset({tuple}).issuperset


class Encoded(bytes):
    """An argument that was encoded when it was handed in."""


def encoded_call(payload: Any) -> Any:
    """What ``ProcessPacking.argument`` made of a call, as bytes."""
    return encode_call(payload, {}, True) if type(payload) is tuple else payload


class ProcessPacking:
    """``main_importable``: workers have this process's ``__main__``."""

    def __init__(self, main_importable: bool) -> None:
        self._main_importable = main_importable

    def keeps(self, function: Any) -> bool:
        return is_global(function) and (self._main_importable or function.__module__ != "__main__")

    def function(self, function: Any) -> bytes:
        return encode_argument(function, self._main_importable)

    def by_value(self, function: Any) -> bytes:
        return encode_by_value(function)

    def argument(self, style: int, argument: Any) -> Any:
        """Encoded, so that it is what it was at the call; a call's plain arguments are kept as they are."""
        if style != CALL:
            return Encoded(encode_argument(argument, self._main_importable))
        args, kwds = argument
        if not kwds and all_plain(args):
            return args
        return encode_argument(argument, self._main_importable)

    def chunk(self, known: set[int], work: Sequence[tuple[Work, Span]]) -> list[Buffer]:
        """A chunk as the body of a frame; ``known`` are the jobs whose function the worker has."""
        parts = [self._part(known, job, span) for job, span in work]
        try:
            body = encode_chunk(parts)
        except NotTogether:
            pass
        else:
            if len(body[1]) <= SMALL * sum(part.tasks for part in parts):
                return body
        return encode_chunk(
            [self._taken_apart(job, part) for (job, _), part in zip(work, parts, strict=True)]
        )

    def _part(self, known: set[int], job: Work, span: Span) -> Part:
        items = job.arguments(span.start, span.stop)
        plain: Sequence[Any] | None = None
        blobs: list[Buffer | None] | None = None
        if job.style == CALL:
            if job.slice > 1 and _ALL_TUPLES(map(type, items)):
                plain = items
            else:
                blobs = [None if item is GONE else encoded_call(item) for item in items]
        elif not job.apart or all_plain(items):
            plain = items
        else:
            blobs = self._blobs(job, span.start, items)
        function = None
        if job.id not in known:
            known.add(job.id)
            function = job.function
        return Part(job.id, job.style, span.start, job.slice, function, plain, blobs)

    def _taken_apart(self, job: Work, part: Part) -> Part:
        """The part with a pickle for each argument, unless all are as plain as can be."""
        if part.plain is None or part.style == CALL or all_plain(part.plain):
            return part
        job.apart = True
        return part._replace(plain=None, blobs=self._blobs(job, part.first, part.plain))

    def _blobs(self, job: Work, first: int, items: Sequence[Any]) -> list[Buffer | None]:
        return [self._blob(job, index, item) for index, item in enumerate(items, first)]

    def _blob(self, job: Work, index: int, item: Any) -> Buffer | None:
        if type(item) is Encoded:
            return item
        if item is GONE:
            return None
        try:
            return encode_argument(item, self._main_importable)
        except BaseException as refusal:  # a pickling hook may raise anything
            job.refuse(index, refusal)
            return None
