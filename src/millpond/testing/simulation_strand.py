"""Threads of the simulated world: each runs only when it is given steps, and as many as it is given.

Where all is driven by one thread, greenlets do the same in half the time, if that package is installed.

Rules: at any time one thread runs, the world's or one strand's; a strand can end only at a step; a doomed
strand raises ``Doom`` at every step, so that whatever code is on its stack unwinds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache


class Doom(BaseException):
    """The worker is dead; what still runs of it has no effect any more."""


class Loom:
    """The threads that strands run on. Starting one costs more than many a strand's whole life.

    ``light``: all strands are run by one thread, so that greenlets will do.
    """

    def __init__(self, light: bool = False) -> None:
        self._idle: list[_Carrier] = []
        self._make = _light_carrier() if light else _Carrier

    def take(self, body: Callable[[], None]) -> _Carrier:
        """A thread that will run ``body``, once it is let go."""
        carrier = self._idle.pop() if self._idle else self._make()
        carrier.body = body
        return carrier

    def give_back(self, carrier: _Carrier) -> None:
        """Its body has ended."""
        self._idle.append(carrier)

    def close(self) -> None:
        """End the threads."""
        for carrier in self._idle:
            carrier.end()
        self._idle.clear()


class _Carrier:
    """A thread that takes turns with another one."""

    def __init__(self) -> None:
        self.body: Callable[[], None] | None = None
        self._go = threading.Lock()
        self._back = threading.Lock()
        self._go.acquire()
        self._back.acquire()
        self._thread = threading.Thread(target=self._run, name="millpond-simulated", daemon=True)
        self._thread.start()

    def go(self) -> None:
        """Let it run until it takes its turn."""
        self._go.release()
        self._back.acquire()

    def pause(self) -> None:
        """On the thread: it is the other's turn."""
        self._back.release()
        self._go.acquire()

    def end(self) -> None:
        self.body = None
        self.go()
        self._thread.join()

    def _run(self) -> None:
        self._go.acquire()
        while self.body is not None:
            self.body()
            self.pause()
        self._back.release()


@cache
def _light_carrier() -> type[_Carrier]:
    try:
        from greenlet import getcurrent, greenlet
    except ImportError:
        return _Carrier

    class GreenCarrier(_Carrier):
        """A greenlet instead of a thread."""

        def __init__(self) -> None:
            self.body: Callable[[], None] | None = None
            self._greenlet = greenlet(self._weave)
            self._giver: greenlet | None = None

        def go(self) -> None:
            self._giver = getcurrent()
            self._greenlet.switch()

        def pause(self) -> None:
            assert self._giver is not None
            self._giver.switch()

        def end(self) -> None:
            self.body = None
            self.go()

        def _weave(self) -> None:
            while self.body is not None:
                self.body()
                self.pause()

    return GreenCarrier


class Strand:
    """What runs when it is told to, and as far."""

    def __init__(self, loom: Loom, body: Callable[[], None]) -> None:
        self._loom = loom
        self._body = body
        self._carrier: _Carrier | None = None
        self._left = 0
        self._awaited: Callable[[], bool] | None = None
        self._doomed = False
        self.failure: BaseException | None = None  # that ended it, and was not expected to
        self.over = False
        self.here = False  # it is the one that runs

    @property
    def runnable(self) -> bool:
        """Whether it would do something if it was given steps."""
        return not self.over and (self._awaited is None or self._awaited())

    def run(self, steps: int) -> None:
        """Let it take so many steps, or fewer if it has to wait for something."""
        if self.over:
            return
        if self._carrier is None:
            self._carrier = self._loom.take(self._live)
        self._left = steps
        self.here = True
        self._carrier.go()
        self.here = False
        self._retire(self._carrier)

    def _retire(self, carrier: _Carrier) -> None:
        if self.over:
            self._loom.give_back(carrier)

    def doom(self) -> None:
        """End it where it is."""
        self._doomed = True
        if self._carrier is None:
            self.over = True
        elif not self.here:
            self.run(1)

    def step(self) -> None:
        """On the strand: a place where others may come in between, or where it may end."""
        if self._left <= 0 and not self._doomed:
            self._pause()
        self._left -= 1
        if self._doomed:
            raise Doom

    def wait_until(self, awaited: Callable[[], bool]) -> None:
        """On the strand: let others run until something has come true."""
        while not (self._doomed or awaited()):
            self._awaited = awaited
            self._pause()
        self._awaited = None
        self.step()

    def _pause(self) -> None:
        assert self._carrier is not None
        self._carrier.pause()

    def _live(self) -> None:
        try:
            self._body()
        except Doom:
            pass
        except BaseException as failure:
            self.failure = failure
        self.over = True
