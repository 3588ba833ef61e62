"""What a worker that was taken over tries. Each either raises OSError or did what it must not be able to do."""

from __future__ import annotations

import ctypes
import ctypes.util
import fcntl
import mmap
import os
import platform
import signal
import socket
import struct
import termios
import threading
from collections.abc import Callable
from typing import Any

_COLUMN = {"x86_64": 0, "aarch64": 1}[platform.machine()]
_NUMBERS = {
    "clone3": (435, 435), "execveat": (322, 281), "fchmodat2": (452, 452), "fsopen": (430, 430),
    "inotify_init1": (294, 26), "io_uring_setup": (425, 425), "ioprio_set": (251, 30), "keyctl": (250, 219),
    "kcmp": (312, 272), "landlock_create_ruleset": (444, 444), "mknodat": (259, 33), "openat2": (437, 437),
    "pidfd_getfd": (438, 438), "pidfd_open": (434, 434), "process_vm_writev": (311, 271), "ptrace": (101, 117),
    "rt_sigqueueinfo": (129, 138), "sched_setattr": (314, 274), "sendmsg": (46, 211), "sendto": (44, 206),
    "setns": (308, 268), "shmget": (29, 194), "socketpair": (53, 199), "unshare": (272, 97),
    "userfaultfd": (323, 282), "bpf": (321, 280), "perf_event_open": (298, 241), "memfd_create": (319, 279),
    "personality": (135, 92), "setxattr": (188, 5), "name_to_handle_at": (303, 264), "utimensat": (280, 88),
    "linkat": (265, 37), "fanotify_init": (300, 262), "clone": (56, 220), "prctl": (157, 167),
}  # fmt: skip

_libc: Any = None


def call(name: str, *arguments: Any) -> int:
    """A system call, past what Python and the C library make of it."""
    global _libc
    _libc = _libc or ctypes.CDLL(None, use_errno=True)
    _libc.syscall.restype = ctypes.c_long
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    found: int = _libc.syscall(ctypes.c_long(_NUMBERS[name][_COLUMN]), *wide)
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)
    return found


def _prctl(option: int, *arguments: int) -> int:
    return call("prctl", option, *arguments, 0, 0)


def _datagram(path: str) -> None:
    socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b"x", path)


def _stream_with_address(path: str) -> None:
    address = struct.pack("=H", socket.AF_UNIX) + path.encode() + b"\0"
    own, _ = socket.socketpair()
    call("sendto", own.fileno(), b"x", 1, 0, address, len(address))


def _stop_a_thread_of_another(pid: int) -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, 0)  # allowed: the worker's own
    ctypes.CDLL(None, use_errno=True)
    call("rt_sigqueueinfo", pid, 0, b"\0" * 128)


def _set_uid_file(folder: str) -> None:
    path = os.path.join(folder, "as-root")
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o4755))
    if not os.stat(path).st_mode & 0o4000:
        raise OSError("it is not set-uid")


def _unnamed_set_uid_file(folder: str) -> None:
    os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o6755)


def _open(folder: str, *, flags: int) -> None:
    os.open(folder, flags)


def _owner_of_signals(pid: int) -> None:
    fcntl.fcntl(1, fcntl.F_SETOWN, pid)


def _terminal_modes() -> None:
    try:
        termios.tcsetattr(1, termios.TCSANOW, termios.tcgetattr(1))
    except termios.error as refusal:
        raise OSError(*refusal.args) from None


def _read_output() -> None:
    for fd in (1, 2):
        os.set_blocking(fd, False)
        os.read(fd, 1)


def _notice(folder: str) -> None:
    fcntl.fcntl(os.open(folder, os.O_RDONLY), fcntl.F_NOTIFY, fcntl.DN_CREATE)


def _lease(folder: str) -> None:
    path = os.path.join(folder, "leased")
    fcntl.fcntl(os.open(path, os.O_CREAT | os.O_RDONLY, 0o600), fcntl.F_SETLEASE, fcntl.F_RDLCK)


def _lock(folder: str) -> None:
    path = os.path.join(folder, "locked")
    fcntl.flock(os.open(path, os.O_CREAT | os.O_RDONLY, 0o600), fcntl.LOCK_EX)


