"""What the tests of large data share: pools."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import millpond


@pytest.fixture(params=["fork", "spawn"])
def pool(request: pytest.FixtureRequest) -> Iterator[millpond.Pool]:
    with millpond.Pool(2, start_method=request.param) as pool:
        yield pool


@pytest.fixture
def forked() -> Iterator[millpond.Pool]:
    with millpond.Pool(2, start_method="fork") as pool:
        yield pool
