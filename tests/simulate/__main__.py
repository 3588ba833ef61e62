"""The simulated campaign: ``python -m tests.simulate [--deaths N] [--first SEED] | --seed SEED``.

Rehearsals run on all CPUs until so many simulated workers have died, or one fails: its seed is printed, and
``--seed`` (``make simulate SEED=...``) replays it with the last of its events and commands.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context

from tests.simulate.campaign import Block, replay, run_block

BLOCK = 25
"""Seeds that a process takes at a time."""
EVERY = 30.0
"""Seconds between two lines that say how far it is."""


def blocks(first: int, processes: int) -> Iterator[tuple[int, Block]]:
    """What came of the seeds from ``first`` on, block by block, as they are done; each with its first seed."""
    spawn = get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, initializer=faulthandler.enable) as pool:
        seeds = itertools.count(first, BLOCK)
        running: dict[Future[Block], int] = {}
        try:
            while True:
                while len(running) < 2 * processes:
                    begin = next(seeds)
                    running[pool.submit(run_block, range(begin, begin + BLOCK))] = begin
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    block = done.result()
                    yield running.pop(done), block
        except BrokenExecutor:
            seeds_of = ", ".join(
                f"{begin} to {begin + BLOCK - 1}" for begin in sorted(running.values())
            )
            sys.exit(
                f"a process of the campaign itself ended abruptly, in one of the seeds {seeds_of}"
            )
        finally:
            for future in running:
                future.cancel()


def campaign(deaths: int, first: int, processes: int) -> int:
    """Run until so many have died; the status to exit with."""
    began = said = time.monotonic()
    died: Counter[str] = Counter()
    rehearsals = 0

    def tell() -> None:
        minutes = (time.monotonic() - began) / 60
        print(
            f"{rehearsals:,} rehearsals, {died.total():,} deaths in {minutes:.1f} min "
            f"({died.total() / minutes:,.0f} a minute)",
            flush=True,
        )

    for _, block in blocks(first, processes):
        rehearsals += block.rehearsals
        died += block.deaths
        if block.failure is not None:
            seed, text = block.failure
            tell()
            print(f"{text}\nseed {seed} fails; again: make simulate SEED={seed}")
            return 1
        if time.monotonic() - said > EVERY:
            said = time.monotonic()
            tell()
        if died.total() >= deaths:
            break
    tell()
    print("while " + ", ".join(f"{phase}: {count:,}" for phase, count in died.most_common()))
    print("nothing was lost, doubled or blamed wrongly, and all ended")
    return 0


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulate", description=__doc__)
    parser.add_argument("--deaths", type=int, default=1_000_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, help="replay this one")
    asked = parser.parse_args()
    if asked.seed is not None:
        lines = replay(asked.seed)
        print("\n".join(lines))
        return int("nothing is wrong" not in lines[-1])
    return campaign(asked.deaths, asked.first, asked.processes)


if __name__ == "__main__":
    sys.exit(main())
