"""Systems that are poorer than this one: a seccomp filter refuses calls, and folders are not there.

``python -m tests.refusing METHOD ERROR CALLS FOLDERS`` puts a pool and processes of that start method through
their paces in such a system, and prints what ``Pool.info()`` says is missing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any, Final

CALLS: Final = {
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "memfd_create": (319, 279),
    "epoll_pwait2": (441, 441),
    "eventfd": (290, 19),
}
"""Numbers on x86_64 and aarch64."""
FOLDERS: Final = ("/proc", "/dev/shm")
_MACHINES: Final = ("x86_64", "aarch64")

_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NO_NEW_PRIVS, _SET_SECCOMP = 38, 22
_CLONE_NEWNS: Final = 0x00020000


def refuse(calls: Iterable[str], error: int) -> None:
    """From now on these calls fail so, here and in all that starts here."""
    column = _MACHINES.index(platform.machine())
    steps = [_step(_LOAD, 0)]
    for call in calls:
        steps += [_step(_EQUAL, CALLS[call][column], 0, 1), _step(_RETURN, _ERROR | error)]
    code = b"".join([*steps, _step(_RETURN, _ALLOW)])
    buffer = ctypes.create_string_buffer(code, len(code))
    head = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(_SET_SECCOMP, 2, ctypes.create_string_buffer(head, len(head)), 0, 0) == 0


def _step(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)


def hide(folders: Iterable[str]) -> bool:
    """From now on these folders are empty and cannot be written to, here and in all that starts here.

    That needs root; False without.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        return False
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    for folder in folders:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=4k", "none", folder], check=True)
    return True


def main(method: str, error: str, calls: str, folders: str) -> None:
    """See the module."""
    if folders:
        hide(folders.split(","))
    if calls:
        refuse(calls.split(","), getattr(errno, error))
    import millpond

    began = time.monotonic()
    with millpond.Pool(2, start_method=method) as pool:
        try_pool(pool, millpond)
        missing = pool.info()["missing"]
        pool.apply_async(time.sleep, (60,))
        last = time.monotonic()
        pool.terminate()
        pool.join()
        assert time.monotonic() - last < 1.5, "terminate() took too long"
    try_processes(millpond.get_context(method), millpond)
    assert time.monotonic() - began < 30, "this took too long"
    print(missing)


def try_pool(pool: Any, millpond: Any) -> None:
    """Values, large ones, deaths, limits and cancels."""
    assert pool.map(abs, range(-100, 0)) == list(range(100, 0, -1))
    assert pool.apply(len, (bytes(3 << 20),)) == len(pool.apply(bytes, (3 << 20,))) == 3 << 20
    for how in (die, leave_copy_and_die):
        try:
            pool.apply_async(how).get(10)
        except millpond.WorkerDied as death:
            signals = [death.signal]
        else:
            signals = []
        assert signals == ["SIGKILL"], how
    try:
        pool.apply_async(time.sleep, (60,), timeout=0.2).get(10)
    except millpond.TaskTimeout:
        pass
    pending = pool.apply_async(time.sleep, (60,))
    while not any(worker.running for worker in pool.info()["workers"].values()):
        time.sleep(0.001)
    assert pending.cancel()
    assert pool.map_async(abs, range(9)).get(10) == list(range(9))


def try_processes(context: Any, millpond: Any) -> None:
    """Values, statuses and limits."""
    process = context.Process(target=abs, args=(-5,))
    process.start()
    assert process.result(10) == 5
    assert process.exitcode == 0
    process = context.Process(target=die)
    process.start()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL
    process = context.Process(target=time.sleep, args=(60,), timeout=0.2)
    process.start()
    try:
        process.result(10)
    except millpond.TaskTimeout:
        pass
    process = context.Process(target=time.sleep, args=(60,), daemon=True)
    process.start()
    assert process.is_alive()
    process.terminate()
    process.join(10)
    assert process.exitcode == -signal.SIGTERM


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave_copy_and_die() -> None:
    """The copy has every descriptor that its parent had, and lives for a moment longer."""
    if os.fork() == 0:
        time.sleep(0.5)
        os._exit(0)
    die()


if __name__ == "__main__":
    main(*sys.argv[1:])
