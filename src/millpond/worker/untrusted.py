"""How outcomes and log records travel from a sandboxed worker: in the fixed codec, never as pickles.

In the worker, ``seal_value`` to ``pack_record`` stand in for those of ``outcome`` and ``records``. In the parent,
``laundered`` takes nothing for granted: whatever a frame holds, it gives one that an honest and trusted worker
could have sent, with every pickle in it made here, or raises ProtocolError. Texts are escaped. What comes after it
need not know of sandboxes.
"""

from __future__ import annotations

import logging
import pickle
from typing import Any, Final

from millpond.errors import ProtocolError, escape, escape_lines
from millpond.worker import frames, memory_limit, outcome, raised, records
from millpond.worker.fixed_codec import decode, encode
from millpond.worker.frames import Buffer, Frame
from millpond.worker.outcome import (
    ABORTED,
    AGAIN,
    ERROR,
    MISSING,
    PLAIN,
    PROTOCOL,
    REFUSED,
    VALUE,
    NotTogether,
    Sealed,
)
from millpond.worker.raised import format_trace

_LINES: Final = frozenset({"exc_text", "stack_info"})
_TEXTS: Final = _LINES | {
    "name", "msg", "levelname", "pathname", "filename", "module", "funcName", "threadName", "processName",
    "taskName",
}  # fmt: skip
_NUMBERS: Final[dict[str, frozenset[type]]] = dict.fromkeys(
    ("levelno", "lineno", "thread", "process", "created", "msecs", "relativeCreated"),
    frozenset({int, float}),
)
_TEXT: Final[frozenset[type]] = frozenset({str})
_NEEDED: Final = frozenset({"name", "msg", "levelname", "levelno"})
"""Of a log record."""
_MOST_SECONDS: Final = 1e9


# In the worker ----------------------------------------------------------------------------------


def seal_value(value: object) -> Sealed:
    """A task's value as bytes; what the codec has no form for becomes an outcome of its own."""
    try:
        return Sealed(VALUE, encode(value))
    except Exception as refusal:
        reason = f"a sandboxed worker returns values of the fixed codec only: {refusal}"
        trace = format_trace(refusal, None)
        return _sealed(REFUSED, "", "", trace, repr(TypeError(reason)), raised.shown(value))


def seal_error(exception: BaseException, skip: int = 1) -> Sealed:
    """What a task raised, as its type's name, its text and its traceback less our own ``skip`` frames."""
    tag = ERROR if raised.is_ordinary(exception) else ABORTED
    return _sealed(tag, *_described(exception, raised.trace_of(exception, skip)))


def seal_missing(exception: BaseException) -> Sealed:
    """The task's function cannot be loaded here."""
    return _sealed(MISSING, *_described(exception, raised.trace_of(exception)))


def encode_batch(outcomes: list[Any], mixed: bool) -> list[Buffer]:
    """A batch as buffers: plain values, after them the sealed ones."""
    if not mixed:
        return [encode(outcomes)]
    head = encode([(o.tag, len(o.data)) if type(o) is Sealed else o for o in outcomes])
    blobs = [o.data for o in outcomes if type(o) is Sealed]
    return [len(head).to_bytes(4, "little"), head, *blobs]


def encode_together(values: list[Any]) -> bytes:
    """Each has to be a form of its own."""
    raise NotTogether


def pack_record(record: logging.LogRecord) -> bytes:
    """A log record, its message made; what is not plain of what was added with ``extra=`` as its repr."""
    state = records.state_of(record)
    for name, value in state.items():
        if type(value) not in PLAIN:
            state[name] = raised.shown(value)
    return encode(state)


def _described(exception: BaseException, trace: Any) -> tuple[str, str, str]:
    text = raised.text_of(exception)
    if issubclass(type(exception), MemoryError):
        text = "; ".join(filter(None, (text, memory_limit.told())))
    return raised.name_of_type(exception), text, format_trace(exception, trace)


def _sealed(tag: int, *texts: str) -> Sealed:
    return Sealed(tag, encode(tuple(map(_exactly, texts))))


