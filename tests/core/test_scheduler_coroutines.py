"""Facts in, orders out: coroutines, of which a worker holds many. No process, no sleep."""

from __future__ import annotations

from typing import Any

import pytest

from millpond.core.commands import DROPPED, Abandon, Kill, Recall, Retry, Send, Settle, Span, Stop
from millpond.core.events import Cancelled, Closing, Ended, Lost, Ready, Submitted, Ticked
from millpond.core.policy import Limits
from millpond.core.watching import GRACE
from tests.core.facts import DEATH, World, sends, sent, settled

LATE = "it was late"


def coroutines(count: int, workers: int = 1, **limits: Any) -> World:
    """Job 1 has so many, of which a worker runs eight at once, since 10 s."""
    world = World(workers)
    world.says(Submitted(1, count, limits=Limits(slots=8, **limits)), 10.0)
    return world


def test_workers_hold_a_quarter_more_than_they_run() -> None:
    world = World(2)
    orders = world.says(Submitted(1, 100, limits=Limits(slots=8)))
    assert [(send.worker, send.spans) for send in sends(orders)] == [
        (1, [Span(1, 0, 10)]), (2, [Span(1, 10, 20)]),
    ]  # fmt: skip
    assert world.scheduler.waiting == 80


def test_few_are_spread_over_all_workers() -> None:
    orders = World(2).says(Submitted(1, 6, limits=Limits(slots=100)))
    held = {1: 0, 2: 0}
    for send in sends(orders):
        held[send.worker] += sent([send])
    assert held == {1: 3, 2: 3}


def test_they_end_in_any_order_and_make_room_for_several_at_once() -> None:
    world = coroutines(50)
    assert world.says(Ended(1, (7,))) == [Settle(1, 7, 8)], "one is no reason to write"
    orders = world.says(Ended(1, (3, 0)))
    assert settled(orders) == [Settle(1, 3, 4), Settle(1, 0, 1)]
    (send,) = sends(orders)
    assert (send.seq, send.spans) == (10, [Span(1, 10, 13)])


@pytest.mark.parametrize("seqs", [(10,), (0, 10)])
def test_a_worker_that_ends_what_it_has_not_is_ended(seqs: tuple[int, ...]) -> None:
    world = coroutines(10)
    assert world.says(Ended(1, seqs)) == [Kill(1)]
    world.says(Ended(1, (4,)))
    assert world.says(Ended(1, (4,))) == [Kill(1)]


def test_one_that_failed_runs_again() -> None:
    world = coroutines(3, retries=1)
    orders = world.says(Ended(1, (2, 1), again=(1,)))
    assert orders[:2] == [Settle(1, 2, 3), Retry(1, 1, answered=True)]
    assert sends(orders) == [Send(1, 3, [Span(1, 1, 2)])]
    assert world.says(Ended(1, (3,), again=(0,))) == [Settle(1, 1, 2)]


def test_cancelling_reaches_the_coroutine_and_not_its_worker() -> None:
    world = coroutines(30)
    orders = world.says(Cancelled(1, 4, 12))
    assert orders[:2] == [Settle(1, 10, 12, DROPPED), Abandon(1, [4, 5, 6, 7, 8, 9])]
    assert not [order for order in orders if isinstance(order, Recall)]
    assert settled(world.says(Ended(1, (4,), again=(0,)))) == [Settle(1, 4, 5)], (
        "and it is answered"
    )


def test_at_a_death_one_is_blamed_and_those_not_begun_run_elsewhere() -> None:
    world = coroutines(10)
    orders = world.says(Lost(1, 2, 3, DEATH, reach=5))
    assert settled(orders) == [
        Settle(1, index, index + 1, DEATH, blamed=index == 2) for index in range(5)
    ]
    assert world.scheduler.waiting == 5
    assert sent(world.says(Ready(2))) == 5


def test_bystanders_run_again_by_policy() -> None:
    world = coroutines(4, retries=1, after_death=True)
    orders = world.says(Lost(1, 2, 3, DEATH, reach=3))
    assert orders[:3] == [Retry(1, index, answered=False) for index in range(3)]
    assert settled(orders) == []
    assert sent(world.says(Ready(2))) == 4


def test_bystanders_of_a_blocked_loop_died_and_were_not_late() -> None:
    world = coroutines(3, retries=1, after_death=True)
    orders = world.says(Lost(1, 1, 2, LATE, meant=True, reach=3))
    assert settled(orders) == [Settle(1, 1, 2, LATE)]
    assert orders.count(Retry(1, 0, answered=False)) == 1


def test_a_loop_that_is_blocked_is_seen_a_while_after_the_limit() -> None:
    world = coroutines(3, timeout=2.0)
    due = 12.0 + GRACE
    assert world.scheduler.next_deadline() == due
    assert world.says(Ticked(), due - 0.1) == []
    assert world.says(Ticked(), due) == [Recall(1, ((0, 3),), 2.0)]


def test_they_count_for_a_worker_s_life() -> None:
    world = World(1, max_chunks=4)
    orders = world.says(Submitted(1, 6, 2, Limits(slots=8)))
    assert [*map(type, orders)] == [Send]
    assert world.scheduler.workers[1].chunks == 3


def test_a_pool_closes_after_the_last_of_them() -> None:
    world = coroutines(2)
    assert world.says(Closing()) == []
    assert world.says(Ended(1, (1,))) == [Settle(1, 1, 2)]
    assert world.says(Ended(1, (0,))) == [Settle(1, 0, 1), Stop(1)]
