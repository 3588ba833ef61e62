"""What a task was, for the message of an error: its function's name and its argument, shortened.

Rule: nothing of the user's is unpickled here. What killed a worker while it was loaded would kill the program,
too. An argument that was encoded is loaded with a stand-in for every class and function that it names.
"""

from __future__ import annotations

import io
import pickle
import reprlib
from typing import Any, Final

from millpond import errors
from millpond.backends.base import Work
from millpond.worker.codec import CALL, STAR
from millpond.worker.parcels import Parcel

_LARGEST: Final = 1 << 16
"""Bytes of an encoded argument beyond which only its size is told."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


def describe_task(work: Work, index: int) -> str:
    """``task 17 of resize('a.jpg')``: the argument shortened, its repr allowed to fail."""
    name = errors.escape(getattr(work, "name", "the function"))
    try:
        (argument,) = work.arguments(index, index + 1)
        shown = errors.escape(_arguments(work.style, argument))
    except BaseException as failure:
        shown = f"<argument without a repr: {type(failure).__name__}>"
    return f"task {work.place(index)} of {name}({shown})"


def _arguments(style: int, argument: Any) -> str:
    if type(argument) is Parcel:
        return f"<{len(argument)} bytes, pickled>"
    if isinstance(argument, bytes) and (style == CALL or type(argument) is not bytes):
        if len(argument) > _LARGEST:
            return f"<{len(argument)} bytes, pickled>"
        argument = _Describing(io.BytesIO(argument)).load()
    elif style == CALL:
        argument = argument, {}
    if style == STAR and isinstance(argument, tuple | list):
        argument = argument, {}
    elif style != CALL:
        return _short.repr(argument)
    args, kwds = argument
    shown = [_short.repr(a) for a in args]
    shown += [f"{name}={_short.repr(value)}" for name, value in kwds.items()]
    return ", ".join(shown)


class _Describing(pickle.Unpickler):
    """Loads containers, numbers and text as they are, and of all else no more than its name."""

    def find_class(self, module: str, name: str) -> Any:
        shown = name.rpartition(".")[2]
        if shown.startswith("_"):  # how something is made that is known by another name
            shown = module.partition(".")[0]
        return _Named(shown, (_StandIn,), {})

    def persistent_load(self, pid: Any) -> Any:
        return self.find_class("", "object")()


class _Named(type):
    """A class or a function that was pickled by its name."""

    def __repr__(cls) -> str:
        return cls.__name__


class _StandIn(metaclass=_Named):
    """An object of a class that is not loaded; may be made, called and filled in any way, and does nothing."""

    def __new__(cls, *args: Any, **_: Any) -> Any:
        made = super().__new__(cls)
        made.kind = next((a for a in args[:1] if isinstance(a, _Named)), cls)
        return made

    kind: Any = None

    def __setstate__(self, state: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwds: Any) -> Any:
        return self

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __repr__(self) -> str:
        return f"<{self.kind.__name__} object>"
