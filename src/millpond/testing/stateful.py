"""Callables that keep something from one call to the next."""

from __future__ import annotations

import random
from typing import Any

from millpond.testing import tasks


class Walk:
    """A walker that counts its steps, and draws its numbers itself."""

    def __init__(self) -> None:
        self.steps = 0
        self.random = random.Random(17)

    def step(self, _: Any = None) -> tuple[int, float]:
        self.steps += 1
        return self.steps, self.random.random()

    def step_slowly(self, x: int) -> tuple[int, float]:
        """Long enough at its begin to have what waits behind it given to others."""
        if x % 12 == 0:
            tasks.sleep_for(0.3)
        return self.step()

    def fail_once(self, _: int) -> int:
        self.steps += 1
        if self.steps > 1:
            return self.steps
        raise tasks.Oops(self.steps)

    async def walk(self, _: int) -> int:
        self.steps += 1
        return self.steps

    __call__ = step


def gather(kept: list[Any], x: int) -> int:
    kept.append(x)
    return len(kept)


def write(array: Any, _: int) -> float:
    array[0] += 1
    return float(array[0])
