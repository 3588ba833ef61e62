"""A simulated worker process: the real loop of a worker, on a strand, between simulated ends.

Real are the loop, the codec, the frames, the slate's page, and the parent's socket. Simulated are the process
(a strand), its clock, and the wire: what the worker sent waits there until the world delivers it, as many
bytes at a time as the world likes.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

from millpond.testing.simulation_strand import Doom, Strand
from millpond.worker import frames
from millpond.worker.frames import Buffer, Decoder, Frame
from millpond.worker.slate import IDLE, MOST, STEP, WORD, Slate

if TYPE_CHECKING:
    from millpond.testing.simulation_world import World

WIRE = 1 << 15
"""Bytes that a wire holds before the worker has to wait."""

_GARBAGE = b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n"

_current: ContextVar[SimulatedProcess] = ContextVar(
    "worker"
)  # each thread has its own, and each greenlet


def current_worker() -> SimulatedProcess:
    """On a strand: the worker that it is."""
    return _current.get()


@cache
def loop() -> Any:
    """A copy of the worker's loop that reads its world's clock, and says when it has decoded a chunk."""
    spec = importlib.util.find_spec("millpond.worker.loop")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    decode = module.decode_chunk

    def decode_chunk(body: Buffer) -> Any:
        parts = decode(body)
        worker = current_worker()
        worker.world.observer.decoded(worker, parts)
        worker.strand.step()
        return parts

    def monotonic_ns() -> int:
        return current_worker().world.nanoseconds()

    module.ENDINGS = (*module.ENDINGS, Doom)
    module.monotonic_ns = monotonic_ns
    module.decode_chunk = decode_chunk
    return module


class SimulatedPage:
    """The slate's words as the worker sees them: it may be stopped, or end, before each load and each store."""

    def __init__(self, worker: SimulatedProcess) -> None:
        self._stored = worker.slate.words
        self._strand = worker.strand
        self._worker = worker
        self.words = self

    def __getitem__(self, index: int) -> int:
        self._strand.step()
        return self._stored[index]

    def __setitem__(self, index: int, value: int) -> None:
        self._strand.step()
        self._stored[index] = value
        if index == WORD and value & 3 != IDLE and (value >> 2) & MOST == 1:
            self._worker.world.observer.noted(self._worker, value // STEP)


class SimulatedChannel:
    """The worker's end. It may end between any two bytes."""

    taken: object = None
    torn = False

    def __init__(self, end: socket.socket, worker: SimulatedProcess) -> None:
        end.setblocking(False)
        self._socket = end
        self._worker = worker
        self._decoder = Decoder()
        self.wire = bytearray()  # sent, and not delivered
        self.sending = False
        self.garbled = False  # something else wrote there, too: nothing after that is a frame

    def receive(self) -> list[Frame]:
        """At least one frame. Raises EOFError when the parent has closed its end."""
        received: list[Frame] = []
        while not received:
            self._worker.strand.wait_until(self._readable)
            room = self._decoder.room()
            most = frames.PIECE if room is None else len(room)
            try:
                data = self._socket.recv(self._worker.world.piece(most))
            except ConnectionResetError:
                data = b""
            if not data:
                raise EOFError
            received = self._decoder.feed(data)
        return received

    def amid(self) -> bool:
        """Whether a frame is being sent."""
        return self.sending

    def expect(self) -> None:
        """Here nobody sleeps."""

    def tell(self) -> None:
        """Here nothing is large."""

    def send(self, buffers: list[Buffer]) -> None:
        """Put a frame on the wire, a piece at a time."""
        data = memoryview(b"".join(buffers))
        self.sending = True
        while data:
            self._worker.strand.wait_until(self._has_room)
            piece = data[: self._worker.world.piece(min(len(data), WIRE - len(self.wire)))]
            self.wire += piece
            data = data[len(piece) :]
        self.sending = False
        if self.garbled:
            return
        for frame in Decoder().feed(b"".join(buffers)):
            self._worker.world.observer.sent(self._worker, frame)

    def garble(self, framed: bool) -> None:
        """Something else writes there, between two frames; ``framed``: with a header as a frame has it."""
        if not self.sending:
            self.wire += b"".join(frames.encode(frames.DONE, [_GARBAGE])) if framed else _GARBAGE
            self.garbled = True

    def deliver(self, most: int) -> int:
        """Move bytes from the wire to where the parent reads; return how many."""
        if not self.wire:
            return 0
        try:
            count = self._socket.send(self.wire[:most])
        except BlockingIOError:
            return 0
        except OSError:  # the parent has closed its end
            count = len(self.wire)
        del self.wire[:count]
        return count

    def close(self) -> None:
        self._socket.close()

    def _has_room(self) -> bool:
        return len(self.wire) < WIRE

    def _readable(self) -> bool:
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass  # that it is over is something to read, too
        return True


def _masked(_how: int, _signals: Iterable[int]) -> set[int]:
    """No signal comes to a simulated worker while it holds its own, and the process's mask is not its."""
    return set()


class SimulatedProcess:
    """What a context's ``Process`` is, in the simulated world."""

    def __init__(self, world: World, args: tuple[Any, ...], make: Callable[..., Any]) -> None:
        """``make``: of a channel, a page and settings, what runs in it."""
        self._make = make
        endpoint, self._settings, _ = args
        self.world = world
        self.number = world.next_number()
        self.name = f"SimulatedProcess-{self.number}"
        self.pid = _FIRST_PID + self.number
        self.exitcode: int | None = None
        self.noticed = False  # the parent can see that it ended
        self.pressed = False  # it was told to send what it has gathered
        self._worker: Any = None
        self._fds = endpoint.fds[:2]
        self.strand = Strand(world.loom, self._live)

    def start(self) -> None:
        """Begin; nothing runs before the world gives it steps."""
        channel, page = self._fds
        self.slate = Slate(page)
        self.channel = SimulatedChannel(socket.socket(fileno=os.dup(channel)), self)
        self.sentinel, self._end = os.pipe()
        self.world.born(self)

    def _live(self) -> None:
        _current.set(self)
        page: Any = SimulatedPage(self)
        channel: Any = self.channel
        try:
            self._worker = self._make(channel, page, self._settings)
            self._worker.answers.mask = _masked
            self._worker.run()
        except EOFError:
            pass
        self._ended(0)

    def obey_press(self) -> None:
        """On the strand, in a task: what the handler of the signal does."""
        self.pressed = False
        self._worker.answers.press(signal.SIGURG, None)

    # What the parent does -------------------------------------------------------------------------

    def is_alive(self) -> bool:
        """Whether it has not ended, noticed or not."""
        return self.exitcode is None

    def kill(self) -> None:
        """End it where it is."""
        self.die(-signal.SIGKILL)

    def terminate(self) -> None:
        """End it where it is, and let that be seen: a simulated process has no handlers."""
        self.die(-signal.SIGTERM)
        self.notice()

    def join(self, timeout: float | None = None) -> None:
        """It has ended, or it never will while somebody waits for it."""
        if self.is_alive():
            raise AssertionError("a simulated process does not end while one waits for it")

    @contextmanager
    def stopped(self) -> Iterator[bool]:
        """Nothing runs while the parent does; sometimes it takes too long to stop.

        A worker that sleeps in its task hears that it is pressed.
        """
        yield self.is_alive() and (self.world.kind or self.world.chance(0.9))
        self.pressed = True

    # What happens to it ---------------------------------------------------------------------------

    def die(self, exitcode: int) -> None:
        """End it where it is; on its own strand, it is the task that ends it."""
        if self.exitcode is None:
            self._ended(exitcode)
            self.strand.doom()
            if self.strand.here:
                self.strand.step()

    def notice(self) -> bool:
        """Let the parent see that it ended, once all that it sent can be read; whether that was so."""
        if self.is_alive() or self.noticed:
            return False
        self.channel.deliver(len(self.channel.wire))
        if self.channel.wire:
            return False
        self.noticed = True
        self.channel.close()
        os.close(self._end)
        return True

    def close(self) -> None:
        """Nobody looks at it any more."""
        self.die(-signal.SIGKILL)
        if not self.noticed:
            self.channel.close()
            os.close(self._end)
            self.noticed = True
        if self.sentinel >= 0:
            os.close(self.sentinel)
            self.slate.close()
            self.sentinel = -1

    def _ended(self, exitcode: int) -> None:
        if self.exitcode is None:
            self.exitcode = exitcode
            self.world.observer.ended(self)


_FIRST_PID = 1 << 22
"""Linux numbers no process so high: a signal sent to one of these by mistake hits nobody."""


class SimulatedContext:
    """A start method, as the process backend sees one."""

    def __init__(self, world: World, make: Callable[..., Any]) -> None:
        self._world = world
        self._make = make

    def Process(self, *, target: Any, args: tuple[Any, ...], daemon: bool) -> SimulatedProcess:  # noqa: N802
        """A worker that will live in the world."""
        return SimulatedProcess(self._world, args, self._make)
