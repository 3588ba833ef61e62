"""The command's options, and what it writes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks import picture, report, runner
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.report import Row
from benchmarks.workloads.base import Workload
from benchmarks.workloads.catalogue import WORKLOADS


def main(arguments: list[str]) -> int:
    """Measure, print the table, and write what was asked for; 1 if millpond failed at something."""
    options = parser().parse_args(arguments)
    workloads, contenders = _chosen(options)
    rounds = options.rounds or (2 if options.quick else 5)
    samples, failures = runner.run(workloads, contenders, rounds, 10 if options.quick else 1)
    rows = [
        Row(metric, samples[metric.name])
        for each in workloads
        for metric in each.metrics
        if samples[metric.name]
    ]
    caption = report.facts(rounds)
    if options.keep and options.write:
        rows = _with_earlier(rows, options.write / "benchmarks.json")
        caption += "; some rows are of an earlier run of the same day"
    names = [contender.name for contender in contenders]
    table = "\n".join(report.markdown(rows, names)) + "\n"
    told = "".join(f"\n- without a figure: {failure}" for failure in failures)
    print(f"{caption}\n\n{table}{told}")
    if options.write:
        options.write.mkdir(parents=True, exist_ok=True)
        found = report.document(rows, rounds, failures)
        (options.write / "benchmarks.json").write_text(json.dumps(found, indent=1) + "\n")
        (options.write / "benchmarks.md").write_text(f"{caption}\n\n{table}{told}\n")
        (options.write / "benchmarks.svg").write_text(picture.svg(rows, caption) + "\n")
    return int(any(f", {report.MINE}: " in failure for failure in failures))


def _with_earlier(rows: list[Row], file: Path) -> list[Row]:
    """The rows in the order of all workloads, those that were not measured now from the file."""
    found = {row["name"]: row["samples"] for row in json.loads(file.read_text())["rows"]}
    found |= {row.metric.name: row.samples for row in rows}
    metrics = [metric for each in WORKLOADS for metric in each.metrics]
    return [Row(metric, found[metric.name]) for metric in metrics if metric.name in found]


def _chosen(options: argparse.Namespace) -> tuple[list[Workload], list[Contender]]:
    wanted = [part for part in options.only.split(",") if part]
    workloads = [
        each
        for each in WORKLOADS
        if not wanted or any(each.name.startswith(part) for part in wanted)
    ]
    peers = options.peers.split(",") if options.peers else [each.name for each in CONTENDERS]
    unknown = set(peers) - {each.name for each in CONTENDERS}
    if unknown or not workloads:
        names = ", ".join(each.name for each in (CONTENDERS if unknown else WORKLOADS))
        raise SystemExit(f"there is no {', '.join(unknown) or options.only}; there are: {names}")
    contenders = [
        each for each in CONTENDERS if each.installed and each.name in {report.MINE, *peers}
    ]
    return workloads, contenders


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks", description="How fast millpond is beside its peers."
    )
    made.add_argument("--only", default="", help="workloads whose names begin so, parted by commas")
    made.add_argument(
        "--peers", default="", help="contenders, parted by commas; default: all that are installed"
    )
    made.add_argument("--rounds", type=int, default=0, help="default: 5, or 2 with --quick")
    made.add_argument("--quick", action="store_true", help="a tenth of the work")
    made.add_argument(
        "--keep",
        action="store_true",
        help="keep the rows of --write's folder that are not measured",
    )
    made.add_argument("--write", type=Path, help="a folder for JSON, table and picture")
    return made
