"""Time that passes when it is told to."""

from __future__ import annotations


class FakeClock:
    """A monotonic clock for tests: call it for the time in seconds, as ``time.monotonic``."""

    def __init__(self, now: float = 1000.0) -> None:
        self._nanoseconds = round(now * 1e9)

    def __call__(self) -> float:
        """The time in seconds."""
        return self._nanoseconds / 1e9

    def nanoseconds(self) -> int:
        """The time as ``time.monotonic_ns`` gives it."""
        return self._nanoseconds

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        if seconds < 0:
            raise ValueError("time does not run backwards")
        self._nanoseconds += round(seconds * 1e9)

    def advance_to(self, now: float) -> None:
        """Let time pass until ``now``, if that is still to come."""
        self._nanoseconds = max(self._nanoseconds, int(now * 1e9))
        while self() < now:
            self._nanoseconds += 1
