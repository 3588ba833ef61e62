"""The backend of worker processes: see the package."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from millpond import errors
from millpond.backends.base import Logged, Report, Work, WorkerInfo
from millpond.backends.processes import arena
from millpond.backends.processes.child import Child
from millpond.backends.processes.death import Broken, Death, Late, StartFailure, Unwanted
from millpond.backends.processes.ending import end_all
from millpond.backends.processes.lookout import Lookout
from millpond.backends.processes.out_of_memory import Kills
from millpond.backends.processes.outfit import Outfit
from millpond.backends.processes.packing import ProcessPacking, encoded_call, refused
from millpond.core.commands import Span
from millpond.core.events import Done, Ended, Lost, Ready, Recalled, WorkerId
from millpond.worker import frames, last_words, raised
from millpond.worker.codec import CALL, GONE
from millpond.worker.frames import Frame
from millpond.worker.loop import Settings
from millpond.worker.outcome import decode_batch, no_room, offsets_again
from millpond.worker.parcels import Parcel
from millpond.worker.place import Place
from millpond.worker.segments import BODY
from millpond.worker.slate import DECODING, IDLE, NEXT, RUNNING

_LARGE = 1 << 16
"""Bytes of a function from which on workers are told at once when it is no longer needed."""

_LOADING = 60.0
"""Seconds that a function and its arguments may take to load, imports too, beyond the limit of a task."""

_TOO_LARGE = range(BODY)
"""Stands for what takes more memory than there is."""

_live: weakref.WeakSet[ProcessBackend] = weakref.WeakSet()


class ProcessBackend:
    """Workers are processes of ``context``; ``server`` starts them where it is not None.

    ``places``: one for each worker; one that replaces another takes its place. ``outfits``: of the first workers,
    where those are being started already, by a server that is this backend's alone, as it is where workers are in
    a sandbox. ``packing``: what encodes.
    """

    def __init__(
        self,
        context: Any,
        settings: Settings,
        places: Sequence[Place] = (Place({}),),
        *,
        main_importable: bool = True,
        server: Any = None,
        outfits: Sequence[Outfit] = (),
        packing: Callable[..., ProcessPacking] = ProcessPacking,
    ) -> None:
        self._context = context
        self._settings = settings
        self._places = places
        self._server = server
        self._outfits = deque(outfits)
        self._children: dict[WorkerId, Child] = {}
        self._reports: list[Report] = []
        self._now = time.monotonic_ns
        self._kills = Kills()
        self._distrusts = settings.sandbox is not None
        self._arena = outfits[0].lent if outfits else arena.join()
        self._ends = contextlib.ExitStack()
        self._ends.callback(arena.leave, self._arena)
        if outfits or (server is not None and self._distrusts):
            self._ends.callback(server.close)
        self._ends.callback(_close_all, self._outfits)
        # Other pools' arguments are in the file, too: who is not trusted does not get it.
        put = None if self._distrusts else self._arena.put
        self.packing = packing(main_importable, put)
        try:
            self._lookout = self.bells = Lookout()
        except OSError:
            self._ends.close()
            raise
        self.kills = True
        _live.add(self)

    # Work -----------------------------------------------------------------------------------------

    def send(self, worker: WorkerId, seq: int, work: Sequence[tuple[Work, Span]]) -> int:
        child = self._children.get(worker)
        if child is None:
            return 0
        job, span = work[0]
        if job.style == CALL and span.stop - span.start == 1 == len(work) and job.id in child.known:
            (payload,) = job.arguments(span.start, span.stop)
            straight = type(payload) is not Parcel and job.id not in self.packing.large
            if payload is not GONE and straight:  # the straight line: a frame without an index
                try:
                    payload = encoded_call(payload)
                except MemoryError:
                    payload = _TOO_LARGE
                if len(payload) < BODY:
                    child.next_seq = seq + 1
                    call = frames.encode(frames.CALL, (payload,), count=job.id, seq=seq)
                    child.write(self._lookout, [*child.stale(), *call])
                    return len(payload)
                self.packing.large.add(job.id)  # from now on none of them is tried here
        try:
            body, loans = self.packing.chunk(child.known, work)
        except Exception as failure:  # not even one by one: no memory
            body, loans = refused(child.known, work, failure), []
        count = sum(span.stop - span.start for _, span in work)
        child.whole.sent(work, seq)
        child.next_seq = seq + count
        frame = frames.encode(frames.CHUNK, body, count=count, seq=seq)
        child.write(self._lookout, [*child.stale(), *frame])
        size = sum(map(len, body))
        if loans:
            child.borrow(loans)
            size += sum(map(len, loans))
        return size

    def forget(self, work: Work) -> None:
        self.packing.forget(work.id)
        for child in self._children.values():
            if work.id in child.known:
                child.forget(work.id)
                if len(work.function) >= _LARGE:
                    child.write(self._lookout, child.stale())

    # Workers --------------------------------------------------------------------------------------

    def start(self, worker: WorkerId) -> None:
        # One that is leaving may do so for long, and its place be given to another.
        taken = {child.slot for child in self._children.values() if not child.stopping}
        slot = next(number for number in count() if number not in taken)
        place = self._places[slot % len(self._places)]
        if self._outfits:
            outfit = self._outfits.popleft()
        else:
            outfit = Outfit(self._context, self._settings, place, self._arena)
        outfit.start(self._server)
        child = Child(worker, outfit)
        child.slot = slot
        child.arena.keep = arena.kept_of_results(len(self._places))
        self._children[worker] = child
        watch = self._lookout.watch
        watch(child.channel.fileno(), lambda events: self._on_channel(child, events))
        for outlet in child.outlets:
            watch(outlet.fileno(), lambda _: self._take(child, []))
        if child.sentinel is not None:
            watch(child.sentinel, lambda _: self._on_death(child), end=True)

    def stop(self, worker: WorkerId) -> None:
        child = self._children.get(worker)
        if child is not None:
            child.stopping = True
            child.write(self._lookout, frames.encode(frames.STOP))

    def kill(self, worker: WorkerId) -> None:
        child = self._children.get(worker)
        if child is not None:
            child.process.kill()

    def recall(
        self,
        worker: WorkerId,
        unwanted: Sequence[tuple[int, int]] = (),
        limit: float = 0.0,
        anyhow: bool = False,
    ) -> None:
        child = self._children.get(worker)
        if child is None:
            return
        child.recalls += 1
        with child.stopped() as stopped:
            first, stop, phase, began = child.slate.now()
            seq = child.whole.boundary(min(child.slate.unbegun(), child.next_seq), child.answered)
            elapsed = 0.0 if phase == IDLE else (self._now() - began) / 1e9
            if phase == DECODING:  # no task's own time yet
                elapsed -= _LOADING
            elapsed = max(elapsed, 0.0)
            if limit and self._distrusts and sandboxed().hides(child, _LOADING):
                elapsed, first, stop = limit, 0, child.next_seq
            if elapsed >= limit and any(a < stop and first < b for a, b in unwanted):
                child.condemned = Late(limit) if limit else Unwanted()
                child.process.kill()
                return
            if stopped and (anyhow or (phase == RUNNING and not child.writing)):
                self._hear(child)
                seq = child.slate.recall(seq, child.next_seq)
            else:
                # It cannot be stopped just now, or is no slower than its arguments: nothing is taken back.
                seq = child.next_seq
        self._reports.append(Report(Recalled(worker, seq, elapsed, child.recalls)))

    def cancel(self, worker: WorkerId, seqs: Sequence[int]) -> None:
        child = self._children.get(worker)
        if child is None:
            return
        for seq in seqs:
            child.write(self._lookout, frames.encode(frames.CANCEL, seq=seq))

    def info(self, worker: WorkerId) -> WorkerInfo:
        child = self._children.get(worker)
        return WorkerInfo(None, None, None) if child is None else child.info()

    def unbegun(self, worker: WorkerId) -> int:
        child = self._children.get(worker)
        try:
            return 0 if child is None else child.slate.unbegun()
        except ValueError:  # it has ended, and its slate was let go of
            return 0

    def arena(self) -> dict[str, int]:
        """Bytes of memory in the arena: of this program's arguments and ``empty`` arrays, which of them are in
        use, and of results, which lie in the workers' files."""
        usage = self._arena.usage()
        return {**usage, "results": sum(child.lent() for child in list(self._children.values()))}

    @property
    def processes(self) -> list[Any]:
        """The workers' Process objects."""
        return [child.process for child in list(self._children.values())]

    # What happens ---------------------------------------------------------------------------------

    def poll(self, timeout: float | None, brisk: bool = False) -> Sequence[Report]:
        if self._reports:
            timeout = 0
        self._lookout.poll(timeout, brisk)
        reports, self._reports = self._reports, []
        return reports

    def _on_channel(self, child: Child, events: int) -> None:
        if events & select.EPOLLOUT and child.channel.flush():
            child.writing = False
            self._lookout.want_room(child.channel.fileno(), False)
        if events & ~select.EPOLLOUT:
            self._hear(child)
            if child.channel.ended:
                self._lookout.unwatch(child.channel.fileno())
                child.lost_channel()

    def _hear(self, child: Child) -> None:
        """Take the frames that are there; a worker that sends what is none is ended."""
        self._take(child, child.channel.receive())
        if child.channel.broken is not None:
            self._lookout.unwatch(child.channel.fileno())
            child.disown(child.channel.broken)

    def _take(self, child: Child, received: list[Frame]) -> None:
        if self._distrusts:
            for text in sandboxed().printed(child, self._lookout):
                self._reports.append(Report(Logged(text)))
            received = sandboxed().believed(child, received)
        try:
            for frame in received:
                self._understand(child, frame)
        except Exception as failure:  # whatever a body that no worker wrote makes of reading it
            reason = errors.escape(f"a frame cannot be read: {raised.told(failure)}")
            child.channel.broken = errors.ProtocolError(reason)

    def _understand(self, child: Child, frame: Frame) -> None:
        if frame.kind == frames.DONE:
            if frame.body is frames.NO_ROOM:
                batch = no_room(frame.count)
            else:
                batch = decode_batch(frame.body, frame.flags != frames.PLAIN, child.arena)
            again = offsets_again(batch) if frame.flags & frames.AGAIN else ()
            event = Done(child.id, frame.seq, frame.count, frame.seconds, again)
            child.answered = frame.seq + frame.count
            if not _joins_last(self._reports, event, batch):
                self._reports.append(Report(event, batch))
        elif frame.kind == frames.ENDED:
            self._reports.append(_ended(child, frame))
        elif frame.kind == frames.READY:
            child.ready = True
            self._reports.append(Report(Ready(child.id)))
        elif frame.kind == frames.FAILED:
            child.failed = frame.flags, bytes(frame.body)
            child.stopping = True
        elif frame.kind == frames.RELEASED:
            child.give_back(frame.seq)
        elif frame.kind == frames.LOG and frame.body is not frames.NO_ROOM:
            self._reports.append(Report(Logged(frame.body)))

    def _on_death(self, child: Child) -> None:
        del self._children[child.id]
        assert child.sentinel is not None
        self._lookout.unwatch(child.sentinel, end=True)
        self._take(child, child.channel.drain())
        for listened in (child.channel, *child.outlets):
            self._lookout.unwatch(listened.fileno())
        first, stop, phase = child.slate.read()
        reach = child.slate.words[NEXT]
        if self._distrusts:
            first, stop, reach = sandboxed().where(child)
        pid, status = child.process.pid, child.exit_status()
        words = last_words.read(child.slate, status)
        memory = "" if status != -signal.SIGKILL or child.condemned else self._kills.take()
        detail: Any = child.condemned or Death(pid, status, phase, words, memory)
        if child.broken is not None:
            detail = Broken(pid, child.broken)
        if not child.ready:
            begin = self._settings.initializer, child.failed
            detail = StartFailure(pid, status, *begin, words, memory)
        event = Lost(child.id, first, stop, detail, not child.ready, child.failed is not None)
        event = event._replace(meant=child.condemned is not None, reach=reach)
        self._reports.append(Report(event))
        child.close()
        child.process.join(0)  # multiprocessing's list of children lets go of it

    # The end --------------------------------------------------------------------------------------

    def close(self, grace: float) -> list[Report]:
        children = list(self._children.values())
        self._children.clear()
        leaving = [child for child in children if child.idle]
        for child in leaving:  # what its tasks put into queues and wrote to files is flushed
            child.write(self._lookout, frames.encode(frames.STOP))
        try:
            going = [child.process for child in leaving]
            end_all([child.process for child in children], grace, going)
        finally:
            for child in children:
                self._take(child, child.channel.drain())
                child.close()
            self.abandon()
            self._ends.close()
        reports, self._reports = self._reports, []  # outcomes hold memory, and nobody wants them
        return [report for report in reports if type(report.event) is Logged]

    def abandon(self) -> None:
        """Close the descriptors; in a forked copy of the program too, which must not hold them."""
        for child in self._children.values():
            child.close()
        self._children.clear()
        self._lookout.close()


