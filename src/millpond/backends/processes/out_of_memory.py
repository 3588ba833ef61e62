"""Whether the kernel ended a worker for want of memory, and what the limit was.

The kernel counts such kills: of a cgroup in ``memory.events`` (version 2) or ``memory.oom_control`` (version 1),
of the whole machine in /proc/vmstat. It does so before it sends the signal, so a death by SIGKILL after which the
count has grown is one of these. A worker that somebody else killed within a second of such a kill of another
program may be taken for one.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from millpond import cpus

_SHORTLY: Final = 1.0
"""Seconds between a kill that the kernel counted and the worker's end being seen, at most."""
_UNLIMITED: Final = 1 << 60
"""Bytes from which on version 1 means that there is no limit."""
_MEMORY: Final = ("memory.events", "memory.max", ("memory.peak", "memory.current"))
_MEMORY_1: Final = (
    "memory.oom_control",
    "memory.limit_in_bytes",
    ("memory.max_usage_in_bytes", "memory.usage_in_bytes"),
)


class Source(NamedTuple):
    """Where a count is, below the root, and what there is to say of the group that it counts for."""

    events: str
    folders: tuple[str, ...] = ()  # the group's and those above it, the innermost first
    limit: str = ""
    usage: tuple[str, ...] = ()


class Kills:
    """Kills for want of memory, as the kernel counts them where this process is; from now on."""

    def __init__(self, root: str = "/") -> None:
        self._root = root
        self._source = _source(root, cpus.read(root, "/proc/self/cgroup"))
        self._seen = self._count()
        self._fresh = 0  # of those seen last, for which no death has been seen
        self._when = 0.0

    def take(self) -> str:
        """Called once for each worker that was killed by SIGKILL: how much memory there was, or "" if that was not
        the reason."""
        count, now = self._count(), time.monotonic()
        if count > self._seen:
            self._fresh, self._when = count - self._seen, now
            self._seen = count
        if not self._fresh or now - self._when > _SHORTLY:
            return ""
        self._fresh -= 1
        return self._room()

    def _count(self) -> int:
        if self._source is None:
            return 0
        found = re.search(
            r"^oom_kill (\d+)$", cpus.read(self._root, self._source.events), re.MULTILINE
        )
        return int(found[1]) if found else 0

    def _room(self) -> str:
        assert self._source is not None
        limits = [
            (size, folder)
            for folder in self._source.folders
            if (size := self._number(f"{folder}/{self._source.limit}")) is not None
            and size < _UNLIMITED
        ]
        if not limits:
            total = re.search(
                r"^MemTotal: +(\d+) kB$",
                cpus.read(self._root, "/proc/meminfo"),
                re.MULTILINE,
            )
            return f"the machine has {shown(int(total[1]) << 10)}" if total else "no limit is known"
        limit, folder = min(limits)
        names = self._source.usage
        uses = [size for name in names if (size := self._number(f"{folder}/{name}")) is not None]
        return f"its cgroup may use {shown(limit)}" + (
            f" and used {shown(uses[0])}" if uses else ""
        )

    def _number(self, path: str) -> int | None:
        text = cpus.read(self._root, path).strip()
        return int(text) if text.isdecimal() else None


def shown(size: int) -> str:
    """A number of bytes for a person."""
    for unit, shift in ("GiB", 30), ("MiB", 20):
        if size >= 1 << shift:
            return f"{size / (1 << shift):.1f} {unit}"
    return f"{size >> 10} KiB"


@lru_cache(maxsize=4)
def _source(root: str, membership: str) -> Source | None:
    return next(_sources(root, membership), None)


def _sources(root: str, membership: str) -> Iterator[Source]:
    """Those that can be read, the best first."""
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            base, (events, limit, usage) = "/sys/fs/cgroup", _MEMORY
        elif "memory" in controllers.split(","):
            base, (events, limit, usage) = "/sys/fs/cgroup/memory", _MEMORY_1
        else:
            continue
        folders = tuple(cpus.group_folders(cpus.Mount(1, "/", base), path))
        if not os.path.isdir(root.rstrip("/") + folders[0]):
            folders = folders[
                -1:
            ]  # in a namespace of its own, which shows a group as the outermost one
        if "oom_kill " in cpus.read(root, f"{folders[0]}/{events}"):
            yield Source(f"{folders[0]}/{events}", folders, limit, usage)
    if "oom_kill " in cpus.read(root, "/proc/vmstat"):
        yield Source("/proc/vmstat")
