"""How much faster than ``multiprocessing.Pool``: ``python benchmarks/engine.py [--quick]``.

All contenders are measured in one process and in turn, round after round, in an order that turns
about as well, so that whatever else the machine does hits all of them alike. The table gives the
median of the rounds; a ratio above 1 says how many times better than the baseline, and the range
behind it is that of the ratios of single rounds.
"""

import argparse
import faulthandler
import gc
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import machine
from contenders import BASELINE, CONTENDERS, Contender, NotOffered
from measurements import MEASUREMENTS, Measurement, Metric

LIMIT = 120  # seconds; a contender that hangs for so long ends the run with its stacks


@dataclass
class Row:
    """A metric, and what each contender reached in each round."""

    metric: Metric
    samples: dict[str, list[float]] = field(default_factory=dict)

    def median(self, contender: Contender) -> float | None:
        """What the contender reached in the median, if it took part."""
        samples = self.samples.get(contender.name)
        return statistics.median(samples) if samples else None

    def ratios(self, contender: Contender) -> list[float]:
        """How many times better than the baseline, for each round."""
        pairs = zip(self.samples[BASELINE.name], self.samples.get(contender.name, ()), strict=False)
        return [
            theirs / base if self.metric.more_is_better else base / theirs for base, theirs in pairs
        ]


def measure(measurement: Measurement, contender: Contender, divisor: int) -> Sequence[float]:
    """One sample of each of the measurement's metrics; none if the contender cannot do it."""
    gc.collect()
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    try:
        return measurement.measure(contender, max(measurement.count // divisor, 2))
    except NotOffered:
        return ()
    finally:
        faulthandler.cancel_dump_traceback_later()


def run(measurements: Sequence[Measurement], rounds: int, divisor: int) -> list[Row]:
    """Measure everything, in turn."""
    rows = {metric: Row(metric) for each in measurements for metric in each.metrics}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        first = number % len(CONTENDERS)
        order = CONTENDERS[first:] + CONTENDERS[:first]
        for measurement in measurements:
            for contender in order * measurement.turns:
                numbers = measure(measurement, contender, divisor)
                for metric, value in zip(measurement.metrics, numbers, strict=False):
                    rows[metric].samples.setdefault(contender.name, []).append(value)
    return list(rows.values())


def markdown(rows: Sequence[Row], rounds: int) -> Iterator[str]:
    """The table, headed by the machine and the date."""
    facts = ", ".join(f"{name} {value}" for name, value in machine.description().items())
    yield f"{facts}; medians of {rounds} rounds"
    yield ""
    others = [contender for contender in CONTENDERS if contender is not BASELINE]
    ratios = [f"{contender.name}: times better (range)" for contender in others]
    heads = ["", "unit", *(contender.name for contender in CONTENDERS), *ratios]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * 2}{'---:|' * (len(heads) - 2)}"
    for row in rows:
        medians = [_shown(row.median(contender)) for contender in CONTENDERS]
        better = [_shown_ratio(row.ratios(contender)) for contender in others]
        yield f"| {' | '.join([row.metric.name, row.metric.unit, *medians, *better])} |"


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _shown_ratio(ratios: Sequence[float]) -> str:
    if not ratios:
        return ""
    return f"**{statistics.median(ratios):.1f}** ({min(ratios):.1f} to {max(ratios):.1f})"


def report(rows: Sequence[Row], rounds: int) -> dict[str, object]:
    """Everything that was measured, for a program to read."""
    return {
        "machine": machine.description(),
        "rounds": rounds,
        "baseline": BASELINE.name,
        "rows": [
            {
                "name": row.metric.name,
                "unit": row.metric.unit,
                "more_is_better": row.metric.more_is_better,
                "samples": row.samples,
                "times_better": {
                    contender.name: statistics.median(row.ratios(contender))
                    for contender in CONTENDERS
                    if row.ratios(contender)
                },
            }
            for row in rows
        ],
    }


def main() -> None:
    """Measure, print the table, and write the file that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the work, 3 rounds")
    parser.add_argument("--rounds", type=int, help="how often everything is measured (default: 5)")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name has this text")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there as well")
    options = parser.parse_args()
    rounds = options.rounds or (3 if options.quick else 5)
    chosen = [
        each for each in MEASUREMENTS if any(options.only in metric.name for metric in each.metrics)
    ]
    if not chosen:
        parser.error(f"no row has {options.only!r} in its name")
    rows = run(chosen, rounds, divisor=20 if options.quick else 1)
    print("\n".join(markdown(rows, rounds)))
    if options.json:
        options.json.write_text(json.dumps(report(rows, rounds), indent=2) + "\n")


if __name__ == "__main__":
    main()
