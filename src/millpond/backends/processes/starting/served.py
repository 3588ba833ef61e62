"""Start through a nursery: the child is forked by a server process, for this one."""

from __future__ import annotations

import os
from multiprocessing.process import BaseProcess

from millpond.backends.processes.starting import nursery, payload, surroundings
from millpond.backends.processes.starting.popen import Popen, wait_readable
from millpond.backends.processes.starting.server import UNTOLD
from millpond.backends.processes.starting.terms import terms_of
from millpond.system import low


class ServedPopen(Popen):
    """A child that a server forked; the server tells its exit status."""

    def __init__(
        self, process_obj: BaseProcess, server: nursery.Nursery | None, method: str
    ) -> None:
        self.method = method
        self._server = server
        super().__init__(process_obj)

    def _launch(self, process_obj: BaseProcess) -> None:
        laid = terms_of(process_obj).laid
        if self._server is not None and laid is not None:
            self._server.adopt(self, laid)
            return
        if self._server is not None:
            self._ask(self._server, process_obj)
            return
        self._server = nursery.fork_server()
        try:
            self._ask(self._server, process_obj)
        except nursery.NurseryError:
            if self._server.alive():
                raise
            self._server = nursery.fork_server()  # it had just ended: the new one
            self._ask(self._server, process_obj)

    def _ask(self, server: nursery.Nursery, process_obj: BaseProcess) -> None:
        packer = payload.Packer(process_obj)
        if server.names is not None:
            opening, pickled = packer.for_copy(server.names)
        else:
            opening, pickled = packer.for_fresh(self.method)
            opening["surroundings"] = surroundings.take(terms_of(process_obj).environment)
            opening["stdio"] = [
                packer.duplicate_for_child(fd) if low.is_open(fd) else None for fd in (0, 1, 2)
            ]
        fd = payload.write(opening, pickled)
        try:
            server.start(self, fd, packer.fds, opening["bound"])
        finally:
            os.close(fd)

    def _forbidden(self, sig: int) -> bool:
        return self._server is not None and self._server.send_signal(self.pid, sig)

    # --- what the server tells ---

    def born(self, pid: int, pidfd: int) -> None:
        """The child was forked."""
        self.pid = pid
        self.sentinel = pidfd
        self._close_at_end(pidfd)

    def ended(self, status: int) -> None:
        """The child ended."""
        if status == UNTOLD:
            self._lost()
        else:
            self._settle(status)

    def _reap(self) -> None:
        if self.returncode is None and wait_readable(self.sentinel, 0):
            assert self._server is not None
            self._server.learn_end(lambda: self.returncode is not None)
            if self.returncode is None:
                self._lost()
