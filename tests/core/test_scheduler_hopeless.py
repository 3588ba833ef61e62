"""A start that fails as any other would: the initializer raised."""

from __future__ import annotations

from millpond.core.commands import Settle, Start
from millpond.core.events import Lost, Ready, Submitted, Ticked
from tests.core.facts import World


def test_an_initializer_that_raises_is_not_tried_again_while_another_worker_starts_slowly() -> None:
    world = World(2, ready=False)
    world.says(Submitted(1, 1))
    world.says(Lost(1, 0, 0, "it raised", failed=True, hopeless=True))
    assert world.says(Ticked(), world.now + 60) == []
    assert world.scheduler.next_deadline() is None
    assert world.says(Lost(2, 0, 0, "it raised", failed=True, hopeless=True)) == [
        Settle(1, 0, 1, "it raised")
    ]


def test_an_initializer_that_raises_in_one_worker_and_not_in_another_is_tried_again() -> None:
    world = World(2, ready=False)
    world.says(Submitted(1, 1))
    world.says(Lost(1, 0, 0, "it raised", failed=True, hopeless=True))
    assert Start(3) in world.says(Ready(2))
