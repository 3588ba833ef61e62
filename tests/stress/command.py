"""The command's options."""

from __future__ import annotations

import argparse


def main(arguments: list[str]) -> int:
    """Do what was asked for; 0 if all is well."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    table = kinds.add_parser("table", help="place every fault; print the table as Markdown")
    table.add_argument("--rows", default="", help="numbers of faults, as 1,4,9-12; default: all")
    table.add_argument("--methods", default="", help="start methods, by commas; default: all")
    table.add_argument("--lanes", type=int, default=2, help="programs at once")
    sweep = kinds.add_parser("sweep", help="kill, stop, crash and exit at every failpoint")
    sweep.add_argument("--form", choices=("short", "long"), default="short")
    sweep.add_argument("--only", default="", help="points that have this in their name")
    sweep.add_argument("--methods", default="", help="start methods, by commas; default: all three")
    sweep.add_argument("--lanes", type=int, default=2, help="programs at once")
    chosen = parser.parse_args(arguments)
    if chosen.kind == "table":
        from tests.stress.table import main as run

        return run(chosen.rows, chosen.methods, chosen.lanes)
    from tests.stress.sweep import main as sweep_all

    return sweep_all(chosen.form, chosen.only, chosen.methods, chosen.lanes)
