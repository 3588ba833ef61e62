"""What ``import millpond`` costs: ``python benchmarks/import_time.py``; fails if it is too much.

Each import runs in a fresh interpreter, in turn with the others. The measure is what a program
pays today, ``multiprocessing.pool`` and cloudpickle; millpond may cost 1.5 times that, with the
classes taken out of it and not only with its name imported.
"""

import statistics
import subprocess
import sys

from benchmarks import machine

BASELINE = "import multiprocessing.pool, cloudpickle"
CONTENDERS = ("import millpond", "from millpond import Pool, Process")
LIMIT = 1.5
ROUNDS = 21

PROGRAM = """
from time import perf_counter
began = perf_counter()
{statement}
print(perf_counter() - began)
"""


def seconds(statement: str) -> float:
    """How long the statement takes in a fresh interpreter."""
    program = PROGRAM.format(statement=statement)
    finished = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    return float(finished.stdout)


def main() -> int:
    """Measure, print a table, and say by the exit code whether the limit was kept."""
    statements = (BASELINE, *CONTENDERS)
    for statement in statements:
        seconds(statement)  # so that all byte code is there
    rounds = [[seconds(statement) for statement in statements] for _ in range(ROUNDS)]
    medians = [statistics.median(samples) for samples in zip(*rounds, strict=True)]

    print(", ".join(f"{name} {value}" for name, value in machine.description().items()))
    print(f"\n| median of {ROUNDS} | ms | times the first |\n|---|---:|---:|")
    for statement, median in zip(statements, medians, strict=True):
        print(f"| `{statement}` | {median * 1e3:.1f} | {median / medians[0]:.2f} |")
    kept = max(medians[1:]) <= LIMIT * medians[0]
    print(f"\nThe limit of {LIMIT} is {'kept' if kept else 'EXCEEDED'}.")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
