"""Where in a value it is that pickle refuses: ``argument 'config'.session.lock``.

Pickle says what it refuses and not where that is. So the parts of the value are tried one by one, then the parts
of the first that is refused, down to one of which no part is. Rules: this runs only after a refusal, and begins no
try after a second; it runs reducers of the user's again; an exception is replaced only by one of its own class.
"""

from __future__ import annotations

import inspect
import itertools
import pickle
import reprlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from millpond.errors import escape
from millpond.worker import raised
from millpond.worker.conduct import Conducted
from millpond.worker.outcome import PLAIN
from millpond.worker.parcels import Pickler

_SECONDS: Final = 1.0
"""After which no more is tried: the way is told as far as it is known."""
_DEEPEST: Final = 32
"""Steps of a way, at most."""
_OWN: Final = frozenset({TypeError, AttributeError, pickle.PicklingError})
"""Classes of pickle's own refusals."""

_OF_A_MODULE: Final = ", in <module>\n"
"""In a traceback: code of a module was run."""
_NO_NAME: Final = "Can't get attribute "
"""What pickle says of a name that a module has not got."""

_NOTHING: Final[tuple[Any, ...]] = (None,) * 4

Dump = Callable[[object], object]
"""Raises if the value cannot be pickled."""
Part = tuple[str, Any]
"""How a part of a value is reached from it, and the part."""

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 40


def explained(
    refusal: BaseException,
    whole: str,
    value: object,
    dump: Dump,
    *,
    more: str = "",
    bare: bool = True,
) -> BaseException:
    """A refusal of pickle's with what was refused: the way to it from the ``whole``, so called, and ``more``.

    It stays what it is if it is none of pickle's own, or if the value is not refused again; and, unless ``bare``,
    if it is the whole that is refused and no part of it.
    """
    if type(refusal) not in _OWN:
        return refusal
    again = _refusal(value, dump)
    if again is None:
        return refusal
    steps, last = way(value, again, dump)
    if not (steps or bare):
        return refusal
    said = escape(f"{whole}{steps}{more}: {raised.text_of(last)}")
    return type(refusal)(said).with_traceback(refusal.__traceback__)


def way(value: Any, refusal: Exception, dump: Dump) -> tuple[str, Exception]:
    """The steps from a value that is refused to what is to blame, and the refusal of that."""
    limit = time.monotonic() + _SECONDS
    steps: list[str] = []
    seen = {id(value)}
    while len(steps) < _DEEPEST:
        found = None
        for step, part in _parts(value):
            if time.monotonic() > limit:
                break
            if type(part) not in PLAIN and id(part) not in seen:
                found = _refusal(part, dump)
            if found is not None:
                seen.add(id(part))
                steps.append(step)
                value, refusal = part, found
                break
        if found is None:
            break
    return "".join(steps), refusal


def absence(name: str, type_name: str, text: str, trace: str, unsendable: str) -> str:
    """Why a worker has not got a function, and what is known of the reason.

    ``trace``: the traceback of the worker, which shows where it was raised; ``unsendable``: why the function was
    not sent by value.
    """
    if type_name == "ModuleNotFoundError":
        remedy = (
            "A worker imports from the sys.path that the program had when the worker was started: change that "
            "before the pool is made, or set PYTHONPATH"
        )
    elif _OF_A_MODULE in trace:
        remedy = "A module raises this when the worker imports it: see the traceback"
    elif type_name == "AttributeError" and text.startswith(_NO_NAME):
        remedy = (
            "The worker's module has no such name: it is as it was when the pool was made, or as the worker's own "
            "import made it"
        )
    else:
        remedy = "This was raised while the worker unpickled it"
    either = f" It cannot be sent by value either: {unsendable}." if unsendable else ""
    return escape(f"the worker cannot load {name}: {type_name}: {text}.{either} {remedy}.")


