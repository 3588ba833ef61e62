"""Fixtures of the tests of logging."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.engine.logged import Gathering, logger


@pytest.fixture
def gathering() -> Iterator[Gathering]:
    """On the tests' logger, which lets INFO pass."""
    handler = Gathering()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def method(request: pytest.FixtureRequest) -> str:
    """Each start method in turn."""
    name: str = request.param
    return name
