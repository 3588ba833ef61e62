"""How outcomes and log records travel from a sandboxed worker: in the fixed codec, never as pickles.

In the worker, ``seal_value`` to ``halves`` stand in for those of ``outcome``. In the parent,
``laundered`` takes nothing for granted: whatever a frame holds, it gives one that an honest and trusted worker
could have sent, with every pickle in it made here, or raises ProtocolError. Texts are escaped. What comes after it
need not know of sandboxes.
"""

from __future__ import annotations

import pickle
from typing import Any, Final

from millpond.errors import ProtocolError, escape, escape_lines
from millpond.worker import frames, memory_limit, outcome, raised
from millpond.worker.fixed_codec import HEAVIEST, decode, encode, weigh
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
from millpond.worker.untrusted_records import laundered_record

LARGEST: Final = 128 << 20
"""Bytes of an answer, where nothing else is asked for; and of memory that it takes, as ``weigh`` has it."""
_SPARE: Final = 1 << 16
"""Bytes for what an answer has around it."""
_ENTRY: Final = 256
"""What an outcome's entry in its batch's index weighs, at most."""
_TEXT: Final = 100_000
"""Characters of the text or traceback of an error."""
_NAME: Final = 1_000
"""Of its type's name."""

most = LARGEST
"""In a worker: bytes of an answer."""

_MOST_SECONDS: Final = 1e9


# In the worker ----------------------------------------------------------------------------------


def seal_value(value: object) -> Sealed:
    """A task's value as bytes; what the codec has no form for becomes an outcome of its own."""
    try:
        data = encode(value)
        if len(data) * HEAVIEST > most and (weight := weigh(data)) > most:
            raise ValueError(
                f"it takes about {weight} bytes of memory, and answers no more than {most}"
            )
        return Sealed(VALUE, data)
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


def halves(outcomes: list[Any]) -> list[list[Any]]:
    """The outcomes in batches none of which is more than the parent takes at once."""
    length = sum(len(o.data) for o in outcomes if type(o) is Sealed)
    length += sum(len(o) for o in outcomes if type(o) in (str, bytes))
    if len(outcomes) == 1 or length * HEAVIEST + len(outcomes) * _ENTRY <= most:
        return [outcomes]
    weight = sum(weigh(o.data) for o in outcomes if type(o) is Sealed) + len(outcomes) * _ENTRY
    if weight + 4 * length <= most:
        return [outcomes]
    half = len(outcomes) // 2
    return [*halves(outcomes[:half]), *halves(outcomes[half:])]


def _described(exception: BaseException, trace: Any) -> tuple[str, str, str]:
    text = raised.text_of(exception)
    if issubclass(type(exception), MemoryError):
        text = "; ".join(filter(None, (text, memory_limit.told())))
    return raised.name_of_type(exception), text, format_trace(exception, trace)


def _sealed(tag: int, *texts: str) -> Sealed:
    name, text, trace, *others = map(_exactly, texts)
    cut = name[:_NAME], text[:_TEXT], trace[-_TEXT:], *(other[:_TEXT] for other in others)
    return Sealed(tag, encode(cut))


def _exactly(text: str) -> str:
    """A str and no more: a ``__str__`` may give an object of a class of the user's."""
    return str.__add__("", text)


# In the parent ----------------------------------------------------------------------------------


def laundered(frame: Frame, largest: int = LARGEST) -> Frame:
    """See the module; ``largest``: bytes of an answer. Raises ProtocolError."""
    kind, flags, count, _, seconds, body = frame
    if not 0 <= seconds < _MOST_SECONDS:  # not a number is refused by this, too
        raise ProtocolError("a worker says that its tasks took a time that there is not")
    if kind == frames.READY:
        return frame  # what it tells is read where it is wanted
    if kind == frames.LOG:
        return frame._replace(body=laundered_record(body))
    if kind == frames.FAILED:
        return frame._replace(body=_error(flags, decode(body)).data)
    scale = _Scale(body, largest + _SPARE)
    if kind == frames.DONE:
        return frame._replace(body=_batch(body, flags, count, scale))
    if kind == frames.ENDED:
        view = memoryview(body)
        head = bytes(view[: 8 * count])
        return frame._replace(body=head + _batch(view[8 * count :], flags, count, scale))
    raise ProtocolError(f"no worker sends frames of kind {kind}")


class _Scale:
    """Decodes what does not weigh too much together."""

    def __init__(self, body: Buffer, most: int) -> None:
        self._left = most
        self._close = len(body) * HEAVIEST > most  # else it need not be looked at

    def decode(self, data: Buffer) -> Any:
        if self._close:
            self._left -= weigh(data)
            if self._left < 0:
                raise ProtocolError("answers take more memory than the sandbox allows")
        return decode(data)


def _batch(body: Buffer, flags: int, count: int, scale: _Scale) -> bytes:
    """A batch as ``outcome.encode_batch`` would have made it."""
    if flags not in (frames.PLAIN, frames.MIXED, frames.MIXED + frames.AGAIN):
        raise ProtocolError(f"no batch has the flags {flags}")
    batch = _mixed(body, scale) if flags else scale.decode(body)
    if type(batch) is not list or not 0 < len(batch) == count:
        raise ProtocolError("a batch has not as many outcomes as it says")
    if not flags and not PLAIN.issuperset(map(type, batch)):
        raise ProtocolError("a batch of plain values has others")
    return b"".join(outcome.encode_batch(batch, bool(flags)))


def _mixed(body: Buffer, scale: _Scale) -> list[Any]:
    view = memoryview(body)
    at = 4 + int.from_bytes(view[:4], "little")
    index = scale.decode(view[4:at])
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
        value = scale.decode(view[at : at + length])
        found.append(Sealed(VALUE, _pickled(value)) if tag == VALUE else _error(tag, value))
        at += length
    if at != len(view):
        raise ProtocolError("a batch is longer than its index says")
    return found


def _error(tag: int, texts: Any) -> Sealed:
    kind = tag & ~AGAIN
    if not VALUE < kind <= MISSING:
        raise ProtocolError("an outcome has a tag that none has")
    count = 5 if kind == REFUSED else 3
    if type(texts) is not tuple or len(texts) != count or any(type(t) is not str for t in texts):
        raise ProtocolError("an error is none")
    if len(texts[0]) > _NAME or max(map(len, texts)) > _TEXT:
        raise ProtocolError("an error is too long")
    inner = _pickled((*map(escape, texts[3:]), False)) if kind == REFUSED else b""
    name, text, trace = escape(texts[0]), escape(texts[1]), escape_lines(texts[2])
    return Sealed(tag, _pickled((name, text, trace, inner)))


def _pickled(value: object) -> bytes:
    return pickle.dumps(value, PROTOCOL)
