"""How a process comes to be: one small module for each way to start one.

    Process.start()
       |  method, or a server that was set on the process
       v
    direct.py   fork: the child is a copy, it goes straight on
    fresh.py    spawn: a new interpreter; boot.py is the first of our code that it runs
    served.py   ask a nursery: nursery.py is the parent's side, server.py forks the child
       |
       v
    child.py    in each child: bind to the parent, take what was sent, run Process._bootstrap

What they share: ``popen.py`` is what a parent holds of a child (pidfd, exit status), ``binding.py``
ties a child's life to its parent's, ``payload.py`` is what travels to a child that is no copy,
``main_module.py`` what becomes of ``__main__`` there, ``half_imported.py`` of a module that makes
the pool as it is imported, ``surroundings.py`` the environment of a served child, ``terms.py`` what
is kept of a process, ``outcome_file.py`` and ``returned.py`` how its result comes back,
``standard.py`` what of multiprocessing's private parts is used. A server comes to be in
``births.py``, a fresh one by ``commands.py``, imports what ``preloading.py`` says, and is spoken to
through ``conversation.py``; ``brood.py`` is of children that it forks unasked. Whether a program
with other threads may be forked at all is seen by ``bystanders.py``, which asks ``parked.py`` what a
thread does, and that ``calls.py`` what a frame calls.

Rules: no listening socket and no name anywhere, nothing secret on a command line; whatever is
passed to a child has no fd number below 3; a start either happens or raises and leaves nothing
behind.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from millpond.backends.processes.starting.terms import terms_of

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from millpond.backends.processes.starting.popen import Popen


def launch(process_obj: BaseProcess, method: str) -> Popen:
    """Start ``process_obj`` by the start method, or through the server that was set on it."""
    if getattr(sys, "frozen", False):
        from millpond.backends.processes.starting import frozen

        frozen.check()
    preloading = sys.modules.get("millpond.backends.processes.starting.preloading")
    if preloading is not None:
        preloading.check()
    server = terms_of(process_obj).server
    if server is not None or method == "forkserver":
        from millpond.backends.processes.starting.served import ServedPopen

        return ServedPopen(process_obj, server, method)
    if method == "spawn":
        from millpond.backends.processes.starting.fresh import SpawnPopen

        return SpawnPopen(process_obj)
    from millpond.backends.processes.starting.direct import ForkPopen

    return ForkPopen(process_obj)
