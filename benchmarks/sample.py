"""One sample, in a process of its own: ``python -m benchmarks.sample WORKLOAD CONTENDER DIVISOR``."""

from __future__ import annotations

import gc
import json
import sys

from benchmarks.contenders import CONTENDERS, NotOffered
from benchmarks.workloads.catalogue import WORKLOADS

RESULT = "result "


def main(name: str, library: str, divisor: str) -> None:
    """Print the numbers, or null if the contender has nothing that does this."""
    (workload,) = (each for each in WORKLOADS if each.name == name)
    (contender,) = (each for each in CONTENDERS if each.name == library)
    gc.collect()
    try:
        numbers = list(workload.measure(contender, max(workload.count // int(divisor), 1)))
    except NotOffered:
        numbers = None
    print(RESULT + json.dumps(numbers), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
