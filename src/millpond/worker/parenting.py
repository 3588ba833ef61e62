"""Tasks of an executor may start processes by the standard library, as those of ``concurrent.futures`` may.

The standard library refuses children to daemonic processes, which workers are, since nobody would end them with
their parent. While a task of an executor runs, its worker is not daemonic, and each process that is started is put
on a leash (``system.leash``): it is killed when its parent ends, however that ends, and so are its own children.

Rules: processes alone are tied, by what they copy of their parent's configuration; other programs that a task
starts, and copies that it makes by ``os.fork``, are its own affair. What a plain task starts is not looked at.
"""

from __future__ import annotations

import os
from multiprocessing import context, process, reduction, util
from types import TracebackType
from typing import Any

from millpond.system import leash


class Tie:
    """What a process has in its configuration, where its children are to end with it; one a process."""

    def __init__(self) -> None:
        self._owner = 0
        self._leash: leash.Leash | None = None
        util.register_after_fork(self, Tie._tie)
        os.register_at_fork(before=self._prepare)

    def _own(self) -> leash.Leash:
        """This process's, made when its first child is."""
        if self._leash is None or self._owner != os.getpid():
            self._leash, self._owner = leash.Leash(), os.getpid()
        return self._leash

    def _prepare(self) -> None:
        if leash.TIE in _config():
            try:
                self._own()
            except OSError:
                pass  # without descriptors no process can be started either

    def _tie(self) -> None:
        """In a process that was forked: it is on its parent's leash, and has none yet."""
        parent, self._leash = self._leash, None
        if parent is not None and leash.TIE in _config() and self._owner != os.getpid():
            leash.take(parent.end)

    def __reduce__(self) -> tuple[Any, ...]:
        if context.get_spawning_popen() is None:
            return _tied, (None,)
        return _tied, (reduction.DupFd(self._own().end),)


_the_tie: Tie | None = None


def _tie() -> Tie:
    global _the_tie
    if _the_tie is None:
        _the_tie = Tie()
    return _the_tie


def _tied(end: Any) -> Tie:
    """In a process that was sent: it is on its parent's leash, of which this is the end."""
    if end is not None:
        leash.take(end.detach())
    return _tie()


def _config() -> dict[str, Any]:
    current: Any = process.current_process()
    config: dict[str, Any] = current._config
    return config


class Allowed:
    """Tasks that run in this context may start processes."""

    def __enter__(self) -> None:
        self._config = _config()
        self._daemon = self._config.get("daemon")
        self._config[leash.TIE] = _tie()
        self._config["daemon"] = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._config["daemon"] = self._daemon
        self._config.pop(leash.TIE, None)
