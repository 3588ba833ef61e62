"""What a worker process gets, made before it is started: both ends of all that it will share with its parent."""

from __future__ import annotations

import contextlib
import os
import signal
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from millpond.backends.processes import arena
from millpond.backends.processes.starting.births import Unborn
from millpond.backends.processes.starting.nursery import Nursery
from millpond.backends.processes.starting.terms import terms_of
from millpond.system import files, sockets
from millpond.worker.channel import Endpoint
from millpond.worker.frames import Decoder
from millpond.worker.loop import Settings
from millpond.worker.place import Place, without_threads
from millpond.worker.segments import open_file
from millpond.worker.serving import serve
from millpond.worker.slate import SIZE, Slate

if TYPE_CHECKING:
    from millpond.backends.processes.starting.bystanders import Watch
    from millpond.worker.sandbox import Sandbox

_QUIET: Final = frozenset({signal.SIGINT})
"""Blocked in a worker until it has its own handler, so that no Ctrl-C shows its start's traceback."""

_BROOD: Final = 8
"""Workers that are forked at once, at most: an outfit has three times as many descriptors as a worker keeps."""

_waiting: weakref.WeakSet[Outfit] = weakref.WeakSet()


class Outfit:
    """Of one process, until that is started; what is the parent's goes on to its ``Child``."""

    def __init__(self, context: Any, settings: Settings, place: Place, lent: arena.Shared) -> None:
        """``lent``: this program's file of the arena, for who is trusted; held as long as this is.

        Raises OSError, and leaves nothing then.
        """
        with contextlib.ExitStack() as mine, contextlib.ExitStack() as its:
            self.channel, end = sockets.pair()
            mine.callback(self.channel.close)
            its.callback(end.close)
            page = _shared_page()
            its.callback(os.close, page)
            self.slate = Slate(page)
            mine.callback(self.slate.close)
            self.arena, self.lent = -1, lent
            self.fds = [end.fileno(), page]
            self.decoder = Decoder(skips=True)
            self.outlets: Any = ()  # of what it prints, if it is in a sandbox
            self.doubt: Any = None  # what judges what it sends, if it is in a sandbox
            if settings.sandbox is None:
                endpoint = self._share(mine, its)
            else:
                endpoint = self._confine(settings.sandbox, mine, its)
            args = endpoint(*self.fds), settings, place
            self.process = context.Process(target=serve, args=args, daemon=True)
            self.process.name = self.process.name.replace("Process", "PoolWorker")
            self._set_terms(settings, place)
            self._mine, self._its = mine.pop_all(), its.pop_all()
        _waiting.add(self)

    def _share(self, mine: contextlib.ExitStack, its: contextlib.ExitStack) -> type[Endpoint]:
        """What somebody who is trusted gets beside its channel: files of the arena."""
        self.arena = open_file()
        mine.callback(os.close, self.arena)
        for file in (self.arena, self.lent.fd):  # a copy of this process closes what is this one's
            self.fds.append(os.dup(file))
            its.callback(os.close, self.fds[-1])
        return Endpoint

    def _confine(
        self, orders: Sandbox, mine: contextlib.ExitStack, its: contextlib.ExitStack
    ) -> type[Endpoint]:
        """What somebody who is not gets: pipes to print to."""
        from millpond.backends.processes import sandboxed
        from millpond.worker.confined import ConfinedEndpoint

        self.doubt = sandboxed.Doubt(orders)
        self.decoder = sandboxed.GuardedDecoder(self.doubt.largest)
        self.outlets = sandboxed.outlets(self.doubt)
        for outlet in self.outlets:
            mine.callback(outlet.close)
            its.callback(os.close, outlet.writer)
            self.fds.append(outlet.writer)
        return ConfinedEndpoint

    def _set_terms(self, settings: Settings, place: Place) -> None:
        terms = terms_of(self.process)
        terms.blocked = _QUIET
        terms.place = place
        terms.half_imported = settings.half_imported
        terms.returns = False
        # A subclass of Pool may make workers that are not daemonic.
        terms.die_with_parent = True
        if settings.sandbox is not None:
            terms.place = without_threads(place)
            terms.environment = settings.sandbox.variables()
            self.process.authkey = os.urandom(32)  # the program's own is for its friends

    def start(self, server: Nursery | None) -> None:
        """Start the process. Raises OSError, and leaves nothing then."""
        if server is not None:
            terms_of(self.process).server = server
        try:
            self.process.start()
        except BaseException:
            self.close()
            raise
        _waiting.discard(self)
        self._its.close()
        self._mine.pop_all()

    def close(self) -> None:
        """It is not needed."""
        self._its.close()
        self.keep_its()

    def keep_its(self) -> None:
        """In a copy of this process: what is the parent's would keep channels from ending there."""
        self._mine.close()


def hatch(
    context: Any, settings: Settings, places: Sequence[Place], first: Callable[[], object],
    watch: Watch | None = None,
) -> tuple[Nursery, list[Outfit]]:  # fmt: skip
    """A copy of this process that forks the first workers at once, and outfits that only need be started.

    The pool has joined the arena then: it is the outfits' that it has to leave. ``watch``: as in ``Nursery.fork``.
    """
    lent, outfits = arena.join(), list[Outfit]()
    try:
        for place in places[:_BROOD]:
            outfits.append(Outfit(context, settings, place, lent))
        brood = [Unborn(outfit.process, outfit.fds) for outfit in outfits]
        return Nursery.fork({"settings": settings}, first, brood, watch), outfits
    except BaseException:
        for outfit in outfits:
            outfit.close()
        arena.leave(lent)
        raise


def _shared_page() -> int:
    """A descriptor of a page that has no name, of a size that no worker can change: reading where a file
    has been cut off would end the parent by SIGBUS."""
    return files.unnamed_file("millpond-slate", SIZE, files.FIXED)


def _in_child() -> None:
    for outfit in list(_waiting):
        outfit.keep_its()
    _waiting.clear()


os.register_at_fork(after_in_child=_in_child)
