"""The codec of sandboxed workers' replies: what goes in comes out, and any bytes give a value or ProtocolError."""

from __future__ import annotations

import math
import pickle
import struct
import tracemalloc
from collections import OrderedDict
from datetime import date
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from millpond.errors import ProtocolError
from millpond.worker.fixed_codec import DEEPEST, decode, encode

hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters())
    | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4),
    max_leaves=6,
)
dtypes = (
    hnp.boolean_dtypes()
    | hnp.integer_dtypes(endianness="?")
    | hnp.unsigned_integer_dtypes(endianness="?")
    | hnp.floating_dtypes(endianness="?")
    | hnp.complex_number_dtypes(endianness="?")
    | hnp.datetime64_dtypes(endianness="?")
    | hnp.timedelta64_dtypes(endianness="?")
    | hnp.byte_string_dtypes(min_len=1)
    | hnp.unicode_string_dtypes(min_len=1, endianness="?")
)
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, min_side=0, max_dims=4, max_side=4))
values = st.recursive(
    hashable | st.binary().map(bytearray),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(hashable, inner, max_size=4)
        | st.sets(hashable, max_size=4)
    ),
    max_leaves=12,
)


def form(value: Any) -> str:
    """A text that is the same for values that are equal to the last bit, and of the same types all through."""
    if isinstance(value, float):
        shown = "nan" if math.isnan(value) else value.hex()
    elif isinstance(value, complex):
        shown = form(value.real) + form(value.imag)
    elif isinstance(value, list | tuple):
        shown = ", ".join(map(form, value))
    elif isinstance(value, set | frozenset):
        shown = ", ".join(sorted(map(form, value)))
    elif isinstance(value, dict):
        shown = ", ".join(f"{form(k)}: {form(v)}" for k, v in value.items())
    else:
        shown = repr(value)
    return f"{type(value).__name__}({shown})"


@given(values)
@settings(deadline=None, max_examples=300)
def test_values_come_out_as_they_went_in(value: Any) -> None:
    assert form(decode(encode(value))) == form(value)


@given(arrays, st.booleans(), st.booleans())
@settings(deadline=None, max_examples=200)
def test_arrays_come_out_as_they_went_in(array: Any, flipped: bool, stepped: bool) -> None:
    array = array.T if flipped else array
    array = array[..., ::2] if stepped and array.ndim else array
    found = decode(encode([array]))[0]
    assert type(found) is np.ndarray
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()
    assert found.flags.writeable
    assert found.flags.f_contiguous or not array.flags.f_contiguous


@given(arrays.filter(lambda array: array.size > 0))
@settings(deadline=None)
def test_scalars_of_numpy_stay_what_they_are(array: Any) -> None:
    scalar = array.reshape(-1)[0]
    found = decode(encode(scalar))
    assert type(found) is type(scalar)
    assert np.asarray(found).tobytes() == np.asarray(scalar).tobytes()


# Any bytes ----------------------------------------------------------------------------------------


def read(data: bytes) -> Any:
    """A value made of plain things, or None for what is none."""
    try:
        value = decode(data)
    except ProtocolError:
        return None
    encode(value)  # it has only what has a form
    return value


@given(
    st.binary(max_size=200)
    | st.binary(max_size=80).map(lambda tail: b"l" + b"\x02" + bytes(7) + tail)
)
@example(pickle.dumps(date(2020, 1, 1)))
@example(b"cos\nsystem\n(S'true'\ntR.")
@settings(deadline=None, max_examples=500)
def test_any_bytes_give_a_value_or_protocol_error(data: bytes) -> None:
    read(data)


@given(values | arrays, st.data())
@settings(deadline=None, max_examples=300)
def test_damaged_values_give_a_value_or_protocol_error(value: Any, data: st.DataObject) -> None:
    encoded = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.none() | st.integers(0, len(encoded)))
    read(bytes(encoded[:cut]))


def counted(tag: bytes, count: int, rest: bytes = b"") -> bytes:
    return tag + struct.pack("<Q", count) + rest


def array(name: bytes, shape: tuple[int, ...], data: bytes, tag: bytes = b"a") -> bytes:
    packed = struct.pack(f"<{len(shape)}Q", *shape)
    return tag + b"".join(counted(b"", len(part), part) for part in (name, packed, data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"?",
        b"nn",
        b"f\0",
        counted(b"s", 2, b"\xff\xfe"),
        counted(b"b", 1 << 62, b"x"),
        counted(b"l", 1 << 40, b"n" * 10),
        counted(b"d", 1, b"n"),
        counted(b"S", 1, counted(b"l", 0)),
        counted(b"d", 1, counted(b"l", 0) + b"n"),
        counted(b"l", 1) * (DEEPEST + 5),
        counted(b"t", 1) * 100_000,
        array(b"|O", (1,), bytes(8)),
        array(b"|V8", (1,), bytes(8)),
        array(b"<i4", (2,), bytes(4)),
        array(b"<i4", (1 << 62, 1 << 62), b""),
        array(b"<i4", (1,) * 65, bytes(4)),
        array(b"<i4", (1,) * 64, bytes(4), b"a") + b"n",
        array(b"<U0", (1,), b""),
        array(b"<U1", (1,), b"\xff\xff\xff\xff"),
        array(b"<f3", (1,), bytes(3)),
        array(b"<i4,<i4", (1,), bytes(8)),
        array(b"{}", (1,), bytes(8)),
        array(b"<i4", (2,), bytes(8), b"g")[:-1],
    ],
)
def test_what_stands_for_no_value(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


def test_bools_that_are_none_are_made_ones() -> None:
    """NumPy counts the bytes of such an array, and believes the sum."""
    found = decode(array(b"|b1", (4,), b"\x00\x01\x02\xff"))
    assert found.view("u1").tolist() == [0, 1, 1, 1]


def test_memory_is_only_for_what_came() -> None:
    lie = counted(b"l", 1 << 33, counted(b"b", 1 << 40))
    tracemalloc.start()
    try:
        for data in (lie, counted(b"B", 1 << 45), array(b"<i8", (1 << 40,), b"")):
            with pytest.raises(ProtocolError):
                decode(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_nothing_is_shared_with_what_was_read() -> None:
    data = bytearray(encode([b"bytes", bytearray(b"array"), np.arange(3)]))
    found = decode(data)
    data[:] = bytes(len(data))  # possible only if nobody holds a view of it, too
    data.clear()
    assert found[:2] == [b"bytes", bytearray(b"array")]
    assert found[2].tolist() == [0, 1, 2]


# What has no form ---------------------------------------------------------------------------------


class Point(NamedTuple):
    x: int


class Colour(IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "builtins.object"),
        (Point(1), "test_fixed_codec.Point"),
        (Colour.RED, "test_fixed_codec.Colour"),
        (OrderedDict(), "collections.OrderedDict"),
        (Path("x"), "pathlib.PosixPath"),
        (memoryview(b""), "builtins.memoryview"),
        ([{"a": {1: date(2020, 1, 1)}}], "datetime.date"),
        (np.array([object()]), "dtype"),
        (np.zeros(1, "i4,i4"), "dtype"),
        (np.ma.masked_array([1]), "numpy.ma.MaskedArray"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_form_is_named(value: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named.replace(".", r"\.")):
        encode(value)


def test_what_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match=r"contains itself"):
        encode(loop)
    deep: Any = None
    for _ in range(DEEPEST):
        deep = [deep]
    assert decode(encode(deep)) == deep
    with pytest.raises(ValueError, match="nested"):
        encode([deep])
