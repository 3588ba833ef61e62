"""One worker process, as its parent sees it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from millpond.backends.base import Work, WorkerInfo
from millpond.backends.processes.channel import ParentChannel
from millpond.backends.processes.ending import signal_process
from millpond.backends.processes.lookout import Lookout
from millpond.backends.processes.outfit import Outfit
from millpond.core.commands import Span
from millpond.core.events import WorkerId
from millpond.errors import ProtocolError
from millpond.worker import frames
from millpond.worker.answers import PRESS
from millpond.worker.borrower import Borrower, Released
from millpond.worker.frames import Buffer
from millpond.worker.lending import Loan
from millpond.worker.slate import FORKED, IDLE

_BLOCK = 512
"""Bytes of what a file's blocks are counted in."""
_STOPPING = 0.02
"""Seconds that a process may take to stop; one that waits for a disk may not stop at once."""


class _Held(NamedTuple):
    """Tasks of a job in a worker's hands, of which so many make a chunk."""

    seq: int
    stop: int
    first: int  # index in the job
    size: int


class Whole:
    """What a worker was sent of chunks that may not be parted: their tasks share a function that keeps state."""

    def __init__(self) -> None:
        self._held: deque[_Held] = deque()

    def sent(self, work: Sequence[tuple[Work, Span]], seq: int) -> None:
        """It was sent these tasks, the first with this number."""
        for job, (_, start, stop) in work:
            if job.renewal > 1 and not job.reordered:
                self._held.append(_Held(seq, seq + stop - start, start, job.renewal))
            seq += stop - start

    def boundary(self, seq: int, answered: int) -> int:
        """The number, or that of the next task behind it before which there is no such chunk, or its end."""
        held = self._held
        while held and held[0].stop <= answered:
            held.popleft()
        for first, stop, index, size in held:
            if first < seq < stop:
                return min(seq + -(index + seq - first) % size, stop)
        return seq


