"""How many tasks go in the next chunk: by measured time, capped by weight and by a fair share.

Guided self-scheduling (Polychronopoulos and Kuck, IEEE Transactions on Computers C-36, 1987) gives each
request a fixed part of what is left, so that the last chunks are small and the tail is balanced. Here the
part is an upper limit, and the measured time of a task decides below it. What takes no longer than waking a
worker is not parted.
"""

from __future__ import annotations

from millpond.core.policy import NO_LIMITS, Limits, Policy

_LEAST = 1e-9
"""Seconds."""


class Gauge:
    """What is known of a job's tasks: seconds and bytes a task, and the most answered at once."""

    __slots__ = (
        "cancelled",
        "cost",
        "dropped",
        "grain",
        "limits",
        "reach",
        "runs",
        "size",
        "spared",
        "suspected",
    )

    def __init__(self, grain: int, limits: Limits = NO_LIMITS) -> None:
        self.grain = grain
        self.limits = limits
        self.cost: float | None = None
        self.size = 0.0
        self.reach = grain
        self.dropped = False  # nobody wants what has not begun
        self.cancelled: set[int] = set()  # tasks that nobody wants though they may have begun
        self.spared: set[int] = set()  # tasks that nobody wants, as their worker is being asked for
        self.suspected: set[int] = set()  # tasks that may have begun in a worker that died
        self.runs: dict[int, int] = {}  # failed ones, of tasks that were tried again

    def measured(self, seconds: float, count: int) -> None:
        """Learn from an answer what a task cost; the newest counts for half."""
        self.cost = seconds if self.cost is None else (self.cost + seconds) / 2
        self.reach = max(self.reach, count)

    def may_have_begun(self, index: int) -> bool:
        """Whether a worker may have been in the task before, though it has not ended."""
        return index in self.runs or index in self.suspected

    def settled(self, start: int, stop: int) -> None:
        """These tasks have ended: what was noted of them is no longer needed."""
        for index in range(start, stop):
            self.runs.pop(index, None)
            self.cancelled.discard(index)
            self.suspected.discard(index)

    def quota(self, waiting: int, budget: float, policy: Policy) -> int:
        """Tasks for a chunk that has ``budget`` seconds left, of ``waiting`` ones; may be 0.

        An unmeasured job gets one grain. The answer is a multiple of the grain, or all that waits.
        """
        if self.cost is None:
            return min(self.grain, waiting)
        most = budget / self.cost if self.cost * waiting > budget else waiting
        share = max(-(-waiting // (2 * policy.workers)), 4 * policy.wake / (self.cost + _LEAST))
        most = min(most, self.reach * policy.growth, share)
        if self.size * most > policy.chunk_bytes:
            most = policy.chunk_bytes / self.size
        grain = self.grain
        count = int(most) if grain == 1 else int(most) // grain * grain
        return min(max(count, grain), waiting)
