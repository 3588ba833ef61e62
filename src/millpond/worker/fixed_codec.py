"""Values as bytes of one fixed form, for bytes that nobody vouches for: reading them runs no code but this.

    encode(value) -> bytes    TypeError or ValueError for what has no such form
    decode(bytes) -> value    or ProtocolError, whatever the bytes are
    weigh(bytes) -> int       what the value will take about of memory, without making it

What has one: None, bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, and
NumPy's arrays and scalars of numbers, dates and text; of exactly these types, nested at most ``DEEPEST`` times.

Rules: one byte says what comes, then lengths as 64-bit numbers; a length is believed only as far as there are
bytes; all is copied, so what is read shares no memory with who wrote it; what is read takes time and memory in
proportion to its bytes, whatever it is: keys that are made to collide are refused.
"""

from __future__ import annotations

import math
import re
import struct
import sys
from collections.abc import Callable, Iterable
from time import thread_time
from typing import Any, Final

from millpond.errors import ProtocolError

DEEPEST: Final = 100

_COUNT: Final = struct.Struct("<Q")
_NUMBER: Final = struct.Struct("<d")
_PAIR: Final = struct.Struct("<dd")
_DTYPE: Final = re.compile(
    rb"[<>|](?:[biufc][0-9]{1,2}|[mM]8(?:\[[0-9]*[A-Za-z]{1,2}\])?|[SU][0-9]{1,9})"
)
_MOST_DIMENSIONS: Final = 64
_LAST_CHARACTER: Final = 0x10FFFF

HEAVIEST: Final = 256
"""What a byte weighs at most: that of an empty set or dict."""
_ITEM: Final = 64
"""What a value weighs, in bytes of memory, besides what it contains."""

_FEW: Final = 8
"""Keys so few that it does not matter whether they collide, unless they have frozensets in them."""
_AT_ONCE: Final = 256
_PATIENCE: Final = 0.1
_PER_KEY: Final = 2e-6
_PER_BYTE: Final = 2e-8
"""Seconds of the processor that putting keys into dicts and sets may take: tens of times what others take."""


def encode(value: object) -> bytes:
    """See the module."""
    out = bytearray()
    _write(value, out, 0)
    return bytes(out)


def weigh(data: bytes | bytearray | memoryview) -> int:
    """About how many bytes of memory the value will take; raises ProtocolError where the bytes stand for none."""
    view, at, weight = memoryview(data), 0, 0
    end = len(view)
    try:
        while at < end:
            size, parts, own = _SIZES[view[at]]
            at, weight = at + 1 + size, weight + own
            for _ in range(parts):
                count: int = _COUNT.unpack_from(view, at)[0]
                at += 8 + count
                weight += count
    except (KeyError, struct.error):
        raise ProtocolError("bytes that stand for no value") from None
    return weight


def decode(data: bytes | bytearray | memoryview) -> Any:
    """See the module."""
    reader = _Reader(memoryview(data))
    try:
        value = reader.read(0)
    except ProtocolError:
        raise
    except (ValueError, TypeError, OverflowError, MemoryError, RecursionError) as failure:
        raise ProtocolError(f"bytes that stand for no value: {failure}") from None
    if reader.left:
        raise ProtocolError(f"{reader.left} bytes come after a value")
    return value


# Writing ----------------------------------------------------------------------------------------


def _write(value: Any, out: bytearray, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError(f"it is nested more than {DEEPEST} times, or contains itself")
    writer = _WRITERS.get(type(value))
    if writer is not None:
        writer(value, out, depth)
    elif type(value).__module__ == "numpy" and _is_numpy(value):
        _write_array(value, out)
    else:
        kind = type(value)
        raise TypeError(f"{kind.__module__}.{kind.__qualname__} objects have no form in it")


def _sized(tag: bytes, data: bytes | bytearray | memoryview, out: bytearray) -> None:
    out += tag
    out += _COUNT.pack(len(data))
    out += data


def _write_int(value: int, out: bytearray) -> None:
    _sized(b"i", value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True), out)


def _write_many(tag: bytes, count: int, values: Iterable[Any], out: bytearray, depth: int) -> None:
    out += tag
    out += _COUNT.pack(count)
    for value in values:
        _write(value, out, depth + 1)


