"""How many workers there are: a pool that could not be brought to its number is, when what was short is there."""

from __future__ import annotations

from typing import Any

from millpond.core.commands import Kill, Start
from millpond.core.events import Closing, Done, Lost, Ready, Repopulated, Submitted, Ticked
from tests.core.facts import DEATH, World, settled


def short_of_two(**policy: Any) -> World:
    """Two of three workers have died, and no worker can be started; the last try was just now."""
    world = World(3, restarts=4, **policy)
    assert world.says(Lost(2, 0, 0, DEATH)) == [Start(4)]
    assert world.says(Lost(3, 0, 0, DEATH)) == [Start(5)]
    refused(world)
    assert world.scheduler.short
    return world


def refused(world: World) -> int:
    """Every start is refused until no more are ordered; how many were."""
    count = 0
    while starting := [w for w in world.scheduler.workers if w != 1]:
        for worker in starting:
            count += 1
            world.says(Lost(worker, 0, 0, "no descriptor", failed=True))
    return count


def starts(orders: list[Any]) -> int:
    return sum(isinstance(order, Start) for order in orders)


def test_it_is_tried_again_after_pauses_that_grow() -> None:
    world = short_of_two()
    pauses = []
    for _ in range(8):
        when = world.scheduler.next_deadline()
        assert when is not None
        pauses.append(round(when - world.now, 6))
        assert starts(world.says(Ticked(), when - 0.000_1)) == 0
        assert starts(world.says(Ticked(), when)) == 2
        assert refused(world) == 2  # not thirty times each
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.1
    assert 1.9 < pauses[-1] <= 2.0


def test_the_first_that_is_ready_brings_the_others() -> None:
    world = short_of_two()
    when = world.scheduler.next_deadline()
    assert starts(world.says(Ticked(), when)) == 2
    first, second = (w for w in world.scheduler.workers if w != 1)
    world.says(Lost(second, 0, 0, "no descriptor", failed=True))
    assert world.scheduler.short
    assert starts(world.says(Ready(first))) == 1
    assert len(world.scheduler.workers) == 3
    assert world.scheduler.next_deadline() is None


def test_new_work_brings_them_if_it_is_time() -> None:
    world = short_of_two()
    assert starts(world.says(Submitted(1, 1))) == 0
    world.says(Done(1, 0, 1, 0.001))
    assert starts(world.says(Submitted(2, 1), world.now + 60)) == 2


def test_to_ask_for_workers_brings_them_at_once() -> None:
    world = short_of_two()
    assert starts(world.says(Repopulated())) == 2
    assert not world.scheduler.short


def test_what_waits_fails_only_when_the_last_worker_has_gone_and_there_is_no_other() -> None:
    world = short_of_two()
    world.says(Submitted(1, 2, grain=1))
    orders = world.says(Lost(1, 0, 1, DEATH))
    assert [settle.cause for settle in settled(orders)] == [DEATH]
    assert starts(orders) == 3
    causes = []
    for worker in list(world.scheduler.workers):
        orders = world.says(Lost(worker, 0, 0, "no descriptor", failed=True))
        causes += [settle.cause for settle in settled(orders)]
    assert causes == ["no descriptor"]
    assert not world.scheduler.short


def used_up(workers: int) -> World:
    """All workers have done the one chunk that they take, and end."""
    world = World(workers, max_chunks=1)
    for worker in range(1, workers + 1):
        world.says(Submitted(worker, 1))
    for worker in range(1, workers + 1):
        world.says(Done(worker, 0, 1, 0.001))
    return world


def test_a_worker_that_should_have_ended_gives_its_place_to_another() -> None:
    world = used_up(2)
    when = world.scheduler.next_deadline()
    assert when is not None
    assert 1 < when - world.now < 3
    assert world.says(Ticked(), when - 0.001) == []
    assert world.says(Ticked(), when) == [Start(3)]
    assert world.says(Ticked(), world.now + 1) == [Start(4)]
    assert world.says(Lost(1, 1, 1)) == []
    assert set(world.scheduler.workers) == {3, 4}
    assert world.scheduler.lost == 0


def test_no_more_of_them_go_on_than_there_are_workers() -> None:
    world = used_up(1)
    killed: list[int] = []
    for worker in range(2, 5):
        orders = world.says(Ticked(), world.now + 5)
        assert Start(worker) in orders
        killed += [order.worker for order in orders if isinstance(order, Kill)]
        world.says(Ready(worker))
        world.says(Submitted(worker, 1))
        world.says(Done(worker, 0, 1, 0.001))
    assert killed == [1, 2]


def test_at_the_end_of_a_pool_they_are_waited_for() -> None:
    world = used_up(2)
    world.says(Closing())
    assert world.scheduler.next_deadline() is None
    assert world.says(Ticked(), world.now + 60) == []


def test_a_closed_pool_needs_no_more() -> None:
    world = short_of_two()
    world.says(Closing())
    assert world.scheduler.next_deadline() is None