class Child:
    """A process, its channel and its slate."""

    def __init__(self, number: WorkerId, outfit: Outfit) -> None:
        """Of an outfit whose process has been started."""
        self.id = number
        self.slot = 0  # whose place it has
        self.process = process = outfit.process
        self.channel = ParentChannel(outfit.channel, outfit.decoder)
        self.slate = outfit.slate
        self.outlets: Any = outfit.outlets  # of what it prints, if it is in a sandbox
        self.sentinel: int | None = getattr(process, "sentinel", None)
        self.ready = False
        self.applied: dict[str, Any] | None = None  # of its sandbox, as it says
        self.broken: ProtocolError | None = None  # it sent what no worker sends
        self.doubt = outfit.doubt  # what is kept to judge what it sends (in a sandbox)
        self.heard = 0  # how many of its frames with answers were believed (in a sandbox)
        self.answered = 0  # tasks before this number
        self.suspected: tuple[int, float] | None = None  # what was heard when it was late, and when
        self.recalls = 0  # so far
        self.failed: tuple[int, bytes] | None = None  # its initializer's error
        self.condemned: Any = None  # why it was killed by order
        self.stopping = False  # it ends by itself
        self.writing = False  # its outbox waits for room
        self.next_seq = 0  # the number that the next task sent to it will have
        self.known: set[int] = set()  # jobs whose function it has
        self.whole = Whole()
        # Jobs whose function it need not keep, and places of results that nobody here sees any more.
        self._stale: deque[int | Released] = deque()
        self.arena = Borrower(outfit.arena, self._stale, giving=True)
        self._borrowed: dict[
            int, list[Loan]
        ] = {}  # by their numbers, once for each time they were sent

    @property
    def idle(self) -> bool:
        """Whether it has answered all that it was sent, and waits."""
        answered = self.ready and not self.writing and self.answered == self.next_seq
        return answered and self.slate.read()[2] == IDLE

    def disown(self, error: ProtocolError) -> None:
        """It sent what no worker sends: nothing more of it is believed."""
        self.broken = self.broken or error
        self.process.kill()

    def write(self, lookout: Lookout, buffers: list[Buffer]) -> None:
        """Send frames; have the lookout say when there is room for what the kernel did not take."""
        if buffers and not self.channel.send(buffers) and not self.writing:
            self.writing = True
            lookout.want_room(self.channel.fileno(), True)

    def forget(self, job: int) -> None:
        """The job's function is no longer needed; it is told with the next chunk."""
        self.known.discard(job)
        self._stale.append(job)

    def stale(self) -> list[Buffer]:
        """Frames that tell it what it need not keep; once."""
        if not self._stale:
            return []
        buffers: list[Buffer] = []
        while self._stale:
            stale = self._stale.popleft()
            if isinstance(stale, int):
                buffers += frames.encode(frames.FORGET, seq=stale)
            else:
                buffers += frames.encode(frames.RELEASED, seq=stale.number, flags=stale.empty)
        return buffers

    def borrow(self, loans: list[Loan]) -> None:
        """It is sent what these hold."""
        for loan in loans:
            self._borrowed.setdefault(loan.segment.at, []).append(loan)

    def give_back(self, number: int) -> None:
        """It does not see a segment any more."""
        loans = self._borrowed[number]
        loans.pop()
        if not loans:
            del self._borrowed[number]

    def lost_channel(self) -> None:
        """Its end of the channel is closed: it ends, or a task closed what is not its own."""
        if not self.stopping and self.sentinel is not None and self.process.is_alive():
            self.process.kill()

    def exit_status(self) -> int | None:
        """Its exit code; None if nobody knows."""
        code: int | None = self.process.exitcode
        return None if getattr(self.process, "_exit_unknown", False) else code

    @contextlib.contextmanager
    def stopped(self) -> Iterator[bool]:
        """Stop the process for the time of the context; yields whether it did stop.

        If it has done tasks whose outcomes have not come, it sends them as it goes on: the one that it is in may
        take long.
        """
        pid = self.process.pid
        try:
            signal_process(self.process, signal.SIGSTOP)
        except (ProcessLookupError, PermissionError):
            yield False
            return
        try:
            yield self._has_stopped(pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                if self.slate.read()[0] > self.answered:
                    signal_process(self.process, PRESS)
                signal_process(self.process, signal.SIGCONT)

    @staticmethod
    def _has_stopped(pid: int) -> bool:
        limit = time.monotonic() + _STOPPING
        while True:
            state = _state(pid)
            if state == "T":
                return True
            if state in "ZX" or time.monotonic() > limit:
                return False
            time.sleep(0.0001)

    def lent(self) -> int:
        """Bytes of its file of the arena that have pages. Any thread may ask."""
        fd = self.arena.fd
        try:
            blocks = os.fstat(fd).st_blocks
        except OSError:  # it was closed
            return 0
        # Where it was closed meanwhile, that may have been another file.
        return blocks * _BLOCK if fd == self.arena.fd else 0

    def info(self) -> WorkerInfo:
        """What is known of it now. Any thread may ask."""
        try:
            first, _, phase, began = self.slate.now()
        except ValueError:  # it has ended, and its slate was let go of
            return WorkerInfo(self.process.pid, None, None, self.applied)
        running = None
        if phase != IDLE:
            running = first, max(0.0, (time.monotonic_ns() - began) / 1e9)
        return WorkerInfo(self.process.pid, running, _resident(self.process.pid), self.applied)

    def close(self) -> None:
        """Let go of the descriptors; the process is not touched."""
        self.channel.close()
        for outlet in self.outlets:
            outlet.close()
        self.arena.close()
        if self._borrowed and self.slate.words[FORKED]:
            for loan in chain(*self._borrowed.values()):
                loan.lasting = True
        self._borrowed.clear()
        with contextlib.suppress(ValueError):
            self.slate.close()


def _state(pid: int) -> str:
    """The state letter of a process, as in proc(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def _resident(pid: int) -> int | None:
    """Bytes of memory that a process occupies."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError):
        return None
