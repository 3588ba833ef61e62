"""``PoolFuture``: one call of an executor, with exactly the contract of ``concurrent.futures``.

An ``AsyncResult`` but for ``cancel``, which gives up only what has not begun. ``cancel`` and ``claim`` meet in
one atomic step (``dict.setdefault``): whichever is first decides, and whoever asks later sees the same. The
thread that cancels runs the callbacks, as in concurrent.futures; one that was interrupted leaves them to the
callback thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from millpond.concluding import CANCELLED, PENDING
from millpond.interrupts import Deferral
from millpond.results import SENT, AsyncResult
from millpond.tolerance import value_of_call
from millpond.worker.interrupted import let_through

if TYPE_CHECKING:
    from millpond.engine import Engine
    from millpond.job import CallStream
    from millpond.taking_back import Asking

__all__ = ["PoolFuture"]

T = TypeVar("T")


class PoolFuture(AsyncResult[T]):
    """See the module. Whoever waits in ``result`` or ``exception`` drives the pool."""

    stream: CallStream | None = None  # of which it is a call

    def __init__(self, engine: Engine, let_go: Callable[[PoolFuture[Any]], None]) -> None:
        """``let_go`` is called when it is done and its callbacks have run."""
        super().__init__(engine)
        self._let_go = let_go

    def cancel(self) -> bool:
        """Give the call up if no worker has begun it; whether it is cancelled, and will never run.

        The callbacks run here, before this returns. Where nobody can know within a moment, it is not cancelled.
        """
        if self._state != PENDING:
            return self._state == CANCELLED
        if self._fate(CANCELLED) != CANCELLED:
            return self._take_back(self.stream)
        callbacks: list[Callable[[Any], object]] = []
        try:
            with Deferral(_nothing):
                if self.__dict__.pop("_unsettled", None) is not None:
                    with self._condition:
                        callbacks, self._done_callbacks = self._done_callbacks, callbacks
                    self._conclude(CANCELLED)
                    self._engine.life.seat.nudge()  # who waits for it may be the one who drives
        finally:
            for callback in callbacks:
                self.add_done_callback(callback)  # it is done: called at once
        return True

    def running(self) -> bool:
        """Whether a worker has begun it, and it has not completed."""
        if self.stream is None or not super().running():
            return super().running()
        return self._engine.has_begun(self.stream, self) and self._state == PENDING

    def claim(self) -> bool:
        """The call is to be sent; False if it was cancelled."""
        self._sent = self._fate(SENT) == SENT
        return self._sent

    def settle(self, outcome: Any) -> None:
        """The call has ended with this."""
        if self._fate(SENT) == SENT:
            super().settle(outcome)

    def _call_back(self) -> None:
        if not any(asking.inherit() for asking in [*self._asking]):
            super()._call_back()

    def _left(self, asking: Asking) -> None:
        super()._left(asking)
        if asking.has_inherited:
            self.run_callbacks()

    def run_callbacks(self) -> None:
        """On the callback thread. What they raise is logged."""
        try:
            self._invoke_callbacks()  # type: ignore[attr-defined]
        finally:
            self._done_callbacks = []
            self._leave()

    def _conclude(self, state: str) -> None:
        super()._conclude(state)
        if not self._done_callbacks:
            self._leave()

    def _decode(self, outcome: Any, job: Any) -> Any:
        try:
            return value_of_call(outcome, job)
        except Exception as error:
            let_through(error)
            from millpond.contract import widened

            wide = widened(error, outcome, processes=self._engine.can_kill)
            if wide is error:
                raise
        raise wide

    def _leave(self) -> None:
        self._let_go(self)
        self._let_go = _nobody  # from here on it does not keep the pool alive
        if self._parking is not None:
            self._parking.wake()


def _nobody(_: PoolFuture[Any]) -> None:
    """It has left."""


def _nothing() -> None:
    """Ctrl-C has nobody to wake."""
