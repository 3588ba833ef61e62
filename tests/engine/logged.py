"""What the tests of logging share: a handler that keeps records, and a task that logs one."""

from __future__ import annotations

import logging
from collections.abc import Callable

logger = logging.getLogger("tests.mill")


class Gathering(logging.Handler):
    """Keeps records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.act: Callable[[], object] = bool

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.act()

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]


def say(number: int) -> int:
    logger.info("number %d", number)
    return number
