"""What the tests of processes share: the start methods, as contexts."""

from __future__ import annotations

from typing import Any

import pytest

import millpond

METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    """Each start method in turn."""
    name: str = request.param
    return name


@pytest.fixture
def context(method: str) -> Any:
    """The context of each start method in turn."""
    return millpond.get_context(method)
