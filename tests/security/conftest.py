"""What the tests of security share: the start methods."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def method(request: pytest.FixtureRequest) -> str:
    """Each start method in turn."""
    name: str = request.param
    return name
