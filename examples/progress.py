"""Live progress of anything that yields results: a bar on a terminal, plain lines elsewhere.

No thread draws the bar: it is redrawn when a result arrives, at most ten times a second, so the
program that forks workers has one thread only.
"""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Result = TypeVar("Result")


def watch(results: Iterable[Result], total: int, label: str, console: Console) -> Iterator[Result]:
    """Pass ``results`` on as they arrive, and show how many of ``total`` there are so far."""
    return (_bar if console.is_terminal else _lines)(results, total, label, console)


def _bar(results: Iterable[Result], total: int, label: str, console: Console) -> Iterator[Result]:
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        bar = progress.add_task(label, total=total)
        drawn = 0.0
        for result in results:
            progress.advance(bar)
            if time.monotonic() - drawn > 0.1:
                progress.refresh()
                drawn = time.monotonic()
            yield result


def _lines(results: Iterable[Result], total: int, label: str, console: Console) -> Iterator[Result]:
    for done, result in enumerate(results, start=1):
        if done * 4 // total > (done - 1) * 4 // total:
            console.print(f"  {label} {done}/{total}")
        yield result