def _exactly(text: str) -> str:
    """A str and no more: a ``__str__`` may give an object of a class of the user's."""
    return str.__add__("", text)


# In the parent ----------------------------------------------------------------------------------


def laundered(frame: Frame) -> Frame:
    """See the module. Raises ProtocolError."""
    kind, flags, count, _, seconds, body = frame
    if not 0 <= seconds < _MOST_SECONDS:  # not a number is refused by this, too
        raise ProtocolError(f"a worker says that its tasks took {seconds} s")
    if kind == frames.READY:
        return frame  # what it tells is read where it is wanted
    if kind == frames.LOG:
        return frame._replace(body=_record(body))
    if kind == frames.FAILED:
        return frame._replace(body=_error(flags, body).data)
    if kind == frames.DONE:
        return frame._replace(body=_batch(body, flags, count))
    if kind == frames.ENDED:
        view = memoryview(body)
        return frame._replace(
            body=bytes(view[: 8 * count]) + _batch(view[8 * count :], flags, count)
        )
    raise ProtocolError(f"no worker sends frames of kind {kind}")


def _batch(body: Buffer, flags: int, count: int) -> bytes:
    """A batch as ``outcome.encode_batch`` would have made it."""
    if flags not in (frames.PLAIN, frames.MIXED, frames.MIXED + frames.AGAIN):
        raise ProtocolError(f"no batch has the flags {flags}")
    batch = _mixed(body) if flags else decode(body)
    if type(batch) is not list or not 0 < len(batch) == count:
        raise ProtocolError("a batch has not as many outcomes as it says")
    if not flags and not PLAIN.issuperset(map(type, batch)):
        raise ProtocolError("a batch of plain values has others")
    return b"".join(outcome.encode_batch(batch, bool(flags)))


def _mixed(body: Buffer) -> list[Any]:
    view = memoryview(body)
    at = 4 + int.from_bytes(view[:4], "little")
    index = decode(view[4:at])
    found: list[Any] = []
    for entry in index if type(index) is list else ():
        if type(entry) in PLAIN:
            found.append(entry)
            continue
        if type(entry) is not tuple or [*map(type, entry)] != [int, int]:
            raise ProtocolError("a batch's index has an entry that is none")
        tag, length = entry
        if not 0 <= length <= len(view) - at:
            raise ProtocolError("a batch is shorter than its index says")
        data = view[at : at + length]
        found.append(Sealed(VALUE, _pickled(decode(data))) if tag == VALUE else _error(tag, data))
        at += length
    if at != len(view):
        raise ProtocolError("a batch is longer than its index says")
    return found


def _error(tag: int, data: Buffer) -> Sealed:
    kind = tag & ~AGAIN
    if not VALUE < kind <= MISSING:
        raise ProtocolError(f"no outcome has the tag {tag}")
    texts = decode(data)
    count = 5 if kind == REFUSED else 3
    if type(texts) is not tuple or len(texts) != count or any(type(t) is not str for t in texts):
        raise ProtocolError("an error is none")
    inner = _pickled((*map(escape, texts[3:]), False)) if kind == REFUSED else b""
    name, text, trace = escape(texts[0]), escape(texts[1]), escape_lines(texts[2])
    return Sealed(tag, _pickled((name, text, trace, inner)))


def _record(body: Buffer) -> bytes:
    """A log record as ``records.pack`` would have made it."""
    state = decode(body)
    if type(state) is not dict or not state.keys() >= _NEEDED:
        raise ProtocolError("a log record is none")
    for name, value in state.items():
        wanted = _TEXT if name in _TEXTS else _NUMBERS.get(name, PLAIN)
        absent = value is None and name not in _NEEDED
        if type(name) is not str or hasattr(logging.LogRecord, name):
            raise ProtocolError("a log record has a name that none has")
        if type(value) not in wanted and not absent:
            raise ProtocolError(f"a log record has {escape(name)}={value!r}")
        if type(value) is str:
            state[name] = escape_lines(value) if name in _LINES else escape(value)
    return _pickled(({**state, "args": None, "exc_info": None}, {}))


def _pickled(value: object) -> bytes:
    return pickle.dumps(value, PROTOCOL)
