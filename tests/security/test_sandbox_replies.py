"""What travels between a program and its sandboxed workers, and what cannot."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data

from millpond import (
    MaybeEncodingError,
    Pool,
    Sandbox,
    TaskAborted,
    TaskError,
)
from millpond.worker import landlock

PHOTOGRAPHS = Path(skimage.data.__file__).parent


def has_landlock() -> bool:
    return landlock.version() > 0


class Mine(ValueError):
    def __str__(self) -> str:
        return Text("mine")


class Text(str):
    __slots__ = ()


def fail() -> None:
    raise Mine


def leave() -> None:
    sys.exit("enough")


def test_errors_are_stand_ins(method: str) -> None:
    with Pool(1, sandbox=True, start_method=method) as pool:
        with pytest.raises(TaskError) as failed:
            pool.apply(fail)
        with pytest.raises(TaskAborted, match=r"SystemExit\(enough\)"):
            pool.apply(leave)
        with pytest.raises(MaybeEncodingError, match=r"builtins\.object"):
            pool.apply(object)
        assert pool.apply(max, (1, 2)) == 2
    error = failed.value
    assert (type(error), error.type_name, error.text) == (TaskError, "Mine", "mine")
    assert type(error.text) is str
    assert "raise Mine" in error.traceback
    assert str(error.__cause__) == f'\n"""\n{error.traceback}"""'


def many_kinds() -> Any:
    return {
        "numbers": (1, -(2**80), 2.5, 1j, True, None),
        "text": ["é", b"b", bytearray(b"a")],
        "sets": ({1, 2}, frozenset([3])),
        "arrays": [np.arange(6).reshape(2, 3), np.float32(0.5)],
    }


def test_values_of_every_kind() -> None:
    with Pool(1, sandbox=True) as pool:
        found = pool.apply(many_kinds)
        plain = pool.map(str, range(1000))
        mixed: list[Any] = pool.map(divmod_or_fail, range(10), on_error="return")
        large = pool.apply(bytes, (3 << 20,))
    expected = many_kinds()
    assert np.array_equal(found["arrays"][0], expected["arrays"][0])
    assert type(found["arrays"][1]) is np.float32
    for name in ("numbers", "text", "sets"):
        assert found[name] == expected[name]
    assert plain == [str(x) for x in range(1000)]
    assert [m for m in mixed if not isinstance(m, TaskError)] == [(5, x) for x in range(1, 10)]
    assert len(large) == 3 << 20


def divmod_or_fail(x: int) -> tuple[int, int]:
    return (10 // x) * 0 + 5, x


def flaky(path: str) -> int:
    with open(path, "ab") as file:
        file.write(b".")
    if os.path.getsize(path) < 3:
        raise ConnectionError("not yet")
    return 1


def test_retries_know_the_class_that_was_raised(tmp_path: Path) -> None:
    path = str(tmp_path / "tries")
    with Pool(1, sandbox=Sandbox(write=[tmp_path])) as pool:
        assert pool.apply(flaky, (path,), retries=5, retry_on=ConnectionError, backoff=0) == 1
        os.remove(path)
        with pytest.raises(TaskError, match="not yet"):
            pool.apply(flaky, (path,), retries=5, retry_on=KeyError, backoff=0)


async def later(x: int) -> tuple[int, list[int]]:
    return x, [x]


async def fail_later(x: int) -> None:
    raise Mine


def test_coroutines() -> None:
    with Pool(1, sandbox=True) as pool:
        found: list[Any] = pool.map(later, range(5))
        assert found == [(x, [x]) for x in range(5)]
        with pytest.raises(TaskError, match="mine"):
            _ = pool.apply(fail_later, (1,))


def log(text: str) -> None:
    try:
        raise ValueError("at\x1b[2Jtached")
    except ValueError:
        logging.getLogger("a.b").warning(
            "a \x1b[2J %s", text, exc_info=True, extra={"mine": {1: 2}}
        )


def test_log_records(method: str, caplog: pytest.LogCaptureFixture) -> None:
    with Pool(1, sandbox=True, start_method=method) as pool:
        pool.apply(log, ("word",))
    (record,) = caplog.records
    assert record.getMessage() == "a \\x1b[2J word"
    assert (record.name, record.levelname, record.funcName) == ("a.b", "WARNING", "log")
    assert record.processName is not None
    assert record.processName.startswith("ForkPoolWorker") or "PoolWorker" in record.processName
    assert "\nValueError: at\\x1b[2Jtached" in str(record.exc_text)
    assert record.mine == "{1: 2}"  # type: ignore[attr-defined]


def by_value_function() -> Callable[[int], list[int]]:
    return lambda x: [x]


def test_functions_by_value(method: str) -> None:
    with Pool(1, sandbox=True, start_method=method) as pool:
        assert pool.map(by_value_function(), [1, 2]) == [[1], [2]]
