"""``progress=``: what a caller wants to see of a call, and the thread that looks at all of them.

Rules:

1. The thread reads counts, some times a second, and never touches the engine. It lives while something is
   watched; a watch ends when its job is over or withdrawn, or when whoever took the result says so.
2. No view is called under a lock. One that raises is reported, once, and not called again; nothing that a view
   does or raises reaches the work.
3. The last snapshot is read after the job was seen to be over, so it is exact.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable

from millpond.parking import Flag, Parking
from millpond.report import report
from millpond.watch.displays import best_view
from millpond.watch.snapshot import Meter, Snapshot, Watched
from millpond.watch.views import Told, View

INTERVAL = 0.1
"""Seconds between two looks at a job."""
_QUIET = 1.0
"""Seconds after which a job is shown again though nothing has changed."""
_PATIENCE = 5.0
"""Seconds that ``finish`` waits for a callable, or for a terminal that takes no text."""

_changing = (
    threading.RLock()
)  # held to add a watch, and to end the thread; nothing is called under it


class Progress:
    """One watched job."""

    def __init__(self, job: Watched, description: str, view: View, now: float) -> None:
        self.ended = Flag()
        self._job: Watched | None = job
        self._meter = Meter(description, now)
        self._view = view
        self._shown: Snapshot | None = None
        self._due = now  # not looked at again before
        self._finished = False
        self._watcher: Watcher | None = None
        self._pid = os.getpid()

    def finish(self, *, wait: bool = True) -> None:
        """Nobody will wait for the job any more: show how far it came, and end the watch.

        Returns when that has been done. Without ``wait``, or in a callable that is told of progress, it is done
        soon. May be called often, by any thread; without ``wait``, by garbage collection too.
        """
        self._finished = True
        if wait and self._watcher is not None and self._pid == os.getpid():
            self._watcher.attend(self.ended)

    @property
    def closing(self) -> bool:
        """Whether the next look is the last."""
        job = self._job
        return self._finished or job is None or job.over or job.withdrawn

    def look(self, now: float) -> bool:
        """Show the job if that is due; whether this was the last look."""
        last = self.closing  # before the counts are read, rule 3
        job = self._job
        if job is None or (now < self._due and not last):
            return last
        self._due = now + 0.9 * INTERVAL
        snapshot = self._meter.read(job, now, last)
        if last:
            self._job = None  # what the job holds may be large
            self._call(self._view.close, snapshot)
        elif self._is_news(snapshot):
            self._shown = snapshot
            self._call(self._view.show, snapshot)
        return last

    def refresh(self) -> None:
        """All jobs have been looked at."""
        try:
            self._view.refresh()
        except BaseException as failure:
            self._abandon(failure)

    def _is_news(self, snapshot: Snapshot) -> bool:
        shown = self._shown
        if shown is None or snapshot.elapsed - shown.elapsed >= _QUIET:
            return True
        return snapshot[1:5] != shown[1:5]

    def _call(self, told: Callable[[Snapshot], object], snapshot: Snapshot) -> None:
        try:
            told(snapshot)
        except BaseException as failure:
            self._abandon(failure)

    def _abandon(self, failure: BaseException) -> None:
        self._view = View()
        report(failure)


class Watcher:
    """The thread that looks at every watched job of the process, while there is one."""

    def __init__(self) -> None:
        self.watched: list[Progress] = []  # replaced, never changed
        self._retired = False
        self._rung = False
        self._bell = Parking()
        self._thread = threading.Thread(target=self._run, name="millpond-progress", daemon=True)
        self.start = self._thread.start

    def attend(self, ended: Flag) -> None:
        """Look now; wait until the watch has ended, and with the last one the thread."""
        if self._thread is threading.current_thread():
            return
        self._rung = True
        self._bell.wake()
        deadline = time.monotonic() + _PATIENCE
        while not ended.ready() and (left := deadline - time.monotonic()) > 0:
            ended.park(left)
        if self._retired:
            self._thread.join(max(deadline - time.monotonic(), 0.0))

    def _run(self) -> None:
        while not self._retired:
            self._rung = False
            ended = self.look(time.monotonic())
            with _changing:
                self.watched = [each for each in self.watched if each not in ended]
                self._retired = not self.watched
                if self._retired:
                    _retire(self)
            for each in ended:
                each.ended.set()
            if not self._retired:
                self._bell.park(self._is_rung, INTERVAL)

    def look(self, now: float) -> list[Progress]:
        """Look at every job once; those that were looked at for the last time."""
        watched = self.watched
        ended = [each for each in watched if each.look(now)]
        for each in watched:
            each.refresh()
        return ended

    def _is_rung(self) -> bool:
        return self._rung


def start(job: Watched, wanted: bool | str | Callable[[Snapshot], object]) -> Progress:
    """Watch the job, as ``progress=`` says: True, a description, or a callable that gets snapshots."""
    description = wanted if isinstance(wanted, str) else job.name
    try:
        view = Told(wanted) if callable(wanted) else best_view()
    except Exception as failure:  # a display that does not work is no reason not to work
        report(failure)
        view = View()
    progress = Progress(job, description, view, time.monotonic())
    try:
        _watch(progress)
    except RuntimeError as failure:  # no thread can be started
        report(failure)
        progress.ended.set()
    return progress


def catch_up(*, everything: bool = False) -> None:
    """End the watches of jobs that are over or withdrawn (or all), as ``Progress.finish`` does."""
    watcher = _watcher
    for progress in () if watcher is None else watcher.watched:
        if everything or progress.closing:
            progress.finish()


_watcher: Watcher | None = None


def _watch(progress: Progress) -> None:
    global _watcher
    with _changing:
        if _watcher is not None:
            watcher = _watcher
            watcher.watched = [*watcher.watched, progress]
        else:
            _watcher = watcher = Watcher()
            watcher.watched = [progress]
            try:
                watcher.start()
            except BaseException:
                watcher.watched = []  # whether it runs or not
                _watcher = None
                raise
        progress._watcher = watcher


def _retire(watcher: Watcher) -> None:
    global _watcher
    if _watcher is watcher:
        _watcher = None


def _in_child() -> None:
    """A forked copy of the program has no such thread, and perhaps a lock that nobody gives back."""
    global _watcher, _changing
    _watcher = None
    _changing = threading.RLock()


os.register_at_fork(after_in_child=_in_child)
atexit.register(
    catch_up, everything=True
)  # the last state stays on the screen, and the line is ended
