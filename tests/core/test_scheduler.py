"""Facts in, orders out: what the scheduler decides, case by case. No process, no sleep."""

from __future__ import annotations

import pytest

from millpond.core.commands import DROPPED, Kill, Send, Settle, Span, Start, Stop
from millpond.core.events import (
    Closing,
    Done,
    Dropped,
    Forgotten,
    Lost,
    Opened,
    Ready,
    Recalled,
    Repopulated,
    Requeued,
    Submitted,
    Ticked,
)
from tests.core.facts import DEATH, World, five_in_flight, sends, sent, settled

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


def test_a_lost_worker_blames_only_the_task_it_was_running() -> None:
    world = five_in_flight()
    orders = world.says(Lost(1, 2, 3, DEATH))
    assert settled(orders) == [Settle(1, 2, 3, DEATH)]
    assert Start(2) in orders
    assert world.scheduler.waiting == 4


def test_finished_tasks_whose_answers_died_run_again_alone_and_first() -> None:
    world = five_in_flight()
    world.says(Lost(1, 3, 4, DEATH))
    (send,) = sends(world.says(Ready(2)))
    assert (send.spans, send.alone) == ([Span(1, 1, 2)], True)


def test_a_task_that_kills_after_its_end_is_not_run_for_ever() -> None:
    world = five_in_flight()
    world.says(Lost(1, 3, 4, DEATH))
    (send,) = sends(world.says(Ready(2)))
    orders = world.says(Lost(2, send.seq + 1, send.seq + 1, DEATH))  # again, between end and answer
    assert Settle(1, 1, 2, DEATH) in orders


def test_the_last_finished_task_may_have_been_long_and_fails_with_its_answer() -> None:
    world = five_in_flight()
    orders = world.says(Lost(1, 3, 3, DEATH))  # it was sending what 1 and 2 came to
    assert settled(orders) == [Settle(1, 2, 3, DEATH)]
    (send,) = sends(world.says(Ready(2)))
    assert (send.spans, send.alone) == ([Span(1, 1, 2)], True)


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
    orders = world.says(Ready(2))
    for task in (1, 2):
        (send,) = sends(orders)
        assert send == Send(2, task - 1, [Span(1, task, task + 1)], alone=True)
        orders = world.says(Done(2, task - 1, 1, 0.000_01))
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
    assert world.says(Requeued(1, 0, 1)) == [Settle(1, 0, 1, "why")]
    assert world.says(Submitted(2, 1)) == [Start(4)]  # what killed them may be over
    for worker in (4, 5):
        assert world.says(Lost(worker, 0, 0, "no", failed=True)) == [Start(worker + 1)]
    assert world.says(Lost(6, 0, 0, "again", failed=True)) == [Settle(2, 0, 1, "again")]


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
    world = World(2, restarts=3)
    world.says(Submitted(1, 3))
    for worker in (1, 3, 4):
        world.says(Lost(worker, 0, 0, "no start", failed=worker > 1))
    world.says(Lost(5, 0, 0, "no start", failed=True))
    orders = world.says(Lost(2, 0, 1, DEATH))  # the last one: it is tried once more
    for worker in (6, 7):
        orders += world.says(Lost(worker, 0, 0, "no start", failed=True))
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
    assert world.says(Closing()) == [Stop(1)]  # it runs its initializer, and reads that then
    assert world.says(Ready(1)) == []


def test_a_death_may_be_the_end_of_all_work() -> None:
    world = World(2)
    world.says(Submitted(1, 1))
    world.says(Closing())
    assert world.says(Lost(2, 0, 1, DEATH)) == [Settle(1, 0, 1, DEATH), Stop(1)]


def test_dropping_the_last_job_lets_a_closed_pool_end() -> None:
    world = World(1, ready=False)
    world.says(Submitted(1, 1))
    assert world.says(Closing()) == []
    assert world.says(Dropped(1)) == [Settle(1, 0, 1, DROPPED), Stop(1)]


# Looking in ---------------------------------------------------------------------------------------


def test_a_pool_is_quiet_when_all_are_ready_and_nothing_is_to_do() -> None:
    world = World(1, ready=False)
    quiet = [world.scheduler.quiet]
    for event in (Ready(1), Submitted(1, 2)):
        world.says(event)
        quiet.append(world.scheduler.quiet)
    assert quiet == [False, True, False]
    assert world.scheduler.waiting == 1


def test_a_cost_is_known_once_it_was_measured() -> None:
    world = World(1)
    world.says(Submitted(1, 2))
    assert world.scheduler.cost(1) is None
    world.says(Done(1, 0, 1, 0.25))
    assert world.scheduler.cost(1) == 0.25