def _many(tag: bytes) -> Callable[[Any, bytearray, int], None]:
    return lambda v, out, depth: _write_many(tag, len(v), v, out, depth)


def _write_dict(value: dict[Any, Any], out: bytearray, depth: int) -> None:
    _write_many(b"d", len(value), (x for pair in value.items() for x in pair), out, depth)


_WRITERS: Final[dict[type, Callable[[Any, bytearray, int], None]]] = {
    type(None): lambda _, out, __: out.extend(b"n"),
    bool: lambda v, out, _: out.extend(b"+" if v else b"-"),
    int: lambda v, out, _: _write_int(v, out),
    float: lambda v, out, _: out.extend(b"f" + _NUMBER.pack(v)),
    complex: lambda v, out, _: out.extend(b"c" + _PAIR.pack(v.real, v.imag)),
    str: lambda v, out, _: _sized(b"s", v.encode("utf-8", "surrogatepass"), out),
    bytes: lambda v, out, _: _sized(b"b", v, out),
    bytearray: lambda v, out, _: _sized(b"B", v, out),
    list: _many(b"l"),
    tuple: _many(b"t"),
    set: _many(b"S"),
    frozenset: _many(b"Z"),
    dict: _write_dict,
}


def _is_numpy(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and (type(value) is numpy.ndarray or isinstance(value, numpy.generic))


def _write_array(value: Any, out: bytearray) -> None:
    """An array in its own order of memory, if that is one of the two plain ones; else in C's."""
    numpy = sys.modules["numpy"]
    array = numpy.asarray(value)
    name = array.dtype.str.encode()
    if not _DTYPE.fullmatch(name) or not array.dtype.itemsize:
        raise TypeError(f"NumPy's {array.dtype!r} has no form in it")
    flipped = array.flags.f_contiguous and not array.flags.c_contiguous
    plain = numpy.ascontiguousarray(array.T if flipped else array)
    out += b"aA"[flipped : flipped + 1] if type(value) is numpy.ndarray else b"g"
    _sized(b"", name, out)
    _sized(b"", struct.pack(f"<{array.ndim}Q", *array.shape), out)
    _sized(b"", plain.view("u1").reshape(-1).data if array.size else b"", out)


# Reading ----------------------------------------------------------------------------------------


class _Reader:
    """Walks over the bytes."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self.left = len(view)
        self._patience = _PATIENCE
        self._nests = False  # a frozenset came: comparing those takes a time that grows with each level of them

    def _take(self, count: int) -> memoryview:
        if count > self.left:
            raise ProtocolError("a value ends before it is whole")
        at = len(self._view) - self.left
        self.left -= count
        return self._view[at : at + count]

    def _count(self) -> int:
        """A length: of bytes, or of values that have one byte each at least."""
        count: int = _COUNT.unpack(self._take(8))[0]
        if count > self.left:
            raise ProtocolError("a value claims to be longer than what came")
        return count

    def _data(self) -> memoryview:
        return self._take(self._count())

    def read(self, depth: int) -> Any:
        """The next value."""
        if depth > DEEPEST:
            raise ProtocolError(f"a value is nested more than {DEEPEST} times")
        tag = self._take(1)[0]
        read = _LEAVES.get(tag)
        if read is not None:
            return read(self)
        make = _CONTAINERS.get(tag)
        if make is None:
            raise ProtocolError(f"no value begins with the byte {tag}")
        return make(self, self._count(), depth + 1)

    def hashed(self, count: int, depth: int, pairs: bool) -> Any:
        """A dict or a set."""
        found: dict[Any, Any] | set[Any] = {} if pairs else set()
        while count:
            some = min(count, _AT_ONCE)
            before = self.left
            if pairs:
                entries = [(self.read(depth), self.read(depth)) for _ in range(some)]
            else:
                entries = [self.read(depth) for _ in range(some)]
            if count <= _FEW and not found and not self._nests:
                found.update(entries)
            else:
                self._patience += some * _PER_KEY + (before - self.left) * _PER_BYTE
                self._put(found, entries)
            count -= some
        return found

    def frozen(self, count: int, depth: int) -> frozenset[Any]:
        """A frozenset."""
        self._nests = True
        return frozenset(self.hashed(count, depth, pairs=False))

    def _put(self, found: Any, entries: list[Any]) -> None:
        """Values that are made to have the same hash take a time that grows with the square of their number."""
        some = 1 if self._nests else 16
        for first in range(0, len(entries), some):
            begin = thread_time()
            found.update(entries[first : first + some])
            self._patience -= thread_time() - begin
            if self._patience < 0:
                raise ProtocolError("keys of a dict or a set collide")

    def number(self, form: struct.Struct) -> Any:
        """So many floats."""
        return form.unpack(self._take(form.size))

    def array(self, tag: int) -> Any:
        """An array or a scalar of NumPy's."""
        name, shaped, data = bytes(self._data()), self._data(), self._data()
        dimensions, odd = divmod(len(shaped), _COUNT.size)
        if odd or dimensions > _MOST_DIMENSIONS or not _DTYPE.fullmatch(name):
            raise ProtocolError("an array has no such type or shape")
        import numpy as np

        dtype, shape = np.dtype(name.decode()), struct.unpack(f"<{dimensions}Q", shaped)
        if not dtype.itemsize or math.prod(shape) * dtype.itemsize != len(data):
            raise ProtocolError("an array's shape is not that of its data")
        flat = np.empty(len(data) // dtype.itemsize, dtype)
        flat.view("u1")[:] = np.frombuffer(data, "u1")
        array = _safe(np, flat).reshape(shape, order="F" if tag == ord("A") else "C")
        return array[()] if tag == ord("g") else array


def _safe(np: Any, array: Any) -> Any:
    """NumPy's own code takes for granted that a bool is 0 or 1, and a character one that there is."""
    if array.dtype.kind == "b":
        return array.view("u1") != 0
    if array.dtype.kind == "U" and array.size:
        codes = array.view(np.dtype("u4").newbyteorder(array.dtype.byteorder))
        if codes.max() > _LAST_CHARACTER:
            raise ProtocolError("an array has a character that there is not")
    return array


_LEAVES: Final[dict[int, Callable[[_Reader], Any]]] = {
    ord("n"): lambda _: None,
    ord("+"): lambda _: True,
    ord("-"): lambda _: False,
    ord("i"): lambda r: int.from_bytes(r._data(), "little", signed=True),
    ord("f"): lambda r: r.number(_NUMBER)[0],
    ord("c"): lambda r: complex(*r.number(_PAIR)),
    ord("s"): lambda r: str(r._data(), "utf-8", "surrogatepass"),
    ord("b"): lambda r: bytes(r._data()),
    ord("B"): lambda r: bytearray(r._data()),
    ord("a"): lambda r: r.array(ord("a")),
    ord("A"): lambda r: r.array(ord("A")),
    ord("g"): lambda r: r.array(ord("g")),
}
_CONTAINERS: Final[dict[int, Callable[[_Reader, int, int], Any]]] = {
    ord("l"): lambda r, count, depth: [r.read(depth) for _ in range(count)],
    ord("t"): lambda r, count, depth: tuple([r.read(depth) for _ in range(count)]),
    ord("S"): lambda r, count, depth: r.hashed(count, depth, pairs=False),
    ord("Z"): lambda r, count, depth: r.frozen(count, depth),
    ord("d"): lambda r, count, depth: r.hashed(count, depth, pairs=True),
}
_SIZES: Final[dict[int, tuple[int, int, int]]] = {
    **dict.fromkeys(b"n+-", (0, 0, _ITEM)),
    ord("f"): (_NUMBER.size, 0, _ITEM),
    ord("c"): (_PAIR.size, 0, _ITEM),
    **dict.fromkeys(b"isbB", (0, 1, _ITEM)),
    **dict.fromkeys(b"aAg", (0, 3, _ITEM)),
    **dict.fromkeys(b"lt", (_COUNT.size, 0, _ITEM)),
    **dict.fromkeys(b"SZd", (_COUNT.size, 0, HEAVIEST)),
}
"""After the byte: how many others; pieces, each with its length before it; what the value weighs without them."""
