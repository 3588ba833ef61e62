"""Facts in, orders out: what the scheduler decides, case by case. No process, no sleep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from millpond.core.commands import DROPPED, Command, Kill, Recall, Send, Settle, Span, Start, Stop
from millpond.core.events import (
    Closing,
    Done,
    Dropped,
    Event,
    Forgotten,
    Lost,
    Opened,
    Ready,
    Recalled,
    Repopulated,
    Requeued,
    Sized,
    Submitted,
    Ticked,
)
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


# Workers ------------------------------------------------------------------------------------------


def test_a_pool_that_opens_starts_its_workers_and_no_more() -> None:
    world = World(3, ready=False)
    assert world.says(Opened()) == []
    assert list(world.scheduler.workers) == [1, 2, 3]
    world.says(Ready(2))
    assert world.says(Repopulated()) == []


def test_work_waits_for_a_worker_that_is_ready() -> None:
    world = World(1, ready=False)
    assert world.says(Submitted(1, 1)) == []
    assert world.says(Ready(1)) == [Send(1, 0, [Span(1, 0, 1)])]


def test_a_second_ready_is_nothing_new() -> None:
    world = World(1)
    assert world.says(Ready(1)) == []
    assert sent(world.says(Submitted(1, 2))) == 1


def test_a_lost_worker_is_replaced() -> None:
    world = World(2)
    assert world.says(Lost(1, 0, 0)) == [Start(3)]
    assert world.says(Lost(1, 0, 0)) == [], "its second end is nothing new"
    assert len(world.scheduler.workers) == 2
    assert world.scheduler.lost == 1


def test_what_a_worker_that_is_gone_says_is_ignored() -> None:
    world = World(1)
    world.says(Submitted(1, 1))
    world.says(Lost(1, 0, 1, DEATH))
    for late in (Ready(1), Done(1, 0, 1, 0.1), Recalled(1, 0), Lost(1, 0, 1, DEATH)):
        assert world.says(late) == []


def test_the_last_to_work_is_the_first_to_be_given_more() -> None:
    world = World(3)
    assert sends(world.says(Submitted(1, 1)))[0].worker == 3
    world.says(Submitted(2, 1))
    world.says(Done(3, 0, 1, 0.1))
    assert sends(world.says(Submitted(3, 1)))[0].worker == 3


# Answers ------------------------------------------------------------------------------------------


def test_an_answer_settles_its_task_and_brings_the_next() -> None:
    world = World(1)
    world.says(Submitted(1, 2))
    orders = world.says(Done(1, 0, 1, 0.5))
    assert orders[0] == Settle(1, 0, 1)
    assert orders[1:] == [Send(1, 1, [Span(1, 1, 2)])]


@pytest.mark.parametrize(
    "wrong", [Done(1, 1, 1, 0.1), Done(1, 0, 2, 0.1), Done(1, 5, 1, 0.1), Done(1, 0, 0, 0.1)]
)
def test_an_answer_to_what_was_not_asked_ends_the_worker_and_loses_nothing(wrong: Done) -> None:
    world = World(1)
    world.says(Submitted(1, 1))
    assert world.says(wrong) == [Kill(1)]
    assert world.says(Lost(1, 0, 0)) == [Start(2)]
    assert world.says(Ready(2)) == [Send(2, 0, [Span(1, 0, 1)])]


def test_a_doubled_answer_settles_nothing_twice() -> None:
    world = World(1)
    world.says(Submitted(1, 1))
    assert settled(world.says(Done(1, 0, 1, 0.1)))
    assert world.says(Done(1, 0, 1, 0.1)) == [Kill(1)]


# Deaths -------------------------------------------------------------------------------------------


def five_in_flight(**policy: Any) -> World:
    """Worker 1 has tasks 1 to 5 of job 1 (numbers 1 to 5) in its hands, task 0 is answered."""
    world = World(1, **policy)
    world.says(Submitted(1, 6))
    orders = world.says(Done(1, 0, 1, 0.000_01))
    while sent(orders) < 5:
        orders += world.says(Ticked())
    assert orders[1:] and world.scheduler.waiting == 0
    return world


def test_a_lost_worker_blames_only_the_task_it_was_running() -> None:
    world = five_in_flight()
    orders = world.says(Lost(1, 2, 3, DEATH))
    assert settled(orders) == [Settle(1, 2, 3, DEATH)]
    assert Start(2) in orders
    assert world.scheduler.waiting == 4


def test_finished_tasks_whose_answers_died_run_again_and_first() -> None:
    world = five_in_flight()
    world.says(Lost(1, 3, 4, DEATH))
    assert [tuple(span) for span in world.scheduler._backlog.queue][0] == (1, 1, 3)
    orders = world.says(Ready(2))
    assert sends(orders)[0].spans[0].start == 1


def test_finished_tasks_do_not_run_again_where_once_is_the_most() -> None:
    world = five_in_flight(at_most_once=True)
    orders = world.says(Lost(1, 3, 4, DEATH))
    assert {(s.start, s.stop, s.cause) for s in settled(orders)} == {(1, 3, DEATH), (3, 4, DEATH)}
    assert world.scheduler.waiting == 2, "tasks that had not begun may run"


def test_a_worker_that_dies_between_tasks_fails_none() -> None:
    world = five_in_flight()
    assert settled(world.says(Lost(1, 1, 1, DEATH))) == []
    assert world.scheduler.waiting == 5


def test_suspects_run_alone_and_the_culprit_alone_fails() -> None:
    world = five_in_flight()
    assert settled(world.says(Lost(1, 1, 4, DEATH))) == []
    worker = 2
    for task in (1, 2):
        orders = world.says(Ready(worker)) if task == 1 else orders
        (send,) = sends(orders)
        assert send == Send(worker, task - 1, [Span(1, task, task + 1)], alone=True)
        orders = world.says(Done(worker, task - 1, 1, 0.000_01))
    (send,) = sends(orders)
    assert send.alone
    orders = world.says(Lost(2, 2, 3, DEATH))
    assert settled(orders) == [Settle(1, 3, 4, DEATH)]
    assert not any(send.alone for send in sends(world.says(Ready(3))))


def test_nothing_is_queued_behind_a_suspect() -> None:
    world = five_in_flight()
    world.says(Lost(1, 1, 3, DEATH))
    assert sent(world.says(Ready(2))) == 1
    assert world.says(Submitted(2, 5)) == []
    assert world.says(Ticked(), world.now + 100) == []


def test_suspects_go_before_what_has_not_begun() -> None:
    world = five_in_flight()
    world.says(Lost(1, 2, 4, DEATH))
    orders = world.says(Ready(2))
    assert sends(orders)[0].spans == [Span(1, 2, 3)]


def test_where_once_is_the_most_several_suspects_were_only_being_unpickled() -> None:
    world = five_in_flight(at_most_once=True)
    assert settled(world.says(Lost(1, 1, 6, DEATH))) == []
    assert sends(world.says(Ready(2)))[0].alone


# Chunks -------------------------------------------------------------------------------------------


def test_an_unmeasured_job_gets_one_task_a_worker() -> None:
    world = World(2)
    assert [send.spans for send in sends(world.says(Submitted(1, 100)))] == [
        [Span(1, 0, 1)],
        [Span(1, 1, 2)],
    ]


def test_chunks_grow_with_what_was_measured_but_not_at_once() -> None:
    world = World(1)
    world.says(Submitted(1, 100_000))
    world.says(Sized(1, 1.0))
    largest = []
    orders = world.says(Done(1, 0, 1, 1e-6))
    for _ in range(3):
        chunks = sends(orders)
        largest.append(max(sent([chunk]) for chunk in chunks))
        orders = [
            order
            for chunk in chunks
            for order in world.says(Done(1, chunk.seq, sent([chunk]), 1e-6 * sent([chunk])))
        ]
    assert largest[0] == 16
    assert largest[1] == 16 * 16
    assert 16 * 16 < largest[2] <= 4000, "a chunk is a few milliseconds of work"


def test_a_chunk_is_a_few_milliseconds_of_work() -> None:
    world = World(1)
    world.says(Submitted(1, 10_000))
    orders = world.says(Done(1, 0, 1, 0.001))
    assert sent(sends(orders)[:1]) == 4


def test_long_tasks_are_never_queued_behind_one_another() -> None:
    world = World(1)
    world.says(Submitted(1, 2))
    orders = world.says(Done(1, 0, 1, 1.0))
    assert sent(orders) == 1
    assert world.says(Submitted(1, 2)) == []
    assert world.says(Ticked()) == []


def test_the_tail_is_shared_fairly() -> None:
    world = World(4)
    world.says(Submitted(1, 4))
    for worker in (1, 2, 3):
        world.says(Done(worker, 0, 1, 1e-4))
    world.says(Done(4, 0, 1, 1e-4))
    chunks = [
        sum(s.stop - s.start for s in send.spans) for send in sends(world.says(Submitted(1, 16)))
    ]
    assert max(chunks) <= 2, "of 16 tasks for 4 workers, no first chunk has more than an eighth"


def test_a_chunk_is_capped_by_weight() -> None:
    world = World(1)
    world.says(Submitted(1, 1000))
    world.says(Sized(1, 100_000.0))
    orders = world.says(Done(1, 0, 1, 1e-6))
    assert sends(orders)[0].spans == [Span(1, 1, 11)], "a mebibyte"


def test_little_more_is_sent_than_a_channel_should_hold() -> None:
    world = World(1)
    world.says(Submitted(1, 1000))
    world.says(Sized(1, 2e6))
    orders = world.says(Done(1, 0, 1, 1e-6))
    assert sent(orders) <= 2


@pytest.mark.parametrize("grain", [2, 7])
def test_a_grain_is_never_parted(grain: int) -> None:
    world = World(2)
    orders = world.says(Submitted(1, 10 * grain + 1, grain))
    held: dict[int, list[tuple[int, int]]] = {1: [], 2: []}
    left = 10 * grain + 1
    while left:
        for send in sends(orders):
            for _, start, stop in send.spans:
                assert start % grain == 0
                assert stop % grain == 0 or stop == 10 * grain + 1
                held[send.worker].append((send.seq, stop - start))
        worker = next(w for w in held if held[w])
        seq, count = held[worker].pop(0)
        orders = world.says(Done(worker, seq, count, 1e-5 * count))
        left -= count


def test_a_second_worker_is_not_woken_for_what_one_does_before_it_wakes() -> None:
    world = World(2)
    world.says(Submitted(1, 1))
    world.says(Done(2, 0, 1, 1e-6))
    (first,) = sends(world.says(Submitted(1, 1)))
    (second,) = sends(world.says(Submitted(1, 1)))
    assert first.worker == second.worker


def test_a_second_worker_is_woken_for_real_work() -> None:
    world = World(2)
    world.says(Submitted(1, 1))
    world.says(Done(2, 0, 1, 0.1))
    workers = {sends(world.says(Submitted(1, 1)))[0].worker for _ in range(2)}
    assert workers == {1, 2}


def test_jobs_run_in_the_order_of_their_coming() -> None:
    world = World(1)
    world.says(Submitted(1, 1))
    for job in (2, 3, 4):
        world.says(Submitted(job, 1))
    order = []
    for seq in range(3):
        orders = world.says(Done(1, seq, 1, 1.0))
        order += [span.job for send in sends(orders) for span in send.spans]
    assert order == [2, 3, 4]


# Taking back --------------------------------------------------------------------------------------


def behind_a_long_one() -> World:
    """Worker 2 has four tasks that were thought short; worker 1 is idle."""
    world = World(2)
    world.says(Submitted(1, 2))
    world.says(Done(1, 0, 1, 1e-6))
    world.says(Done(2, 0, 1, 1e-6))
    assert sent(world.says(Submitted(1, 4))) == 4
    busy = [w for w in world.scheduler.workers.values() if w.flight]
    assert [w.id for w in busy] == [2]
    return world


def test_tasks_behind_a_long_one_are_taken_back_when_somebody_is_idle() -> None:
    world = behind_a_long_one()
    deadline = world.scheduler.next_deadline()
    assert deadline is not None
    assert world.says(Ticked(), deadline - 1e-6) == []
    assert world.says(Ticked(), deadline) == [Recall(2)]
    assert world.says(Ticked(), deadline + 1) == [], "it was asked already"
    orders = world.says(Recalled(2, 2))
    (send,) = sends(orders)
    assert send.worker == 1
    assert send.spans[0].start == 3
    assert world.scheduler.workers[2].flight[0].span == Span(1, 2, 3)


def test_a_recall_that_brings_nothing_makes_patient() -> None:
    world = behind_a_long_one()
    first = world.scheduler.next_deadline()
    assert first is not None
    world.says(Ticked(), first)
    world.says(Recalled(2, 6), first)
    second = world.scheduler.next_deadline()
    assert second is not None
    assert second - first == pytest.approx(2 * world.scheduler.policy.patience)


def test_nobody_is_asked_while_all_are_busy() -> None:
    world = behind_a_long_one()
    world.says(Submitted(2, 1))
    assert world.scheduler.next_deadline() is None
    assert world.says(Ticked(), 100.0) == []


def test_a_worker_that_gave_all_back_is_idle_once() -> None:
    world = behind_a_long_one()
    world.says(Ticked(), 100.0)
    orders = world.says(Recalled(2, 1), 100.0)
    assert sent(orders) == 4
    assert world.says(Recalled(2, 0), 100.0) == [], "nobody asked"
    idle = [worker.id for worker in world.scheduler._idle]
    assert len(idle) == len(set(idle))


def test_a_worker_may_die_while_it_is_asked() -> None:
    world = behind_a_long_one()
    world.says(Ticked(), 100.0)
    orders = world.says(Lost(2, 1, 2, DEATH), 100.0)
    assert settled(orders) == [Settle(1, 2, 3, DEATH)]
    assert world.says(Recalled(2, 2), 100.0) == []


# Recycling ----------------------------------------------------------------------------------------


def test_a_worker_takes_as_many_chunks_as_it_may_and_is_replaced() -> None:
    world = World(1, max_chunks=2)
    world.says(Submitted(1, 5))
    orders = world.says(Done(1, 0, 1, 1.0))
    assert orders == [Settle(1, 0, 1), Send(1, 1, [Span(1, 1, 2)]), Stop(1)]
    assert world.says(Done(1, 1, 1, 1.0)) == [Settle(1, 1, 2)]
    assert world.says(Lost(1, 2, 2)) == [Start(2)]
    assert world.scheduler.lost == 0, "it did what it was told"
    assert sent(world.says(Ready(2))) == 1


def test_what_a_retiring_worker_did_not_do_goes_to_the_next() -> None:
    world = World(1, max_chunks=1)
    world.says(Submitted(1, 1))
    assert world.says(Lost(1, 0, 0)) == [Start(2)]
    assert world.says(Ready(2)) == [Send(2, 0, [Span(1, 0, 1)]), Stop(2)]


def test_a_chunk_counts_as_multiprocessing_counts_it() -> None:
    world = World(1, max_chunks=3)
    world.says(Submitted(1, 100, 4))
    orders = world.says(Done(1, 0, 4, 4e-6))
    assert sent(orders) == 8, "two chunks of four are left to this worker"
    assert Stop(1) in orders


# Starting that fails ------------------------------------------------------------------------------


def test_workers_that_cannot_start_are_given_up_after_a_few() -> None:
    world = World(1, ready=False)
    world.says(Submitted(1, 3))
    assert world.says(Lost(1, 0, 0, "no", failed=True)) == [Start(2)]
    assert world.says(Lost(2, 0, 0, "no", failed=True)) == [Start(3)]
    assert world.says(Lost(3, 0, 0, "why", failed=True)) == [Settle(1, 0, 3, "why")]
    assert world.says(Submitted(2, 1)) == [Settle(2, 0, 1, "why")]
    assert world.says(Requeued(2, 0, 1)) == [Settle(2, 0, 1, "why")]


def test_a_start_that_works_forgives_those_that_failed() -> None:
    world = World(1, ready=False)
    for worker in (1, 2):
        world.says(Lost(worker, 0, 0, "no", failed=True))
    world.says(Ready(3))
    assert world.says(Lost(3, 0, 0)) == [Start(4)]
    assert world.says(Lost(4, 0, 0, "no", failed=True)) == [Start(5)]


def test_an_initializer_that_raises_is_not_tried_again() -> None:
    world = World(2, ready=False)
    world.says(Submitted(1, 1))
    assert world.says(Lost(1, 0, 0, "it raised", failed=True, hopeless=True)) == []
    assert world.says(Lost(2, 0, 0, "it raised", failed=True, hopeless=True)) == [
        Settle(1, 0, 1, "it raised")
    ]


def test_an_initializer_that_once_worked_may_be_tried_again() -> None:
    world = World(1)
    world.says(Lost(1, 0, 0))
    assert world.says(Lost(2, 0, 0, "it raised", failed=True, hopeless=True)) == [Start(3)]


def test_a_task_is_told_why_no_worker_starts_and_not_of_another_ones_death() -> None:
    world = World(2)
    world.says(Submitted(1, 3))
    for worker in (1, 3, 4):
        world.says(Lost(worker, 0, 0, "no start", failed=worker > 1))
    world.says(Lost(5, 0, 0, "no start", failed=True))
    orders = world.says(Lost(2, 0, 1, DEATH))
    causes = {(task, s.cause) for s in settled(orders) for task in range(s.start, s.stop)}
    assert {cause for _, cause in causes} == {DEATH, "no start"}
    assert len([cause for _, cause in causes if cause == DEATH]) == 1


def test_a_pool_that_was_given_up_can_be_repopulated() -> None:
    world = World(1, ready=False)
    world.says(Lost(1, 0, 0, "no", failed=True, hopeless=True))
    assert world.scheduler.failure == "no"
    assert world.says(Repopulated()) == [Start(2)]
    world.says(Submitted(1, 1))
    assert sent(world.says(Ready(2))) == 1


# Dropping -----------------------------------------------------------------------------------------


def test_a_dropped_job_ends_but_for_what_was_sent() -> None:
    world = World(1)
    world.says(Submitted(1, 5))
    world.says(Submitted(2, 1))
    assert world.says(Dropped(1)) == [Settle(1, 1, 5, DROPPED)]
    assert world.says(Dropped(1)) == []
    orders = world.says(Done(1, 0, 1, 1.0))
    assert orders == [Settle(1, 0, 1), Send(1, 1, [Span(2, 0, 1)])]


def test_what_comes_back_of_a_dropped_job_is_not_run_again() -> None:
    world = five_in_flight()
    world.says(Dropped(1))
    orders = world.says(Lost(1, 3, 4, DEATH))
    ends = {task: s.cause for s in settled(orders) for task in range(s.start, s.stop)}
    assert ends == {1: DROPPED, 2: DROPPED, 3: DEATH, 4: DROPPED, 5: DROPPED}
    assert world.scheduler.waiting == 0


def test_more_of_a_dropped_job_is_not_run() -> None:
    world = World(1)
    world.says(Submitted(1, 1))
    world.says(Dropped(1))
    assert world.says(Submitted(1, 2)) == [Settle(1, 1, 3, DROPPED)]


def test_suspects_of_a_dropped_job_are_not_tried() -> None:
    world = five_in_flight()
    world.says(Lost(1, 1, 3, DEATH))
    orders = world.says(Dropped(1))
    assert {s.cause for s in settled(orders)} == {DROPPED}
    assert world.says(Ready(2)) == []


def test_a_forgotten_job_may_still_have_had_tasks_under_way() -> None:
    world = five_in_flight()
    world.says(Dropped(1))
    world.says(Forgotten(1))
    assert {s.cause for s in settled(world.says(Lost(1, 1, 1, DEATH)))} == {DROPPED}
    assert world.says(Ready(2)) == []
    assert world.scheduler.cost(1) is None


def test_a_task_that_asks_for_another_run_comes_first() -> None:
    world = World(1)
    world.says(Submitted(1, 3))
    world.says(Requeued(1, 0, 1))
    orders = world.says(Done(1, 0, 1, 1.0))
    assert sends(orders)[0].spans == [Span(1, 0, 1)]


# Closing ------------------------------------------------------------------------------------------


def test_workers_go_when_all_has_ended() -> None:
    world = World(2)
    world.says(Submitted(1, 1))
    assert world.says(Closing()) == []
    orders = world.says(Done(2, 0, 1, 1.0))
    assert orders[0] == Settle(1, 0, 1)
    assert set(map(tuple, orders[1:])) == {tuple(Stop(1)), tuple(Stop(2))}
    assert world.says(Lost(1, 0, 0)) == []
    assert world.says(Lost(2, 1, 1)) == []
    assert world.scheduler.workers == {}


def test_after_closing_a_dead_worker_is_replaced_only_for_work() -> None:
    world = World(2)
    world.says(Submitted(1, 3))
    world.says(Closing())
    assert world.says(Lost(1, 0, 0)) == [Start(3)], "a task waits"
    world.says(Done(2, 0, 1, 1.0))


def test_a_worker_that_starts_while_the_pool_closes_is_let_go() -> None:
    world = World(1, ready=False)
    assert world.says(Closing()) == []
    assert world.says(Ready(1)) == [Stop(1)]


def test_a_death_may_be_the_end_of_all_work() -> None:
    world = World(2)
    world.says(Submitted(1, 1))
    world.says(Closing())
    assert world.says(Lost(2, 0, 1, DEATH)) == [Settle(1, 0, 1, DEATH), Stop(1)]


def test_dropping_the_last_job_lets_a_closed_pool_end() -> None:
    world = World(1, ready=False)
    world.says(Submitted(1, 1))
    world.says(Closing())
    world.says(Dropped(1))
    assert world.says(Ready(1)) == [Stop(1)]


# Looking in ---------------------------------------------------------------------------------------


def test_a_pool_is_quiet_when_all_are_ready_and_nothing_is_to_do() -> None:
    world = World(1, ready=False)
    assert not world.scheduler.quiet
    world.says(Ready(1))
    assert world.scheduler.quiet
    world.says(Submitted(1, 2))
    assert not world.scheduler.quiet
    assert world.scheduler.waiting == 1


def test_a_cost_is_known_once_it_was_measured() -> None:
    world = World(1)
    world.says(Submitted(1, 2))
    assert world.scheduler.cost(1) is None
    world.says(Done(1, 0, 1, 0.25))
    assert world.scheduler.cost(1) == 0.25
