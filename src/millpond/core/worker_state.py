"""What the scheduler knows of one worker: the tasks it holds, by the worker's own numbers."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from millpond.core.chunking import Gauge
from millpond.core.commands import Span
from millpond.core.events import JobId, WorkerId


class Held(NamedTuple):
    """Tasks of one job in a worker's hands, and what they are expected to cost."""

    seq: int  # the worker's number of the first of them
    span: Span
    count: int  # type: ignore[assignment]  # of tasks; a tuple has a method of that name
    cost: float  # seconds a task; 0 if unknown
    size: float  # bytes a task

    def cut(self, skip: int, keep: int) -> Held:
        """``keep`` of the tasks, after the first ``skip``."""
        job, start, _ = self.span
        span = Span(job, start + skip, start + skip + keep)
        return Held(self.seq + skip, span, keep, self.cost, self.size)


class Opened(NamedTuple):
    """A coroutine in a worker's hands."""

    span: Span
    since: float


class WorkerState:
    """A worker, from the order to start it until its end has been handled."""

    __slots__ = (
        "asked", "bytes", "check", "chunks", "ends", "flight", "id", "late", "load", "next_seq", "open", "packing",
        "patience", "ready", "recalling", "recalls", "retiring", "since", "unmeasured",
    )  # fmt: skip

    def __init__(self, number: WorkerId, patience: float) -> None:
        self.id = number
        self.ready = False
        self.packing = False  # what it is to get is being packed: it gets nothing else before that
        self.retiring = False  # it was told to stop after what it holds
        self.recalling = False  # it was asked to give back what it has not begun
        self.recalls = 0  # how often, so far
        self.late = 0  # it was found in a task longer than was thought, which is before this number
        self.flight: deque[Held] = deque()  # sent and not answered, in the order of their numbers
        self.ends: deque[int] = deque()  # where each chunk of the flight ends
        self.open: dict[int, Opened] = {}  # coroutines sent and not answered, by their numbers
        self.check: float | None = None  # when to see whether it is in a task that was cancelled
        self.asked: list[tuple[JobId, int]] = []  # tasks that are wanted only if it has begun them
        self.next_seq = 0
        self.load = 0.0  # seconds that the flight is expected to take
        self.unmeasured = 0  # entries of the flight whose cost nobody knows
        self.bytes = 0.0
        self.chunks = 0  # multiprocessing's chunks taken so far
        self.since = 0.0  # of the last sign of progress
        self.patience = patience

    def takes_more(self) -> bool:
        """Whether work may be queued behind what it runs: only where that is known to be short."""
        return (
            self.unmeasured == 0
            and self.ready
            and not (self.retiring or self.recalling or self.late or self.packing)
        )

    def hides_work(self) -> bool:
        """Whether tasks wait behind the one that it runs."""
        if self.recalling or not self.flight:
            return False
        first = self.flight[0]
        return len(self.flight) > 1 or first.count > 1 or any(seq > first.seq for seq in self.open)

    def busy(self) -> bool:
        """Whether it holds tasks."""
        return bool(self.flight or self.open)

    def number_of(self, job: JobId, index: int) -> int | None:
        """Its own number of a task that it holds. Any thread may ask."""
        for seq, span, _, _, _ in list(self.flight):
            if span.job == job and span.start <= index < span.stop:
                return seq + index - span.start
        for seq, (span, _) in list(self.open.items()):
            if span.job == job and span.start == index:
                return seq
        return None

    def leaves(self) -> bool:
        """Whether it has done all it was for, and has not ended yet."""
        return self.retiring and not (self.flight or self.open)

    def hold(self, spans: list[Span], gauges: dict[JobId, Gauge], now: float) -> int:
        """Take on a chunk; return the worker's number of its first task."""
        first = self.next_seq
        if not self.flight:
            self.since = now
        for span in spans:
            gauge = gauges.get(span.job)
            cost, size = (gauge.cost or 0.0, gauge.size) if gauge is not None else (0.0, 0.0)
            held = Held(self.next_seq, span, span.stop - span.start, cost, size)
            self.flight.append(held)
            self.next_seq += held.count
            self._weigh(held, +1)
        self.ends.append(self.next_seq)
        return first

    def hold_open(self, span: Span, now: float) -> int:
        """Take on coroutines; return the worker's number of the first."""
        seq = self.next_seq
        job, start, stop = span
        for index in range(start, stop):
            self.open[self.next_seq] = Opened(Span(job, index, index + 1), now)
            self.next_seq += 1
        return seq

    def answered(self, seq: int, count: int) -> list[Span] | None:
        """Let go of ``count`` tasks from ``seq`` on; None if these are not the next ones."""
        if self.flight and self.flight[0].seq == seq and self.flight[0].count == count:
            held = self.flight.popleft()
            self._weigh(held, -1)
            self._end(seq + count)
            return [held.span]
        reach = seq
        for held in self.flight:  # all or nothing: what is let go of here must be settled
            if held.seq != reach or reach - seq >= count:
                break
            reach += held.count
        if not 0 < count <= reach - seq:
            return None
        spans: list[Span] = []
        while count > 0:
            held = self.flight.popleft()
            self._weigh(held, -1)
            part = held.cut(0, min(count, held.count))
            if part.count < held.count:
                rest = held.cut(part.count, held.count - part.count)
                self.flight.appendleft(rest)
                self._weigh(rest, +1)
            spans.append(part.span)
            seq += part.count
            count -= part.count
        self._end(seq)
        return spans

    def progressed(self, now: float, seconds: float, patience: float) -> None:
        """An answer came: it is alive and getting on."""
        self.since = now
        if not self.flight or self.flight[0].seq >= self.late:
            self.late = 0
        self.patience = max(patience, 4 * seconds)

    def give_back(self, seq: int) -> list[Span]:
        """Let go of every task from ``seq`` on."""
        spans = [
            self.open.pop(number).span
            for number in sorted(self.open, reverse=True)
            if number >= seq
        ]
        while self.ends and self.ends[-1] > seq:
            self.ends.pop()
        if seq > (self.ends[-1] if self.ends else 0):
            self.ends.append(seq)
        while self.flight and self.flight[-1].seq + self.flight[-1].count > seq:
            held = self.flight.pop()
            self._weigh(held, -1)
            keep = max(seq - held.seq, 0)
            if keep:
                kept = held.cut(0, keep)
                self.flight.append(kept)
                self._weigh(kept, +1)
            spans.append(held.cut(keep, held.count - keep).span)
        return spans[::-1]

    def split(self, first: int, stop: int) -> tuple[list[Span], list[Span], list[Span]]:
        """The flight's tasks before ``first``, from there to ``stop``, and from ``stop`` on."""
        unbegun = self.give_back(stop)
        suspects = self.give_back(first)
        return [held.span for held in self.flight], suspects, unbegun

    def split_open(self, reach: int) -> tuple[list[tuple[int, Span]], list[Span]]:
        """Let go of the coroutines: those before ``reach``, with their numbers, and the others."""
        held, self.open = self.open, {}
        begun = [(seq, span) for seq, (span, _) in held.items() if seq < reach]
        return begun, [span for seq, (span, _) in held.items() if seq >= reach]

    def _end(self, seq: int) -> None:
        """Chunks that end before ``seq`` have been answered."""
        ends = self.ends
        while ends and (ends[0] <= seq or not self.flight):
            ends.popleft()

    def _weigh(self, held: Held, sign: int) -> None:
        if not self.flight:
            self.load = self.bytes = 0.0
            self.unmeasured = 0
            return
        _, _, count, cost, size = held
        self.load += sign * cost * count
        self.unmeasured += sign * (cost == 0.0)
        self.bytes += sign * size * count
