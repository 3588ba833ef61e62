"""A future whose call can be taken back from a worker that was sent it and has not begun it.

Who cancels asks in the seat, and waits for the answer: ``dropped`` says that no worker has begun the call and none
will, ``begun`` that one has, or that nobody can know. A thread that asked may be given the callbacks to run; one
that was interrupted meanwhile leaves them to others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from millpond.concluding import CANCELLED, ConcludingFuture

if TYPE_CHECKING:
    from millpond.job import CallStream, Receiver

T = TypeVar("T")

_MINE: Final = "MINE"
_LEFT: Final = "LEFT"


class ReturnableFuture(ConcludingFuture[T]):
    """See the module."""

    _asking: Collection[Asking] = ()  # who waits to hear whether it was taken back
    _job: Any
    _callbacks: Any

    def dropped(self) -> None:
        """Nobody wanted it, and no worker has begun it or will."""
        if self.__dict__.pop("_unsettled", None) is not None:
            self._job = self._callbacks = None
            self._conclude(CANCELLED)

    def begun(self) -> None:
        """It cannot be taken back."""
        for asking in [*self._asking]:
            asking.told = True
        self.changed.wake()

    def _take_back(self, stream: CallStream | None) -> bool:
        """Give up a call that was sent, if no worker has begun it; whether it is cancelled. At most a moment."""
        if stream is not None:
            asking, mine = Asking(self), cast("Receiver", self)
            self.__dict__.setdefault("_asking", deque()).append(asking)
            try:
                self._engine.spare(stream, mine, asking)
            finally:
                self._left(asking)
        return self._state == CANCELLED

    def _left(self, asking: Asking) -> None:
        asking.leave()
        self.__dict__["_asking"].remove(asking)


class Asking:
    """A thread in ``cancel``, as a target to wait for. It may be given the callbacks to run, until it leaves."""

    def __init__(self, result: ReturnableFuture[Any]) -> None:
        self._result = result
        self.told = False

    def ready(self) -> bool:
        return self.told or self._result.ready()

    def park(self, timeout: float | None) -> None:
        self._result.changed.park(self.ready, timeout)

    def inherit(self) -> bool:
        """Give it the callbacks to run; False if it has left."""
        return self._heir(_MINE) == _MINE

    def leave(self) -> None:
        """It waits no longer."""
        self.told = True
        self._heir(_LEFT)

    @property
    def has_inherited(self) -> bool:
        """Whether it is to run the callbacks."""
        return self._heir(_LEFT) == _MINE

    def _heir(self, said: str) -> str:
        heir: str = self.__dict__.setdefault("_said", said)
        return heir
