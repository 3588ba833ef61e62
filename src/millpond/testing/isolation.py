"""Workers in processes of their own: what travels, and what happens to what cannot."""

from __future__ import annotations

import functools
import os
import threading
from typing import TYPE_CHECKING

import pytest

from millpond import errors
from millpond.testing import poison, tasks
from millpond.testing.calls import one_value
from millpond.testing.failures import EACH, outcomes
from millpond.testing.suite import SOON, Suite

if TYPE_CHECKING:
    from millpond import Pool

SQUARES = [0, 1, 4, 9]


class TravelTests(Suite):
    """Pickles that fail on the way, each at the cost of one task."""

    def test_tasks_run_in_other_processes(self, pool: Pool) -> None:
        pids = set(pool.map(tasks.pid, range(20)))
        assert os.getpid() not in pids
        assert 1 <= len(pids) <= 2

    def test_an_error_has_the_remote_traceback_as_its_cause(self, pool: Pool) -> None:
        from millpond.pool import RemoteTraceback

        with pytest.raises(tasks.Oops) as info:
            pool.apply(tasks.fail, (3,))
        cause = info.value.__cause__
        assert isinstance(cause, RemoteTraceback)
        assert "in fail" in cause.tb
        assert "Oops" in str(cause)
        with pytest.raises(tasks.Oops) as info:
            pool.map(tasks.fail_on_odd, range(4))
        assert "in fail_on_odd" in str(info.value.__cause__)

    def test_the_remote_traceback_has_the_whole_chain(self, pool: Pool) -> None:
        with pytest.raises(RuntimeError) as info:
            pool.apply(tasks.fail_with_cause, (1,))
        assert "Oops" in str(info.value.__cause__)
        assert "direct cause" in str(info.value.__cause__)

    @pytest.mark.parametrize("method", EACH)
    def test_a_result_without_pickle_is_a_maybe_encoding_error(
        self, pool: Pool, method: str
    ) -> None:
        from millpond.pool import MaybeEncodingError

        with pytest.raises(MaybeEncodingError, match="NoPickle") as info:
            one_value(pool, method, poison.return_no_pickle, 1)
        assert isinstance(info.value.exc, str)
        assert "NoPickle" in info.value.value
        assert pool.map(tasks.square, range(4)) == SQUARES

    def test_a_lambda_as_result_is_refused_as_by_multiprocessing(self, pool: Pool) -> None:
        from millpond.pool import MaybeEncodingError

        with pytest.raises(MaybeEncodingError):
            pool.apply(tasks.make_lambda)
        assert pool.apply(tasks.square, (2,)) == 4

    def test_a_very_deep_result_fails_its_task(self, pool: Pool) -> None:
        from millpond.pool import MaybeEncodingError

        with pytest.raises((MaybeEncodingError, RecursionError)):
            pool.apply(tasks.deep_list, (200_000,))
        assert pool.map(tasks.square, range(4)) == SQUARES

    def test_a_result_that_does_not_unpickle_fails_its_task(self, pool: Pool) -> None:
        others = [pool.apply_async(tasks.square, (x,)) for x in range(4)]
        with pytest.raises(Exception, match="does not unpickle"):
            pool.apply(poison.return_no_unpickle)
        assert [r.get(SOON) for r in others] == SQUARES
        assert pool.map(tasks.square, range(4)) == SQUARES

    def test_an_error_that_does_not_unpickle_keeps_its_name_and_text(self, pool: Pool) -> None:
        with pytest.raises(Exception, match="3 and 4") as info:
            pool.apply(poison.raise_two_arguments, (3,))
        assert "TwoArguments" in f"{type(info.value).__name__} {info.value}"
        assert "raise_two_arguments" in f"{info.value} {info.value.__cause__}"
        assert pool.map(tasks.square, range(4)) == SQUARES

    def test_an_error_that_does_not_pickle_keeps_its_name_and_text(self, pool: Pool) -> None:
        with pytest.raises(Exception, match="with a lock inside") as info:
            pool.apply(poison.raise_unpicklable)
        assert "UnpicklableError" in f"{type(info.value).__name__} {info.value}"
        assert pool.map(tasks.square, range(4)) == SQUARES

    def test_bad_outcomes_in_a_map_cost_one_task_each(self, pool: Pool) -> None:
        got = outcomes(pool.imap(poison.raise_or_return, range(10)))
        assert [g for g in got if isinstance(g, int)] == [0, 1, 2, 4, 6, 8, 9]
        assert len(got) == 10
        assert [i for i, g in enumerate(got) if isinstance(g, tuple)] == [3, 5, 7]

    @pytest.mark.parametrize("method", ["apply_async", "map_async", "starmap_async"])
    def test_an_argument_without_pickle_is_raised_by_get(self, pool: Pool, method: str) -> None:
        told: list[BaseException] = []
        bad = poison.NoPickle()
        args = {"apply_async": (bad,), "map_async": [1, bad], "starmap_async": [(1,), (bad,)]}
        result = getattr(pool, method)(tasks.identity, args[method], error_callback=told.append)
        with pytest.raises(tasks.Oops, match="does not pickle"):
            result.get(SOON)
        assert [type(e) for e in told] == [tasks.Oops]
        assert pool.map(tasks.square, range(4)) == SQUARES

    @pytest.mark.parametrize("method", EACH)
    def test_an_argument_that_is_a_lock_is_a_type_error(self, pool: Pool, method: str) -> None:
        with pytest.raises(TypeError, match="lock"):
            one_value(pool, method, tasks.identity, threading.Lock())
        with pytest.raises(TypeError, match="lock"):
            pool.apply(tasks.identity, (poison.HoldsLock(),))
        assert pool.map(tasks.square, range(4)) == SQUARES

    def test_a_function_without_pickle_is_raised_by_get(self, pool: Pool) -> None:
        with pytest.raises(TypeError, match="lock"):
            pool.apply_async(poison.CallableWithLock()).get(SOON)
        with pytest.raises(tasks.Oops):
            pool.apply_async(functools.partial(tasks.identity, poison.NoPickle())).get(SOON)
        assert pool.map(tasks.square, range(4)) == SQUARES

    def test_an_argument_that_does_not_unpickle_fails_its_task(self, pool: Pool) -> None:
        with pytest.raises(Exception, match="does not unpickle"):
            pool.apply(tasks.identity, (poison.NoUnpickle(),))
        with pytest.raises(errors.MillpondError):
            pool.apply(tasks.identity, (poison.NoUnpickleAbort(),))
        assert pool.map(tasks.square, range(4)) == SQUARES


