"""Start in a fresh interpreter (spawn)."""

from __future__ import annotations

import contextlib
import threading
from multiprocessing.process import BaseProcess

from millpond.backends.processes.starting import commands, interruptions, payload
from millpond.backends.processes.starting.popen import OwnChild, close_all
from millpond.backends.processes.starting.terms import terms_of
from millpond.system import ends


class SpawnPopen(OwnChild):
    """A child in a fresh interpreter."""

    method = "spawn"

    def _launch(self, process_obj: BaseProcess) -> None:
        packer = payload.Packer(process_obj)
        opening, pickled = packer.for_fresh(self.method)
        opening["fds"] = packer.fds
        opening["from_main"] = threading.current_thread() is threading.main_thread()
        # Until it sets this, the child has the mask of the moment, in which signals are held.
        opening["mask"] = set(map(int, interruptions.mask())) | opening["blocked"]
        with contextlib.ExitStack() as the_child_s:
            parent_fd = ends.of_self()
            the_child_s.callback(close_all, parent_fd)
            orders = payload.write(opening, pickled, front=commands.module_path())
            the_child_s.callback(close_all, orders)
            end = self._bind(opening["bound"])
            fds = [parent_fd] if end < 0 else [parent_fd, end]
            environment = terms_of(process_obj).environment
            self.pid = commands.run("spawned", orders, fds, packer.fds, environment)
        self._watch()
