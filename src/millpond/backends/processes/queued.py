"""What is sent to the workers of a pool that has queues of its own."""

from __future__ import annotations

from typing import Any

from millpond.backends.processes.packing import Encoded, ProcessPacking
from millpond.worker.codec import CALL, GONE
from millpond.worker.conduct import Conducted
from millpond.worker.frames import Buffer
from millpond.worker.parcels import Parcel, Put
from millpond.worker.queued import posted, sent


class QueuedPacking(ProcessPacking):
    """A packing that has the pool's queue pickle each value, and the functions that are no module's."""

    def __init__(self, main_importable: bool, put: Put | None = None, *, key: str) -> None:
        super().__init__(main_importable, put)
        self._key = key

    def function(self, function: Any) -> bytes | Parcel:
        return super().function(self._posted(function))

    def by_value(self, function: Any) -> bytes | Parcel:
        return super().by_value(self._posted(function))

    def argument(self, style: int, argument: Any, function: Any = None) -> Any:
        if style == CALL:
            args, kwds = argument
            argument = (
                tuple(sent(self._key, value) for value in args),
                {name: sent(self._key, value) for name, value in kwds.items()},
            )
        else:
            argument = sent(self._key, argument)
        return super().argument(style, argument, function)

    def _blob(self, job: Any, index: int, item: Any) -> Buffer | Parcel | None:
        if type(item) is not Encoded and type(item) is not Parcel and item is not GONE:
            item = sent(self._key, item)
        return super()._blob(job, index, item)

    def _posted(self, function: Any) -> Any:
        if type(function) is Conducted:
            return function._replace(function=posted(self._key, function.function))
        return posted(self._key, function)
