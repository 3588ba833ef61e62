"""Facts in, orders out: who gets how much, and what is taken back."""

from __future__ import annotations

import pytest

from millpond.core.commands import Recall, Settle, Span
from millpond.core.events import (
    Done,
    Lost,
    Recalled,
    Sized,
    Submitted,
    Ticked,
)
from tests.core.facts import DEATH, World, sends, sent, settled

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


def test_while_all_are_busy_it_is_asked_later_since_outcomes_may_wait_to_be_sent() -> None:
    world = behind_a_long_one()
    world.says(Submitted(2, 1))
    deadline = world.scheduler.next_deadline()
    assert deadline is not None
    assert deadline > 10 * world.scheduler.policy.patience
    assert world.says(Ticked(), deadline - 1e-6) == []
    assert world.says(Ticked(), deadline) == [Recall(2)]


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


def test_what_is_sent_after_a_recall_was_answered_is_not_taken_for_given_back() -> None:
    """The worker answers its last task, and then says that it gives back nothing, from that number on."""
    world = behind_a_long_one()
    deadline = world.scheduler.next_deadline()
    assert deadline is not None
    assert world.says(Ticked(), deadline) == [Recall(2)]
    assert sends(world.says(Done(2, 1, 4, 1e-6), deadline)) == []
    assert sends(world.says(Submitted(2, 1), deadline))[0].worker == 1
    assert sends(world.says(Submitted(2, 1), deadline)) == []
    (send,) = sends(world.says(Recalled(2, 5), deadline))
    assert (send.worker, send.seq) == (2, 5)
