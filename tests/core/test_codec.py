"""Chunks and outcomes travel and come back the same; what cannot travel fails alone and says why."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millpond import errors
from millpond.worker import outcome
from millpond.worker.codec import (
    CALL,
    MAP,
    STAR,
    Part,
    all_plain,
    decode_argument,
    decode_chunk,
    encode_argument,
    encode_call,
    encode_chunk,
)
from millpond.worker.outcome import (
    Error,
    Sealed,
    Value,
    decode_batch,
    encode_batch,
    seal_error,
    seal_missing,
    seal_value,
    take,
)
from millpond.worker.raised import format_trace

plain_values = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
)
values = plain_values | st.lists(plain_values) | st.dictionaries(st.text(max_size=3), plain_values)

a_part = st.builds(
    lambda job, style, first, grain, function, items: Part(
        job, style, first, grain, function, *items
    ),
    st.integers(0, 2**40),
    st.sampled_from([CALL, MAP, STAR]),
    st.integers(0, 2**40),
    st.integers(1, 2**20),
    st.none() | st.binary(),
    st.lists(plain_values, max_size=6).map(lambda items: (items, None))
    | st.lists(st.none() | st.binary(), max_size=6).map(lambda blobs: (None, blobs)),
)


def readable(part: Part) -> tuple[Any, ...]:
    given: Any = part.blobs
    blobs = None if given is None else [None if b is None else bytes(b) for b in given]
    function: Any = part.function
    return (*part[:4], None if function is None else bytes(function), part.plain, blobs)


@given(st.lists(a_part, max_size=5))
def test_a_chunk_comes_back_the_same(parts: list[Part]) -> None:
    body = b"".join(encode_chunk(parts))
    assert [readable(part) for part in decode_chunk(body)] == [readable(part) for part in parts]
    assert [part.tasks for part in decode_chunk(body)] == [part.tasks for part in parts]


@given(st.lists(values, max_size=8))
def test_a_batch_comes_back_the_same(results: list[Any]) -> None:
    batch = [value if type(value) in outcome.PLAIN else seal_value(value) for value in results]
    mixed = any(type(entry) is Sealed for entry in batch)
    body = b"".join(encode_batch(batch, mixed))
    assert [take(entry) for entry in decode_batch(body, mixed)] == results


@given(st.lists(plain_values, max_size=3), st.dictionaries(st.text(max_size=3), values, max_size=2))
def test_a_call_comes_back_the_same(args: list[Any], kwds: dict[str, Any]) -> None:
    assert decode_argument(encode_call(tuple(args), kwds, True)) == (tuple(args), kwds)


class Number(int):
    pass


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize("value", [Number(1), Text("a"), (1,), [], 1j, object(), bytearray(b"")])
def test_only_exactly_plain_values_share_a_pickle(value: object) -> None:
    assert not all_plain([1, value])
    assert all_plain([1, 1.0, True, None, "a", b"a"])


def test_a_value_keeps_its_type() -> None:
    assert type(take(seal_value(Number(3)))) is Number


def test_an_outcome_that_was_not_encoded() -> None:
    assert take(Value(3)) == 3
    with pytest.raises(KeyError):
        take(Error(KeyError("x")))


# Functions ----------------------------------------------------------------------------------------


def test_a_function_travels_by_reference_or_by_value() -> None:
    assert decode_argument(encode_argument(all_plain, True)) is all_plain
    offset = 3
    assert decode_argument(encode_argument(lambda x: x + offset, True))(4) == 7


# Errors -------------------------------------------------------------------------------------------


def raised(error: BaseException) -> BaseException:
    """The error as one that a task has raised, two frames below."""

    def task() -> None:
        raise error

    try:
        task()
    except BaseException as caught:
        return caught
    raise AssertionError


def received(error: BaseException) -> BaseException:
    """The error as the caller gets it."""
    with pytest.raises(BaseException) as info:
        take(seal_error(raised(error)))
    return info.value


class TwoArguments(Exception):
    """It cannot be unpickled: its ``args`` are not what it is made from."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})")


class Rude(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class NotAnException(Exception):
    def __reduce__(self) -> Any:
        return dict, ()


class LeavesAs(Exception):
    def __reduce__(self) -> Any:
        return self.args


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, StopAsyncIteration])
def test_an_error_that_unpickles_to_no_exception_of_a_task_does_not_end_the_program(
    kind: type[BaseException],
) -> None:
    got = received(LeavesAs(kind, ()))
    assert type(got) is (errors.TaskError if not issubclass(kind, Exception) else kind)


