"""The command's options."""

from __future__ import annotations

import argparse
import signal

from tests.stress import stage

FRESH = ("fork", "forkserver", "spawn")
"""The start methods that are different from one another."""


def main(arguments: list[str]) -> int:
    """Do what was asked for; 0 if all is well."""
    chosen = parser().parse_args(arguments)
    # A shell has what it runs in the background ignore it, and so would all programs from here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    methods = tuple(chosen.methods.split(",")) if chosen.methods else ()
    if chosen.kind == "table":
        from tests.stress import table

        return table.main(chosen.rows, methods or stage.METHODS, chosen.lanes, chosen.into)
    if chosen.kind == "sweep":
        from tests.stress import sweep

        return sweep.main(chosen.form, chosen.only, methods or FRESH, chosen.lanes)
    if chosen.kind == "soak":
        from tests.stress import soak

        return soak.main(chosen.minutes, methods or FRESH)
    from tests.stress import latency

    return latency.main(methods or FRESH)


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m tests.stress",
        description="Faults placed in whole pools, and judged from outside.",
    )
    kinds = made.add_subparsers(dest="kind", required=True)
    table = kinds.add_parser(
        "table", help="place every fault of the list; print the table as Markdown"
    )
    table.add_argument("--rows", default="", help="numbers of faults, as 1,4,9-12; default: all")
    table.add_argument("--into", default="", help="a document, to replace the table that it has")
    sweep = kinds.add_parser("sweep", help="kill, stop, crash and exit at every failpoint")
    sweep.add_argument("--form", choices=("short", "long"), default="short")
    sweep.add_argument("--only", default="", help="points that have this in their name")
    soak = kinds.add_parser("soak", help="kill a worker every 0.2 s under load")
    soak.add_argument("--minutes", type=float, default=60.0)
    latency = kinds.add_parser("latency", help="how soon deaths are known")
    for kind in (table, sweep, soak, latency):
        kind.add_argument(
            "--methods", default="", help="start methods, parted by commas; default: all"
        )
    for kind in (table, sweep):
        kind.add_argument("--lanes", type=int, default=2, help="programs at once; default: 2")
    return made
