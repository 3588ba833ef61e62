"""The sweep: at every failpoint, at its first to third pass, and after every byte of a small frame, in four ways.

Rules: the trials are a list, the same each time; the short form takes every so many-th of it, so that it has
some of each kind; a program plays many trials on one start method, and one that hangs costs the trial that it
hung in.
"""

from __future__ import annotations

import itertools
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.stress import judge
from tests.stress.judge import Verdict
from tests.stress.trials import LIMIT, THEN, Told, Trial

WAYS = ("kill", "exit", "segfault", "stop")
ONCE = ("boot", "ready", "started", "stopping")
"""Points that a worker passes once."""
OFTEN = (
    "after_recv", "mid_recv", "before_decode", "before_run", "after_run", "before_encode", "before_send",
    "mid_send", "after_send",
)  # fmt: skip
ARENA = ("before_put", "mid_put", "after_put")
ENGINE = ("engine.send", "engine.sent", "engine.received", "engine.started")
PARENT = tuple(f"parent.{place}" for place in ("send", "sent", "received", "started"))
"""Where the program itself ends, which takes a program a trial."""
LOADS = ("calls", "rows", "large")
BYTES = {"mid_send": 64, "mid_recv": 96}
"""More than a small frame has, to it and from it."""
BATCH = 40
SHARE = {"short": 7, "long": 1}
"""Of how many trials one is made."""


def trials() -> Iterator[Trial]:
    """Those of one start method."""
    yield from _at_points()
    yield from _in_the_arena()
    yield from _of_the_program()
    yield from _after_bytes()


def _at_points() -> Iterator[Trial]:
    number = 0
    for action, point in itertools.product(WAYS, (*ONCE, *OFTEN, *ENGINE)):
        for nth, load in itertools.product((1,) if point in ONCE else (1, 2, 3), LOADS):
            number += 1
            then = THEN[number % 3] if action == "stop" else ""
            graceful = point == "stopping" or number % 2 == 0
            yield Trial(point, action, nth, -1, load, then, graceful)


def _in_the_arena() -> Iterator[Trial]:
    for number, (action, point, nth) in enumerate(itertools.product(WAYS, ARENA, (1, 2, 3))):
        then = THEN[number % 3] if action == "stop" else ""
        yield Trial(point, action, nth, 1 << 20, "arena", then, number % 2 == 0)


def _of_the_program() -> Iterator[Trial]:
    for action, point, nth in itertools.product(("kill", "exit", "segfault"), PARENT, (1, 2, 3)):
        if (point, nth) != ("parent.started", 3):  # a pool of two starts two
            yield Trial(point, action, nth, -1, LOADS[nth % 3])


def _after_bytes() -> Iterator[Trial]:
    for point, last in BYTES.items():
        for count, action in itertools.product(range(last), ("kill", "exit")):
            yield Trial(point, action, 1 + count % 3, count, "calls", "", graceful=count % 2 == 0)


def main(form: str, only: str, methods: tuple[str, ...], lanes: int) -> int:
    """Play them; print what was counted; 1 if anything is not as promised."""
    began = time.monotonic()
    step = SHARE[form]
    batches = []
    for offset, method in enumerate(methods):
        chosen = [trial for trial in trials() if only in trial.point][offset * 2 % step :: step]
        alone = [trial for trial in chosen if trial.point in PARENT]
        chosen = [trial for trial in chosen if trial.point not in PARENT]
        batches += [(method, [trial]) for trial in alone]
        batches += [(method, chosen[at : at + BATCH]) for at in range(0, len(chosen), BATCH)]
    with ThreadPoolExecutor(lanes) as lane:
        played = [pair for pairs in lane.map(lambda batch: play(*batch), batches) for pair in pairs]
    print("\n".join(report(played)))
    print(f"in {time.monotonic() - began:.0f} s")
    return int(not all(told.good for _, told in played))


def play(method: str, batch: list[Trial]) -> list[tuple[Trial, Told]]:
    """A batch in a program, and what a hang left of it in the next."""
    played: list[tuple[Trial, Told]] = []
    while len(played) < len(batch):
        rest = batch[len(played) :]
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(json.dumps(rest))
            file.flush()
            verdict = judge.run(
                "tests.stress.trials", method, file.name, limit=len(rest) * 3 + 2 * LIMIT
            )
        if rest[0].point in PARENT:
            told = _of_parent(rest[0], verdict)
            if not told.good:
                print(method, rest[0], told, file=sys.stderr, flush=True)
            return [(rest[0], told)]
        ended = [Told(*one) for one in verdict.told.get("trials", [])]
        if len(ended) < len(rest):
            ended.append(Told(acted=True, hang=True, text=verdict.stderr[-4000:]))
        left = len(verdict.survivors), len(verdict.left)
        if any(left) and not ended[-1].hang:
            text = f"{ended[-1].text} {verdict.survivors} {verdict.left}"
            ended[-1] = ended[-1]._replace(orphans=left[0], leaks=left[1], text=text)
        played += zip(rest, ended, strict=False)
        for trial, one in played[-len(ended) :]:
            if not one.good:
                print(method, trial, one._replace(text=""), one.text, file=sys.stderr, flush=True)
    return played


STATUSES = {"kill": -signal.SIGKILL, "segfault": -signal.SIGSEGV, "exit": 0}


def _of_parent(trial: Trial, verdict: Verdict) -> Told:
    """The program had to end before it could tell of the trial, and all that it started with it."""
    acted = not verdict.told.get("trials") and verdict.status == STATUSES[trial.action]
    segments = [path for path in verdict.left if "/dev/shm" in path]
    return Told(
        acted, orphans=len(verdict.survivors), leaks=len(segments), hang=verdict.hung, after=verdict.after,
        text=f"{verdict.survivors} {segments}",
    )  # fmt: skip


def report(played: list[tuple[Trial, Told]]) -> Iterator[str]:
    """What was counted, a line a point, and the sum."""
    points = list(dict.fromkeys(trial.point for trial, _ in played))
    for point in points:
        yield line(point, [told for trial, told in played if trial.point == point])
    everything = [told for _, told in played]
    yield line(f"{len(points)} points", everything)
    yield from quantiles(
        "from a worker's death to the caller's error",
        [t.latency for t in everything if t.latency is not None],
    )
    yield from quantiles(
        "from the program's death to that of the last worker",
        [t.after for t in everything if t.after is not None],
    )


def quantiles(name: str, seconds: list[float]) -> Iterator[str]:
    """The median and the 99th of a hundred."""
    ordered = sorted(seconds)
    if ordered:
        fifty, ninety_nine = (1e3 * at(ordered, share) for share in (0.5, 0.99))
        yield f"{name}: p50 {fifty:.1f} ms, p99 {ninety_nine:.1f} ms (of {len(ordered)})"


def line(name: str, told: list[Told]) -> str:
    """``name x trials: hangs, lost, doubled, orphans, leaks``."""
    sums: Counter[str] = Counter()
    for one in told:
        sums.update({field: int(getattr(one, field)) for field in Told._fields[1:8]})
    counted = ", ".join(
        f"{sums[field]} {word}"
        for field, word in (
            ("hang", "hangs"), ("lost", "lost"), ("doubled", "doubled"), ("failed", "innocent failed"),
            ("wrong", "wrong"), ("orphans", "orphans"), ("leaks", "leaks"),
        )
    )  # fmt: skip
    acted = sum(one.acted for one in told)
    return f"{name} x {len(told)} trials ({acted} placed): {counted}"


def at(ordered: list[float], share: float) -> float:
    """A quantile."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
