"""Pickling by reference where the other process can import, by value where it cannot.

Rules: plain pickle (with ForkingPickler's reducers) goes first, cloudpickle only where that refuses
or where what it wrote refers to a ``__main__`` that the other process does not have; cloudpickle is
imported on first need; the functions and classes of ``__main__`` that travel by value all live in
the one ``__main__`` of the receiving process, where a name that its own code has set is not
overwritten.
"""

from __future__ import annotations

import io
import pickle
import sys
import types
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any, ClassVar

from millpond.worker import main_namespace
from millpond.worker.parcels import PROTOCOL as PROTOCOL
from millpond.worker.parcels import Aside, Parcel, Pickler, Put, dump, parcel, stays

if TYPE_CHECKING:
    from millpond.worker.frames import Buffer

_REFUSALS = (pickle.PicklingError, AttributeError, TypeError)

_WITH_SETTER = 6
"""Items of a reduction that says how its state is set."""

Names = Mapping[int, str]
"""id of an object that the other process has already -> the name that it has there."""


def dumps(
    obj: object,
    *,
    main_importable: bool,
    names: Names | None = None,
    again: Callable[[], object] | None = None,
) -> bytes:
    """``obj`` as bytes for ``loads`` in another process.

    ``main_importable`` says whether that process has this one's ``__main__``. Raises what plain
    pickle raises where neither way works. ``again`` is called before a second attempt, which runs
    the reducers of what ``obj`` holds a second time.
    """
    return _dump(obj, main_importable, None, names, again)


def pack(obj: object, *, main_importable: bool, put: Put | None) -> bytes | Parcel:
    """``dumps``, with large buffers laid in the arena by ``put``."""
    if put is None:
        return _dump(obj, main_importable, None)
    aside: Aside = []
    return parcel(_dump(obj, main_importable, aside), aside, put)


def pack_by_value(obj: object, *, main_importable: bool, put: Put | None) -> bytes | Parcel:
    """``obj`` with what the other process cannot import sent along."""
    if put is None:
        return _dump_by_value(obj, main_importable, None)
    aside: Aside = []
    return parcel(_dump_by_value(obj, main_importable, aside), aside, put)


def _dump(
    obj: object,
    main_importable: bool,
    aside: Aside | None,
    names: Names | None = None,
    again: Callable[[], object] | None = None,
) -> bytes:
    refusal: Exception | None = None
    try:
        data = dump(obj, aside) if names is None else _dump_naming(obj, names)
        if main_importable or not (b"__main__" in data or b"__mp_main__" in data):
            return data
    except _REFUSALS as error:
        refusal = error
    if aside:
        aside.clear()
    if again is not None:
        again()
    try:
        return _dump_by_value(obj, main_importable, aside, names)
    except Exception:
        if refusal is None:
            raise
        raise refusal from None
    finally:
        refusal = None  # its traceback holds this frame, and with it the callers'


def _dump_naming(obj: object, names: Names) -> bytes:
    file = io.BytesIO()
    _NamingPickler(file, names).dump(obj)
    return file.getvalue()


def _dump_by_value(
    obj: object, main_importable: bool, aside: Aside | None, names: Names | None = None
) -> bytes:
    file = io.BytesIO()
    pickler = _value_pickler()
    if not main_importable:
        _send_imported_main_by_value()
    keep = None if aside is None else partial(stays, aside)
    pickler(file, main_importable, names or {}, keep).dump(obj)
    return file.getvalue()


def loads(data: Buffer, *, names: Mapping[str, object] | None = None) -> Any:
    """What ``dumps`` was given; ``names`` is what its names stand for here."""
    if names is None:
        return pickle.loads(data)
    return _NamingUnpickler(io.BytesIO(data), names).load()


class _NamingPickler(Pickler):
    """Objects that the other process has already travel as their names."""

    def __init__(self, file: io.BytesIO, names: Names) -> None:
        super().__init__(file, PROTOCOL)
        self._names = names

    def persistent_id(self, obj: object) -> str | None:
        return self._names.get(id(obj))


class _NamingUnpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, names: Mapping[str, object]) -> None:
        super().__init__(file)
        self._names = names

    def persistent_load(self, pid: str) -> object:
        return self._names[pid]


_value_pickler_class: Any = None


def _value_pickler() -> Any:
    """The class that pickles by value, made when cloudpickle is first needed."""
    global _value_pickler_class
    if _value_pickler_class is None:
        _value_pickler_class = _make_value_pickler()
    return _value_pickler_class


def _make_value_pickler() -> Any:
    from collections import ChainMap

    import cloudpickle  # type: ignore[import-untyped]

    class ValuePickler(cloudpickle.Pickler):  # type: ignore[misc]
        """cloudpickle with ForkingPickler's reducers, and one ``__main__`` for all it sends."""

        # On the class, where pickle's C code looks for it.
        dispatch_table: ClassVar[Any] = ChainMap(
            cloudpickle.Pickler.dispatch_table,
            ForkingPickler._extra_reducers,  # type: ignore[attr-defined]
        )

        def __init__(
            self, file: io.BytesIO, main_importable: bool, names: Names, keep: Any
        ) -> None:
            super().__init__(file, protocol=PROTOCOL, buffer_callback=keep)
            self._names = names
            self._main = vars(sys.modules["__main__"])
            self._main_importable = main_importable
            # Functions that share these globals here share the main namespace there.
            self.globals_ref[id(self._main)] = main_namespace.Here()

        def persistent_id(self, obj: object) -> str | None:
            return self._names.get(id(obj))

        def reducer_override(self, obj: Any) -> Any:
            if not isinstance(obj, type | types.FunctionType):
                return super().reducer_override(obj)
            in_main = _named_in(obj, self._main)
            if in_main and self._main_importable:
                return NotImplemented  # by reference
            reduced = super().reducer_override(obj)
            if type(reduced) is tuple and len(reduced) == _WITH_SETTER and isinstance(obj, type):
                reduced = (*reduced[:-1], main_namespace.set_class_state)
            return _placed(obj, reduced, self._main) if type(reduced) is tuple else reduced

    return ValuePickler


def _send_imported_main_by_value() -> None:
    """In a child that imported its parent's main module, ``__main__`` goes by another name."""
    import cloudpickle

    main = sys.modules["__main__"]
    if main.__name__ == "__mp_main__" and "__mp_main__" in sys.modules:
        cloudpickle.register_pickle_by_value(main)


def _named_in(obj: Any, main: dict[str, Any]) -> bool:
    """Whether ``obj`` is what its name says in ``__main__``."""
    return obj.__module__ in ("__main__", "__mp_main__") and main.get(obj.__qualname__) is obj


def _placed(obj: Any, reduced: tuple[Any, ...], main: dict[str, Any]) -> tuple[Any, ...]:
    """cloudpickle's reduction of a function or class, changed to live in the receiver's main."""
    if getattr(obj, "__globals__", None) is main:
        reduced = _into_main(reduced)
    if _named_in(obj, main):
        reduced = (main_namespace.made_there, (obj.__name__, *reduced[:2]), *reduced[2:])
    return reduced


def _into_main(reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """cloudpickle's reduction of a function, its globals set only where the receiver has not."""
    attributes, slots = reduced[2]
    slots = {**slots, "__globals__": main_namespace.Sent(slots["__globals__"])}
    return (*reduced[:2], (attributes, slots), *reduced[3:])
