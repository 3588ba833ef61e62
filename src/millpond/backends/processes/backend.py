"""The backend of worker processes: see the package."""

from __future__ import annotations

import os
import select
import weakref
from collections.abc import Callable, Iterable, Sequence
from types import BuiltinFunctionType, FunctionType
from typing import Any

from millpond.backends.base import Report, Work, WorkerInfo
from millpond.backends.processes.bell import Bell
from millpond.backends.processes.child import Child
from millpond.backends.processes.death import Death, StartFailure
from millpond.backends.processes.ending import end_all
from millpond.core.commands import Span
from millpond.core.events import Done, Lost, Ready, Recalled, WorkerId
from millpond.errors import ProtocolError
from millpond.worker import frames
from millpond.worker.codec import (
    CALL,
    GONE,
    Part,
    all_plain,
    encode_argument,
    encode_call,
    encode_chunk,
)
from millpond.worker.frames import Buffer, Frame
from millpond.worker.loop import Settings
from millpond.worker.outcome import decode_batch

_LARGE = 1 << 16
"""Bytes of a function from which on workers are told at once when it is no longer needed."""

_AGAIN = 50
"""Milliseconds after which the caretaker looks for dead workers again that another thread should see to."""
_SHARED = (FunctionType, BuiltinFunctionType, type)

_live: weakref.WeakSet[ProcessBackend] = weakref.WeakSet()


class Encoded(bytes):
    """An argument that was encoded when it was handed in."""


