"""Rehearsals by the thousand: each seed one history of a pool whose workers die, and what came of it."""

from __future__ import annotations

import traceback
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from millpond.testing.simulation import Rehearsal, rehearse

STEPS = 300
_KILLS = (3, 15, 30)
"""How often workers are killed from outside: seldom, so that much else happens, or again and again."""


class Block(NamedTuple):
    """What came of some seeds."""

    rehearsals: int
    deaths: Counter[str]
    failure: tuple[int, str] | None  # a seed, and what was wrong


def run(seed: int, rehearsal_type: type[Rehearsal] = Rehearsal) -> Counter[str]:
    """One rehearsal; raises AssertionError. The deaths in it, by what the workers were doing."""
    kills = _KILLS[seed % len(_KILLS)]
    return rehearse(seed, STEPS, rehearsal_type, kills).deaths


def run_block(seeds: Iterable[int], rehearsal_type: type[Rehearsal] = Rehearsal) -> Block:
    """Several, up to the first that fails."""
    deaths: Counter[str] = Counter()
    count = 0
    for seed in seeds:
        try:
            deaths += run(seed, rehearsal_type)
        except Exception as failure:  # an assertion, or what the code under test should not raise
            return Block(count, deaths, (seed, "".join(traceback.format_exception(failure))))
        count += 1
    return Block(count, deaths, None)


def replay(seed: int, last: int = 40, rehearsal_type: type[Rehearsal] = Rehearsal) -> list[str]:
    """The same history again: its ``last`` events and commands, and after them what was wrong, if anything was."""
    said: deque[str] = deque(maxlen=last)

    class Told(rehearsal_type):  # type: ignore[misc, valid-type]
        def _handle(self, event: Any, batch: Any = None) -> None:
            said.append(f"{self.world.clock():.6f} {event}")
            super()._handle(event, batch)

        def _perform(self, command: Any) -> None:
            said.append(f"         {command}")
            super()._perform(command)

    found = run_block([seed], Told).failure
    return [*said, *(found[1].splitlines() if found else [f"seed {seed}: nothing is wrong"])]
