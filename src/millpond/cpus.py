"""How many CPUs this process may use, and which part of them a pool's worker gets.

1. The answer is the least of what the scheduler's affinity and the cgroup's CPU quota allow, and
   ``MILLPOND_CPU_COUNT`` overrides both.
2. Nothing is kept between calls: an affinity or a quota may change while a program runs, and the
   answer costs well under a millisecond.
3. The functions that read meaning into a text do no IO; those that do IO take the file system's
   root as a parameter. A file that is missing or unreadable sets no limit.
4. One budget for all that is nested: a worker's share is what its pool may use, divided by its
   workers. A process finds its share in the environment, so that whatever a task starts, a program
   included, inherits it; a worker that is a thread has it in a context variable.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

__all__ = ["available"]

VARIABLE = "MILLPOND_CPU_COUNT"
DEPTH_VARIABLE = "MILLPOND_DEPTH"

DEEPEST = 8
"""Pools inside one another. Each level starts processes, and a share is one CPU long before this: what
goes deeper is a recursion that nobody ends."""


class Share(NamedTuple):
    """What a worker may use for the pools of its tasks, and in how many pools it is."""

    cpus: int
    depth: int

    def environment(self) -> dict[str, str]:
        """The variables that tell a process of it."""
        return {VARIABLE: str(self.cpus), DEPTH_VARIABLE: str(self.depth)}


of_thread: ContextVar[Share | None] = ContextVar("millpond_share", default=None)
"""The share of a worker that is a thread of this process."""


class Mount(NamedTuple):
    """A mounted cgroup hierarchy."""

    version: int
    root: str  # the path inside the hierarchy that is mounted
    point: str  # where it is mounted


class Membership(NamedTuple):
    """Where a process is in each hierarchy; None where it is in none."""

    v1: str | None
    v2: str | None


def available() -> int:
    """Return the number of CPUs that this process may use, at least 1.

    Costs about 0.2 ms. A quota of one and a half CPUs counts as two.

    In a task it is the worker's share. Raises ValueError if ``MILLPOND_CPU_COUNT`` is set to anything
    but a positive whole number.
    """
    share = of_thread.get()
    if share is not None:
        return share.cpus
    stated = parse_override(os.environ.get(VARIABLE))
    if stated is not None:
        return stated
    usable = _usable()
    quota = cgroup_limit()
    return usable if quota is None else max(1, min(usable, whole_cpus(quota)))


def depth() -> int:
    """How many pools this code runs in: 0 in a program that nobody's task started."""
    share = of_thread.get()
    return int(os.environ.get(DEPTH_VARIABLE) or 0) if share is None else share.depth


