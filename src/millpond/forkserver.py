"""``multiprocessing.forkserver``, whose ``_forkserver`` is ours.

Rules: there is no listening socket and no address; what programs and tests ask of ``_forkserver``
(is it running, its pid, what it preloads) answers for millpond's fork server; a name that is not
here is the standard library's.
"""

from __future__ import annotations

import multiprocessing.forkserver as std
from collections.abc import Sequence
from typing import Any

from millpond.backends.processes.starting import nursery

__all__ = [
    "connect_to_new_process",
    "ensure_running",
    "get_inherited_fds",
    "set_forkserver_preload",
]


class ForkServer:
    """millpond's fork server, seen as the standard library's."""

    @property
    def _forkserver_pid(self) -> int | None:
        running = nursery.current_fork_server()
        return None if running is None else running.pid

    def ensure_running(self) -> None:
        """Start the fork server unless it runs."""
        nursery.fork_server()

    def set_forkserver_preload(self, modules_names: Sequence[str]) -> None:
        """What the next fork server imports."""
        std.set_forkserver_preload(list(modules_names))

    def get_inherited_fds(self) -> list[int] | None:
        """The descriptors that the standard library's server sent this process, if it did."""
        return std.get_inherited_fds()

    def connect_to_new_process(self, fds: Sequence[int]) -> tuple[int, int]:
        """The standard library's own server's; ours has no such conversation."""
        return std.connect_to_new_process(fds)

    def _stop(self) -> None:
        nursery.shutdown()


_forkserver = ForkServer()
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
connect_to_new_process = _forkserver.connect_to_new_process
set_forkserver_preload = _forkserver.set_forkserver_preload


def __getattr__(name: str) -> Any:
    return getattr(std, name)
