"""Three real jobs, one after another and then with millpond: ``python examples/demo.py``.

The only difference between the two runs is ``map`` against ``pool.imap``. For each job the demo
prints both times and checks that both runs gave the same results. It takes about half a minute on
two processors, writes to a temporary folder only, and leaves nothing behind.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

import downloads
import primes
import thumbnails
from millpond import Pool, set_start_method
from progress import watch
from workload import Input, Result, Workload

Map = Callable[[Callable[[Input], Result], Iterable[Input]], Iterable[Result]]


def run(
    how: Map[Input, Result], workload: Workload[Input, Result], folder: str, step: int, label: str
) -> list[Result]:
    """Do a workload's work by some kind of ``map``, and show how far it is."""
    inputs = workload.inputs(Path(folder))[::step]
    return list(watch(how(workload.function, inputs), len(inputs), label, CONSOLE))


def compare(workload: Workload[Any, Any], step: int) -> bool:
    """Do the work both ways and print what came of it; returns whether the results agree."""
    CONSOLE.print(f"[bold]{workload.title}")

    began = time.perf_counter()
    with TemporaryDirectory(prefix="millpond-demo-") as folder:
        expected = run(map, workload, folder, step, "one by one")
    serial = time.perf_counter() - began

    began = time.perf_counter()
    with TemporaryDirectory(prefix="millpond-demo-") as folder, Pool(workload.workers) as pool:
        results = run(pool.imap, workload, folder, step, "millpond")
    parallel = time.perf_counter() - began

    CONSOLE.print(f"  {workload.conclude(results)}", soft_wrap=True)
    CONSOLE.print(
        f"  one by one {serial:.2f} s, millpond {parallel:.2f} s: "
        f"[bold]{serial / parallel:.1f} times as fast[/], "
        + ("[green]same results[/]" if results == expected else "[red]DIFFERENT RESULTS[/]"),
        soft_wrap=True,
    )
    CONSOLE.print()
    return results == expected


def main() -> int:
    """Compare what was asked for; the exit code says whether everything agreed."""
    parser = argparse.ArgumentParser(description="Three real jobs, one by one and with millpond.")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS, help="default: all three")
    parser.add_argument("--quick", action="store_true", help="do a tenth of the work")
    parser.add_argument("--start-method", choices=("fork", "forkserver", "spawn"))
    options = parser.parse_args()
    if options.start_method:
        set_start_method(options.start_method)
    agreed = []
    for job in options.jobs:
        with JOBS[job]() as workload:
            agreed.append(compare(workload, step=10 if options.quick else 1))
    return 0 if all(agreed) else 1


JOBS: dict[str, Callable[[], AbstractContextManager[Workload[Any, Any]]]] = {
    "compute": lambda: nullcontext(primes.WORKLOAD),
    "download": downloads.workload,
    "images": lambda: nullcontext(thumbnails.WORKLOAD),
}
CONSOLE = Console(highlight=False)

if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        CONSOLE.print("Stopped.")
        sys.exit(130)
