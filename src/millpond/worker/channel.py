"""A worker's end of its private socketpair, and how it gets there."""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from multiprocessing import reduction
from time import monotonic_ns
from typing import Any, Final

from millpond.system import low, sockets
from millpond.worker import arena
from millpond.worker.borrower import Released
from millpond.worker.frames import PIECE, RELEASED, Buffer, Decoder, Frame, encode
from millpond.worker.slate import Slate

_BRISK: Final = 100_000
"""Nanoseconds for which a frame that is due at once is looked for without sleeping."""
_BORED: Final = 8
"""Calls before a worker does so again, once none came."""

ENDINGS: Final[tuple[type[BaseException], ...]] = (EOFError, BrokenPipeError, ConnectionResetError)
"""What says that the parent is gone, or has given this worker up."""


class WorkerChannel:
    """Frames, blocking.

    A handler that a task has left behind may raise between any two steps of this. What is read is therefore
    kept by the call that reads it (``extend`` of a ``map``), and so is how much was written: nothing is read or
    sent twice, or by half.
    """

    def __init__(self, fd: int) -> None:
        self._socket = sockets.Socket(fileno=fd)
        self._socket.setblocking(True)
        self._fd = fd
        self._decoder = Decoder()
        self.brisk = False  # there are CPUs enough to look out for a frame without sleeping
        self._expecting = False  # one is due at once
        self._bored = 0  # calls after which none came at once and to come before it is tried again
        self._lock = threading.RLock()  # the tasks' threads send what they log
        self._came: list[bytes] = []  # read, and not decoded
        self._counts: list[int] = []  # bytes read into a large body, and not counted there
        # One has something where a frame's receiving was broken off.
        self.ahead = self._came, self._counts
        self._out: list[Buffer] = []  # to be written, in this order
        self._written: list[int] = []  # bytes of the first of them, call by call
        self.taken: object = None  # the frame that was last taken to be sent
        self.torn = False  # a large body is being read: who is interrupted then cannot go on
        self._deferred: deque[list[Buffer]] = deque()
        self.released: deque[Released] = (
            deque()
        )  # of the parent's file; it is told with the next frame

    def fileno(self) -> int:
        return self._fd

    def receive(self) -> list[Frame]:
        """At least one frame. Raises EOFError when the parent has gone."""
        decoder = self._decoder
        if decoder.broken is not None:
            raise decoder.broken
        while True:
            room = decoder.room()
            if room is not None:
                counts = self._counts
                if not counts:
                    counts.extend(map(os.readv, (self._fd,), ([room],)))
                if not counts[0]:
                    raise EOFError
                self.torn = True
                frames = decoder.advance(counts[0])
                self.torn = False
                del counts[0]
            else:
                frames = self._decode()
            if frames:  # no jump backward may follow: a handler may raise there
                return frames

    def _decode(self) -> list[Frame]:
        """The frames that the next bytes complete."""
        decoder, came = self._decoder, self._came
        if not came:
            if self._expecting:
                self._await()
            else:
                came.extend(map(os.read, (self._fd,), (PIECE,)))
        if not came[0]:
            raise EOFError
        rest = decoder.rest
        try:
            frames = decoder.feed(came[0])
        except BaseException:
            decoder.rest = rest
            raise
        del came[0]
        return frames

    def expect(self) -> None:
        """Who waits for what was just sent is likely to send the next frame at once."""
        if self._bored:
            self._bored -= 1
        else:
            self._expecting = self.brisk

    def _await(self) -> None:
        """Look for the next bytes again and again for a moment, since being woken takes longer; then sleep."""
        self._expecting = False
        look, limit = self._socket.recv, monotonic_ns() + _BRISK
        while monotonic_ns() < limit:
            try:
                self._came.extend(map(look, (PIECE,), (socket.MSG_DONTWAIT,)))
                return
            except BlockingIOError:
                pass
        self._bored = _BORED
        self._came.extend(map(os.read, (self._fd,), (PIECE,)))

    def send(self, buffers: list[Buffer]) -> None:
        """Write a frame whole. Raises BrokenPipeError when the parent has gone."""
        pieces = self._pieces(buffers)
        self._out += pieces
        self.taken = buffers
        self.push()

    def _pieces(self, buffers: list[Buffer]) -> list[Buffer]:
        """What is to be written of a frame, and before it of what is released."""
        if self.released:
            buffers = [*self._told(), *buffers]
        if len(buffers) == 2 and len(buffers[1]) < PIECE:
            return [b"".join(buffers)]
        return coalesce(buffers)

    def push(self) -> None:
        """Write what was taken and is not written."""
        with self._lock:
            out, written, write = self._out, self._written, self._socket.send
            while out:
                piece = out[0]
                if written:
                    piece = memoryview(piece)[sum(written) :]
                if not piece:
                    del out[0], written[:]
                    continue
                written.extend(map(write, (piece,), (socket.MSG_NOSIGNAL,)))
                if written[0] == len(out[0]):
                    del out[0], written[:]
        if self._deferred:
            self._send_deferred()

    def amid(self) -> bool:
        """Whether this thread is sending a frame: in a signal handler, what it came amid."""
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]

    def send_amid(self, buffers: list[Buffer]) -> None:
        """The same from anywhere; in a signal handler that came amid a frame, it is sent after that."""
        if self.amid():
            self._deferred.append(buffers)
        else:
            self._out += self._pieces(buffers)
            self.push()

    def tell(self) -> None:
        """Tell the parent what is released, if anything is, though there is nothing else to say."""
        if self.released:
            self.send([])

    def _told(self) -> list[Buffer]:
        """Frames that tell the parent what nobody here sees any more."""
        told: list[Buffer] = []
        while self.released:
            try:
                told += encode(RELEASED, seq=self.released.popleft().number)
            except IndexError:
                break  # another thread, or a signal's handler, was faster
        return told

    def _send_deferred(self) -> None:
        try:
            buffers = self._deferred.popleft()
        except IndexError:
            return  # another thread was faster
        self._out += self._pieces(buffers)
        self.push()  # which looks whether there are more

    def close(self) -> None:
        self._socket.close()


def coalesce(buffers: list[Buffer]) -> list[Buffer]:
    """The same bytes in fewer buffers: small ones joined, large ones left where they are."""
    pieces: list[Buffer] = []
    small: list[Buffer] = []
    for buffer in buffers:
        if len(buffer) < PIECE:
            small.append(buffer)
            continue
        if small:
            pieces.append(b"".join(small))
            small = []
        pieces.append(buffer)
    if small:
        pieces.append(b"".join(small))
    return pieces


class Endpoint:
    """What a worker is given, as descriptors: its end of the channel, its slate, its file of the arena and its
    parent's."""

    def __init__(self, channel: int, slate: int, *files: int) -> None:
        self.fds = channel, slate, *files

    def open(self) -> tuple[WorkerChannel, Slate, int]:
        """In the worker: take the descriptors over; the last is the slate's file's."""
        low.hold()
        fd, page, own, parents = map(private, self.fds)
        channel, slate = WorkerChannel(fd), Slate(page)
        arena.begin(own, parents, channel.released, slate.words)
        return channel, slate, page

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), *map(reduction.DupFd, self.fds))


def _rebuild(kind: type[Endpoint], *fds: Any) -> Endpoint:
    return kind(*(fd.detach() for fd in fds))


def private(fd: int) -> int:
    """A descriptor that no program started by a task inherits, and that is none of 0 to 2."""
    import fcntl

    if fd > 2:
        os.set_inheritable(fd, False)
        return fd
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return moved
