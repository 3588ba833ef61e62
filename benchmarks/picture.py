"""A picture of the ratios: a bar for each row, on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from benchmarks.contenders import BASELINE
from benchmarks.report import Row, ratio

LEFT, WIDTH, HIGH, TOP = 400, 470, 22, 58
LEAST, MOST = 0.5, 200.0
INK, QUIET, LINE = "#1f2933", "#7b8794", "#d9e2ec"
BETTER, WORSE, OTHER = "#0b7285", "#c92a2a", "#a5d8dd"


def svg(rows: Sequence[Row], caption: str) -> str:
    """The whole picture."""
    drawn = [row for row in rows if row.best_peer()]
    height = TOP + HIGH * len(drawn) + 34
    body = [*_axis(height), *(part for n, row in enumerate(drawn) for part in _bar(n, row))]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 110} {height}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{INK}">'
    )
    legend = (
        f'<text x="12" y="40" fill="{QUIET}">dark: than the best peer; light: than {BASELINE.name}; '
        "right of 1 is better</text>"
    )
    title = '<text x="12" y="22" font-size="15" font-weight="600">How many times better millpond is</text>'
    foot = f'<text x="12" y="{height - 10}" fill="{QUIET}" font-size="8">{escape(caption)}</text>'
    white = '<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([head, white, title, legend, *body, foot, "</svg>"])


def _at(value: float) -> float:
    share = math.log(min(max(value, LEAST), MOST) / LEAST) / math.log(MOST / LEAST)
    return LEFT + WIDTH * share


def _axis(height: int) -> Iterator[str]:
    for value in (0.5, 1, 2, 5, 10, 20, 50, 100, 200):
        x, width = _at(value), 2 if value == 1 else 1
        yield (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 4}" y2="{height - 28}" stroke="{LINE}" '
            f'stroke-width="{width}"/>'
        )
        yield (
            f'<text x="{x:.1f}" y="{TOP - 8}" fill="{QUIET}" font-size="10" text-anchor="middle">'
            f"{value:g}</text>"
        )


def _bar(number: int, row: Row) -> Iterator[str]:
    y, one = TOP + HIGH * number, _at(1)
    best = row.best_peer()
    assert best is not None
    yield f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(row.metric.name)}</text>'
    base = row.times_better(BASELINE.name)
    for value, colour, thick, inset in (
        (base, OTHER, 14, 3),
        (row.times_better(best), None, 8, 6),
    ):
        if value is None:
            continue
        x = _at(value)
        fill = colour or (BETTER if value >= 1 else WORSE)
        yield (
            f'<rect x="{min(x, one):.1f}" y="{y + inset}" width="{max(abs(x - one), 1):.1f}" '
            f'height="{thick}" fill="{fill}"/>'
        )
    right = max(one, *(_at(v) for v in (base, row.times_better(best)) if v is not None))
    told = f"{ratio(row.times_better(best))} ({best})"
    yield f'<text x="{right + 6:.1f}" y="{y + 14}" font-size="10" fill="{QUIET}">{escape(told)}</text>'
