"""How one task ended: a value or an error, and the one way that travels.

A batch of outcomes is a list. A value that can share a pickle stands in it as itself (``encode_together``); all
else is ``Boxed``, which has ``open()``: it gives the value or raises.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import Any, Final, Protocol

from millpond import errors
from millpond.worker import arena, raised
from millpond.worker.borrower import Borrower
from millpond.worker.frames import Buffer
from millpond.worker.parcels import PROTOCOL as PROTOCOL
from millpond.worker.parcels import Aside, Parcel, dump, lay, open_parcel, parcel
from millpond.worker.raised import format_trace
from millpond.worker.segments import BODY

PLAIN: Final[frozenset[type]] = frozenset({int, float, bool, type(None), str, bytes})
"""Types whose values can share a pickle: loading them runs nobody's code and cannot fail alone."""

SMALL: Final = 1 << 10
"""Bytes, on the average, that values may have which share a pickle."""

UNSIZED: Final[frozenset[type]] = PLAIN - {str, bytes}
"""Those of them whose values are never large."""

_SIZED: Final[frozenset[type]] = PLAIN - UNSIZED
_PICKLES: Final = frozenset({"builtins", "_pickle", "pickle"})
"""Modules whose exceptions pickle raises of itself."""
_WHOLE: Final = frozenset({str, bytes, bytearray})

# What a sealed outcome is.
VALUE, ERROR, ABORTED, REFUSED, MISSING = range(5)
AGAIN: Final = 16
"""Added to that: the task failed in a way after which it may be run again."""


class Boxed:
    """What stands in a batch for a value, or instead of one."""

    __slots__ = ()

    def open(self) -> Any:
        """The value; raises what its task raised."""
        raise NotImplementedError


class Value(Boxed):
    """A value that was not encoded."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def open(self) -> Any:
        return self.value


class Error(Boxed):
    """An exception that was not encoded; ``again``: the task that raised it may be run again."""

    __slots__ = ("again", "exception")

    def __init__(self, exception: BaseException, again: bool = False) -> None:
        self.exception = exception
        self.again = again

    def open(self) -> Any:
        raise self.exception


class Sealed(Boxed):
    """An outcome as bytes, decoded by whoever takes it."""

    __slots__ = ("data", "index", "tag")

    def __init__(self, tag: int, data: Buffer | Parcel) -> None:
        self.index: int | None = None  # of its task, where that has to be told
        self.tag = tag
        self.data: Any = data

    def open(self) -> Any:
        data = self.data
        try:
            if type(data) is Parcel:
                return data.load()
            if self.tag == VALUE:
                return pickle.loads(data)
        except Exception:
            raise
        except BaseException as failure:
            raise _interrupted().or_aborted(failure) from failure.__cause__
        raise rebuild_error(self.tag & ~AGAIN, data)


class Wire(Protocol):
    """How outcomes become bytes: this module, or ``untrusted``."""

    def seal_value(self, value: object) -> Sealed: ...
    def seal_error(self, exception: BaseException, skip: int = 1) -> Sealed: ...
    def seal_missing(self, exception: BaseException) -> Sealed: ...
    def encode_batch(self, outcomes: list[Any], mixed: bool) -> list[Buffer]: ...
    def encode_together(self, values: list[Any]) -> bytes: ...
    def halves(self, outcomes: list[Any]) -> list[list[Any]]: ...  # batches that may go as one


class Mixed(list[Any]):
    """A batch in which not all are plain values; any other list is one in which all are."""


def take(outcome: Any) -> Any:
    """The value of an entry of a batch; raises what its task raised."""
    return outcome.open() if isinstance(outcome, Boxed) else outcome


def blame_result(failure: BaseException, outcome: object, whose: str) -> None:
    """Note on what opening an outcome raised that it was not the task, if it was the unpickling of its result."""
    if type(outcome) is Sealed and outcome.tag == VALUE:
        raised.add_note(failure, f"raised while {whose} was unpickled")


def is_large(value: object) -> bool:
    """Whether a value is text or bytes that should rather go through the arena."""
    return type(value) in _SIZED and len(value) >= BODY  # type: ignore[arg-type]


def may_stand(value: object) -> bool:
    """Whether a value may stand in a batch as it is."""
    return type(value) in UNSIZED or (type(value) in _SIZED and len(value) < BODY)  # type: ignore[arg-type]


def asks_again(exception: BaseException, retry_on: tuple[type[BaseException], ...]) -> bool:
    """Whether a task that raised this may be run again; runs no code of the user's.

    An exception that is no ``Exception`` is tested as what it is, and as the ``TaskAborted`` that stands for
    it, but not as the bases of that: a task that calls ``sys.exit()`` does not ask for another run.
    """
    classes = raised.classes_of(exception)
    if not issubclass(classes[0], Exception):
        classes += (errors.TaskAborted,)
    return any(kind is wanted for wanted in retry_on for kind in classes)


def offsets_again(batch: Sequence[Any]) -> tuple[int, ...]:
    """Where in a batch the outcomes are whose tasks may be run again."""
    return tuple(
        offset
        for offset, outcome in enumerate(batch)
        if (type(outcome) is Sealed and outcome.tag & AGAIN)
        or (type(outcome) is Error and outcome.again)
    )


def seal_value(value: object) -> Sealed:
    """A task's value as bytes; pickle's refusal becomes an outcome of its own."""
    put = arena.put
    try:
        if put is None:
            return Sealed(VALUE, dump(value))
        if type(value) in _WHOLE:
            return Sealed(VALUE, lay(value, put))
        aside: Aside = []
        return Sealed(VALUE, parcel(dump(value, aside), aside, put))
    except BaseException as refusal:  # a pickling hook may raise anything
        try:
            return Sealed(VALUE, _dump_otherwise(refusal, value))
        except BaseException:
            return _refused(refusal, value, "")


def seal_error(exception: BaseException, skip: int = 1) -> Sealed:
    """What a task raised as bytes, with its traceback less our own ``skip`` frames."""
    trace = raised.trace_of(exception, skip)
    if issubclass(type(exception), MemoryError):
        from millpond.worker import memory_limit

        memory_limit.note(exception)
    text = format_trace(exception, trace)
    name, said = raised.name_of_type(exception), raised.text_of(exception)
    if not raised.is_ordinary(exception):
        return Sealed(ABORTED, _plain(name, said, text))
    try:
        inner = dump(exception)
    except BaseException as refusal:
        try:
            inner = _dump_otherwise(refusal, exception)
        except BaseException:
            return _refused(refusal, exception, text)
    return Sealed(ERROR, _plain(name, said, text, inner))


def seal_missing(exception: BaseException) -> Sealed:
    """The task's function cannot be loaded here."""
    name, text = raised.name_of_type(exception), raised.text_of(exception)
    trace = format_trace(exception, raised.trace_of(exception))
    return Sealed(MISSING, _plain(name, text, trace))