class ProcessBackend:
    """Workers are processes of ``context``; ``server`` starts them where it is not None."""

    def __init__(
        self,
        context: Any,
        settings: Settings,
        *,
        main_importable: bool = True,
        server: Any = None,
        owned: bool = False,
    ) -> None:
        self._context = context
        self._settings = settings
        self._main_importable = main_importable
        self._server = server
        self._owned = owned  # the server is this backend's alone
        self._children: dict[WorkerId, Child] = {}
        self._by_fd: dict[int, Callable[[int], None]] = {}
        self._reports: list[Report] = []
        self._epoll = select.epoll()
        self._bell = Bell()  # ends a poll
        self._gong = Bell()  # ends the caretaker's rest
        self._deaths = select.epoll()  # the pidfds alone, for the caretaker
        self._watch(self._bell.fileno(), lambda _: self._bell.hush())
        _live.add(self)

    # What is to be sent ---------------------------------------------------------------------------

    def by_reference(self, function: Any) -> bool:
        if type(function) not in _SHARED or "<" in function.__qualname__:
            return False
        return self._main_importable or function.__module__ != "__main__"

    def prepare_function(self, function: Any) -> bytes:
        return encode_argument(function, self._main_importable)

    def prepare(self, style: int, argument: Any) -> bytes:
        if style == CALL:
            return encode_call(*argument, self._main_importable)
        return Encoded(encode_argument(argument, self._main_importable))

    def send(self, worker: WorkerId, seq: int, work: Sequence[tuple[Work, Span]]) -> int:
        child = self._children.get(worker)
        if child is None:
            return 0
        body = encode_chunk([self._part(child, job, span) for job, span in work])
        count = sum(span.stop - span.start for _, span in work)
        child.next_seq = seq + count
        frame = frames.encode(frames.CHUNK, body, count=count, seq=seq)
        self._write(child, [*child.stale(), *frame])
        return sum(map(len, body))

    def _part(self, child: Child, job: Work, span: Span) -> Part:
        items = job.arguments(span.start, span.stop)
        plain: list[Any] | None = None
        blobs: list[Buffer | None] | None = None
        if job.style == CALL:
            blobs = [None if item is GONE else item for item in items]
        elif all_plain(items):
            plain = list(items)
        else:
            blobs = [self._blob(job, index, item) for index, item in enumerate(items, span.start)]
        function = None
        if job.id not in child.known:
            child.known.add(job.id)
            function = job.function
        return Part(job.id, job.style, span.start, job.grain, function, plain, blobs)

    def _blob(self, job: Work, index: int, item: Any) -> Buffer | None:
        if type(item) is Encoded:
            return item
        if item is GONE:
            return None
        try:
            return encode_argument(item, self._main_importable)
        except BaseException as refusal:  # a pickling hook may raise anything
            job.refuse(index, refusal)
            return None

    def forget(self, work: Work) -> None:
        for child in self._children.values():
            if work.id in child.known:
                child.forget(work.id)
                if len(work.function) >= _LARGE:
                    self._write(child, child.stale())

    # Workers --------------------------------------------------------------------------------------

    def start(self, worker: WorkerId) -> None:
        child = Child.start(worker, self._context, self._settings, self._server)
        self._children[worker] = child
        self._watch(child.channel.fileno(), lambda events: self._on_channel(child, events))
        if child.sentinel is not None:
            self._watch(child.sentinel, lambda _: self._on_death(child))
            self._deaths.register(child.sentinel, select.EPOLLIN)

    def stop(self, worker: WorkerId) -> None:
        child = self._children.get(worker)
        if child is not None:
            child.stopping = True
            self._write(child, frames.encode(frames.STOP))

    def kill(self, worker: WorkerId) -> None:
        child = self._children.get(worker)
        if child is not None:
            child.process.kill()

    def recall(self, worker: WorkerId) -> None:
        child = self._children.get(worker)
        if child is None:
            return
        with child.stopped() as stopped:
            if stopped:
                self._take(child, child.channel.receive())
                seq = child.slate.read()[1]
                child.slate.recall(seq, child.next_seq)
            else:
                seq = child.next_seq  # it cannot be stopped just now; nothing is taken back
        self._reports.append(Report(Recalled(worker, seq)))

    def info(self, worker: WorkerId) -> WorkerInfo:
        child = self._children.get(worker)
        return WorkerInfo(None, None, None) if child is None else child.info()

    @property
    def processes(self) -> list[Any]:
        """The workers' Process objects."""
        return [child.process for child in list(self._children.values())]

    # What happens ---------------------------------------------------------------------------------

    def poll(self, timeout: float | None) -> Iterable[Report]:
        if self._reports:
            timeout = 0
        for fd, events in self._epoll.poll(timeout):
            act = self._by_fd.get(fd)
            if act is not None:
                act(events)
        reports, self._reports = self._reports, []
        return reports

    def wake(self) -> None:
        self._bell.ring()

    def rest(self, contended: bool) -> None:
        """Block until ``rouse`` is called or a worker ends; the caretaker's way to have nothing to do.

        ``contended``: another thread is at it already, so that a worker's end is seen to.
        """
        poll = select.poll()
        poll.register(self._gong.fileno(), select.POLLIN)
        if contended:
            poll.poll(_AGAIN)
        elif not self._deaths.closed:
            poll.register(self._deaths.fileno(), select.POLLIN)
            poll.poll()
        self._gong.hush()

    def rouse(self) -> None:
        self._gong.ring()

    def _watch(self, fd: int, act: Callable[[int], None]) -> None:
        self._by_fd[fd] = act
        self._epoll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        if self._by_fd.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _write(self, child: Child, buffers: list[Buffer]) -> None:
        if buffers and not child.channel.send(buffers) and not child.writing:
            child.writing = True
            self._epoll.modify(child.channel.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _on_channel(self, child: Child, events: int) -> None:
        if events & select.EPOLLOUT and child.channel.flush():
            child.writing = False
            self._epoll.modify(child.channel.fileno(), select.EPOLLIN)
        if events & ~select.EPOLLOUT:
            try:
                self._take(child, child.channel.receive())
            except ProtocolError:
                self._unwatch(child.channel.fileno())
                child.process.kill()
            if child.channel.ended:
                self._unwatch(child.channel.fileno())
                child.lost_channel()

    def _take(self, child: Child, received: list[Frame]) -> None:
        for frame in received:
            if frame.kind == frames.DONE:
                batch = decode_batch(frame.body, frame.flags == frames.MIXED)
                event = Done(child.id, frame.seq, frame.count, frame.seconds)
                self._reports.append(Report(event, batch))
            elif frame.kind == frames.READY:
                child.ready = True
                self._reports.append(Report(Ready(child.id)))
            elif frame.kind == frames.FAILED:
                child.failed = frame.flags, bytes(frame.body)
                child.stopping = True

    def _on_death(self, child: Child) -> None:
        del self._children[child.id]
        assert child.sentinel is not None
        self._deaths.unregister(child.sentinel)
        self._unwatch(child.sentinel)
        try:
            self._take(child, child.channel.drain())
        except ProtocolError:
            pass  # what it sent after that is nothing
        self._unwatch(child.channel.fileno())
        first, stop, phase = child.slate.read()
        exitcode = child.exit_status()
        detail: Any = Death(child.process.pid, exitcode, phase)
        if not child.ready:
            detail = self._start_failure(child, exitcode)
        event = Lost(child.id, first, stop, detail, not child.ready, child.failed is not None)
        self._reports.append(Report(event))
        child.close()
        child.process.join(0)  # multiprocessing's list of children lets go of it

    def _start_failure(self, child: Child, exitcode: int | None) -> StartFailure:
        initializer = self._settings.initializer
        name = None if initializer is None else getattr(initializer, "__qualname__", repr(initializer))
        return StartFailure(child.process.pid, exitcode, initializer=name, failed=child.failed)

    # The end --------------------------------------------------------------------------------------

    def close(self, grace: float) -> None:
        children = list(self._children.values())
        self._children.clear()
        try:
            end_all([child.process for child in children], grace)
        finally:
            for child in children:
                child.close()
            self.abandon()
            if self._owned:
                self._server.close()

    def release(self) -> None:
        """Nobody will ring any more."""
        self._bell.close()
        self._gong.close()

    def abandon(self) -> None:
        """Close the descriptors; in a forked copy of the program too, which must not hold them."""
        for child in self._children.values():
            child.close()
        self._children.clear()
        self._by_fd.clear()
        self._epoll.close()
        self._deaths.close()


def _abandon_all() -> None:
    for backend in list(_live):
        backend.abandon()


os.register_at_fork(after_in_child=_abandon_all)
