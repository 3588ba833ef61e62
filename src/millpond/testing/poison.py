"""Values and exceptions that misbehave while they are pickled or unpickled.

Each does its harm in one place only, told apart by the process it is in (`home`), so that the
other side can be seen to stay well.
"""

from __future__ import annotations

import os
import threading
from typing import Any, NoReturn

from millpond.testing.tasks import Oops, die


class NoPickle:
    """Pickling it raises Oops, in any process."""

    def __reduce__(self) -> NoReturn:
        raise Oops(1, "does not pickle")

    def __repr__(self) -> str:
        return "<a NoPickle>"


class HoldsLock:
    """What people really hit: an attribute that is a lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class CallableWithLock(HoldsLock):
    """A function that cannot be sent."""

    def __call__(self) -> int:
        return 1


def _raise_on_load(number: int) -> NoReturn:
    raise Oops(number, "does not unpickle")


class NoUnpickle:
    """Pickles well; unpickling it raises Oops."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _raise_on_load, (2,)


class NoUnpickleAbort:
    """Pickles well; unpickling it raises a BaseException."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _abort_on_load, ()


def _abort_on_load() -> NoReturn:
    raise SystemExit(5)


def _die_on_load(home: int, how: str) -> str:
    if os.getpid() != home:
        die(how)
    return "alive"


class KillsWhenLoaded:
    """Unpickling it ends the process, unless that is the one it was made in, or there too."""

    def __init__(self, how: str = "SIGKILL", *, anywhere: bool = False) -> None:
        self.home, self.how = 0 if anywhere else os.getpid(), how

    def __reduce__(self) -> tuple[Any, ...]:
        return _die_on_load, (self.home, self.how)


class KillsWhenDumped:
    """Pickling it ends the process."""

    def __reduce__(self) -> NoReturn:
        die("SIGKILL")


class TwoArguments(Exception):
    """The classic: cannot be made again from its args alone."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


class UnpicklableError(Exception):
    """Carries what no pickle takes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class ReprRaises:
    """An argument that cannot even be shown in an error message."""

    def __repr__(self) -> NoReturn:
        raise Oops(3, "no repr")


def raise_two_arguments(a: int) -> NoReturn:
    raise TwoArguments(a, a + 1)


def raise_unpicklable(_: Any = None) -> NoReturn:
    raise UnpicklableError("with a lock inside")


def return_no_pickle(_: Any = None) -> NoPickle:
    return NoPickle()


def return_no_unpickle(_: Any = None) -> NoUnpickle:
    return NoUnpickle()


def return_kills_when_dumped(_: Any = None) -> KillsWhenDumped:
    return KillsWhenDumped()


def raise_or_return(x: int) -> Any:
    """One of each kind of bad outcome among good ones."""
    bad: dict[int, Any] = {3: return_no_pickle, 5: return_no_unpickle, 7: raise_two_arguments}
    return bad[x](x) if x in bad else x


def argument_for(x: int) -> Any:
    """One argument of each bad kind among good ones."""
    return NoUnpickle() if x == 4 else x


def fail_with_shy_argument(_: ReprRaises) -> NoReturn:
    raise Oops(4)


def die_with_shy_argument(_: ReprRaises) -> NoReturn:
    die("SIGKILL")
