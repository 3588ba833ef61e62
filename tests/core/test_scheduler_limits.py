"""Facts in, orders out: limits in time, further runs, cancelling. No process, no sleep."""

from __future__ import annotations

from typing import Any

import pytest

from millpond.core.chunking import Gauge
from millpond.core.commands import (
    DROPPED,
    Begun,
    Recall,
    Retry,
    Send,
    Settle,
    Span,
    Start,
    Stop,
)
from millpond.core.events import (
    Cancelled,
    Closing,
    Done,
    Dropped,
    Forgotten,
    Lost,
    Ready,
    Recalled,
    Spared,
    Submitted,
    Ticked,
)
from millpond.core.policy import Limits
from millpond.core.retrying import pause
from millpond.core.watching import CHECK
from tests.core.facts import DEATH, World, five_in_flight, sends, sent, settled

LATE = "it was late"
EVER = Limits(retries=1, after_death=True, after_timeout=True)


def running(limits: Limits, tasks: int = 1, workers: int = 1) -> World:
    """Job 1 has these limits; its first tasks were sent at 10 s, one to a worker."""
    world = World(workers)
    world.says(Submitted(1, tasks, limits=limits), 10.0)
    return world


def limited_five(**limits: Any) -> World:
    """Worker 1 has tasks 1 to 5 in its hands, task 0 is answered, since 10 s; only limits are looked at."""
    world = World(1, patience=1000.0)
    world.says(Submitted(1, 6, limits=Limits(**limits)), 9.0)
    orders = world.says(Done(1, 0, 1, 0.000_01), 10.0)
    while sent(orders) < 5:
        orders += world.says(Ticked(), 10.0)
    return world


# Limits in time -----------------------------------------------------------------------------------


def test_a_task_with_a_limit_is_looked_at_when_it_is_due() -> None:
    world = running(Limits(timeout=2.0))
    assert world.scheduler.next_deadline() == 12.0
    assert world.says(Ticked(), 11.9) == []
    assert world.says(Ticked(), 12.0) == [Recall(1, ((0, 1),), 2.0)]
    assert world.says(Ticked(), 20.0) == [], "it was asked, and will answer"
    assert world.scheduler.next_deadline() is None


def test_without_a_limit_nothing_depends_on_time() -> None:
    assert running(Limits()).scheduler.next_deadline() is None


def test_a_task_that_ends_in_time_is_let_be() -> None:
    world = running(Limits(timeout=2.0))
    assert world.says(Done(1, 0, 1, 1.9), 11.9) == [Settle(1, 0, 1)]
    assert world.scheduler.next_deadline() is None


def test_a_late_task_is_its_own_end_and_no_loss_of_the_pool() -> None:
    world = running(Limits(timeout=2.0))
    world.says(Ticked(), 12.0)
    orders = world.says(Lost(1, 0, 1, LATE, meant=True))
    assert orders == [Settle(1, 0, 1, LATE), Start(2)]
    assert world.scheduler.lost == 0


def test_the_time_is_counted_from_the_task_s_own_start() -> None:
    world = limited_five(timeout=2.0)
    assert world.scheduler.next_deadline() == 12.0
    world.says(Done(1, 1, 1, 1.5), 11.5)
    assert world.scheduler.next_deadline() == 13.5


def test_a_worker_that_was_not_as_late_as_it_seemed_is_looked_at_again() -> None:
    """Its last answer is under way: the task that it is in began half a second ago."""
    world = limited_five(timeout=2.0)
    (recall,) = [x for x in world.says(Ticked(), 12.0) if isinstance(x, Recall)]
    assert recall.limit == 2.0
    world.says(Recalled(1, 6, elapsed=0.5), 12.1)
    assert world.scheduler.next_deadline() == pytest.approx(13.6)


def test_the_others_of_a_late_task_s_chunk_run_elsewhere() -> None:
    world = limited_five(timeout=2.0)
    world.says(Ticked(), 12.0)
    orders = world.says(Lost(1, 2, 3, LATE, meant=True))
    assert settled(orders) == [Settle(1, 2, 3, LATE)]
    assert world.scheduler.waiting == 4
    (send,) = sends(world.says(Ready(2)))
    assert (send.spans, send.alone) == ([Span(1, 1, 2)], True), "it ran, its answer was lost"


