"""What tasks log, wherever they run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from millpond.testing.suite import Suite

if TYPE_CHECKING:
    from millpond import Pool

_NAME = "millpond.testing.logged"


def say(number: int) -> int:
    """Log a number, at a level that is let pass and at one that is not."""
    logger = logging.getLogger(_NAME)
    logger.debug("no %d", number)
    logger.info("number %d", number)
    return number


def say_and_fail(number: int) -> int:
    """Log a number as an error's."""
    try:
        raise ValueError(number)
    except ValueError:
        logging.getLogger(_NAME).exception("failed")
        raise


class LoggingTests(Suite):
    """The caller's loggers get it as if it had been logged there."""

    @pytest.fixture
    def records(self) -> Iterator[list[logging.LogRecord]]:
        """What a handler of the caller's gets, from INFO on."""
        records: list[logging.LogRecord] = []
        handler = logging.Handler()
        handler.emit = records.append  # type: ignore[assignment, method-assign]
        logger = logging.getLogger(_NAME)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        yield records
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(handler)

    def test_a_record_comes_before_the_result(self, records: list[logging.LogRecord]) -> None:
        with self.make_pool(2) as pool:
            assert pool.apply(say, (1000,)) == 1000
            assert [record.getMessage() for record in records] == ["number 1000"]
            pool.map(say, range(20))
            messages = [record.getMessage() for record in records]
            assert sorted(messages[1:]) == sorted(f"number {n}" for n in range(20))
            for number in pool.imap(say, range(100, 110)):
                assert f"number {number}" in [record.getMessage() for record in records]
        assert {record.levelname for record in records} == {"INFO"}

    def test_each_run_of_a_task_is_heard(
        self, pool: Pool, records: list[logging.LogRecord]
    ) -> None:
        with pytest.raises(ValueError, match="7"):
            pool.map(say_and_fail, [7], retries=2, retry_on=ValueError, backoff=0.0)
        shown = [logging.Formatter("%(message)s").format(record) for record in records]
        assert len(shown) == 3
        assert all(text.startswith("failed\nTraceback") for text in shown)
        assert all(text.endswith("ValueError: 7") for text in shown)

    def test_nothing_is_lost_at_the_end(self, records: list[logging.LogRecord]) -> None:
        pool = self.make_pool(2)
        for number in range(10):
            pool.apply_async(say, (number,))
        pool.close()
        pool.join()
        assert len(records) == 10