class _Strict(pickle.Pickler):
    """Refuses whatever takes more than pickle's own opcodes to load."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is range or obj is range:
            return NotImplemented
        raise NotTogether


class NotTogether(Exception):
    """One of the values has to have a pickle of its own."""


def halves(outcomes: list[Any]) -> list[list[Any]]:
    """Batches that may go as one: any."""
    return [outcomes]


def encode_together(values: Any) -> bytes:
    """Values in one pickle; raises ``NotTogether`` unless all are made of numbers, text, bytes and Python's own
    containers. To load it runs nobody's code and does not fail for one value alone. As in ``multiprocessing``,
    an object that several of the values hold comes out as one object.
    """
    file = io.BytesIO()
    try:
        _Strict(file, PROTOCOL).dump(values)
    except RecursionError:
        raise NotTogether from None
    return file.getvalue()


def encode_batch(outcomes: list[Any], mixed: bool) -> list[Buffer]:
    """A batch as buffers: a pickle of plain values, after it the sealed ones."""
    if not mixed:
        return [pickle.dumps(outcomes, PROTOCOL)]
    index: list[Any] = []
    blobs: list[Buffer] = []
    for outcome in outcomes:
        if type(outcome) is not Sealed:
            index.append(outcome)
            continue
        data = outcome.data
        if type(data) is Parcel:
            index.append((outcome.tag, data.entry(blobs)))
        else:
            index.append((outcome.tag, len(data)))
            blobs.append(data)
    return pack(pickle.dumps(index, PROTOCOL), blobs)


def decode_batch(body: Buffer, mixed: bool, borrower: Borrower | None = None) -> list[Any]:
    """The batch that ``encode_batch`` made buffers of; runs no code of the user's."""
    if not mixed:
        batch: list[Any] = pickle.loads(body)
        return batch
    index, rest = unpack(body)
    at = 0
    for n, entry in enumerate(index):
        if type(entry) is tuple:
            tag, length = entry
            if type(length) is tuple:
                parcel, at = open_parcel(length, rest, at, borrower)
                index[n] = Sealed(tag, parcel)
            else:
                index[n] = Sealed(tag, rest[at : at + length])
                at += length
    return Mixed(index)


def no_room(count: int) -> list[Any]:
    """A batch in place of one that came and that this process had no memory for."""
    lack = "no memory in this process for the result, which another has sent"
    return Mixed(seal_error(MemoryError(lack)) for _ in range(count))