def test_only_jobs_with_a_limit_are_watched() -> None:
    world = running(Limits(timeout=2.0))
    world.says(Submitted(2, 1), 10.0)
    world.says(Done(1, 0, 1, 1.0), 11.0)
    world.says(Forgotten(1), 11.0)
    assert world.scheduler.next_deadline() is None, "job 2 runs, and may"
    assert world.scheduler.workers[1].flight[0].span.job == 2


# Further runs -------------------------------------------------------------------------------------


def test_a_task_that_failed_runs_again_and_its_last_error_counts() -> None:
    world = running(Limits(retries=2))
    for seq in range(2):
        assert world.says(Done(1, seq, 1, 0.1, again=(0,))) == [
            Retry(1, 0, answered=True),
            Send(1, seq + 1, [Span(1, 0, 1)]),
        ]
    assert world.says(Done(1, 2, 1, 0.1, again=(0,))) == [Settle(1, 0, 1)]


@pytest.mark.parametrize("again", [(), (0,)])
def test_one_that_succeeds_or_has_no_more_runs_is_settled(again: tuple[int, ...]) -> None:
    world = running(Limits(retries=0 if again else 3))
    assert world.says(Done(1, 0, 1, 0.1, again=again)) == [Settle(1, 0, 1)]


def test_only_those_that_failed_run_again_and_outcomes_keep_their_order() -> None:
    world = limited_five(retries=1)
    orders = world.says(Done(1, 1, 5, 1e-5, again=(1, 4)))
    assert [
        order.index if isinstance(order, Retry) else (order.start, order.stop)
        for order in orders
        if isinstance(order, Settle | Retry)
    ] in ([(1, 2), 2, (3, 5), 5], [(1, 2), 2, (3, 4), (4, 5), 5])
    world.says(Ticked())
    assert (
        world.scheduler.waiting + sum(held.count for held in world.scheduler.workers[1].flight) == 2
    )


def test_the_pool_works_on_during_a_pause_and_wakes_after_it() -> None:
    world = running(Limits(retries=1, backoff=1.0), tasks=2)
    orders = world.says(Done(1, 0, 1, 0.1, again=(0,)), 11.0)
    assert sends(orders) == [Send(1, 1, [Span(1, 1, 2)])]
    world.says(Done(1, 1, 1, 0.1), 11.1)
    due = world.scheduler.next_deadline()
    assert due is not None
    assert 11.75 <= due <= 12.25
    assert world.says(Ticked(), due - 0.01) == []
    assert sends(world.says(Ticked(), due)) == [Send(1, 2, [Span(1, 0, 1)])]


def test_pauses_grow_and_are_spread() -> None:
    gauge = Gauge(1, Limits(retries=20, backoff=1.0))
    pauses = [pause(gauge, 7) for _ in range(20)]
    assert all(p is not None and 0.75 <= p / 2 ** min(n, 10) <= 1.25 for n, p in enumerate(pauses))
    assert pause(gauge, 7) is None, "it had its runs"
    first = [pause(Gauge(1, Limits(retries=1, backoff=1.0)), index) or 0.0 for index in range(50)]
    assert len({round(p, 6) for p in first}) == 50
    assert min(first) < 0.8
    assert max(first) > 1.2
    assert 0.95 < sum(first) / 50 < 1.05


def test_a_death_counts_as_a_run_where_it_may() -> None:
    world = running(EVER)
    assert world.says(Lost(1, 0, 1, DEATH)) == [Retry(1, 0, answered=False), Start(2)]
    assert sends(world.says(Ready(2))) == [Send(2, 0, [Span(1, 0, 1)])]
    assert world.says(Lost(2, 0, 1, DEATH)) == [Settle(1, 0, 1, DEATH), Start(3)]


@pytest.mark.parametrize(
    ("meant", "limits", "again"),
    [
        (False, Limits(retries=1, after_death=True), True),
        (False, Limits(retries=1, after_timeout=True), False),
        (True, Limits(retries=1, after_timeout=True), True),
        (True, Limits(retries=1, after_death=True), False),
    ],
)
def test_a_death_and_a_limit_are_two_reasons(meant: bool, limits: Limits, again: bool) -> None:
    orders = running(limits).says(Lost(1, 0, 1, DEATH, meant=meant))
    assert (orders[0] == Retry(1, 0, answered=False)) is again
    assert (orders[0] == Settle(1, 0, 1, DEATH)) is not again