def sandboxed() -> Any:
    """What is believed of workers in a sandbox; not loaded without one."""
    from millpond.backends.processes import sandboxed

    return sandboxed


def _ended(child: Child, frame: Frame) -> Report:
    """The coroutines that a frame says have ended."""
    body = memoryview(frame.body)
    seqs = tuple(body[: 8 * frame.count].cast("Q"))
    batch = decode_batch(body[8 * frame.count :], frame.flags != frames.PLAIN, child.arena)
    again = offsets_again(batch) if frame.flags & frames.AGAIN else ()
    return Report(Ended(child.id, seqs, again), batch)


def _joins_last(reports: list[Report], event: Done, batch: list[Any]) -> bool:
    """Whether it was made one with the report before it: to take in two costs as much as to take in one."""
    if not reports or type(batch) is not list:
        return False
    last, before = reports[-1]
    if (
        type(last) is not Done or last.worker != event.worker
        or last.seq + last.count != event.seq or type(before) is not list
    ):  # fmt: skip
        return False
    before += batch
    both = last._replace(count=last.count + event.count, seconds=last.seconds + event.seconds)
    reports[-1] = Report(both, before)
    return True


def _close_all(outfits: deque[Outfit]) -> None:
    while outfits:
        outfits.pop().close()


def _abandon_all() -> None:
    for backend in list(_live):
        backend.abandon()


os.register_at_fork(after_in_child=_abandon_all)

if "MILLPOND_FAILPOINTS" in os.environ:
    from millpond.backends.processes import failpoints

    failpoints.wrap(ProcessBackend)
