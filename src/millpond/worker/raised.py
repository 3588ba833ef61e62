"""Exceptions of the user's: looked at, shown and marked without running what their classes define.

A class may have a ``__setattr__``, ``__getattribute__``, ``__str__``, ``with_traceback`` or ``__class__`` of
its own that raises; a frozen dataclass has such a ``__setattr__``. What was raised is a ``BaseException`` all
the same, so its fields are reached here by the descriptors of that class. Rule: nothing here raises.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final

from millpond import errors

_trace: Final[Any] = vars(BaseException)["__traceback__"]
_cause: Final[Any] = vars(BaseException)["__cause__"]
_attributes: Final[Any] = vars(BaseException)["__dict__"]
_name: Final[Any] = vars(type)["__name__"]
_classes: Final[Any] = vars(type)["__mro__"]


def trace_of(exception: BaseException, skip: int = 0) -> TracebackType | None:
    """Its traceback, less the first ``skip`` frames."""
    trace: TracebackType | None = _trace.__get__(exception)
    for _ in range(skip):
        trace = trace.tb_next if trace is not None else None
    return trace


def set_trace(exception: BaseException, trace: TracebackType | None) -> None:
    """Give it another traceback, or none: a traceback holds the frames that it came through."""
    _trace.__set__(exception, trace)


def set_cause(exception: BaseException, cause: BaseException) -> None:
    """``raise exception from cause``."""
    _cause.__set__(exception, cause)


def remote(trace: str) -> Exception:
    """The cause of what another process has raised, which shows the traceback that it had there."""
    text = f'\n"""\n{errors.escape_lines(trace)}"""'
    try:
        from multiprocessing.pool import RemoteTraceback  # type: ignore[attr-defined]
    except (ImportError, OSError):  # a program may have given up the right to read its modules
        return errors.MillpondError(text)
    shown: Exception = RemoteTraceback(text)
    return shown


def add_note(exception: BaseException, note: str) -> None:
    """``exception.add_note(note)``, which would set an attribute."""
    attributes = _attributes.__get__(exception)
    notes = attributes.get("__notes__")
    attributes["__notes__"] = [*notes, note] if type(notes) is list else [note]


def is_ordinary(exception: BaseException) -> bool:
    """Whether it is an ``Exception``, and no exit or interrupt."""
    return issubclass(type(exception), Exception)


def classes_of(exception: BaseException) -> tuple[type, ...]:
    """Its class, and the bases of that."""
    classes: tuple[type, ...] = _classes.__get__(type(exception))
    return classes


def name_of_type(value: object) -> str:
    """The name of its class."""
    return _name.__get__(type(value))  # type: ignore[no-any-return]


def text_of(exception: object) -> str:
    """What ``str`` makes of it, as a plain str."""
    try:
        return str.__add__("", str(exception))  # a ``__str__`` may give an object of the user's
    except BaseException:
        return "<no text>"


def shown(value: object) -> str:
    """What ``repr`` makes of it, as a plain str."""
    try:
        return str.__add__("", repr(value))
    except BaseException:
        return f"<{name_of_type(value)} object>"


def told(exception: BaseException) -> str:
    """Its class and its text: ``ValueError: no number``."""
    return f"{name_of_type(exception)}: {text_of(exception)}"


def format_trace(exception: BaseException, trace: TracebackType | None) -> str:
    """The exception with a traceback, as text; where its class prevents that, without what it is chained to."""
    try:
        import traceback

        return "".join(traceback.format_exception(type(exception), exception, trace))
    except BaseException as failure:
        lines = ["Traceback (most recent call last):\n", *_frames(trace)] if trace else []
        why = f" (the rest cannot be shown: {name_of_type(failure)})\n"
        return "".join([*lines, told(exception), why])


def _frames(trace: TracebackType) -> list[str]:
    try:
        import traceback

        return traceback.format_tb(trace)
    except BaseException:
        return []