def test_suspects_are_no_runs_that_failed() -> None:
    """Two tasks, one of which killed the worker: each runs alone, then the culprit's first run is counted."""
    world = limited_five(retries=1, after_death=True)
    orders = world.says(Lost(1, 1, 3, DEATH))
    assert orders == [Start(2)]
    (send,) = sends(world.says(Ready(2)))
    assert send.alone
    assert world.says(Lost(2, 0, 1, DEATH))[0] == Retry(1, 1, answered=False)


def test_a_pool_closes_after_the_last_run() -> None:
    world = running(Limits(retries=1, backoff=1.0))
    world.says(Done(1, 0, 1, 0.1, again=(0,)), 11.0)
    assert world.says(Closing(), 11.1) == []
    world.says(Ticked(), 13.0)
    assert world.says(Done(1, 1, 1, 0.1), 13.1) == [Settle(1, 0, 1), Stop(1)]


def test_where_no_worker_can_be_had_a_pause_ends_with_the_reason() -> None:
    world = World(1, ready=False, starts=1, restarts=1)
    world.says(Ready(1))
    world.says(Submitted(1, 1, limits=Limits(retries=1, backoff=9.0)))
    world.says(Done(1, 0, 1, 0.1, again=(0,)))
    world.says(Lost(1, 1, 1))
    assert world.says(Lost(2, 0, 0, "why", failed=True)) == [Settle(1, 0, 1, "why")]


# Cancelling ---------------------------------------------------------------------------------------


def test_what_waits_is_taken_out() -> None:
    world = running(Limits(), tasks=5)
    assert world.says(Cancelled(1, 2, 4)) == [Settle(1, 2, 4, DROPPED)]
    assert world.says(Cancelled(1, 2, 4)) == []
    left = []
    for seq in range(3):
        orders = world.says(Done(1, seq, 1, 1.0))
        left += [span.start for send in sends(orders) for span in send.spans]
    assert left == [1, 4]


def test_what_runs_is_ended_at_once_with_its_worker() -> None:
    world = running(Limits())
    assert world.says(Cancelled(1, 0, 1)) == [Recall(1, ((0, 1),), anyhow=True)]
    assert world.says(Lost(1, 0, 1, "unwanted", meant=True)) == [
        Settle(1, 0, 1, "unwanted"),
        Start(2),
    ]
    assert world.scheduler.lost == 0


def test_a_cancelled_task_is_never_run_again() -> None:
    for event in (
        Lost(1, 0, 1, DEATH, meant=True),
        Lost(1, 0, 1, DEATH),
        Done(1, 0, 1, 0.1, again=(0,)),
    ):
        world = running(EVER)
        world.says(Cancelled(1, 0, 1))
        orders = world.says(event)
        assert len(settled(orders)) == 1
        assert not [order for order in orders if isinstance(order, Retry)]
        assert world.scheduler.waiting == 0


@pytest.mark.parametrize("event", [Cancelled(1, 0, 1), Dropped(1)])
def test_a_pause_ends_at_once(event: Any) -> None:
    world = running(Limits(retries=5, backoff=100.0))
    world.says(Done(1, 0, 1, 0.1, again=(0,)), 11.0)
    assert world.says(event, 12.0) == [Settle(1, 0, 1, DROPPED)]
    assert world.scheduler.next_deadline() is None
    assert world.says(Ticked(), 1000.0) == []


def test_a_cancelled_task_behind_another_is_given_back_and_the_worker_lives() -> None:
    world = five_in_flight()
    (recall,) = world.says(Cancelled(1, 3, 5))
    assert recall == Recall(1, ((3, 4), (4, 5)), anyhow=True)
    orders = world.says(Recalled(1, 2, elapsed=0.1))
    assert settled(orders) == [Settle(1, 3, 4, DROPPED), Settle(1, 4, 5, DROPPED)]
    assert world.scheduler.workers[1].check is None