def _out_of_band() -> None:
    socket.socketpair()[0].send(b"x", socket.MSG_OOB)


def _another_thread_with_flags(flags: int) -> None:
    if call("clone", flags, 0, 0, 0, 0) == 0:
        os._exit(0)


def _attribute(pid: int) -> None:
    call("sched_setattr", pid, struct.pack("=IIQiIQQQ", 48, 0, 0, 0, 0, 0, 0, 0), 0)


ATTACKS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    # "$pid": the program's; "$folder": one that may be written to; "$socket": of a daemon
    "a datagram to a daemon": (_datagram, ("$socket",)),
    "a stream's bytes to a daemon": (_stream_with_address, ("$socket",)),
    "a pair of internet sockets": (call, ("socketpair", 2, 1, 0, b"\0" * 8)),
    "out-of-band data": (_out_of_band, ()),
    "a message with descriptors": (call, ("sendmsg", 1, b"\0" * 64, 0)),
    "what is typed at the terminal": (_read_output, ()),
    "the terminal's modes": (_terminal_modes, ()),
    "the terminal's foreground": (os.tcsetpgrp, (1, 1)),
    "a character typed at the terminal": (fcntl.ioctl, (1, termios.TIOCSTI, b"x")),
    "a terminal of its own": (fcntl.ioctl, (1, termios.TIOCSCTTY, 0)),
    "signals by way of a descriptor": (_owner_of_signals, ("$pid",)),
    "signals by way of an ioctl": (fcntl.ioctl, (1, 0x8901, struct.pack("i", 1))),
    "input and output that send signals": (fcntl.fcntl, (1, fcntl.F_SETFL, os.O_ASYNC)),
    "the program's priority": (os.setpriority, (os.PRIO_PROCESS, "$pid", 19)),
    "the user's priority": (os.setpriority, (os.PRIO_USER, 0, 19)),
    "the group's priority": (os.setpriority, (os.PRIO_PGRP, 0, 19)),
    "the program's CPUs": (os.sched_setaffinity, ("$pid", {0})),
    "the program's scheduling": (os.sched_setscheduler, ("$pid", os.SCHED_IDLE, os.sched_param(0))),
    "the program's scheduling attributes": (_attribute, ("$pid",)),
    "the program's priority of disks": (call, ("ioprio_set", 1, "$pid", 3 << 13)),
    "a signal to the program": (os.kill, ("$pid", 0)),
    "a signal with a value": (_stop_a_thread_of_another, ("$pid",)),
    "a signal to all": (os.kill, (-1, 0)),
    "a handle of the program": (call, ("pidfd_open", "$pid", 0)),
    "the program's descriptors": (call, ("pidfd_getfd", 1, 1, 0)),
    "the program's memory, written": (call, ("process_vm_writev", "$pid", 0, 0, 0, 0, 0)),
    "tracing the program": (call, ("ptrace", 16, "$pid", 0, 0)),
    "comparing with the program": (call, ("kcmp", "$pid", "$pid", 0, 0, 0)),
    "a set-uid file": (_set_uid_file, ("$folder",)),
    "a set-uid file without a name": (_unnamed_set_uid_file, ("$folder",)),
    "a set-gid folder": (os.mkdir, ("$folder/folder", 0o2777)),
    "a set-uid file by mknod": (call, ("mknodat", -100, b"/tmp/as-root", 0o104755, 0)),
    "a device": (os.mknod, ("$folder/device", 0o20666, 0x103)),
    "a mode": (os.chmod, ("$folder", 0o777)),
    "a mode, by a new call": (call, ("fchmodat2", -100, b"/", 0o755, 0)),
    "times": (os.utime, ("$folder",)),
    "an attribute": (os.setxattr, ("$folder", "user.x", b"")),
    "an attribute, read": (os.getxattr, ("/etc/passwd", "security.selinux")),
    "a hard link": (os.link, ("/etc/passwd", "$folder/passwd")),
    "a symbolic link": (os.symlink, ("/etc/passwd", "$folder/passwd")),
    "a handle of a file": (call, ("name_to_handle_at", -100, b"/etc/passwd", b"\0" * 128, b"\0" * 8, 0)),
    "names in a folder that may not be read": (call, ("inotify_init1", 0)),
    "notices of a folder": (_notice, ("$folder",)),
    "notices of all": (call, ("fanotify_init", 0, 0)),
    "a lease": (_lease, ("$folder",)),
    "a lock that others wait for": (_lock, ("$folder",)),
    "to outlive the program": (_prctl, (1, 0)),
    "to be traced by anybody": (_prctl, (0x59616D61, -1)),
    "to adopt orphans": (_prctl, (36, 1)),
    "a filter of its own": (_prctl, (22, 2, 0)),
    "a session of its own": (os.setsid, ()),
    "another user": (os.setuid, (65534,)),
    "a fork": (os.fork, ()),
    "a process by clone": (_another_thread_with_flags, (17,)),
    "a process in a namespace of users": (_another_thread_with_flags, (0x10000011,)),
    "a process by a new call": (call, ("clone3", b"\0" * 64, 64)),
    "a program by a descriptor": (call, ("execveat", 1, b"", 0, 0, 0x1000)),
    "a file by a new call": (call, ("openat2", -100, b"/etc/passwd", b"\0" * 24, 24)),
    "a namespace": (call, ("unshare", 0x10000000)),
    "a namespace of the program's": (call, ("setns", 1, 0)),
    "a file system": (call, ("fsopen", b"tmpfs", 0)),
    "a ring": (call, ("io_uring_setup", 8, b"\0" * 120)),
    "a program in the kernel": (call, ("bpf", 0, b"\0" * 64, 64)),
    "counters": (call, ("perf_event_open", b"\0" * 128, 0, -1, -1, 0)),
    "faults of its own": (call, ("userfaultfd", 0)),
    "the kernel's keys": (call, ("keyctl", 0, -3, 1)),
    "memory that is not counted": (call, ("memfd_create", b"x", 0)),
    "shared memory": (call, ("shmget", 0, 4096, 0o600)),
    "a personality": (call, ("personality", 0x0040000)),
    "rules for files": (call, ("landlock_create_ruleset", 0, 0, 1)),
    "the environment of the program": (open, ("/proc/$pid/environ",)),
    "the memory of the program": (open, ("/proc/$pid/mem",)),
    "the files of the program": (os.listdir, ("/proc/$pid/fd",)),
    "who else is there": (os.listdir, ("/proc",)),
    "passwords": (open, ("/etc/passwd",)),
    "passwords by way of a link": (open, ("/proc/self/root/etc/passwd",)),
    "memory of its own, by a file": (open, ("/proc/self/mem", "r+b")),
    "when it is killed": (open, ("/proc/self/oom_score_adj", "w")),
    "a named semaphore": (open, ("/dev/shm/millpond-was-here", "w")),
    "the disk": (open, ("/dev/sda",)),
    "the terminal itself": (open, ("/dev/tty",)),
    "the terminal, opened for neither reading nor writing": (os.open, ("/dev/tty", 3)),
    "another terminal, opened so": (os.open, ("/dev/ptmx", 3)),
    "a file, opened so": (os.open, ("/etc/passwd", 3)),
    "what a file has, by its name": (os.truncate, ("$folder/kept", 0)),
    "what a file has, as it is opened to be read": (os.open, ("$folder/kept", os.O_TRUNC)),
}  # fmt: skip

BY_LANDLOCK = frozenset({
    "the environment of the program", "the memory of the program", "the files of the program", "who else is there",
    "passwords", "passwords by way of a link", "memory of its own, by a file", "when it is killed",
    "a named semaphore",
})  # fmt: skip
"""What only Landlock keeps from them."""


def attempt(name: str, values: dict[str, Any]) -> str:
    """In a worker: what an attack came to."""

    def filled(argument: Any) -> Any:
        if not isinstance(argument, str):
            return argument
        if argument in values:
            return values[argument]
        for key, value in values.items():
            argument = argument.replace(key, str(value))
        return argument

    function, arguments = ATTACKS[name]
    try:
        function(*map(filled, arguments))
    except OSError as refusal:
        return f"refused: {refusal}"
    return "done"


def executable_memory() -> int:
    """What compilers at run time and ``ctypes`` need; who has taken a worker over runs code of its own anyway."""
    with mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as memory:
        return len(memory)
