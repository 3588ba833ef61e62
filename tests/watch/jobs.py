"""A job that counts as it is told to, and what sees its snapshots."""

from __future__ import annotations

import threading
from collections.abc import Callable

from millpond.watch.snapshot import Snapshot
from millpond.watch.views import View

LIMIT = 30.0


class FakeJob:
    """As a watch reads it."""

    def __init__(self, total: int | None = None, name: str = "squares") -> None:
        self.name = name
        self.total = total
        self.settled = 0
        self.failed = 0
        self.retried = 0
        self.withdrawn = False
        self.ended = False

    @property
    def over(self) -> bool:
        return self.ended or self.settled == self.total

    def complete(self) -> None:
        self.settled, self.ended = self.total or self.settled, True


class Recorder(View):
    """A view that remembers; ``seen`` is for threads that wait."""

    def __init__(self) -> None:
        self.shown: list[Snapshot] = []
        self.last: list[Snapshot] = []
        self.threads: set[str] = set()

    def show(self, snapshot: Snapshot) -> None:
        self.threads.add(threading.current_thread().name)
        self.shown.append(snapshot)

    def close(self, snapshot: Snapshot) -> None:
        self.last.append(snapshot)


class Told:
    """A callable for ``progress=``; ``wait`` returns when it was told of what is waited for."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self._changed = threading.Condition()

    def __call__(self, snapshot: Snapshot) -> None:
        with self._changed:
            self.snapshots.append(snapshot)
            self._changed.notify_all()

    def wait(self, condition: Callable[[Snapshot], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(condition, self.snapshots)), LIMIT)


def snapshot(
    done: int,
    total: int | None,
    *,
    description: str = "squares",
    failed: int = 0,
    retried: int = 0,
    elapsed: float = 12.0,
    rate: float = 0.0,
    eta: float | None = None,
) -> Snapshot:
    return Snapshot(description, done, total, failed, retried, elapsed, rate, eta)
