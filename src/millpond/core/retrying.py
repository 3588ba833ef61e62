"""When a task that failed runs again.

Each pause is twice as long as the one before. The jitter spreads tasks that failed together over half of it; it
is made from the task's index by multiples of the golden ratio, which fall evenly, so that nothing here is random.
"""

from __future__ import annotations

from typing import Final

from millpond.core.chunking import Gauge

_GOLDEN: Final = 0.6180339887498949
_MOST: Final = 10
"""Doublings."""


def pause(gauge: Gauge, index: int) -> float | None:
    """Count a failed run of the task; the seconds until its next one, or None if it has had them all."""
    limits = gauge.limits
    failed = gauge.runs.get(index, 0) + 1
    if failed > limits.retries:
        gauge.runs.pop(index, None)
        return None
    gauge.runs[index] = failed
    share = (index + 1) * failed * _GOLDEN % 1.0
    return float(limits.backoff * 2 ** min(failed - 1, _MOST) * (0.75 + share / 2))
