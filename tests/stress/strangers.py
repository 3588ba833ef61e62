"""Workers in a sandbox that were taken over by what they read."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import socket
import struct
from typing import Any

from millpond import Sandbox, errors
from millpond.testing import tasks
from millpond.worker import frames
from millpond.worker.fixed_codec import encode
from tests import refusing
from tests.security import attacks, hostile
from tests.stress.catalogue import fault
from tests.stress.stage import SOON, Stage, error_of

_PRIME = (1 << 61) - 1
_RECORD: dict[str, Any] = {"name": "x", "msg": "y", "levelno": 20, "levelname": "INFO"}


def _sends(
    stage: Stage, kind: int, body: bytes, flags: int = 0, count: int = 0, seq: int = 0
) -> None:
    """A worker sends a frame that no worker would: its task fails, and no other."""
    with stage.pool(sandbox=True) as pool:
        bad = pool.apply_async(hostile.send, (kind, body, flags, count, seq))
        others = [pool.apply_async(tasks.square, (x,)) for x in range(20)]
        error_of(bad, errors.ProtocolError)
        assert [other.get(SOON) for other in others] == [x * x for x in range(20)]


@fault(
    123,
    "a worker reaches for daemons, the terminal, other processes, modes, folders and more, in eighty ways",
    "each is refused; nothing outside it is changed",
)
def reaching_out(stage: Stage) -> None:
    folder, path = stage.path("out"), stage.path("daemon")
    os.mkdir(folder)
    values = {"$pid": os.getpid(), "$folder": folder, "$socket": path}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(path)
        with stage.pool(1, sandbox=Sandbox(write=[folder])) as pool:
            whole = pool.apply(abs, (-1,)) and pool.info()["sandbox"]["landlock"]
            for name in attacks.ATTACKS if whole else ():
                what = pool.apply_async(attacks.attempt, (name, values)).get(SOON)
                assert what.startswith("refused"), (name, what)


@fault(124, "a worker sends a frame of 600 MB", "refused at its header; the program does not grow")
def huge_frame(stage: Stage) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with stage.pool(sandbox=True) as pool:
        head = struct.pack("<HBBIQQd", frames.MAGIC, frames.DONE, 0, 1, 0, 600 << 20, 0.0)
        bad = pool.apply_async(hostile.send_raw, (head + bytes(1 << 24),))
        error_of(bad, errors.ProtocolError)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


@fault(
    125,
    "a worker logs a number of five thousand digits where text belongs",
    "`ProtocolError` for its task; the others and the pool go on",
)
def huge_number(stage: Stage) -> None:
    _sends(stage, frames.LOG, encode({**_RECORD, "name": 10**5000}))


@fault(
    126,
    "a worker logs to a logger with ten thousand dots in its name",
    "the same; the program makes no loggers of it",
)
def many_dots(stage: Stage) -> None:
    before = len(logging.root.manager.loggerDict)
    _sends(stage, frames.LOG, encode({**_RECORD, "name": "." * 10_000}))
    assert len(logging.root.manager.loggerDict) - before < 10


@fault(127, "a worker answers with a dict of colliding keys", "the same, in less than a second")
def colliding_keys(stage: Stage) -> None:
    keys = b"".join(encode(n * _PRIME) + b"n" for n in range(1, 40_001))
    body = b"d" + struct.pack("<Q", 40_000) + keys
    index = encode([(0, len(body))])
    whole = len(index).to_bytes(4, "little") + index + body
    _sends(stage, frames.DONE, whole, frames.MIXED, 1, 0)


@fault(
    128,
    "a worker looks for the program's variables",
    "it has those alone that Python goes by, or that were named",
)
def secrets(stage: Stage) -> None:
    os.environ["STRESS_PASSWORD"] = "hunter2"
    try:
        with stage.pool(sandbox=True) as pool:
            assert pool.apply(os.getenv, ("STRESS_PASSWORD",)) is None
            assert pool.apply(os.getenv, ("PATH",)) == os.environ["PATH"]
        with stage.pool(sandbox=Sandbox(environment=["STRESS_PASSWORD"])) as pool:
            assert pool.apply(os.getenv, ("STRESS_PASSWORD",)) == "hunter2"
    finally:
        del os.environ["STRESS_PASSWORD"]


def flood() -> None:
    piece = b"".join(frames.encode(frames.LOG, [encode({**_RECORD, "levelno": 1})])) * 1000
    own = hostile.channel()
    while True:
        own.sendall(piece)


@fault(129, "a worker logs without end", "the others go on; it is ended by `cancel()`")
def endless_log(stage: Stage) -> None:
    with stage.pool(sandbox=True) as pool:
        endless = pool.apply_async(flood)
        found = [pool.apply_async(tasks.square, (x,)).get(SOON) for x in range(20)]
        assert found == [x * x for x in range(20)]
        assert endless.cancel()


@fault(
    130,
    "a worker that is ready says that its initializer failed",
    "`ProtocolError` for its task; the pool is not given up",
)
def false_failure(stage: Stage) -> None:
    _sends(stage, frames.FAILED, encode(("KeyError", "no model", "Traceback")), 1)


def cut_off_all() -> None:
    for fd in range(256):
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)


@fault(
    131,
    "a worker cuts off what it has open, where memfd_create is refused and nothing can be sealed",
    "none of it is memory that the program looks at: the program goes on",
)
def unsealed(stage: Stage) -> None:
    refusing.refuse(["memfd_create"], errno.EPERM)
    with stage.pool(sandbox=True) as pool:
        pool.apply_async(cut_off_all).get(SOON)
        assert pool.apply_async(tasks.square, (3,)).get(SOON) == 9
        assert len(pool.info()["workers"]) == 2
