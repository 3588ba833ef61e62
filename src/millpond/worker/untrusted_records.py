"""Log records of a sandboxed worker: packed there, and read in the parent, which bounds all that they hold.

Rules: an honest worker keeps to the bounds, by cutting what is longer; what does not keep to them is no record.
Loggers live as long as the program, so strangers bring no more than ``_MOST_LOGGERS`` of them into being.
"""

from __future__ import annotations

import logging
import pickle
from typing import Any, Final

from millpond.errors import ProtocolError, escape, escape_lines
from millpond.worker import raised, records
from millpond.worker.fixed_codec import decode, encode
from millpond.worker.frames import Buffer
from millpond.worker.outcome import PLAIN, PROTOCOL

LARGEST: Final = 1 << 18
"""Bytes of a record."""

_LINES: Final = frozenset({"exc_text", "stack_info"})
_TEXTS: Final = _LINES | {
    "name", "msg", "levelname", "pathname", "filename", "module", "funcName", "threadName", "processName",
    "taskName",
}  # fmt: skip
_LONG: Final = 10_000
"""Characters of a message, a traceback, a stack."""
_SHORT: Final = 1_000
"""Of any other text."""
_MOST_FIELDS: Final = 100
_NAME: Final = 200
_MOST_PARTS: Final = 20
"""Characters of a logger's name, and names with dots between in it: each part makes the program keep an object."""
_WORD: Final = 1 << 63
_NUMBERS: Final[dict[str, tuple[type, float, float]]] = {
    "levelno": (int, 0, 1_000_000),
    "lineno": (int, 0, 1 << 31),
    "thread": (int, -_WORD, 2 * _WORD - 1),
    "process": (int, 0, 1 << 31),
    "created": (float, 0, 253_402_000_000),  # a time that calendars have a year for
    "msecs": (float, 0, 1_000),
    "relativeCreated": (float, -1e13, 1e13),
}
_NEEDED: Final = frozenset({"name", "msg", "levelname", "levelno"})
_MOST_LOGGERS: Final = 256

_brought: set[str] = set()


# In the worker ----------------------------------------------------------------------------------


def pack_record(record: logging.LogRecord) -> bytes:
    """A log record, its message made; what is not plain of what was added with ``extra=`` as its repr."""
    state = {name: value for name, value in records.state_of(record).items() if _is_field(name)}
    state = {name: _fitting(name, value) for name, value in list(state.items())[:_MOST_FIELDS]}
    return encode(state)


def _fitting(name: str, value: Any) -> Any:
    """What the parent takes, or the nearest to it."""
    if name in _NUMBERS:
        return value if value is None and name not in _NEEDED else _number(value, *_NUMBERS[name])
    if name in _TEXTS and value is None and name not in _NEEDED:
        return None
    if type(value) not in PLAIN or (name in _TEXTS and type(value) is not str):
        value = raised.shown(value)
    if type(value) is int and not -_WORD <= value < _WORD:
        return "a number of many digits"
    if name == "name":
        return ".".join(value[:_NAME].split(".")[:_MOST_PARTS])
    return value[: _longest(name)] if type(value) in (str, bytes) else value


def _number(value: Any, kind: type, low: float, high: float) -> Any:
    try:
        return kind(min(max(kind(value), low), high))
    except Exception:
        return kind(0)


# In the parent ----------------------------------------------------------------------------------


def laundered_record(body: Buffer) -> bytes:
    """A log record as ``records.pack`` would have made it. Raises ProtocolError."""
    if len(body) > LARGEST:
        raise ProtocolError("a log record is too long")
    state = decode(body)
    if type(state) is not dict or not state.keys() >= _NEEDED or len(state) > _MOST_FIELDS:
        raise ProtocolError("a log record is none")
    for name, value in state.items():
        if not _is_field(name):
            raise ProtocolError("a log record has a name that none has")
        if not _fits(name, value):
            raise ProtocolError(f"a log record has a {escape(name)} that none has")
        if type(value) is str:
            state[name] = escape_lines(value) if name in _LINES else escape(value)
    state["name"] = _known(state["name"])
    return packed(state)


def packed(state: dict[str, Any]) -> bytes:
    """As ``records.pack`` packs."""
    return pickle.dumps(({**state, "args": None, "exc_info": None}, {}), PROTOCOL)


def _is_field(name: Any) -> bool:
    return type(name) is str and len(name) <= _NAME and not hasattr(logging.LogRecord, name)


def _fits(name: str, value: Any) -> bool:
    kind = type(value)
    if value is None:
        return name not in _NEEDED
    if name in _NUMBERS:
        wanted, low, high = _NUMBERS[name]
        return kind in (int, wanted) and bool(low <= value <= high)
    if kind not in PLAIN or (name in _TEXTS and kind is not str):
        return False
    if kind is int:
        return -_WORD <= value < _WORD  # type: ignore[no-any-return]
    if kind not in (str, bytes):
        return True
    parts = value.count(".") + 1 if name == "name" else 1
    return len(value) <= _longest(name) and parts <= _MOST_PARTS


def _longest(name: str) -> int:
    if name == "name":
        return _NAME
    return _LONG if name == "msg" or name in _LINES else _SHORT


def _known(name: str) -> str:
    """The logger's name; beyond the bound, that of the nearest above it that there is."""
    known = logging.root.manager.loggerDict
    if name not in known and name not in _brought:
        if len(_brought) < _MOST_LOGGERS:
            _brought.add(name)
            return name
        while name and name not in known:
            name = name.rpartition(".")[0]
    return name or "root"
