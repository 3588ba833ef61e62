"""What the conformance suite gives to `initializer=`, and the tasks that look at what it left."""

from __future__ import annotations

import multiprocessing.util
import os
import time
from pathlib import Path
from typing import Any

from millpond.testing.tasks import Oops, die, note

_left: dict[str, Any] = {}


def leave(key: str, value: Any, path: str | None = None) -> None:
    """Remember a value in this worker; count the call in the file."""
    _left[key] = value
    if path is not None:
        note(path)


def left(key: str) -> Any:
    return _left.get(key)


def refuse(path: str, number: int) -> None:
    note(path)
    raise Oops(number, "the initializer refuses")


def die_at_start(path: str, how: str) -> None:
    note(path)
    die(how)


def exit_at_start(path: str) -> None:
    note(path)
    raise SystemExit(3)


def add_under_lock(amount: int) -> int:
    """Uses the standard library's Lock and Value that came through initargs."""
    with _left["lock"]:
        _left["value"].value += amount
        return int(_left["value"].value)


def leave_pair(lock: Any, value: Any) -> None:
    _left["lock"], _left["value"] = lock, value


def put_on_queue(x: Any) -> None:
    _left["queue"].put(x)


def leave_at_exit(folder: str) -> None:
    """Register what a worker does at its end; it takes a moment, as saving a report does."""
    multiprocessing.util.Finalize(None, _at_exit, (folder,), exitpriority=10)


def _at_exit(folder: str) -> None:
    Path(folder, f"begun-{os.getpid()}").touch()
    time.sleep(0.3)
    Path(folder, f"ended-{os.getpid()}").touch()


def who_am_i(_: Any = None) -> tuple[str, bool, bool, int]:
    """Name, daemon flag, whether the authkey is the parent's, and the parent's pid."""
    me = multiprocessing.current_process()
    same = bytes(me.authkey) == _left.get("authkey")
    parent = multiprocessing.parent_process()
    return me.name, me.daemon, same, -1 if parent is None or parent.pid is None else parent.pid


def environment(_: Any = None) -> tuple[str, str | None, int]:
    mask = os.umask(0o077)
    os.umask(mask)
    return os.getcwd(), os.environ.get("MILLPOND_TEST_WORD"), mask
