"""What was measured, as a table, a file and a picture."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import machine
from benchmarks.contenders import BASELINE
from benchmarks.workloads.base import Metric

MINE = "millpond"


@dataclass
class Row:
    """A metric, and what each contender reached in each round."""

    metric: Metric
    samples: dict[str, list[float]]

    def median(self, name: str) -> float | None:
        """What the contender reached in the median, if it took part."""
        return statistics.median(self.samples[name]) if self.samples.get(name) else None

    def times_better(self, name: str) -> float | None:
        """How many times better millpond is than another."""
        mine, other = self.median(MINE), self.median(name)
        if mine is None or other is None:
            return None
        low = 1e-9  # a peak of no more memory is no reason to divide by nothing
        ratio = max(mine, low) / max(other, low)
        return ratio if self.metric.more_is_better else 1 / ratio

    def best_peer(self) -> str | None:
        """Who comes nearest to millpond, or before it."""
        rated = {name: self.times_better(name) for name in self.samples if name != MINE}
        known = {name: ratio for name, ratio in rated.items() if ratio is not None}
        return min(known, key=known.__getitem__) if known else None


def facts(rounds: int) -> str:
    """The machine, the date, and how it was measured."""
    described = ", ".join(f"{name} {value}" for name, value in machine.description().items())
    return f"{described}; medians of {rounds} rounds, in turn, each sample in a program of its own"


def markdown(rows: Sequence[Row], names: Sequence[str]) -> Iterator[str]:
    """The table."""
    heads = ["", "unit", *names, f"times better than {BASELINE.name}", "than the best peer"]
    yield f"| {' | '.join(heads)} |"
    yield f"|---|---|{'---:|' * (len(heads) - 2)}"
    for row in rows:
        cells = [shown(row.median(name)) for name in names]
        best = row.best_peer()
        against = f"**{ratio(row.times_better(best))}** ({best})" if best else ""
        cells += [ratio(row.times_better(BASELINE.name)), against]
        yield f"| {row.metric.name} | {row.metric.unit} | {' | '.join(cells)} |"


def shown(value: float | None) -> str:
    """Two or three digits."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ratio(value: float | None) -> str:
    """The same of a ratio."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 20 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def document(rows: Sequence[Row], rounds: int, failures: Sequence[str]) -> dict[str, Any]:
    """Everything that was measured, for a program to read."""
    return {
        "machine": machine.description(),
        "rounds": rounds,
        "failures": list(failures),
        "rows": [
            {
                "name": row.metric.name,
                "unit": row.metric.unit,
                "more_is_better": row.metric.more_is_better,
                "samples": row.samples,
            }
            for row in rows
        ],
    }
