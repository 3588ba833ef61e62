"""What a worker that reads untrusted data gives up, before the first task's function or argument is loaded.

    Sandbox(...)   what the caller asks for
    ordered        the same, checked, in absolute paths: in the parent
    enter          in the worker, after the initializer: what was really applied, feature by feature

Rules: the initializer is the caller's own and runs before; nothing that a worker gave up can be got back; what
cannot be had is left out and said, or, where ``require`` is set, no task runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from millpond import amounts
from millpond.errors import SandboxError

FEATURES: Final = ("no_new_privs", "capabilities", "rlimits", "landlock", "seccomp")
"""What a whole sandbox has."""

_Path = str | os.PathLike[str]
_MOST: Final = (1 << 63) - 1
"""What a limit of the system can be."""

_SYSTEM: Final = (
    "/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib", "/usr/share",
    "/etc/ld.so.cache", "/etc/localtime", "/proc/self", "/proc/cpuinfo", "/proc/meminfo",
    "/sys/devices/system/cpu", "/dev/urandom", "/dev/random", "/dev/zero",
)  # fmt: skip
"""What libraries read to work at all."""
_NOTHING: Final = "/dev/null"


class Sandbox(NamedTuple):
    """What the workers of ``Pool(sandbox=...)`` keep; none of it is needed.

    ``read``: files and folders that tasks may read, beyond Python, its packages and the system's libraries.
    ``write``: folders that they may read and write. ``memory``: bytes of address space of a worker.
    ``cpu_seconds``: of a worker in all its life. ``files``: that a worker may have open. ``require``: run no task
    with less than all of it. ``answer``: bytes of memory of the largest value that a task returns (default:
    ``memory``, or 128 MiB). ``environment``: names of the program's variables that a worker has, beyond those that
    Python and libraries of numbers go by.
    """

    read: Sequence[_Path] = ()
    write: Sequence[_Path] = ()
    memory: int | None = None
    cpu_seconds: int | None = None
    files: int = 256
    require: bool = False
    answer: int | None = None
    environment: Sequence[str] = ()

    def variables(self) -> dict[str, str]:
        """Of this program's environment, what its workers have."""
        from millpond.worker import environment

        return environment.kept(self.environment)

    @property
    def largest(self) -> int:
        """Bytes of an answer."""
        from millpond.worker import untrusted

        return self.answer or self.memory or untrusted.LARGEST


def ordered(asked: Any) -> Sandbox | None:
    """What ``sandbox=`` stands for: None, a bool, ``"require"`` or a ``Sandbox``.

    Raises TypeError, ValueError or FileNotFoundError for what makes no sense, SandboxError for what this system
    cannot do and was required.
    """
    if asked is None or asked is False:
        return None
    if asked is True or asked == "require":
        asked = Sandbox(require=asked is not True)
    if not isinstance(asked, Sandbox):
        raise TypeError(f'sandbox must be True, "require" or a millpond.Sandbox, not {asked!r}')
    limits: dict[str, Any] = {}
    for name, least in ("memory", 1 << 20), ("cpu_seconds", 1), ("files", 16), ("answer", 1 << 16):
        value = getattr(asked, name)
        if value is None and name != "files":
            continue
        limits[name] = amounts.whole(f"Sandbox: {name}", value, least, _MOST)
    orders = Sandbox(
        read=_absolute("read", asked.read),
        write=_absolute("write", asked.write),
        **limits,
        require=bool(asked.require),
        environment=_names(asked.environment),
    )
    if orders.require:
        _refuse(_impossible())
    return orders


def enter(orders: Sandbox) -> dict[str, Any]:
    """Give it all up; what was applied, by feature, and under ``missing`` why others were not.

    Raises SandboxError where everything was required, or a path or limit that was asked for cannot be.
    """
    from millpond.worker import untrusted

    threads = _threads()
    read = [*map(str, orders.read), *_needed()]
    write = [*map(str, orders.write), *_there([_NOTHING])]
    _check_memory(orders.memory)
    untrusted.most = orders.largest
    missing: dict[str, str] = {}
    report: dict[str, Any] = dict.fromkeys(FEATURES, False)
    steps: dict[str, Callable[[], Any]] = {
        "no_new_privs": _no_new_privileges,
        "capabilities": _no_capabilities,
        "landlock": lambda: _landlock(read, write),
        "rlimits": lambda: _limit(orders),
        "seccomp": _seccomp,
    }
    for feature, apply in steps.items():
        try:
            report[feature] = apply()
        except (OSError, ValueError) as refusal:
            missing[feature] = getattr(refusal, "strerror", None) or str(refusal)
    if threads > 1:
        for feature in ("landlock", "capabilities"):
            if report[feature]:
                missing[feature] = (
                    "threads that were started before, by the initializer or by what was imported, are "
                    f"not covered: {threads - 1}"
                )
                report[feature] = False
    if orders.require:
        _refuse(missing)
    return {**report, "missing": missing, "read": read, "write": write}


