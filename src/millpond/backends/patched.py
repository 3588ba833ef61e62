"""Programs in which a package has replaced functions of the standard library by its own (gevent, eventlet)."""

from __future__ import annotations

import _socket
import os
import select
import socket
import threading
from types import BuiltinFunctionType


def check() -> None:
    """Raise RuntimeError where threads or waiting are not the system's: who waits for a worker would stop all."""
    for what, function in (
        # What a thread is, and not what starts one: debuggers wrap that, and their threads are the system's.
        ("threads", threading.get_ident),
        ("select", select.select),
        ("waitpid", os.waitpid),
    ):
        if type(function) is not BuiltinFunctionType:
            raise _refusal(what, function.__module__)
    # A subclass may go by way of a proxy, but it waits as ever.
    if not issubclass(socket.socket, _socket.socket):
        raise _refusal("sockets", socket.socket.__module__)


def _refusal(what: str, where: str) -> RuntimeError:
    who = where.partition(".")[0]
    return RuntimeError(
        f"a pool of processes cannot work where {who} has replaced Python's {what}: have {who} leave os, signal, "
        "socket, select and threads alone (gevent: patch_all(os=False, signal=False, socket=False, select=False, "
        'thread=False)), or give backend="inline"'
    )