def argument_name(function: Any, at: int | str) -> str:
    """``argument 'config'``: the name that a function has for what it is given at a place, or by a name."""
    if isinstance(at, str):
        return f"argument {at!r}"
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except Exception:  # it has none that can be known, or lies about it
        parameters = []
    for place, parameter in enumerate(parameters[: at + 1]):
        if parameter.kind is parameter.VAR_POSITIONAL:
            return f"argument {parameter.name!r}[{at - place}]"
        if place == at and parameter.kind is not parameter.KEYWORD_ONLY:
            return f"argument {parameter.name!r}"
    return f"argument {at + 1}"


def _refusal(value: object, dump: Dump) -> Exception | None:
    try:
        dump(value)
    except Exception as refusal:
        return refusal
    return None


# Parts ------------------------------------------------------------------------------------------


def _parts(value: Any) -> Iterator[Part]:
    """What pickling a value pickles, too."""
    if isinstance(value, Conducted):
        yield "", value.function
    elif isinstance(value, FunctionType):
        yield from _used(value)
    elif isinstance(value, MethodType | BuiltinMethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, partial):
        yield ".func", value.func
        yield from _within(".args", value.args)
        yield from _within(".keywords", value.keywords)
    elif isinstance(value, dict | list | tuple | set | frozenset | deque):
        yield from _within("", value)
        yield from _attributes(getattr(value, "__dict__", None))
    elif not isinstance(value, type | ModuleType) and type(value) not in Pickler.dispatch_table:
        yield from _reduced(value)


def _used(function: FunctionType) -> Iterator[Part]:
    """The variables of a function that travels by value, and its defaults."""
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with_value = [cell.cell_contents] if _is_filled(cell) else []
        yield from ((f", its variable {name!r}", held) for held in with_value)
    for name in code.co_names:
        if name in function.__globals__:
            yield f", its global variable {name!r}", function.__globals__[name]
    yield from _within(", its defaults", function.__defaults__ or ())
    yield from _within(", its defaults", function.__kwdefaults__ or {})


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _within(step: str, value: Any) -> Iterator[Part]:
    """The elements of a container that is reached by ``step``."""
    if isinstance(value, dict):
        for key, part in value.items():
            shown = _shown(key)
            yield f"{step}[{shown}]", part
            yield f"{step}, its key {shown}", key
    elif isinstance(value, set | frozenset):
        yield from ((f"{step}, its element {_shown(part)}", part) for part in value)
    else:
        names = getattr(value, "_fields", ())  # of a named tuple
        for index, (part, name) in enumerate(itertools.zip_longest(value, names[: len(value)])):
            yield f"{step}.{name}" if name else f"{step}[{index}]", part


def _reduced(value: Any) -> Iterator[Part]:
    """What an object says of itself to pickle."""
    try:
        reduced: Any = value.__reduce_ex__(5)
    except Exception:
        return  # it is the one that refuses
    if not isinstance(reduced, tuple):
        return
    made_of, state, items, pairs = (*reduced[1:5], *_NOTHING)[:4]
    first = 0 if made_of and made_of[0] is type(value) else 1  # after its class
    for index, part in enumerate(made_of or (), 0 if isinstance(value, BaseException) else first):
        said = (
            ".args[{}]" if isinstance(value, BaseException) else ", argument {} of its constructor"
        )
        yield said.format(index), part
    states = state if isinstance(state, tuple) and len(state) == 2 else (state,)
    if all(part is None or isinstance(part, dict) for part in states):
        for part in states:
            yield from _attributes(part)
    else:
        yield ", its state", state
    yield from ((f"[{index}]", part) for index, part in enumerate(items or ()))
    yield from ((f"[{_shown(key)}]", part) for key, part in pairs or ())


def _attributes(state: Any) -> Iterator[Part]:
    if isinstance(state, dict):
        yield from ((f".{name}", part) for name, part in state.items())


def _shown(value: object) -> str:
    try:
        return _short.repr(value)
    except Exception:
        return f"<{type(value).__name__} object>"
