"""The parent's end of a worker's private socketpair, and its outbox. Never blocks."""

from __future__ import annotations

import os
import socket
from collections import deque

from millpond.errors import ProtocolError
from millpond.system import sockets
from millpond.worker.channel import coalesce
from millpond.worker.frames import PIECE, Buffer, Decoder, Frame

_FLAGS = socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT
_SPACE = 1 << 18
"""Bytes that a chunk of ordinary size should fit in, so that writing it never has to wait for the worker."""
_TURNS = 64
"""Reads after which others have their turn, so that a worker that sends without end does not have the program to
itself."""
_ALL = 1 << 60


class ParentChannel:
    """Frames, in order, without waiting: what the kernel does not take stays in the outbox."""

    def __init__(self, end: sockets.AnySocket, decoder: Decoder | None = None) -> None:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SPACE)
        self._socket = end
        self._fd = end.fileno()
        self._decoder = decoder or Decoder()
        self._outbox: deque[memoryview] = deque()
        self.ended = False  # nothing more will come
        self.broken: ProtocolError | None = None  # what came after the last frame is none

    def fileno(self) -> int:
        return self._fd

    def receive(self, turns: int = _TURNS) -> list[Frame]:
        """Frames that are there, up to what is none, which ``broken`` notes, as ``ended`` notes the end."""
        decoder = self._decoder
        frames: list[Frame] = []
        for _ in range(turns):
            if self.broken is not None:
                break
            room = decoder.room()
            try:
                if room is not None:
                    count = os.readv(self._fd, [room])
                    frames += decoder.advance(count)
                else:
                    data = os.read(self._fd, PIECE)
                    count = len(data)
                    frames += decoder.feed(data)
            except BlockingIOError:
                break
            except ConnectionResetError:
                count = 0
            except ProtocolError as error:
                self.broken = error
                break
            self.broken = decoder.broken
            if count == 0:
                self.ended = True
                break
            if room is None and count < PIECE:
                break
        return frames

    def drain(self) -> list[Frame]:
        """Every frame that came before the worker's end; what is no frame ends them, too."""
        frames: list[Frame] = []
        while not self.ended and (more := self.receive(_ALL)):
            frames += more
        return frames

    def send(self, buffers: list[Buffer]) -> bool:
        """Queue a frame and write what the kernel takes; whether all was taken."""
        if self._outbox:
            self._outbox.extend(map(memoryview, buffers))
            return False
        if len(buffers) <= 4:
            data = b"".join(buffers) if sum(map(len, buffers)) < PIECE else None
            if data is not None:
                return self._send_small(data)
        self._outbox.extend(map(memoryview, coalesce(buffers)))
        return self.flush()

    def _send_small(self, data: bytes) -> bool:
        try:
            sent = self._socket.send(data, _FLAGS)
        except BlockingIOError:
            sent = 0
        except OSError:
            return True  # the worker is gone; its death comes by another way
        if sent == len(data):
            return True
        self._outbox.append(memoryview(data)[sent:])
        return False

    def flush(self) -> bool:
        """Write on; whether the outbox is empty now."""
        outbox = self._outbox
        while outbox:
            try:
                sent = self._socket.sendmsg(list(outbox)[:64], (), _FLAGS)
            except BlockingIOError:
                return False
            except OSError:
                outbox.clear()
                return True
            while outbox and sent >= len(outbox[0]):
                sent -= len(outbox.popleft())
            if sent:
                outbox[0] = outbox[0][sent:]
        return True

    def close(self) -> None:
        self._outbox.clear()
        self._socket.close()