def test_a_task_that_waits_is_dropped_if_nobody_wants_it_unbegun() -> None:
    world = running(Limits(), tasks=3)
    assert world.says(Spared(1, 1)) == [Settle(1, 1, 2, DROPPED)]
    assert world.scheduler.waiting == 1


def test_a_worker_is_asked_for_what_nobody_wants_unbegun() -> None:
    world = five_in_flight()
    assert world.says(Spared(1, 4)) == [Recall(1, anyhow=True)]
    assert world.says(Spared(1, 2)) == []  # it is being asked
    orders = world.says(Recalled(1, 3, elapsed=0.1, number=1))
    assert settled(orders) == [Settle(1, 4, 5, DROPPED)]
    assert [x for x in orders if isinstance(x, Begun)] == [Begun(1, 4), Begun(1, 2)]
    assert world.scheduler.waiting == 2
    assert world.says(Spared(1, 3)) == [Settle(1, 3, 4, DROPPED)]  # it waits by now
    assert world.scheduler.workers[1].asked == []


def test_who_asks_is_told_when_the_task_ends_or_its_worker_does() -> None:
    world = five_in_flight()
    world.says(Spared(1, 1))
    assert world.says(Done(1, 1, 1, 0.1)) == [Settle(1, 1, 2)]
    world.says(Spared(1, 2)), world.says(Spared(1, 3)), world.says(Spared(1, 5))
    orders = world.says(Lost(1, 2, 4, DEATH))  # amid a slice of which each may have begun
    assert settled(orders) == [Settle(1, 5, 6, DROPPED)]
    assert [x.index for x in orders if isinstance(x, Begun)] == [1, 2, 3, 5]
    assert world.says(Spared(1, 3)) == [Begun(1, 3)]
    (send,) = sends(world.says(Ready(2)))
    assert (send.spans, send.alone) == ([Span(1, 2, 3)], True)
    assert world.says(Spared(1, 2)) == [Begun(1, 2)]
    world.says(Done(2, 0, 1, 0.1))
    assert world.says(Spared(1, 4)) == [Settle(1, 4, 5, DROPPED)]


def test_what_ran_before_or_is_on_its_way_has_begun() -> None:
    world = running(Limits(retries=5, backoff=1.0))
    world.says(Done(1, 0, 1, 0.1, again=(0,)), 11.0)
    assert world.says(Spared(1, 0), 11.1) == [Begun(1, 0)]
    assert sends(world.says(Ticked(), 20.0))
    assert world.says(Spared(1, 0), 20.0) == [Begun(1, 0)]
    world = running(Limits())
    world.scheduler.workers[1].packing = True
    assert world.says(Spared(1, 0)) == [Begun(1, 0)]
    assert world.says(Spared(1, 7)) == [Begun(1, 7)]
    assert world.says(Spared(2, 0)) == [Begun(2, 0)]


def test_one_that_could_not_be_seen_is_looked_at_again() -> None:
    """The worker was between two tasks, and could not be stopped: it gave nothing back."""
    world = five_in_flight()
    world.says(Cancelled(1, 3, 4), 20.0)
    world.says(Recalled(1, 6), 20.0)
    due = world.scheduler.next_deadline()
    assert due == 20.0 + CHECK
    assert Recall(1, ((3, 4),), anyhow=True) in world.says(Ticked(), due)
    world.says(Recalled(1, 6), due)
    world.says(Done(1, 1, 3, 1.0), due + 1.0)
    assert [
        x for x in world.says(Ticked(), due + 2.0) if isinstance(x, Recall) and x.unwanted
    ] == []


def test_the_others_in_its_worker_are_not_lost() -> None:
    world = five_in_flight()
    world.says(Cancelled(1, 2, 3))
    orders = world.says(Lost(1, 2, 3, "unwanted", meant=True))
    assert settled(orders) == [Settle(1, 2, 3, "unwanted")]
    assert world.scheduler.waiting == 4


def test_another_job_is_not_touched() -> None:
    world = running(Limits())
    assert world.says(Cancelled(2, 0, 1)) == []
    assert world.says(Done(1, 0, 1, 0.1)) == [Settle(1, 0, 1)]
    assert world.says(Cancelled(1, 0, 1)) == [], "it has ended"
