"""Start by ``os.fork``: the child is a copy of this process and goes straight on."""

from __future__ import annotations

import os
import signal
import threading
from _signal import pthread_sigmask  # type: ignore[import-not-found]  # signal's wraps each answer in enums
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import NoReturn

from millpond.backends.processes.starting import binding, child, interruptions
from millpond.backends.processes.starting.interruptions import HANDLED
from millpond.backends.processes.starting.popen import OwnChild, close_all
from millpond.backends.processes.starting.terms import terms_of
from millpond.system import ends


def fork_sealed(in_child: Callable[[set[int]], NoReturn], signals: frozenset[int] = HANDLED) -> int:
    """Fork with signals blocked: none is handled in the child before ``in_child(mask)`` sees to it.

    A handler that raised there would send the child back into the parent's code.
    """
    own = interruptions.mask()
    before: set[int] = set(pthread_sigmask(signal.SIG_BLOCK, ()))
    try:
        pthread_sigmask(signal.SIG_BLOCK, signals)
        pid = os.fork()
        if pid == 0:
            interruptions.forget()
            in_child(own)
        return pid
    finally:
        pthread_sigmask(signal.SIG_SETMASK, before)


class ForkPopen(OwnChild):
    """A child forked by this process."""

    method = "fork"

    def _launch(self, process_obj: BaseProcess) -> None:
        terms = terms_of(process_obj)
        outcome, bound = terms.outcome, terms.bound
        from_main = threading.current_thread() is threading.main_thread()
        if bound and from_main:
            binding.prepare()
        parent = os.getpid()
        # Opened here, not in the child: there the parent might be gone already, its pid another's.
        parent_fd = ends.of_self()
        end = self._bind(bound)

        def run(mask: set[int]) -> NoReturn:
            code = 1
            try:
                child.begin_forked()
                if bound:
                    binding.bind(parent, parent_fd, end, from_main_thread=from_main)
                pthread_sigmask(signal.SIG_SETMASK, mask.union(terms.blocked))
                code = child.enter(process_obj, outcome, parent_fd)
            finally:
                child.leave_forked(code)

        if outcome is not None:
            outcome.keep_across_fork(True)
        try:
            self.pid = fork_sealed(run)
        finally:
            if outcome is not None:
                outcome.keep_across_fork(False)
            close_all(parent_fd)
        self._watch()
