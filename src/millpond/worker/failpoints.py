"""Points at which a process of a pool dies, stops or crashes on order; for tests of whole pools and of backends.

    MILLPOND_FAILPOINTS="mid_send=kill:2:17;boot=exit"    point=action:nth[:arg], several parted by ";"
    MILLPOND_FAILPOINTS_ONCE=/some/folder                 each point acts once in all processes together, and
                                                          leaves a file of its name there: who, and when

The second result frame is cut after 17 bytes by SIGKILL, and each worker exits at its first point. In the
spirit of fail(9) and of Rust's ``fail``.

Rules: without the variable nothing is wrapped and nothing is looked up, so that this costs nothing; it is read
when a worker begins (``arm``) and when the processes' backend is imported; passes are counted in each process
by itself.

``boot`` of a worker, nothing of it done; ``ready`` and ``started``, before and after it says that it can take
tasks; ``after_recv`` a frame; ``mid_recv``, after ``arg`` bytes of one (default: its header); ``before_decode``
a chunk, a function or an argument; ``before_run`` and ``after_run`` of a task, except of a coroutine;
``before_encode`` of outcomes; ``before_put``, ``mid_put`` (after ``arg`` bytes) and ``after_put`` of large bytes
into the arena; ``before_send``, ``mid_send`` (after ``arg`` bytes; default: its header) and ``after_send`` of a
frame with outcomes; ``stopping``, told to end. Those of the parent's side are in
``backends.processes.failpoints``.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Final, NamedTuple

from millpond.worker import frames

VARIABLE: Final = "MILLPOND_FAILPOINTS"
ONCE: Final = "MILLPOND_FAILPOINTS_ONCE"

ACTIONS: Final = {
    "kill": signal.SIGKILL, "stop": signal.SIGSTOP, "segfault": signal.SIGSEGV, "exit": signal.SIGTERM,
}  # fmt: skip
"""What comes to pass, and the signal by which it is done to another process than the one that passes."""

POINTS: Final = (
    "boot", "ready", "started", "after_recv", "mid_recv", "before_decode", "before_run", "after_run",
    "before_encode", "before_put", "mid_put", "after_put", "before_send", "mid_send", "after_send", "stopping",
)  # fmt: skip


class Failpoint(NamedTuple):
    """One order: what to do at which pass."""

    point: str
    action: str
    nth: int = 1
    arg: int = frames.HEADER_SIZE

    def act(self, victim: int) -> None:
        """Do it, to this process or another one."""
        if not self._first(victim):
            return
        if victim != os.getpid():
            os.kill(victim, ACTIONS[self.action])
        elif self.action == "exit":
            os._exit(0)
        elif self.action == "segfault":
            import ctypes

            ctypes.string_at(0)
        else:
            os.kill(victim, ACTIONS[self.action])

    def _first(self, victim: int) -> bool:
        """Whether no process has done it before, where it is to be done once."""
        folder = os.environ.get(ONCE)
        if folder is None:
            return True
        told = os.path.join(folder, self.point)
        draft = f"{told}.{os.getpid()}"
        with open(draft, "w", encoding="ascii") as file:
            file.write(f"{victim} {time.monotonic_ns()}")
        try:
            os.link(draft, told)  # whole, or not at all
        except FileExistsError:
            return False
        finally:
            os.unlink(draft)
        return True


def parse(text: str, points: tuple[str, ...] | None = None) -> dict[str, Failpoint]:
    """The orders in the variable's text, less those for other points. Raises ValueError for what is none."""
    orders = {}
    for entry in filter(None, text.split(";")):
        point, _, what = entry.partition("=")
        action, *numbers = what.split(":")
        if action not in ACTIONS or len(numbers) > 2 or not all(map(str.isdigit, numbers)):
            raise ValueError(
                f"{VARIABLE}: {entry!r} is not point=action:nth:arg with an action of {', '.join(ACTIONS)}"
            )
        if points is None or point in points:
            orders[point] = Failpoint(point, action, *map(int, numbers))
    return orders


class Armed:
    """The orders that hold in this process, and how often each point was passed."""

    def __init__(self) -> None:
        self._orders: Mapping[str, Failpoint] = {}
        self._passes: dict[str, int] = {}

    def load(self, points: tuple[str, ...]) -> None:
        """Read the environment; passes are counted from here on."""
        self._orders = parse(os.environ.get(VARIABLE, ""), points)
        self._passes = dict.fromkeys(self._orders, 0)

    def due(self, point: str) -> Failpoint | None:
        """Pass a point; return the order that is to be carried out now."""
        order = self._orders.get(point)
        if order is None:
            return None
        self._passes[point] += 1
        return order if self._passes[point] == order.nth else None

    def passing(self, point: str, victim: int | None = None) -> None:
        """Pass a point, and do what was ordered for it."""
        order = self.due(point)
        if order is not None:
            order.act(os.getpid() if victim is None else victim)


armed: Final = Armed()
"""The worker's own."""
_wrapped = False


def arm() -> None:
    """In a worker, first of all: pass ``boot``, and wrap what the other points are at."""
    global _wrapped
    armed.load(POINTS)
    armed.passing("boot")
    if not _wrapped:  # else by the process that this one is a copy of
        _wrapped = True
        _wrap_loop()
        _wrap_channel()
        _wrap_arena()


