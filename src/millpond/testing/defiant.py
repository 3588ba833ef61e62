"""Exceptions whose classes do not let themselves be marked, shown, or looked at.

A frozen dataclass is one, and so is a class that computes its attributes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Final, NoReturn


class Refusal(Exception):
    """What the others raise when they are touched."""


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Its attributes cannot be set."""

    code: int


class NoAttributes(Exception):
    """Nor can its."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise Refusal(name)


class NoText(Exception):
    """It cannot be shown."""

    def __str__(self) -> NoReturn:
        raise Refusal("text")

    __repr__ = __str__


class NoPickles(Exception):
    """It cannot be sent, nor shown."""

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise Refusal(protocol)

    def __repr__(self) -> NoReturn:
        raise Refusal("repr")


class NoLookups(Exception):
    """It has no attributes but those of every object."""

    def __getattr__(self, name: str) -> NoReturn:
        raise Refusal(name)


class NoLooking(Exception):
    """Not even those."""

    def __getattribute__(self, name: str) -> NoReturn:
        raise Refusal(name)


class NoTracebacks(Exception):
    """It wants the traceback that it has."""

    def with_traceback(self, trace: object) -> NoReturn:
        raise Refusal("traceback")

    def add_note(self, note: object) -> NoReturn:
        raise Refusal("note")


class NoClass(Exception):
    """It does not say what it is."""

    @property  # type: ignore[misc]
    def __class__(self) -> NoReturn:  # type: ignore[override]
        raise Refusal("class")


class Nameless(type):
    """Of classes without names."""

    def __getattribute__(cls, name: str) -> NoReturn:
        raise Refusal(name)


class NoName(Exception, metaclass=Nameless):
    """Of such a class."""


class Exits(SystemExit):
    """No ``Exception``, and not to be touched either."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise Refusal(name)

    @property  # type: ignore[misc]
    def __class__(self) -> NoReturn:  # type: ignore[override]
        raise Refusal("class")

    def __str__(self) -> NoReturn:
        raise Refusal("text")


KINDS: Final[dict[str, type[BaseException]]] = {
    "Frozen": Frozen, "NoAttributes": NoAttributes, "NoText": NoText, "NoPickles": NoPickles,
    "NoLookups": NoLookups, "NoLooking": NoLooking, "NoTracebacks": NoTracebacks, "NoClass": NoClass,
    "NoName": NoName, "Exits": Exits,
}  # fmt: skip


def throw(kind: str) -> NoReturn:
    raise KINDS[kind](3)


def throw_odd(kind: str, x: int) -> int:
    """Raise for odd numbers."""
    return throw(kind) if x % 2 else x


async def throw_later(kind: str, x: int) -> int:
    """The same of a coroutine."""
    return throw_odd(kind, x)


def begin(kind: str) -> NoReturn:
    """An initializer."""
    throw(kind)


def inputs(kind: str) -> Iterator[int]:
    """Input that ends so."""
    yield 0
    throw(kind)
