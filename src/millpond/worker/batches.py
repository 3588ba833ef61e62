"""What a worker runs for ``Executor.map`` with a chunksize: several calls as one task."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def call_each(function: Callable[..., Any], batch: Iterable[tuple[Any, ...]]) -> list[Any]:
    """``[function(*args) for args in batch]``; the first error is that of all."""
    return [function(*args) for args in batch]