def around(
    owner: Any, name: str, before: Callable[..., object], after: Callable[..., object]
) -> None:
    """Have functions called before and after a method, with its arguments."""
    inner = getattr(owner, name)

    @wraps(inner)
    def passed(*args: Any, **kwds: Any) -> Any:
        before(*args, **kwds)
        result = inner(*args, **kwds)
        after(*args, **kwds)
        return result

    setattr(owner, name, passed)


def nothing(*_args: object, **_kwds: object) -> None:
    """There is no point on this side."""


def _pass(point: str) -> Callable[..., None]:
    return lambda *_args, **_kwds: armed.passing(point)


class _Functions(dict[int, Any]):
    """A worker's functions, each of which passes the points of a task."""

    def __setitem__(self, job: int, function: Any) -> None:
        from millpond.worker.renewal import Renewed

        super().__setitem__(job, function if type(function) is Renewed else _passing(function))


def _passing(function: Any) -> Any:
    """A job's function that passes the points of a task, or one of its copies."""
    from millpond.worker.conduct import Conducted
    from millpond.worker.outcome import Sealed

    if type(function) is Conducted:
        if function.conduct.slots:
            return function
        return function._replace(function=_Passed(function.function))
    return function if type(function) is Sealed else _Passed(function)


class _Passed:
    """A task's function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwds: Any) -> Any:
        armed.passing("before_run")
        value = self._function(*args, **kwds)
        armed.passing("after_run")
        return value


def _wrap_loop() -> None:
    from millpond.worker import loop, outcome
    from millpond.worker.renewal import Renewed

    take = Renewed.take
    Renewed.take = lambda renewed: _passing(take(renewed))  # type: ignore[assignment,method-assign]
    around(loop, "decode_chunk", _pass("before_decode"), nothing)
    around(loop, "decode_argument", _pass("before_decode"), nothing)
    around(outcome, "encode_batch", _pass("before_encode"), nothing)
    around(outcome, "encode_together", _pass("before_encode"), nothing)
    around(
        loop.Worker,
        "__init__",
        nothing,
        lambda worker, *_: setattr(worker, "_functions", _Functions()),
    )
    around(loop.Worker, "run", nothing, _pass("stopping"))


def _wrap_channel() -> None:
    from millpond.worker.channel import WorkerChannel

    receive, send = WorkerChannel.receive, WorkerChannel.send

    @wraps(receive)
    def receive_passing(channel: WorkerChannel) -> list[frames.Frame]:
        order = armed.due("mid_recv")
        received: list[frames.Frame] = []
        if order is not None:
            received = _read_some(channel, order.arg)
            order.act(os.getpid())
        received = received or receive(channel)
        armed.passing("after_recv")
        return received

    WorkerChannel.receive = receive_passing  # type: ignore[assignment,method-assign]
    WorkerChannel.send = _sending(send)  # type: ignore[method-assign]


def _wrap_arena() -> None:
    from millpond.worker.lender import Lender

    fill = Lender.fill

    @wraps(fill)
    def fill_passing(lender: Any, slot: Any, pieces: Sequence[frames.Buffer], size: int) -> bool:
        armed.passing("before_put")
        order = armed.due("mid_put")
        if order is not None:
            fill(lender, slot, [b"".join(pieces)[: order.arg]], min(size, order.arg))
            order.act(os.getpid())
        filled = fill(lender, slot, pieces, size)
        armed.passing("after_put")
        return filled

    Lender.fill = fill_passing  # type: ignore[assignment,method-assign]


def _read_some(channel: Any, count: int) -> list[frames.Frame]:
    """Read at most ``count`` bytes of the next frame; return it if that is all of it."""
    received: list[frames.Frame] = []
    read, length = 0, frames.HEADER_SIZE
    head = b""
    while read < min(count, length) and (data := os.read(channel._fd, min(count, length) - read)):
        received += channel._decoder.feed(data)
        read += len(data)
        if len(head) < frames.HEADER_SIZE and len(head := head + data) == frames.HEADER_SIZE:
            length += int.from_bytes(head[_LENGTH], "little")
    return received


def _sending(send: Callable[..., None]) -> Callable[..., None]:
    @wraps(send)
    def send_passing(channel: Any, buffers: list[frames.Buffer]) -> None:
        kind = buffers[0][_KIND]
        if kind == frames.READY:
            armed.passing("ready")
        elif kind in _ANSWERS:
            armed.passing("before_send")
            order = armed.due("mid_send")
            if order is not None:
                data = b"".join(buffers)
                channel._socket.sendall(data[: order.arg])
                order.act(os.getpid())
                buffers = [data[order.arg :]]
        send(channel, buffers)
        if kind == frames.READY:
            armed.passing("started")
        elif kind in _ANSWERS:
            armed.passing("after_send")

    return send_passing


_KIND: Final = 2
"""The byte of a header that says the frame's kind."""
_LENGTH: Final = slice(16, 24)
"""Those that say its body's length."""
_ANSWERS: Final = frozenset({frames.DONE, frames.ENDED})
