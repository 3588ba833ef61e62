"""Callbacks: once each, in order, before the call settles; one that raises is only reported."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from millpond.testing import tasks
from millpond.testing.suite import SOON, Suite

if TYPE_CHECKING:
    from millpond import Pool


class Reports(logging.Handler):
    """Collects what is said through logging, sys.unraisablehook or threading.excepthook."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(f"{record.getMessage()} {record.exc_info}")

    def hook(self, what: Any) -> None:
        self.texts.append(f"{what.exc_type.__name__} {what.exc_value}")

    def mention(self, word: str) -> bool:
        return any(word in text for text in self.texts)


class CallbackTests(Suite):
    """callback= and error_callback= of the asynchronous calls."""

    @pytest.fixture
    def reports(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reports]:
        """Everything that is reported during the test, however it is reported."""
        collected = Reports()
        monkeypatch.setattr(sys, "unraisablehook", collected.hook)
        monkeypatch.setattr(threading, "excepthook", collected.hook)
        for logger in (logging.getLogger(), logging.getLogger("millpond")):
            logger.addHandler(collected)
        yield collected
        for logger in (logging.getLogger(), logging.getLogger("millpond")):
            logger.removeHandler(collected)

    def test_a_callback_has_run_when_get_returns(self, pool: Pool) -> None:
        for _ in range(20):
            seen: list[int] = []
            assert pool.apply_async(tasks.square, (4,), callback=seen.append).get(SOON) == 16
            assert seen == [16]

    def test_a_map_calls_back_once_with_the_list(self, pool: Pool) -> None:
        seen: list[Any] = []
        result = pool.map_async(tasks.square, range(10), 3, callback=seen.append)
        result.wait(SOON)
        assert seen == [[x * x for x in range(10)]]
        pool.starmap_async(pow, [(2, 3), (3, 2)], callback=seen.append).wait(SOON)
        assert seen[1:] == [[8, 9]]

    def test_an_empty_map_gives_an_empty_list(self, pool: Pool) -> None:
        seen: list[Any] = []
        assert pool.map_async(tasks.square, [], callback=seen.append).get(SOON) == []
        assert seen in ([], [[]])

    @pytest.mark.parametrize("method", ["apply_async", "map_async", "starmap_async"])
    def test_an_error_goes_to_the_error_callback_only(self, pool: Pool, method: str) -> None:
        values: list[Any] = []
        told: list[BaseException] = []
        args = {"apply_async": (3,), "map_async": [1, 2, 3], "starmap_async": [(1,), (2,), (3,)]}
        result = getattr(pool, method)(
            tasks.fail, args[method], callback=values.append, error_callback=told.append
        )
        result.wait(SOON)
        with pytest.raises(tasks.Oops):
            result.get(SOON)
        assert values == []
        assert [type(e) for e in told] == [tasks.Oops]

    def test_a_value_goes_to_the_callback_only(self, pool: Pool) -> None:
        told: list[BaseException] = []
        result = pool.apply_async(tasks.square, (3,), error_callback=told.append)
        assert result.get(SOON) == 9
        assert told == []

    def test_callbacks_run_once_each_and_in_order(self) -> None:
        with self.make_pool(1) as pool:
            seen: list[int] = []
            results = [
                pool.apply_async(tasks.identity, (x,), callback=seen.append) for x in range(300)
            ]
            for result in results:
                result.wait(SOON)
            assert seen == list(range(300))

    def test_callbacks_of_many_workers_run_once_each(self, pool: Pool) -> None:
        seen: list[int] = []
        for x in range(500):
            pool.apply_async(tasks.identity, (x,), callback=seen.append)
        pool.close()
        pool.join()
        assert sorted(seen) == list(range(500))

    def test_callbacks_run_one_at_a_time(self, pool: Pool) -> None:
        inside: list[int] = []
        crowds: list[int] = []

        def look(x: int) -> None:
            inside.append(x)
            crowds.append(len(inside))
            inside.pop()

        results = [pool.apply_async(tasks.identity, (x,), callback=look) for x in range(200)]
        for result in results:
            result.wait(SOON)
        assert crowds == [1] * 200

    def test_a_callback_that_raises_is_reported_and_not_fatal(
        self, pool: Pool, reports: Reports
    ) -> None:
        def bad(_: object) -> None:
            raise tasks.Oops(1, "from the callback")

        assert pool.apply_async(tasks.square, (3,), callback=bad).get(SOON) == 9
        assert pool.map_async(tasks.square, [1, 2], callback=bad).get(SOON) == [1, 4]
        seen: list[int] = []
        assert pool.apply_async(tasks.square, (4,), callback=seen.append).get(SOON) == 16
        assert seen == [16]
        assert reports.mention("from the callback")

    def test_an_error_callback_that_raises_is_reported_and_not_fatal(
        self, pool: Pool, reports: Reports
    ) -> None:
        def bad(_: BaseException) -> None:
            raise ValueError("from the error callback")

        with pytest.raises(tasks.Oops):
            pool.apply_async(tasks.fail, (3,), error_callback=bad).get(SOON)
        assert pool.apply(tasks.square, (4,)) == 16
        assert reports.mention("from the error callback")

    def test_a_callback_may_submit_to_the_pool(self, pool: Pool) -> None:
        done = threading.Event()
        seen: list[int] = []

        def again(x: int) -> None:
            seen.append(x)
            if x < 200:
                pool.apply_async(tasks.square, (x,), callback=again)
            else:
                done.set()

        pool.apply_async(tasks.square, (2,), callback=again)
        assert done.wait(SOON)
        assert seen == [4, 16, 256]

    def test_a_callback_may_wait_for_the_pool(self, pool: Pool) -> None:
        seen: list[Any] = []

        def use(x: int) -> None:
            seen.append(pool.apply(tasks.square, (x,)))
            seen.append(pool.map(tasks.square, [x, x]))

        assert pool.apply_async(tasks.square, (2,), callback=use).get(SOON) == 4
        assert seen == [16, [16, 16]]

    def test_close_and_join_wait_for_callbacks(self, tmp_path: Path) -> None:
        seen: list[Any] = []
        with self.make_pool(2) as pool:
            pool.map_async(tasks.sleep_a_little, range(10), 1, callback=seen.append)
            pool.apply_async(tasks.identity, ("x",), callback=seen.append)
            pool.close()
            pool.join()
        assert sorted(map(str, seen)) == sorted(map(str, [list(range(10)), "x"]))
