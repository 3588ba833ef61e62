"""Numbers that a caller gives, made plain at the door: ``int`` and ``float`` themselves, and in range.

NumPy's numbers, enumerations and other subclasses of ``int`` count as well as plain ones do, but must not get any
further: they would travel to workers, end in C calls, and be computed with by code of their own.
"""

from __future__ import annotations

import math
import operator
from typing import Any, Final

LONGEST: Final = 1_000_000.0
"""Seconds that anybody waits at a stretch: ``epoll`` takes no more than 2**31 milliseconds, a lock 2**63
nanoseconds. Whoever waits for longer waits again."""


def whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """An integer within bounds. Raises TypeError or ValueError, naming it."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {value!r}") from None
    if number < least or (most is not None and number > most):
        reach = f"{least} or more" if most is None else f"{least} to {most}"
        raise ValueError(f"{name} must be {reach}, not {value!r}")
    return number


def real(name: str, value: Any) -> float:
    """Seconds as a float, infinite if they are too many for one. Raises TypeError or ValueError, naming it."""
    if isinstance(value, str | bytes | bytearray):  # what float() would read
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf
    except TypeError:
        raise TypeError(f"{name} must be a number of seconds, not {value!r}") from None
    if math.isnan(number):
        raise ValueError(f"{name} must be a number of seconds, not nan")
    return number


def patience(timeout: Any) -> float | None:
    """The ``timeout`` of a wait in seconds; None, an infinite one, has no end."""
    if timeout is None:
        return None
    seconds = timeout if type(timeout) is float else real("timeout", timeout)
    if seconds < math.inf:
        return seconds
    return None if real("timeout", seconds) > 0 else seconds
