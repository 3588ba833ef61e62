"""An engine's life: driven while there is work, closed or terminated once, finished once.

What ends it runs in the seat; it leaves no worker, no waiter and no thread behind.
"""

from __future__ import annotations

from collections.abc import Callable

from millpond import logs
from millpond.backends.base import Logged
from millpond.callbacks import CallbackThread
from millpond.core.events import Closing
from millpond.driver import Driver
from millpond.outside import Entangled
from millpond.parking import Flag
from millpond.seat import Seat


class Life:
    """See the module. ``on_finish`` is called at the end, whoever brought it about."""

    def __init__(self, driver: Driver, attended: bool, clock: Callable[[], float]) -> None:
        self._driver = driver
        driver.on_quiet = self.finish_if_over
        self.on_finish: Callable[[], object] = _nothing
        self.end = Flag()
        self.seat = Seat(self, driver.backend.bells, attended, clock)
        self.callbacks = CallbackThread(self.seat.nudge)
        driver.outside.called_back = self.callbacks.busy

    # What the seat asks ---------------------------------------------------------------------------

    @property
    def inbox(self) -> object:
        """What waits to be looked at."""
        return self._driver.intake.inbox

    @property
    def stepping(self) -> bool:
        """Whether state is being changed."""
        return self._driver.stepping

    @property
    def finished(self) -> bool:
        """Whether every worker has gone and no work will be taken."""
        return self._driver.finished

    def outstanding(self) -> bool:
        """Whether somebody should drive though nobody waits."""
        driver = self._driver
        if driver.closing:
            return not self.finished
        return bool(driver.jobs) or driver.scheduler.short

    def quiet(self) -> bool:
        """Whether nothing can be done now."""
        return self.finished or not (self.inbox or not self._driver.scheduler.quiet)

    def drive(self, ready: Callable[[], bool], deadline: float | None, waited_for: bool) -> None:
        """Run the loop until ``ready()`` or the deadline; ``waited_for`` as in ``Driver.run``."""
        driver = self._driver
        outer, driver.stepping = driver.stepping, True
        try:
            driver.run(ready, deadline, self.seat, waited_for)
        except Entangled:
            raise  # this wait alone has no end
        except BaseException:
            # The engine itself failed: nobody may wait for ever.
            self.seat.asleep = False
            driver.closing = True
            self.terminate(0)
            raise
        finally:
            driver.stepping = outer

    # How it ends ----------------------------------------------------------------------------------

    def finish_if_over(self) -> None:
        """Closed, and the last job has ended: let the workers go. The last has gone: finish."""
        driver = self._driver
        if not self._driver.closing or driver.jobs or self.finished:
            return
        if driver.scheduler.workers:
            driver.step(Closing())
        if not driver.scheduler.workers and not self.finished:
            driver.backend.close(0)
            self._finish()

    def terminate(self, grace: float) -> None:
        """End the workers now. Raises CannotKill if some could not be ended; it has finished all the same."""
        if self.finished:
            return
        try:
            left = self._driver.backend.close(grace)
        finally:
            self._driver.jobs.withdraw()
            self._finish()
        for event, _ in left:
            if isinstance(event, Logged):
                logs.reissue(event.body)

    def _finish(self) -> None:
        self._driver.finish()
        self._driver.intake.reject()
        self.callbacks.stop()
        self.end.set()
        self.seat.dismiss()
        self.on_finish()


def _nothing() -> None:
    """Nobody asked to be told."""
