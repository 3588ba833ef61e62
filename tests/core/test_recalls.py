"""Recalls, step by step: what a worker that was looked at gets afterwards, and answers that come twice."""

from __future__ import annotations

from millpond.core.commands import Recall
from millpond.core.events import Cancelled, Done, Recalled, Submitted, Ticked
from tests.core.facts import five_in_flight, sends, settled


def test_an_answer_to_an_earlier_recall_takes_nothing_back() -> None:
    world = five_in_flight()
    world.says(Ticked(), world.now + 0.2)
    first = Recalled(1, 2, 0.1, number=1)  # it is in number 1
    world.says(first)
    again = sends(world.says(Done(1, 1, 1, 0.2)))
    assert again
    span, seq = again[0].spans[0], again[0].seq
    recall = Recall(1, ((seq, seq + 1),), anyhow=True)
    assert recall in world.says(Cancelled(1, span.start, span.start + 1))
    assert world.says(first) == []
    assert world.says(Recalled(1, seq, number=1)) == [], "nor one that fits by chance"
    assert settled(world.says(Done(1, seq, 1, 0.2))), "it was still in its hands"


def test_a_worker_in_a_long_task_gets_nothing_behind_it_though_it_answers_those_before() -> None:
    world = five_in_flight()
    assert world.says(Ticked(), world.now + 0.2) == [Recall(1)]
    world.says(Recalled(1, 4, 0.1))  # it is in number 3, and has begun no other
    world.says(Done(1, 1, 2, 0.000_02))  # what it had gathered, for which it was pressed
    assert not sends(world.says(Submitted(2, 1))), "number 3 still runs"
    assert sends(world.says(Done(1, 3, 1, 0.2)))
