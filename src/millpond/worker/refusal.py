"""Which part of a value it is that pickle refuses."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any, Final

_DEEPEST: Final = 12
_MOST: Final = 500
"""Parts that are tried, at most; and for how many seconds."""
_SECONDS: Final = 1.0
_EXPLAINED: Final = (TypeError, AttributeError, pickle.PicklingError)

Dump = Callable[[Any], object]


def explain(error: BaseException, value: object, name: str, dump: Dump) -> None:
    """Have pickle's refusal of ``value`` name the part that is to blame, as ``name.session.lock``.

    The error's type and the begin of its text stay as they are; an error that is not one of pickle's, too.
    """
    text = error.args[0] if len(error.args) == 1 else None
    if type(error) not in _EXPLAINED or not isinstance(text, str):
        return
    try:
        path = _Search(dump).path(value)
    except Exception:
        return  # a value's own code runs there
    if path:
        error.args = (f"{text}, which is {name}{path}",)


class _Search:
    def __init__(self, dump: Dump) -> None:
        self._dump = dump
        self._left = _MOST
        self._deadline = monotonic() + _SECONDS
        self._seen: set[int] = set()

    def path(self, value: object, depth: int = 0) -> str:
        """To the deepest part that is refused though all its own parts are not; empty if that is the whole."""
        if depth < _DEEPEST and id(value) not in self._seen:
            self._seen.add(id(value))
            for step, part in _parts(value):
                if self._refuses(part):
                    return step + self.path(part, depth + 1)
        return ""

    def _refuses(self, part: object) -> bool:
        self._left -= 1
        if self._left < 0 or monotonic() > self._deadline:
            return False
        try:
            self._dump(part)
        except Exception:
            return True
        return False


def _parts(value: Any) -> Iterator[tuple[str, object]]:
    """What a value is made of, each with how one gets there."""
    if isinstance(value, dict):
        yield from ((f"[{key!r:.40}]", part) for key, part in list(value.items()))
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from (("{...}", part) for part in list(value))
    elif type(value) is partial:
        yield from ((".func", value.func), (".args", value.args), (".keywords", value.keywords))
    elif callable(value) and getattr(value, "__self__", None) is not None:
        yield ".__self__", value.__self__
    attributes = getattr(value, "__dict__", {}) | _in_slots(value)
    yield from ((f".{name}", part) for name, part in attributes.items())


def _in_slots(value: object) -> dict[str, object]:
    names = [name for kind in type(value).__mro__ for name in _slots(kind)]
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if not name.startswith("__"))
