"""Instances of classes that came to this worker by value, on their way back.

The other side has the class, under a name that is not found there (it is local, or of a ``__main__`` that
``runpy`` made, or of a module as it was later than here). It travels as the number that cloudpickle gave it
when it sent it, so what arrives is an instance of the very class that was sent.
"""

from __future__ import annotations

import io
import pickle
import sys
from typing import Any

from millpond.worker.parcels import PROTOCOL, Pickler

_CLOUDPICKLE = "cloudpickle.cloudpickle"


def may_be_in(refusal: BaseException) -> bool:
    """Whether pickle may have refused for such a class."""
    refused = issubclass(type(refusal), pickle.PicklingError | AttributeError | TypeError)
    return refused and bool(_numbers())


def dump(value: object) -> bytes:
    """As ``parcels.dump``, with such classes by their number; large buffers are copied."""
    file = io.BytesIO()
    _Numbering(file, PROTOCOL).dump(value)
    return file.getvalue()


class _Numbering(Pickler):
    def reducer_override(self, obj: Any) -> Any:
        number = _numbers().get(obj) if isinstance(obj, type) else None
        return NotImplemented if number is None else (that_was_sent, (number, obj.__qualname__))


def that_was_sent(number: str, name: str) -> type:
    """The class that this process sent by value."""
    module: Any = sys.modules.get(_CLOUDPICKLE)
    sent = module._DYNAMIC_CLASS_TRACKER_BY_ID.get(number) if module is not None else None
    if sent is None:
        raise AttributeError(f"the class {name!r}, which was sent by value, is gone")
    return sent  # type: ignore[no-any-return]


def _numbers() -> Any:
    """Classes that came, or went, by value, with their numbers."""
    module: Any = sys.modules.get(_CLOUDPICKLE)
    return {} if module is None else module._DYNAMIC_CLASS_TRACKER_BY_CLASS
