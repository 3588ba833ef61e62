"""Programs in which a package has replaced functions of the standard library by its own (gevent, eventlet)."""

from __future__ import annotations

import os
import select
import socket
import threading
from types import BuiltinFunctionType
from typing import Any


def check() -> None:
    """Raise RuntimeError where threads or waiting are not the system's: who waits for a worker would stop all."""
    names: Any = vars(threading)  # Python 3.13 has renamed it
    starts = names.get("_start_joinable_thread") or names["_start_new_thread"]
    for what, function in (
        ("threads", starts),
        ("select", select.select),
        ("waitpid", os.waitpid),
    ):
        if type(function) is not BuiltinFunctionType:
            raise _refusal(what, function.__module__)
    if socket.socket.__module__ != "socket":
        raise _refusal("sockets", socket.socket.__module__)


def _refusal(what: str, where: str) -> RuntimeError:
    who = where.partition(".")[0]
    return RuntimeError(
        f"a pool of processes cannot work where {who} has replaced Python's {what}: have {who} leave os, signal, "
        "socket, select and threads alone (gevent: patch_all(os=False, signal=False, socket=False, select=False, "
        'thread=False)), or give backend="inline"'
    )
