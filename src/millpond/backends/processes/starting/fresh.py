"""Start in a fresh interpreter (spawn)."""

from __future__ import annotations

import os
import threading
from multiprocessing.process import BaseProcess

from millpond.backends.processes.starting import commands, payload
from millpond.backends.processes.starting.popen import Popen, close_all, open_pidfd


class SpawnPopen(Popen):
    """A child in a fresh interpreter."""

    method = "spawn"

    def _launch(self, process_obj: BaseProcess) -> None:
        packer = payload.Packer(process_obj)
        opening, pickled = packer.for_fresh(self.method)
        opening["fds"] = packer.fds
        opening["from_main"] = threading.current_thread() is threading.main_thread()
        parent_fd = open_pidfd(os.getpid())
        reader, writer = os.pipe() if parent_fd is None else (None, None)
        orders = payload.write(opening, pickled, front=commands.module_path())
        fds = [] if parent_fd is None else [parent_fd]
        inherited = packer.fds if writer is None else [*packer.fds, writer]
        try:
            self.pid = commands.run("spawned", orders, fds, inherited)
        except BaseException:
            close_all(*(() if reader is None else (reader,)))
            raise
        finally:
            close_all(orders, *fds, *(() if writer is None else (writer,)))
        self._watch(reader)
