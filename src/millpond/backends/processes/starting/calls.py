"""Which function a frame of another thread is calling at this moment, found out without running any code of it.

Rules: the bytecode before the call is read backwards, in a straight line, or, where the arguments have branches,
from where the function is written in the source; what is not plain (a call that gives the function) is not known;
attributes are looked up as they are stored, so that no property and no ``__getattr__`` runs.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import inspect
import types
from collections.abc import Iterator, Mapping
from typing import Any, Final


class Unknown:
    """Some function, of which at most the name can be told."""

    def __init__(self, name: str) -> None:
        self.name = name


MISSING: Final = object()
"""No such variable."""
NONE: Final = object()
"""The frame is at no call: at a ``for``, an attribute, the end of a ``with``."""

Recipe = tuple[str, ...]
"""How to get at a function: where the first name is looked up, that name, and attributes. Where the first
cannot be, "unknown" and what is known."""

_LOCAL: Final = frozenset({"LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW", "LOAD_DEREF"})
_TWO: Final = frozenset(
    {"LOAD_FAST_LOAD_FAST", "LOAD_FAST_BORROW_LOAD_FAST_BORROW", "STORE_FAST_LOAD_FAST"}
)
_ATTRIBUTE: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_NO_VALUE: Final = frozenset({"PUSH_NULL", "KW_NAMES"})


def callee(frame: types.FrameType) -> Any:
    """The function, an ``Unknown`` or ``NONE``; a method as its class has it, unbound."""
    recipe = _recipe(frame.f_code, frame.f_lasti)
    if recipe is None:
        return NONE
    if recipe[0] == "unknown":
        return Unknown(recipe[-1])
    try:
        value = _look_up(frame, *recipe[:2])
        for name in recipe[2:]:
            value = stored(value, name)
    except LookupError:
        return Unknown(recipe[-1])
    return value


def local(frame: types.FrameType, name: str) -> Any:
    """The value of a variable of the frame, or ``MISSING``."""
    try:
        return _look_up(frame, "local", name)
    except LookupError:
        return MISSING


def within_reach(frame: types.FrameType) -> Iterator[Any]:
    """What the frame's code has names for: variables, globals, and attributes of what it is a method of."""
    code = frame.f_code
    yield from _variables(frame).values()
    yield from (frame.f_globals[name] for name in code.co_names if name in frame.f_globals)
    if code.co_argcount:
        with contextlib.suppress(AttributeError):
            yield from object.__getattribute__(
                local(frame, code.co_varnames[0]), "__dict__"
            ).values()


def stored(owner: Any, name: str) -> Any:
    """An attribute as it is stored; a method is not bound. Raises LookupError where code would run."""
    try:
        value = inspect.getattr_static(owner, name)
    except AttributeError:
        raise LookupError(name) from None
    if isinstance(value, types.MemberDescriptorType):
        try:
            return value.__get__(owner)
        except AttributeError:
            raise LookupError(name) from None
    if isinstance(value, property | types.GetSetDescriptorType):
        raise LookupError(name)
    return value


def _look_up(frame: types.FrameType, where: str, name: str) -> Any:
    """What a name means there."""
    if where != "global":
        variables = _variables(frame)
        if name in variables:
            return variables[name]
    if where != "local":
        for names in (frame.f_globals, frame.f_builtins):
            if name in names:
                return names[name]
    raise LookupError(name)


def _variables(frame: types.FrameType) -> Mapping[str, Any]:
    variables: Any = frame.f_locals
    if type(variables) is not dict or not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        return variables  # type: ignore[no-any-return]
    copied = dict(variables)
    # Until 3.12 the frame keeps its own, and alive in it what the function drops meanwhile.
    variables.clear()
    return copied


@functools.lru_cache(maxsize=256)
def _recipe(code: types.CodeType, at: int) -> Recipe | None:
    """For what is called there; None: nothing is called."""
    before = [one for one in dis.get_instructions(code) if one.offset <= at]
    if not before:
        return None
    call = before.pop()
    if call.opname == "BEFORE_WITH":
        return *_names(reversed(before)), "__enter__"
    values = _values_above(call)
    if values is None:
        return None
    if call.opname == "CALL" and before and before[-1].opname == "PRECALL":  # 3.11
        before.pop()
    try:
        return tuple(_names(_skip(reversed(before), values)))
    except ValueError:
        return tuple(_names(iter(_written_first(before, call))))


def _values_above(call: dis.Instruction) -> int | None:
    """How many values lie on the stack above the function, or None where it is no call."""
    if call.opname in ("CALL", "PRECALL"):
        return int(call.arg or 0)
    if call.opname == "CALL_KW":
        return int(call.arg or 0) + 1
    if call.opname == "CALL_FUNCTION_EX":
        either = dis.stack_effect(call.opcode, 0) != dis.stack_effect(call.opcode, 1)
        return 2 if not either or int(call.arg or 0) & 1 else 1
    return None


def _skip(backwards: Iterator[dis.Instruction], values: int) -> Iterator[dis.Instruction]:
    """Leave out what put so many values on the stack."""
    while values > 0:
        one = next(backwards, None)
        if (
            one is None
            or one.opcode in dis.hasjrel
            or one.opcode in dis.hasjabs
            or one.is_jump_target
        ):
            raise ValueError(one)
        values -= dis.stack_effect(one.opcode, one.arg, jump=False)
    if values < 0:
        raise ValueError(values)
    return backwards


def _written_first(before: list[dis.Instruction], call: dis.Instruction) -> list[dis.Instruction]:
    """Backwards from what loads the function: in the source it begins where the call begins, and ends sooner."""
    there, found, longest = call.positions, -1, (0, 0)
    for index, one in enumerate(before):
        here = one.positions
        if here is None or there is None or None in (*here, *there):
            continue
        end: tuple[Any, Any] = here.end_lineno, here.end_col_offset
        begins_there = (here.lineno, here.col_offset) == (there.lineno, there.col_offset)
        if begins_there and longest <= end < (there.end_lineno, there.end_col_offset):
            found, longest = index, end
    return before[found::-1] if found >= 0 else []


def _names(backwards: Iterator[dis.Instruction]) -> list[str]:
    """The recipe for what the next instruction, backwards, has put on the stack."""
    one = next((one for one in backwards if one.opname not in _NO_VALUE), None)
    if one is None:
        return ["unknown", ""]
    if one.opname in _ATTRIBUTE:
        return [*_names(backwards), str(one.argval)]
    if one.opname in _LOCAL:
        return ["local", one.argval]
    if one.opname in _TWO:
        return ["local", one.argval[1]]
    if one.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
        return ["global" if one.opname == "LOAD_GLOBAL" else "any", one.argval]
    return ["unknown", ""]
