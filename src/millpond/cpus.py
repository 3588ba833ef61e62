"""How many CPUs this process may use.

1. The answer is the least of what the scheduler's affinity and the cgroup's CPU quota allow, and
   ``MILLPOND_CPU_COUNT`` overrides both.
2. Nothing is kept between calls: an affinity or a quota may change while a program runs, and the
   answer costs well under a millisecond.
3. The functions that read meaning into a text do no IO; those that do IO take the file system's
   root as a parameter. A file that is missing or unreadable sets no limit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["available"]

VARIABLE = "MILLPOND_CPU_COUNT"


class Mount(NamedTuple):
    """A mounted cgroup hierarchy that can limit CPU time."""

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

    Raises ValueError if ``MILLPOND_CPU_COUNT`` is set to anything but a positive whole number.
    """
    stated = parse_override(os.environ.get(VARIABLE))
    if stated is not None:
        return stated
    usable = _usable()
    quota = cgroup_limit()
    return usable if quota is None else max(1, min(usable, whole_cpus(quota)))


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


def parse_mounts(mountinfo: str) -> list[Mount]:
    """Find the cgroup hierarchies in the text of ``/proc/self/mountinfo``."""
    mounts = []
    for line in mountinfo.splitlines():
        place, separator, system = line.partition(" - ")
        fields, about = place.split(), system.split()
        if not separator or len(fields) < 5 or not about:
            continue
        root, point = _unescaped(fields[3]), _unescaped(fields[4])
        if about[0] == "cgroup2":
            mounts.append(Mount(2, root, point))
        elif about[0] == "cgroup" and "cpu" in about[-1].split(","):
            mounts.append(Mount(1, root, point))
    return mounts


def parse_membership(text: str) -> Membership:
    """Find the process's own groups in the text of ``/proc/self/cgroup``."""
    v1 = v2 = None
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            v2 = path
        elif "cpu" in controllers.split(","):
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
    member = parse_membership(_read(root, "/proc/self/cgroup"))
    limits = []
    for mount in parse_mounts(_read(root, "/proc/self/mountinfo")):
        path = member.v2 if mount.version == 2 else member.v1
        if path is not None:
            limits += [_quota(root, mount.version, where) for where in group_folders(mount, path)]
    return min((limit for limit in limits if limit is not None), default=None)


def _quota(root: str, version: int, folder: str) -> float | None:
    if version == 2:
        return parse_cpu_max(_read(root, f"{folder}/cpu.max"))
    quota = _read(root, f"{folder}/cpu.cfs_quota_us")
    return parse_cfs(quota, _read(root, f"{folder}/cpu.cfs_period_us")) if quota else None


def _ratio(quota: str, period: str) -> float | None:
    try:
        share, of = int(quota), int(period)
    except ValueError:
        return None
    return share / of if share > 0 and of > 0 else None


def _read(root: str, path: str) -> str:
    try:
        with open(root.rstrip("/") + path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


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