def pack(head: bytes, blobs: Sequence[Buffer]) -> list[Buffer]:
    """The pickle of an index of plain things, and the blobs that it tells of."""
    return [len(head).to_bytes(4, "little"), head, *blobs]


def unpack(body: Buffer) -> tuple[Any, memoryview]:
    """What ``pack`` packed: the index, and the blobs end to end."""
    view = memoryview(body)
    size = 4 + int.from_bytes(view[:4], "little")
    return pickle.loads(view[4:size]), view[size:]


def rebuild_error(tag: int, data: Buffer) -> BaseException:
    """The exception that a sealed error stands for, with the worker's traceback as its cause."""
    name, text, trace, inner = pickle.loads(data)
    error: BaseException
    if tag == ABORTED:
        error = errors.TaskAborted(errors.escape(f"the task raised {name}({text})"))
    elif tag == REFUSED:
        error = _refusal(name, text, trace, *pickle.loads(inner))
    elif tag == MISSING:
        reason = errors.escape(f"{name}: {text}")
        error = errors.TaskError(
            f"the worker cannot load the task's function: {reason}", name, text, trace
        )
    else:
        error = _original(name, text, trace, inner)
    if trace:
        raised.set_cause(error, raised.remote(trace))
    return error


def _original(name: str, text: str, trace: str, inner: bytes) -> BaseException:
    if not inner:  # a sandboxed worker's: nothing of it is unpickled
        return errors.TaskError(f"{name}: {text}", name, text, trace)
    try:
        error = pickle.loads(inner)
    except BaseException as failure:
        if _interrupted().is_interruption(failure):
            raise
        why = raised.shown(failure)
        message = f"{name}: {text} (stands for the original, which cannot be unpickled: {why})"
        return errors.TaskError(errors.escape(message), name, text, trace)
    if issubclass(type(error), Exception):
        return error  # type: ignore[no-any-return]
    # Another BaseException would be taken for Ctrl-C, or for the end of the caller's program.
    message = errors.escape(f"{name}: {text} (it does not unpickle to an Exception)")
    return errors.TaskError(message, name, text, trace)


def _dump_otherwise(refusal: BaseException, value: object) -> bytes:
    """What pickle refused, if that was for a class that came by value; raises the refusal else."""
    from millpond.worker import sent_classes

    if not sent_classes.may_be_in(refusal):
        raise refusal
    return sent_classes.dump(value)


def _refused(refusal: BaseException, value: object, trace: str) -> Sealed:
    of_error = issubclass(type(value), BaseException)
    name, text = (raised.name_of_type(value), raised.text_of(value)) if of_error else ("", "")
    refusal = _explained(refusal, "exception" if of_error else "result", value)
    inner = pickle.dumps((raised.shown(refusal), raised.shown(value), of_error, _kind(refusal)))
    if not trace:
        trace = format_trace(refusal, raised.trace_of(refusal))
    return Sealed(REFUSED, _plain(name, text, trace, inner))


def _kind(refusal: BaseException) -> type[BaseException] | None:
    """The class of pickle's refusal, where loading it runs nobody's code."""
    kind = type(refusal)
    return kind if kind.__module__ in _PICKLES and issubclass(kind, Exception) else None


def _explained(refusal: BaseException, whole: str, value: object) -> BaseException:
    try:
        from millpond.worker.refusals import explained

        return explained(refusal, whole, value, lambda part: dump(part, []), bare=False)
    except (
        BaseException
    ):  # a hook raises anything, and a task may have given up the right to read modules
        return refusal


def _refusal(
    name: str, text: str, trace: str, refusal: str, value: str, of_error: bool, kind: Any = None
) -> BaseException:
    error: Any = (_unsendable() if of_error else errors.MaybeEncodingError)(refusal, value)
    # multiprocessing's class keeps the repr of what it is given: the texts are these reprs already.
    error.exc, error.value = refusal, value
    error.args = (refusal, value)
    if kind is not None:
        error.refusal = kind  # as an executor gives it
    if isinstance(error, errors.TaskError):
        error.type_name, error.text, error.traceback = name, text, trace
    return error  # type: ignore[no-any-return]


def _interrupted() -> Any:
    """What tells an exception of unpickling from a signal's; no worker needs it."""
    from millpond.worker import interrupted

    return interrupted


def _unsendable() -> Any:
    from millpond.worker.unsendable import UnsendableError

    return UnsendableError


def _plain(name: str, text: str, trace: str, inner: bytes = b"") -> bytes:
    return pickle.dumps((name, text, trace, inner), PROTOCOL)
