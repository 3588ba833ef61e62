"""The first of our code that a fresh interpreter runs: a spawned child, or the fork server."""

from __future__ import annotations

import marshal
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, BinaryIO, NoReturn

from millpond.backends.processes.starting import (
    binding,
    child,
    frozen,
    payload,
    preloading,
    standard,
    surroundings,
)
from millpond.backends.processes.starting.server import Server, say_busy, settle_in
from millpond.system import sockets
from millpond.worker import place


def spawned(orders: BinaryIO, parent_fd: int, end: int = -1) -> NoReturn:
    """A child that was spawned."""
    found = payload.read(orders)
    if found is None:
        sys.exit(1)
    opening, pickled = found
    outcome = payload.receive(opening["fds"], opening)
    signal.pthread_sigmask(signal.SIG_SETMASK, opening["mask"])
    if opening["bound"]:
        binding.bind(opening["parent"], parent_fd, end, from_main_thread=opening["from_main"])
    sys.exit(child.run_sent(opening, pickled, outcome, parent_fd, None))


def thawed(entry: str, call: int, orders: int, fds: Sequence[int]) -> None:
    """In a frozen program, where ``multiprocessing.spawn`` reads what to do from ``call``."""
    frozen.note(call)
    begin: Any = {"spawned": spawned, "serve": serve}[entry]
    try:
        file = open(orders, "rb")  # noqa: SIM115
        sys.path[:] = marshal.load(file)
        begin(file, *fds)
    finally:
        standard.process.current_process()._inheriting = True  # which spawn's caller takes back


def serve(orders: BinaryIO, parent_fd: int, control_fd: int) -> NoReturn:
    """The fork server."""
    settle_in()
    facts = preloading.read(orders)
    if os.getppid() != facts["parent"]:
        os._exit(0)
    tracker = standard.resource_tracker()
    tracker._fd = facts["tracker"]
    binding.prepare()
    control = sockets.Socket(fileno=control_fd)
    standard.util._close_stdin()
    preloading.carry_out(facts, orders.fileno(), partial(say_busy, control))
    place.libraries()  # here, so that its children need not find them again
    orders.close()
    os.close(facts["tracker"])
    tracker._fd = None
    own = os.getpid()

    def run(fds: Sequence[int]) -> NoReturn:
        code = 1
        try:
            child.begin_forked()
            opening, pickled, outcome = child.open_payload(fds[0], fds[1:])
            if opening["bound"]:
                binding.bind_to_thread(own)
            _put_stdio(opening["stdio"], fds[1:])
            surroundings.put(opening["surroundings"])
            if opening["place"] is not None:
                place.forget_handler()  # which the main module may have set here
            child.wake(opening["surroundings"]["mask"] | opening["blocked"])
            code = child.run_sent(opening, pickled, outcome, parent_fd, None)
        except Exception:
            child.report()
        finally:
            child.leave_forked(code)

    Server(control, parent_fd).serve(run)
    os._exit(0)


def _put_stdio(wanted: Sequence[int | None], fds: Sequence[int]) -> None:
    for fd, index in enumerate(wanted):
        if index is None:
            os.close(fd)
        else:
            os.dup2(fds[index], fd)
            os.close(fds[index])
