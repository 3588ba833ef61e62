"""The one ``__main__`` of a process that never ran its parent's main module.

Rules: what arrives by value is put where its own code would look for it, in ``__main__``; a name
that code here has set is never overwritten, one that arrived and was left alone follows the sender,
so that a function defined anew in a notebook is the new one; a mutable value is replaced only when
the sender has bound the name to another object, so that what tasks gathered in it stays.
"""

from __future__ import annotations

import itertools
import sys
import types
import weakref
from typing import Any

_REPLACEABLE = (
    int, float, complex, bool, str, bytes, tuple, frozenset, type(None), type,
    types.FunctionType, types.ModuleType,
)  # fmt: skip

_arrived: dict[str, tuple[Any, int]] = {}
_sent: dict[str, tuple[Any, int]] = {}
_marks = itertools.count(1)


class Here(dict[str, Any]):
    """Stands for the globals of ``__main__``: arrives as those of the receiving process."""

    def __reduce__(self) -> Any:
        return namespace, ()


class Sent(dict[str, Any]):
    """Globals that a function takes along: arrives as those of them that are to be set."""

    def __reduce__(self) -> Any:
        return to_set, (dict(self), {name: _mark(name, value) for name, value in self.items()})


renewing = False
"""What arrives has arrived before, in the same call: classes keep what has been set in them since."""
_complete: weakref.WeakSet[type] = weakref.WeakSet()


def set_class_state(made: type, state: Any) -> None:
    """Give a class that arrives by value its attributes."""
    from cloudpickle.cloudpickle import _class_setstate  # type: ignore[import-untyped]

    if not (renewing and made in _complete):
        _class_setstate(made, state)
        _complete.add(made)


def inherit() -> None:
    """In a copy of the sender: what it defined by now is as if it had arrived, so that newer ones are taken."""
    kinds = (types.FunctionType, type)
    _arrived.update(
        (name, (made, 0)) for name, made in namespace().items() if isinstance(made, kinds)
    )


def namespace() -> dict[str, Any]:
    """The globals of this process's ``__main__``."""
    return vars(sys.modules["__main__"])


def to_set(values: dict[str, Any], marks: dict[str, int]) -> dict[str, Any]:
    """Of the globals that arrived, those that may be set here; remembers them as arrived."""
    accepted = {n: value for n, value in values.items() if _accepts(n, value, marks[n])}
    _arrived.update((n, (value, marks[n])) for n, value in accepted.items())
    return accepted


def made_there(name: str, make: Any, args: tuple[Any, ...]) -> Any:
    """Make a function or class of the sender's ``__main__``, and put it into ours."""
    made = make(*args)
    if _accepts(name, made, 0):
        _arrived[name] = (made, 0)
        namespace()[name] = made
    return made


def _accepts(name: str, value: Any, mark: int) -> bool:
    main = namespace()
    if name not in main:
        return True
    placed, placed_mark = _arrived.get(name, (_arrived, 0))
    if main[name] is not placed:
        return False
    return isinstance(value, _REPLACEABLE) or mark != placed_mark


def _mark(name: str, value: Any) -> int:
    """A number that stays while ``name`` is bound to the same mutable object."""
    if isinstance(value, _REPLACEABLE):
        return 0
    known, mark = _sent.get(name, (None, 0))
    if known is not value:
        mark = next(_marks)
        # Kept alive, or another object could take its place in memory and pass for it.
        _sent[name] = (value, mark)
    return mark
