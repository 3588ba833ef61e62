"""What a subclass of Pool overrides beneath the public methods is honoured, or one warning names it."""

from __future__ import annotations

import copy
import multiprocessing.context
import threading
import warnings
from typing import Any

import pytest

import millpond
from millpond import errors
from millpond.pool import Pool, ThreadPool
from tests.processes import overriding
from tests.processes.overriding import Holding, Measure


@pytest.fixture(autouse=True)
def _no_warning_is_expected() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


THERE, THERE_AND_BACK = ("there",), ("there", "back")


def test_its_queues_pickle_arguments_results_and_functions(context: Any) -> None:
    with overriding.ReducingPool(2, context=context) as pool:
        measure, numbers = Measure(7), range(20)
        assert pool.apply(overriding.ways_of, (measure,)) == (7, THERE)
        assert pool.apply(overriding.ways_of, (), {"measure": measure}) == (7, THERE)
        assert pool.apply(overriding.passed_on, (measure,)).ways == THERE_AND_BACK
        measures = [Measure(number) for number in numbers]
        wanted = [(number, THERE) for number in numbers]
        assert pool.map(overriding.ways_of, measures) == wanted
        assert list(pool.imap(overriding.ways_of, measures)) == wanted
        assert sorted(pool.imap_unordered(overriding.ways_of, iter(measures))) == wanted
        assert pool.starmap(overriding.both, [(measure, measure)] * 3) == [[THERE, THERE]] * 3
        passed: list[Any] = [pool.map(overriding.passed_on, measures)]
        passed.append(pool.imap(overriding.later, measures))
        for got in passed:
            assert [(each.number, each.ways) for each in got] == [
                (number, THERE_AND_BACK) for number in numbers
            ]
        assert pool.map(Holding(measure), range(4)) == [THERE] * 4
        future = pool.executor.submit(overriding.passed_on, measure)
        assert future.result().ways == THERE_AND_BACK


def test_what_its_queues_refuse_fails_one_task(context: Any) -> None:
    with overriding.ReducingPool(2, context=context) as pool:
        bad = pool.apply_async(overriding.ways_of, (Measure(-1),))
        good = pool.apply_async(overriding.ways_of, (Measure(1),))
        with pytest.raises(ValueError, match="below zero"):
            bad.get()
        assert good.get() == (1, THERE)
        with pytest.raises(errors.MaybeEncodingError, match="below zero"):
            pool.apply(overriding.below_zero, (0,))
        assert pool.map(overriding.ways_of, [Measure(2)]) == [(2, THERE)]


def test_what_is_large_goes_through_its_queues_too(context: Any) -> None:
    data = [bytes(1 << 21), bytearray(b"x" * 100)]  # more than a pipe takes
    with overriding.ReducingPool(2, context=context) as pool:
        assert pool.map(copy.copy, [data] * 4) == [data] * 4
        assert pool.map(overriding.ways_of, [Measure(1)]) == [(1, THERE)]


def test_workers_that_replace_others_have_its_queues(context: Any) -> None:
    with overriding.ReducingPool(1, context=context, maxtasksperchild=1) as pool:
        got = pool.map(overriding.passed_on, [Measure(n) for n in range(3)], chunksize=1)
        assert [each.ways for each in got] == [THERE_AND_BACK] * 3


def test_the_initializer_is_called_beside_them(context: Any, tmp_path: Any) -> None:
    path = tmp_path / "pids"
    with overriding.ReducingPool(
        1, overriding.note_pid, (str(path),), context=context
    ) as pool:  # fmt: skip
        assert pool.apply(overriding.ways_of, (Measure(1),)) == (1, THERE)
        assert len(path.read_text().split()) == 1
    with (
        pytest.raises(errors.InitializerError, match="note_pid"),
        overriding.ReducingPool(
            1, overriding.note_pid, (str(tmp_path / "no" / "such"),), context=context
        ) as pool,
    ):
        pool.apply(abs, (-1,))


def test_queues_made_by_super_may_be_changed(context: Any) -> None:
    pool = overriding.CountingPool(2, context=context)
    with pool:
        assert pool.map(overriding.ways_of, [Measure(1)] * 3) == [(1, ())] * 3
        assert [type(each) for each in pool.passed] == [Measure] * 3


def test_process_makes_the_workers(context: Any) -> None:
    with overriding.Named(2, context=context) as pool:
        assert set(pool.map(overriding.name_of_worker, range(10), chunksize=1)) == {"mine"}


def test_process_makes_the_workers_beside_a_thread_that_may_hold_a_lock() -> None:
    done = threading.Event()

    def count() -> None:
        while not done.is_set():
            sum(range(100))

    thread = threading.Thread(target=count)
    thread.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pool = overriding.Named(2)
        with pool:
            assert pool.info()["start_method"] == "forkserver"
            assert set(pool.map(overriding.name_of_worker, range(10), chunksize=1)) == {"mine"}
    finally:
        done.set()
        thread.join()


def test_workers_that_are_not_daemonic_end_with_the_program_all_the_same() -> None:
    with overriding.Undaunted(2) as pool:
        assert pool.map(overriding.nested, [3, 4]) == [6, 10]
        assert [process.daemon for process in pool._pool] == [False, False]
        assert all(process.die_with_parent for process in pool._pool)


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        (overriding.Stuffing, {}, "_help_stuff_finish, _repopulate_pool"),
        (overriding.UnusableQueues, {}, "_setup_queues"),
        (overriding.SharedLocks, {}, "_setup_queues"),
        (overriding.ReducingPool, {"sandbox": True}, "_setup_queues"),
        (overriding.ReducingPool, {"backend": "threads"}, "_setup_queues"),
        (overriding.Named, {"backend": "inline"}, "Process"),
    ],
)
def test_what_cannot_be_honoured_is_named_once(
    kind: type[Pool], options: dict[str, Any], named: str
) -> None:
    with pytest.warns(RuntimeWarning, match=f"{kind.__name__} overrides {named}") as said:
        pool = kind(1, **options)
    with pool:
        assert pool.map(abs, [-1]) == [1]
    (warning,) = said
    assert warning.filename == __file__
    with pytest.raises(RuntimeWarning, match=named):  # as an error: nothing is left
        kind(1, **options)


def test_plain_pools_and_subclasses_say_nothing() -> None:
    class Plain(Pool):
        def map(self, *args: Any, **kwds: Any) -> Any:
            return super().map(*args, **kwds)

    for kind in (Pool, ThreadPool, Plain):
        with kind(1) as pool:
            assert pool.map(abs, [-1]) == [1]


def test_contexts_that_libraries_enter_are_known() -> None:
    tables: Any = (
        vars(multiprocessing.context)["_concrete_contexts"],
        millpond.context._concrete_contexts,
    )
    for number, table in enumerate(tables):
        name = f"pond-{number}"
        entered = table[name] = copy.copy(table["spawn"])
        entered._name = name
        try:
            assert millpond.get_context(name) is entered
            assert multiprocessing.get_context(name) is entered
            with pytest.raises(ValueError, match="cannot find context"):
                millpond.get_context("no such")
        finally:
            del tables[0][name]
    assert type(millpond.get_context("spawn")) is millpond.context.SpawnContext
    assert millpond.context._concrete_contexts["fork"] is millpond.get_context("fork")
