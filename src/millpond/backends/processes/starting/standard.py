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
from typing import Any

context: Any = multiprocessing.context
process: Any = multiprocessing.process
spawn: Any = multiprocessing.spawn
util: Any = multiprocessing.util


def resource_tracker() -> Any:
    """The one object that speaks to the resource tracker's process."""
    from multiprocessing import resource_tracker

    return resource_tracker._resource_tracker


def preload_modules() -> list[str]:
    """What ``set_forkserver_preload`` was given."""
    from multiprocessing import forkserver

    server: Any = forkserver._forkserver
    return list(server._preload_modules)