def _refuse(missing: dict[str, str]) -> None:
    if missing:
        lacks = "; ".join(f"{feature} ({why})" for feature, why in missing.items())
        raise SandboxError(
            f"the sandbox is required, and this cannot be had: {lacks}. Without it: sandbox=True",
            missing,
        )


def _impossible() -> dict[str, str]:
    """What this system cannot do, as far as it can be told without doing it."""
    from millpond.worker import landlock, seccomp

    missing = {}
    if not landlock.version():
        missing["landlock"] = landlock.ABSENT
    try:
        seccomp.check()
    except OSError as refusal:
        missing["seccomp"] = str(refusal)
    return missing


def _names(names: Any) -> tuple[str, ...]:
    if isinstance(names, str | bytes) or any(type(name) is not str for name in names):
        raise TypeError(f"Sandbox: environment must be a list of variables' names, not {names!r}")
    return tuple(names)


# Paths ------------------------------------------------------------------------------------------


def _absolute(name: str, paths: Any) -> tuple[str, ...]:
    if isinstance(paths, str | bytes | os.PathLike):
        raise TypeError(f"Sandbox: {name} must be a list of paths, not {paths!r}")
    found = tuple(os.path.abspath(os.fspath(path)) for path in paths)
    for path in found:
        if not os.path.exists(path):
            raise FileNotFoundError(2, f"Sandbox: {name} names what is not there", path)
    return found


def _needed() -> list[str]:
    """What Python and the system's libraries are loaded from, and what these read.

    A folder that programs are run from is among it, but never a home or what is above one.
    """
    prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    home = os.path.realpath(os.path.expanduser("~"))
    imports = [os.path.abspath(entry or ".") for entry in sys.path]
    own = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    wanted = [
        path
        for path in [*sorted(prefixes), *imports, own]
        if os.path.commonpath((real := os.path.realpath(path), home)) != real
    ]
    return _there(dict.fromkeys((*_SYSTEM, *wanted)))


def _there(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if os.path.exists(path)]


# Steps ------------------------------------------------------------------------------------------


def _no_new_privileges() -> bool:
    from millpond.worker import kernel

    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    return kernel.prctl(kernel.PR_GET_NO_NEW_PRIVS) == 1


def _no_capabilities() -> bool:
    from millpond.worker import kernel

    kernel.drop_capabilities()
    return True


def _landlock(read: Sequence[str], write: Sequence[str]) -> int:
    from millpond.worker import landlock

    return landlock.restrict(read, write)


def _seccomp() -> bool:
    from millpond.worker import seccomp

    seccomp.refuse()
    return True


def _limit(orders: Sandbox) -> dict[str, int]:
    """Resource limits: both the soft and the hard one, so that they stay."""
    import resource

    wanted = {"core": 0, "nofile": orders.files, "as": orders.memory, "cpu": orders.cpu_seconds}
    for name, limit in wanted.items():
        if limit is not None:
            number = getattr(resource, f"RLIMIT_{name.upper()}")
            hard = resource.getrlimit(number)[1]
            limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(number, (limit, limit))
    return {
        name: resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
        for name, limit in wanted.items()
        if limit is not None
    }


def _check_memory(limit: int | None) -> None:
    """A limit below what is mapped already would fail every task, and say nothing of why."""
    if limit is None:
        return
    with open("/proc/self/statm", "rb") as file:
        mapped = int(file.read().split()[0]) * os.sysconf("SC_PAGESIZE")
    if mapped >= limit:
        raise SandboxError(
            f"Sandbox: memory={limit} is no more than the {mapped} bytes of address space that a worker has "
            "in use before its first task",
            {},
        )


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1