def share(workers: int, among: int | None = None, usable: int | None = None) -> Share:
    """The share of each worker of a new pool; ``among``: the CPUs that its workers are pinned to.
    ``usable``: what ``available`` said, if that is known.

    Raises RecursionError where pools are nested ``DEEPEST`` deep already.
    """
    inside = depth()
    if inside >= DEEPEST:
        raise RecursionError(
            f"this task runs in {inside} pools, one inside the other, and no more may be nested: "
            "call the function directly, or use Pool(backend='inline')"
        )
    budget = available() if usable is None else usable
    if among is not None:
        budget = min(budget, among)
    return Share(max(1, budget // workers), inside + 1)


def pinning(wanted: Any) -> list[frozenset[int]]:
    """Read ``cpus=``: the CPUs of each worker, to be repeated; empty where none is pinned.

    True is every CPU that this process may use, one a worker. Raises TypeError or ValueError for what makes
    no sense, names a CPU that this process may not use, or cannot be had on this system.
    """
    if wanted is None or wanted is False:
        return []
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError(
            "cpus= cannot be had here: this system does not let a process choose its CPUs"
        )
    return parse_pinning(wanted, os.sched_getaffinity(0))


def parse_pinning(wanted: Any, usable: Collection[int]) -> list[frozenset[int]]:
    """``pinning`` on a system with these CPUs."""
    if wanted is True:
        return [frozenset({cpu}) for cpu in sorted(usable)]
    if isinstance(wanted, str | bytes) or not hasattr(wanted, "__iter__"):
        raise TypeError(f"cpus must be True or a sequence, not {wanted!r}")
    places = [_cpus_of(entry) for entry in wanted]
    if not places or not all(places):
        raise ValueError(f"cpus must name a CPU for each worker, not {wanted!r}")
    strange = sorted(frozenset().union(*places).difference(usable))
    if strange:
        raise ValueError(
            f"cpus names {', '.join(map(str, strange))}; "
            f"this process may use {', '.join(map(str, sorted(usable)))}"
        )
    return places


def _cpus_of(entry: Any) -> frozenset[int]:
    """One worker's entry: a CPU, or several."""
    several = entry if hasattr(entry, "__iter__") and not isinstance(entry, str) else (entry,)
    try:
        return frozenset(map(operator.index, several))
    except TypeError:
        raise TypeError(
            f"an entry of cpus must be a CPU's number or several, not {entry!r}"
        ) from None


def parse_override(text: str | None) -> int | None:
    """Read the environment's override; unset or blank says nothing."""
    if text is None or not text.strip():
        return None
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise ValueError(f"{VARIABLE} must be a positive whole number, not {text!r}")
    return count


def parse_mounts(mountinfo: str, controller: str = "cpu") -> list[Mount]:
    """Find the cgroup hierarchies that may have the controller in the text of ``/proc/self/mountinfo``."""
    mounts = []
    for line in mountinfo.splitlines():
        if "cgroup" not in line:
            continue  # most are not, and there may be hundreds
        place, separator, system = line.partition(" - ")
        fields, about = place.split(), system.split()
        if not separator or len(fields) < 5 or not about:
            continue
        root, point = _unescaped(fields[3]), _unescaped(fields[4])
        if about[0] == "cgroup2":
            mounts.append(Mount(2, root, point))
        elif about[0] == "cgroup" and controller in about[-1].split(","):
            mounts.append(Mount(1, root, point))
    return mounts


def parse_membership(text: str, controller: str = "cpu") -> Membership:
    """Find the process's own groups in the text of ``/proc/self/cgroup``."""
    v1 = v2 = None
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            v2 = path
        elif controller in controllers.split(","):
            v1 = path
    return Membership(v1, v2)


def parse_cpu_max(text: str) -> float | None:
    """Read version 2's ``cpu.max``: a quota and a period, or "max" for no limit."""
    quota, *period = text.split() or ["max"]
    return _ratio(quota, period[0] if period else "100000")


def parse_cfs(quota: str, period: str) -> float | None:
    """Read version 1's ``cpu.cfs_quota_us`` (-1 for no limit) and ``cpu.cfs_period_us``."""
    return _ratio(quota, period)


def whole_cpus(quota: float) -> int:
    """Round a quota up to whole CPUs: the last fraction of one is still worth a worker."""
    return max(1, -int(-quota // 1))


def group_folders(mount: Mount, path: str) -> Iterator[str]:
    """Yield a group's folder and those above it, up to the mount's own, nearest first.

    Inside a container the mounted root may be the group itself (no namespace of its own), or the
    path may lead out of what is mounted; then what is mounted is all there is to see.
    """
    root = mount.root.rstrip("/")
    inside = path == root or path.startswith(root + "/")
    parts = [part for part in path[len(root) :].split("/") if part] if inside else []
    if ".." in parts:
        parts = []
    for depth in range(len(parts), -1, -1):
        yield "/".join([mount.point.rstrip("/"), *parts[:depth]])


def cgroup_limit(root: str = "/") -> float | None:
    """Return the tightest CPU quota, in CPUs, over this process's groups and those above them."""
    member = parse_membership(read(root, "/proc/self/cgroup"))
    limits = []
    for mount in parse_mounts(read(root, "/proc/self/mountinfo")):
        path = member.v2 if mount.version == 2 else member.v1
        if path is not None:
            limits += [_quota(root, mount.version, where) for where in group_folders(mount, path)]
    return min((limit for limit in limits if limit is not None), default=None)


def _quota(root: str, version: int, folder: str) -> float | None:
    if version == 2:
        return parse_cpu_max(read(root, f"{folder}/cpu.max"))
    quota = read(root, f"{folder}/cpu.cfs_quota_us")
    return parse_cfs(quota, read(root, f"{folder}/cpu.cfs_period_us")) if quota else None


def _ratio(quota: str, period: str) -> float | None:
    try:
        share, of = int(quota), int(period)
    except ValueError:
        return None
    return share / of if share > 0 and of > 0 else None


def read(root: str, path: str) -> str:
    """The text of a file below ``root``; empty if there is none."""
    try:
        fd = os.open(root.rstrip("/") + path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    pieces = []
    try:
        while piece := os.read(fd, 1 << 16):
            pieces.append(piece)
    except OSError:
        return ""
    finally:
        os.close(fd)
    return b"".join(pieces).decode("utf-8", "surrogateescape")


def _unescaped(text: str) -> str:
    r"""Undo mountinfo's escapes: a space, a tab, a newline and a backslash stand in octal."""
    for octal in ("040", "011", "012", "134"):
        text = text.replace("\\" + octal, chr(int(octal, 8)))
    return text


def _usable() -> int:
    """Count the CPUs of the interpreter's own answer: affinity, and ``PYTHON_CPU_COUNT``."""
    process_cpu_count = getattr(os, "process_cpu_count", None)  # new in Python 3.13
    if process_cpu_count is not None:
        return process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1
