"""Whether a function may keep state from one call to the next, beyond what its module keeps.

A function that has a name in a module keeps none, nor does a class or a builtin; a partial, a method or a
closure keeps what is in it, unless all of that is numbers, text and functions of this kind. When in doubt, it may.
Nothing of the user's is called to find out.
"""

from __future__ import annotations

import operator
import types
from functools import partial
from typing import Any, Final

from millpond.worker.codec import all_plain
from millpond.worker.conduct import Conducted, is_global
from millpond.worker.outcome import PLAIN

_CONSTANT: Final[frozenset[type]] = PLAIN | {
    complex, range, types.EllipsisType, types.ModuleType, operator.attrgetter, operator.itemgetter,
    types.MethodDescriptorType, types.ClassMethodDescriptorType, types.WrapperDescriptorType,
}  # fmt: skip
_REFERENCE: Final = b"\x93\x94."
"""The end of a pickle whose value is found by name: STACK_GLOBAL, MEMOIZE, STOP."""


def may_keep_state(function: Any) -> bool:
    """Whether calling it may change what a later call of it finds.

    Coroutines of a worker run at the same time, so they share what they are functions of, whatever it keeps.
    """
    if type(function) is Conducted:
        return not function.conduct.slots and may_keep_state(function.function)
    return not _is_constant(function, set())


def is_reference(packed: object) -> bool:
    """Whether what was packed travels by its name alone."""
    return type(packed) is bytes and packed.endswith(_REFERENCE)


def _is_constant(value: Any, seen: set[int]) -> bool:
    kind = type(value)
    if kind in _CONSTANT or issubclass(kind, type) or is_global(value) or id(value) in seen:
        return True
    seen.add(id(value))
    if kind is tuple or kind is frozenset:
        return all_plain(value) or all(_is_constant(part, seen) for part in value)
    if kind is partial:
        parts = value.func, value.args, *value.keywords.values(), *vars(value).values()
        return all(_is_constant(part, seen) for part in parts)
    if kind is types.MethodType:
        return _is_constant(value.__self__, seen) and _is_constant(value.__func__, seen)
    if kind is types.BuiltinMethodType:
        return _is_constant(value.__self__, seen)
    return kind is types.FunctionType and _is_constant_function(value, seen)


def _is_constant_function(function: types.FunctionType, seen: set[int]) -> bool:
    """Of one that travels by value: a lambda, a closure."""
    if vars(function):
        return False
    held = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    if function.__closure__:
        if _binds(function.__code__):
            return False
        try:
            held += [cell.cell_contents for cell in function.__closure__]
        except ValueError:  # an empty one
            return False
    return all(_is_constant(part, seen) for part in held)


def _binds(code: types.CodeType) -> bool:
    """Whether it, or a function in it, may bind a variable of an outer function anew."""
    from opcode import opmap

    binding = {opmap["STORE_DEREF"], opmap["DELETE_DEREF"]}
    return not binding.isdisjoint(code.co_code[::2]) or any(
        type(inner) is types.CodeType and _binds(inner) for inner in code.co_consts
    )
