"""Tasks with large data."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

import numpy as np

MIB = 1 << 20
ARRAY = np.arange(1 << 17, dtype=float)
TOTAL = float(ARRAY.sum())

_kept: list[Any] = []


def total(array: Any) -> float:
    return float(array.sum())


def ruin(array: Any) -> float:
    """Its sum; afterwards nothing of it is left."""
    found = float(array.sum())
    array[...] = 0
    return found


def same(value: Any) -> Any:
    return value


def full(number: int) -> Any:
    return np.full(1 << 17, number, dtype=float)


def block(number: int) -> bytes:
    return bytes([number]) * (2 << 20)


def first(array: Any) -> float:
    return float(array[0])


def at(array: Any, index: int) -> float:
    return float(array[index])


def flags(array: Any) -> tuple[bool, bool, bool]:
    return (
        bool(array.flags.writeable),
        bool(array.flags.c_contiguous),
        bool(array.flags.f_contiguous),
    )


def keep(array: Any) -> int:
    _kept.append(array)
    return os.getpid()


def kept_total(_: Any = None) -> list[float]:
    return [float(array.sum()) for array in _kept]


def die(array: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError(len(array))


class DiesAmid:
    """Its pickle kills the worker after a large buffer of it was taken aside."""

    def __init__(self) -> None:
        self.array = np.ones(1 << 17)

    def __reduce__(self) -> Any:
        return same, (self.array, _Deadly())


class _Deadly:
    def __reduce__(self) -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def dies_amid(_: Any) -> DiesAmid:
    return DiesAmid()


def die_once(array: Any, mark: str) -> float:
    """Dies in the first run, and answers in the second."""
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return ruin(array)
    array[...] = 0
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def forked_copy_sees(array: Any, mark: str) -> int:
    """Forks a copy that waits for the mark, and then writes there what it sees."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            import time

            while not os.path.exists(mark):
                time.sleep(0.005)
            with open(mark + ".sum", "w") as file:
                file.write(str(float(array.sum())))
            os.rename(mark + ".sum", mark + ".seen")
            code = 0
        finally:
            os._exit(code)
    return pid


def numpy_is_loaded() -> bool:
    return "numpy" in sys.modules


class Model:
    def __init__(self, weights: Any) -> None:
        self.weights = weights

    def predict(self, index: int) -> float:
        return float(self.weights[index])


def fresh(shape: tuple[int, ...], number: float) -> Any:
    import millpond

    array = millpond.empty(shape)
    array[...] = number
    return array


def fresh_twice(number: float) -> Any:
    array = fresh((1 << 17,), number)
    return array, array[: 1 << 16]


def large_pickle(count: int) -> dict[int, str]:
    return dict.fromkeys(range(count), "x" * 40)


def note_writing(pool: Any) -> list[int]:
    """Sizes of what is written to the program's file from now on."""
    sizes: list[int] = []
    lender = pool._backend._arena._lender
    fill = lender.fill

    def noting(slot: Any, pieces: Any, size: int) -> Any:
        sizes.append(size)
        return fill(slot, pieces, size)

    lender.fill = noting
    return sizes


def lent(pool: Any) -> int:
    """Bytes of arguments that are in use."""
    found: int = pool.info()["arena"]["lent"]
    return found


def nothing_is_lent(pool: Any) -> bool:
    """Once each worker has said what it released, which it does with its next outcome."""
    pool.map(abs, range(64), 1)
    return lent(pool) == 0
