"""The thread on which the caller's callbacks run, in the order in which their calls ended."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

from millpond.report import report


class Callee(Protocol):
    """What has callbacks."""

    def run_callbacks(self) -> None: ...


class CallbackThread:
    """Started with the first callback; ``ring`` is called after each, since somebody may wait for it."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._queue: SimpleQueue[Callee | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._unstarted = True  # the token of who starts it
        self._open: deque[None] = deque()  # one for each that has not returned

    def put(self, result: Callee) -> None:
        """Run the result's callbacks."""
        self._open.append(None)
        self._queue.put(result)
        if self._thread is None:
            self._start()

    def busy(self) -> bool:
        """Whether there are callbacks that have not returned."""
        return bool(self._open)

    def _start(self) -> None:
        """No lock: garbage collection may come here while this thread is here. Who pops the token starts it."""
        if self.__dict__.pop("_unstarted", None) is None:
            return
        thread = threading.Thread(target=self._run, name="millpond-callbacks", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._unstarted = True  # the next who comes tries again
        else:
            self._thread = thread

    def stop(self) -> None:
        """End the thread after what is queued."""
        if self._thread is None and not self._queue.empty():
            self._start()
        self._queue.put(None)

    def join(self) -> None:
        """Wait until it has ended, unless this is it."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        while (result := self._queue.get()) is not None:
            try:
                result.run_callbacks()
            except BaseException as exception:
                report(exception)
            result = None
            self._open.popleft()
            self._ring()