class MixedTravelTests(Suite):
    """Bad values among good ones; floods; both directions full."""

    def test_bad_arguments_in_a_map_cost_one_task_each(self, pool: Pool) -> None:
        got = outcomes(pool.imap(tasks.identity, map(poison.argument_for, range(10))))
        assert [g for g in got if isinstance(g, int)] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
        assert isinstance(got[4], tuple)

    def test_an_unpicklable_argument_in_imap_stands_at_its_place(self, pool: Pool) -> None:
        values = [1, poison.NoPickle(), 3]
        assert outcomes(pool.imap(tasks.identity, values)) == [1, ("Oops", 1), 3]

    def test_arguments_without_a_repr_do_no_harm(self, pool: Pool) -> None:
        with pytest.raises(tasks.Oops):
            pool.apply(poison.fail_with_shy_argument, (poison.ReprRaises(),))
        with pytest.raises(tasks.Oops):
            pool.map(poison.fail_with_shy_argument, [poison.ReprRaises()])

    def test_both_directions_full_is_no_deadlock(self, pool: Pool) -> None:
        data = [bytes([i]) * (1 << 20) for i in range(40)]
        results = [pool.apply_async(tasks.identity, (d,)) for d in data]
        assert [r.get(SOON) for r in results] == data
        assert pool.map(tasks.identity, data, 1) == data
        assert list(pool.imap(tasks.identity, iter(data), 5)) == data

    def test_output_on_stdout_is_not_taken_for_traffic(self, pool: Pool) -> None:
        assert pool.map(tasks.write_on_stdout, ["\x00\x01junk\n"] * 10) == [7] * 10

    def test_the_caller_s_objects_are_not_shared(self, pool: Pool) -> None:
        mine: list[int] = []
        assert pool.apply(list.append, (mine, 1)) is None
        assert mine == []

    def test_a_flood_of_bad_outcomes_is_told_one_by_one(self, pool: Pool) -> None:
        told: list[BaseException] = []
        for x in range(200):
            pool.apply_async(poison.raise_or_return, (x % 10,), error_callback=told.append)
        pool.close()
        pool.join()
        assert len(told) >= 40