class Aborts(Exception):
    def __reduce__(self) -> Any:
        raise SystemExit(3)


@pytest.mark.parametrize(
    "error", [ValueError("a", 1), KeyError("k"), OSError(2, "none", "file"), StopIteration(5)]
)
def test_an_error_keeps_its_type_and_arguments_and_gets_its_traceback_as_cause(
    error: Exception,
) -> None:
    got = received(error)
    assert type(got) is type(error)
    assert got.args == error.args
    assert type(got.__cause__).__name__ == "RemoteTraceback"
    text = str(got.__cause__)
    assert "in task" in text
    assert "in raised" not in text, "frames of the worker are not shown"


def test_notes_and_attributes_are_kept() -> None:
    error = ValueError("x")
    error.add_note("seen in the worker")
    error.code = 7  # type: ignore[attr-defined]
    got: Any = received(error)
    assert got.__notes__ == ["seen in the worker"]
    assert got.code == 7
    assert "seen in the worker" in str(got.__cause__)


def test_a_group_of_errors_travels_with_all_its_members() -> None:
    got = received(
        ExceptionGroup("several", [ValueError(1), ExceptionGroup("inner", [KeyError(2)])])
    )
    assert isinstance(got, ExceptionGroup)
    assert got.message == "several"
    assert [type(e) for e in got.exceptions] == [ValueError, ExceptionGroup]
    assert "KeyError" in str(got.__cause__)


def test_the_cause_of_an_error_is_in_its_remote_traceback() -> None:
    error = ValueError("outer")
    error.__cause__ = KeyError("the reason")
    assert "the reason" in str(received(error).__cause__)


@pytest.mark.parametrize("make", [lambda: TwoArguments(3, "odd"), NotAnException])
def test_an_error_that_does_not_come_back_has_a_stand_in(make: Callable[[], Exception]) -> None:
    error = make()
    got = received(error)
    assert isinstance(got, errors.TaskError)
    assert got.type_name == type(error).__name__
    assert got.text == str(error)
    assert "in task" in got.traceback


@pytest.mark.parametrize("make", [Aborts, lambda: ValueError(lambda: 0)])
def test_an_error_that_cannot_be_pickled_is_an_encoding_error_and_a_stand_in(
    make: Callable[[], Exception],
) -> None:
    got = received(make())
    assert isinstance(got, errors.MaybeEncodingError)
    assert isinstance(got, errors.TaskError)
    assert "in task" in str(got.__cause__)


def test_an_error_without_text_travels() -> None:
    got = received(Rude())
    assert isinstance(got, Rude)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_would_end_the_caller_arrives_as_an_abort(error: BaseException) -> None:
    got = received(error)
    assert isinstance(got, errors.TaskAborted)
    assert type(error).__name__ in str(got)


def test_a_value_that_pickle_refuses() -> None:
    sealed = seal_value(lambda: 0)
    with pytest.raises(errors.MaybeEncodingError) as info:
        take(sealed)
    assert "lambda" in info.value.value
    assert "Pickl" in info.value.exc or "pickle" in info.value.exc


class Bomb:
    def __reduce__(self) -> Any:
        return Bomb._fail, ()

    @staticmethod
    def _fail() -> None:
        raise ZeroDivisionError("in the caller")


def test_a_value_that_does_not_unpickle_is_one_tasks_failure() -> None:
    batch = [1, seal_value(Bomb()), 3]
    got = decode_batch(b"".join(encode_batch(batch, True)), True)
    assert take(got[0]) == 1
    assert take(got[2]) == 3
    with pytest.raises(ZeroDivisionError):
        take(got[1])


def test_a_function_that_cannot_be_loaded_says_so() -> None:
    with pytest.raises(
        errors.TaskError, match="cannot load the task's function: ImportError: no such"
    ):
        take(seal_missing(ImportError("no such")))


def test_a_traceback_that_cannot_be_shown_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RecursionError

    monkeypatch.setattr(traceback, "format_exception", fail)
    text = format_trace(ValueError("x"), None)
    assert text == "ValueError: x (the rest cannot be shown: RecursionError)\n"


@given(st.binary(max_size=100))
@settings(max_examples=50)
def test_a_blob_is_a_view_of_the_body_and_not_a_copy(blob: bytes) -> None:
    body = b"".join(encode_batch([Sealed(outcome.VALUE, blob)], True))
    (entry,) = decode_batch(body, True)
    assert isinstance(entry.data, memoryview)
    assert entry.data.obj is body
