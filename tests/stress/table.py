"""Plays every scenario on every start method, and prints the table of faults as Markdown."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.stress import catalogue, judge
from tests.stress.catalogue import SECTIONS, Fault
from tests.stress.judge import Verdict
from tests.stress.stage import METHODS

Played = dict[tuple[str, str], Verdict]


BEGIN, END = "<!-- faults: made by `make faults` -->\n", "<!-- faults end -->\n"
"""In a document, what the table stands between."""


def main(rows: str, methods: tuple[str, ...], lanes: int, into: str = "") -> int:
    """Print the table, or write it into a document; 1 if something is not as promised, told on stderr."""
    wanted = set(numbers(rows))
    faults = [fault for fault in catalogue.load() if not wanted or fault.row in wanted]
    played = play(faults, [method for method in METHODS if method in methods], lanes)
    text = "\n".join([*markdown(faults, played), *measured(faults, played)]) + "\n"
    if into:
        document = Path(into)
        before, _, rest = document.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        document.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
    else:
        print(text, end="")
    return int(any(verdict.faults() for verdict in played.values()))


def numbers(text: str) -> Iterator[int]:
    """The numbers in "1,4,9-12"."""
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def play(faults: list[Fault], methods: list[str], lanes: int) -> Played:
    """Play them, so many at once."""
    wanted = [(fault, method) for fault in faults for method in methods if method in fault.methods]

    def one(fault: Fault, method: str) -> Verdict:
        verdict = judge.run("tests.stress.play", fault.section, fault.name, method)
        for text in verdict.faults():
            print(f"{fault.row} {fault.name} on {method}: {text}", file=sys.stderr, flush=True)
        if verdict.faults():
            print(verdict.stderr[-3000:], file=sys.stderr, flush=True)
        return verdict

    with ThreadPoolExecutor(lanes) as lane:
        results = [lane.submit(one, fault, method) for fault, method in wanted]
        verdicts = [result.result() for result in results]
    pairs = zip(wanted, verdicts, strict=True)
    return {(fault.name, method): verdict for (fault, method), verdict in pairs}


def markdown(faults: list[Fault], played: Played) -> Iterator[str]:
    """The table, a section each."""
    methods = [m for m in METHODS if any(method == m for _, method in played)]
    for section, title in SECTIONS.items():
        chosen = [fault for fault in faults if fault.section == section]
        if not chosen:
            continue
        yield f"### {title}\n"
        yield f"| # | fault | what millpond does | {' | '.join(methods)} |"
        yield f"|---|---|---|{'---|' * len(methods)}"
        for fault in chosen:
            cells = [_cell(played.get((fault.name, method))) for method in methods]
            yield f"| {fault.row} | {fault.text} | {fault.promise} | {' | '.join(cells)} |"
        yield ""
    good = sum(not verdict.faults() for verdict in played.values())
    yield f"{good} of {len(played)} as promised."


def measured(faults: list[Fault], played: Played) -> Iterator[str]:
    """What was timed, the slowest of all start methods."""
    slowest: dict[tuple[int, str], tuple[float, float]] = {}
    for fault in faults:
        for method in METHODS:
            verdict = played.get((fault.name, method))
            for what, (took, bound) in (
                verdict.told.get("measured", {}) if verdict else {}
            ).items():
                key = fault.row, what
                slowest[key] = max(slowest.get(key, (0.0, bound)), (took, bound))
    yield "\n| # | what | at most | slowest |\n|---|---|---|---|"
    for (row, what), (took, bound) in slowest.items():
        yield f"| {row} | {what} | {bound:g} | {took:.2f} |"


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return "n/a"
    return "HANG" if verdict.hung else "**no**" if verdict.faults() else "yes"
