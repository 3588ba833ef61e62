"""What the tests of the scheduler are written with: facts in, orders out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from millpond.core.commands import Command, Send, Settle
from millpond.core.events import Done, Event, Opened, Ready, Submitted, Ticked
from millpond.core.policy import Policy
from millpond.core.scheduler import Scheduler

DEATH = "the worker died"


class World:
    """A scheduler, and the time."""

    def __init__(self, workers: int = 1, ready: bool = True, **policy: Any) -> None:
        self.scheduler = Scheduler(Policy(workers=workers, **policy))
        self.now = 0.0
        self.says(Opened())
        if ready:
            for worker in range(1, workers + 1):
                self.says(Ready(worker))

    def says(self, event: Event, now: float | None = None) -> list[Command]:
        self.now = self.now + 0.001 if now is None else now
        return self.scheduler.handle(event, self.now)


def sends(orders: Sequence[Command]) -> list[Send]:
    return [order for order in orders if isinstance(order, Send)]


def sent(orders: Sequence[Command]) -> int:
    return sum(span.stop - span.start for send in sends(orders) for span in send.spans)


def settled(orders: list[Command]) -> list[Settle]:
    return [order for order in orders if isinstance(order, Settle)]


def five_in_flight(**policy: Any) -> World:
    """Worker 1 has tasks 1 to 5 of job 1 (numbers 1 to 5) in its hands, task 0 is answered."""
    world = World(1, **policy)
    world.says(Submitted(1, 6))
    orders = world.says(Done(1, 0, 1, 0.000_01))
    while sent(orders) < 5:
        orders += world.says(Ticked())
    assert orders[1:]
    assert world.scheduler.waiting == 0
    return world
