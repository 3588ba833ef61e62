"""Runs samples in turn: A B A B, each in a process of its own with a limit in time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.contenders import Contender
from benchmarks.memory import Watch
from benchmarks.sample import RESULT
from benchmarks.workloads.base import Workload

ROOT = Path(__file__).resolve().parent.parent

Samples = dict[str, dict[str, list[float]]]
"""By metric and contender, a number for each round."""


NOT_OFFERED = "not offered"


class Failed(Exception):
    """A contender gave no numbers; the text says why."""


def run(
    workloads: Sequence[Workload], contenders: Sequence[Contender], rounds: int, divisor: int
) -> tuple[Samples, list[str]]:
    """All samples, and what failed. A contender that failed at a workload is not asked again."""
    samples: Samples = {metric.name: {} for each in workloads for metric in each.metrics}
    failures: dict[tuple[str, str], str] = {}
    for number in range(rounds):
        for workload in workloads:
            print(f"round {number + 1} of {rounds}: {workload.name}", file=sys.stderr, flush=True)
            turn = number % len(contenders)
            for contender in [*contenders[turn:], *contenders[:turn]]:
                key = workload.name, contender.name
                if key in failures:
                    continue
                try:
                    numbers = sample(workload, contender, divisor)
                except Failed as failure:
                    failures[key] = str(failure)
                    print(f"{key}: {failure}", file=sys.stderr, flush=True)
                    continue
                if not numbers:
                    failures[key] = NOT_OFFERED
                for metric, value in zip(workload.metrics, numbers, strict=False):
                    samples[metric.name].setdefault(contender.name, []).append(value)
    return samples, [
        f"{workload}, {name}: {why}"
        for (workload, name), why in failures.items()
        if why != NOT_OFFERED
    ]


def sample(workload: Workload, contender: Contender, divisor: int) -> list[float]:
    """The numbers of one; none if the contender does not do it. Raises Failed."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.sample",
        workload.name,
        contender.name,
        str(divisor),
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "PYTHONDONTWRITEBYTECODE": "",  # what is installed has been compiled, for millpond too
    }
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as program:  # fmt: skip
        timer = threading.Timer(workload.limit, _end, [program])
        timer.start()
        errors: list[str] = []
        reader = threading.Thread(target=lambda: errors.append(program.stderr.read()))  # type: ignore[union-attr]
        reader.start()
        numbers = list(_listen(program, workload.watched))
        timer.cancel()
        if program.wait() or not numbers:
            _end(program)
            reader.join()
            late = program.returncode == -signal.SIGKILL
            said = "".join(errors).strip().splitlines()
            raise Failed(
                f"over {workload.limit:g} s" if late else said[-1] if said else "no result"
            )
        _end(program)  # what it left behind
        reader.join()
    return numbers[-1]


def _listen(program: subprocess.Popen[str], watched: bool) -> Iterator[list[float]]:
    watch, peak = None, None
    assert program.stdout is not None
    for line in program.stdout:
        if watched and line == "begin\n":
            watch = Watch(program.pid)
            watch.start()
        elif watch is not None and line == "end\n":
            peak = watch.stop()
        elif line.startswith(RESULT):
            numbers = json.loads(line[len(RESULT) :])
            yield [peak] if peak is not None else numbers or []
            return


def _end(program: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
