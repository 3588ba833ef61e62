"""The parts of multiprocessing that it calls private, and that a replacement has to share with it.

They are named here so that one place shows what this package leans on: the counters and sets of
``process``, ``util``'s finalizers and stream handling, ``spawn``'s preparation data, the default
context, the resource tracker's descriptor and the fork server's list of modules.
"""

from __future__ import annotations

import multiprocessing.context
import multiprocessing.process
import multiprocessing.spawn
import multiprocessing.util
import sys
from typing import Any

context: Any = multiprocessing.context
process: Any = multiprocessing.process
spawn: Any = multiprocessing.spawn
util: Any = multiprocessing.util


def resource_tracker() -> Any:
    """The one object that speaks to the resource tracker's process."""
    from multiprocessing import resource_tracker

    return resource_tracker._resource_tracker


def tracker_fd() -> int | None:
    """How a forked child speaks to that process, if anybody has spoken to it yet."""
    # Not imported for this: a program may have given up the right to read its modules by now.
    module: Any = sys.modules.get("multiprocessing.resource_tracker")
    fd: int | None = None if module is None else module._resource_tracker._fd
    return fd


def preload_modules() -> list[str]:
    """What ``set_forkserver_preload`` was given."""
    from multiprocessing import forkserver

    server: Any = forkserver._forkserver
    return list(server._preload_modules)
