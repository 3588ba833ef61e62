"""Rehearsals by the thousand: ``python -m tests.simulate --deaths 1000000``.

Each is a pool in the simulated world, whose seed decides all that happens: the policy, the tasks, in which pieces
bytes come, who dies after which byte, what comes late or twice, and what callers do. After each event the state is
held against a ledger of what really happened; at the end the world is kind, and all has to end. A seed that fails
is printed, and ``--seed N`` plays it again.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator

from millpond.core.events import Event, Lost
from millpond.testing.simulation import Rehearsal, rehearse

STEPS = 120
BATCH = 20


class Counted(Rehearsal):
    """Counts the deaths of workers."""

    deaths = 0

    def _handle(self, event: Event, batch: list[object] | None = None) -> None:
        Counted.deaths += type(event) is Lost
        super()._handle(event, batch)


def play(first: int) -> tuple[int, int | None, str]:
    """Rehearse some seeds: how many workers died, and the first seed that failed, with its reason."""
    Counted.deaths = 0
    for seed in range(first, first + BATCH):
        try:
            rehearse(seed, STEPS, Counted)
        except AssertionError as failure:
            return Counted.deaths, seed, str(failure)
    return Counted.deaths, None, ""


def campaign(deaths: int, first: int) -> Iterator[str]:
    """Play until so many workers have died. Raises AssertionError for a seed that fails."""
    from millpond import Pool

    began, died, rehearsals = time.monotonic(), 0, 0
    with Pool() as pool:
        played = pool.imap_unordered(play, itertools.count(first, BATCH))
        for count, seed, reason in played:
            if seed is not None:
                raise AssertionError(
                    f"seed {seed}: {reason}\nreplay: python -m tests.simulate --seed {seed}"
                )
            died += count
            rehearsals += BATCH
            if died >= deaths:
                break
    seconds = time.monotonic() - began
    yield f"{died:,} deaths of workers in {rehearsals:,} rehearsals from seed {first}:"
    yield "nothing lost, nothing doubled, no hang"
    yield f"in {seconds:.0f} s, {died / seconds * 60:,.0f} deaths a minute"


def main(arguments: list[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulate", description="Pools in a simulated world."
    )
    parser.add_argument("--deaths", type=int, default=100_000, help="of workers (default: 100,000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--seed", type=int, help="play this one alone")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        rehearse(options.seed, STEPS)
        print(f"seed {options.seed} ends well")
        return 0
    try:
        for line in campaign(options.deaths, options.first):
            print(line)
    except AssertionError as failure:
        print(failure)
        return 1
    return 0
