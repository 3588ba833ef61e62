"""Seccomp: a sandboxed worker may use the system calls that computing takes, and no others, in all its threads.

A list of what is let through: what CPython, NumPy, SciPy, Pillow and libvips were seen to use (strace), and what
CPython's own functions of the same kinds use. Where a call is needed and some of what it can do is not, its
arguments are looked at. All else fails with EPERM, which Python shows as PermissionError; except what C libraries
try first and know a substitute for, and what came to the kernel after the lists were made (``_UNKNOWN`` on): that
is not there (ENOSYS).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Final

from millpond.worker import kernel

# x86_64, aarch64 (-1: there is no such call). From the kernel's own headers.
_ALLOWED: Final = {
    # files and folders, by name: which of them Landlock says
    "stat": (4, -1), "fstat": (5, 80), "lstat": (6, -1), "newfstatat": (262, 79),
    "statx": (332, 291), "statfs": (137, 43), "fstatfs": (138, 44), "access": (21, -1),
    "faccessat": (269, 48), "faccessat2": (439, 439), "readlink": (89, -1),
    "readlinkat": (267, 78), "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50),
    "getdents": (78, -1), "getdents64": (217, 61), "rename": (82, -1), "renameat": (264, 38),
    "rmdir": (84, -1), "unlink": (87, -1), "unlinkat": (263, 35),
    # what is open
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67),
    "pwrite64": (18, 68), "preadv": (295, 69), "pwritev": (296, 70), "preadv2": (327, 286),
    "pwritev2": (328, 287), "lseek": (8, 62), "close": (3, 57), "close_range": (436, 436),
    "dup": (32, 23), "dup2": (33, -1), "dup3": (292, 24), "pipe": (22, -1), "pipe2": (293, 59),
    "ftruncate": (77, 46), "fallocate": (285, 47), "fadvise64": (221, 223), "fsync": (74, 82),
    "fdatasync": (75, 83), "sendfile": (40, 71), "copy_file_range": (326, 285), "poll": (7, -1),
    "ppoll": (271, 73), "select": (23, -1), "pselect6": (270, 72), "epoll_create": (213, -1),
    "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_wait": (232, -1),
    "epoll_pwait": (281, 22), "epoll_pwait2": (441, 441), "eventfd": (284, -1),
    "eventfd2": (290, 19), "getsockname": (51, 204),
    # memory
    "brk": (12, 214), "mmap": (9, 222), "munmap": (11, 215), "mremap": (25, 216),
    "mprotect": (10, 226), "madvise": (28, 233), "msync": (26, 227),
    # threads, and this process's end
    "futex": (202, 98), "set_robust_list": (273, 99), "set_tid_address": (218, 96),
    "rseq": (334, 293), "sched_yield": (24, 124), "gettid": (186, 178), "exit": (60, 93),
    "exit_group": (231, 94), "restart_syscall": (219, 128), "wait4": (61, 260),
    "waitid": (247, 95),
    # time and signals
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, -1), "times": (100, 153),
    "alarm": (37, -1), "getitimer": (36, 102), "setitimer": (38, 103), "pause": (34, -1),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136), "rt_sigsuspend": (130, 133), "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132),
    # what the machine and this process are
    "getpid": (39, 172), "getppid": (110, 173), "getpgid": (121, 155), "getpgrp": (111, -1),
    "getsid": (124, 156), "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176),
    "getegid": (108, 177), "getresuid": (118, 148), "getresgid": (120, 150),
    "getgroups": (115, 158), "uname": (63, 160), "sysinfo": (99, 179), "getrusage": (98, 165),
    "getrlimit": (97, 163), "setrlimit": (160, 164), "getcpu": (309, 168),
    "getrandom": (318, 278), "sched_getaffinity": (204, 123),
    "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126),
}  # fmt: skip
_ABSENT: Final = {
    # its flags cannot be looked at
    "clone3": (435, 435), "openat2": (437, 437), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "membarrier": (324, 283), "mbind": (237, 235),
    "get_mempolicy": (239, 236), "set_mempolicy": (238, 237), "flock": (73, 32),
    "futex_waitv": (449, 449), "pkey_alloc": (330, 289), "pkey_mprotect": (329, 288),
    "arch_prctl": (158, -1), "sched_getattr": (315, 275), "sched_setattr": (314, 274),
    "timerfd_create": (283, 85), "signalfd": (282, -1), "signalfd4": (289, 74),
    "splice": (275, 76), "tee": (276, 77), "vmsplice": (278, 75),
    "landlock_create_ruleset": (444, 444), "seccomp": (317, 277),
}  # fmt: skip
_CHECKED: Final = {
    "getsockopt": (55, 209),
    "clone": (56, 220), "open": (2, -1), "openat": (257, 56), "creat": (85, -1),
    "mkdir": (83, -1), "mkdirat": (258, 34), "renameat2": (316, 276), "ioctl": (16, 29),
    "fcntl": (72, 25), "prctl": (157, 167), "socketpair": (53, 199), "sendto": (44, 206),
    "recvfrom": (45, 207), "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "prlimit64": (302, 261),
    "getpriority": (140, 141), "setpriority": (141, 140), "sched_setaffinity": (203, 122),
}  # fmt: skip
"""Of which the arguments are looked at."""
_UNKNOWN: Final = 451

_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_COMPATIBLE: Final = 0x40000000  # numbers of x86_64's second ABI begin here
_THREAD: Final = 0x00010000  # of clone's flags
_OF_A_THREAD: Final = (
    0x007D0F00  # the flags that C libraries give to clone for a thread, and no others
)
_CREATES: Final = 0x00400040  # O_CREAT, O_TMPFILE: only then there is a mode
_WRITE_ONLY, _READ_WRITE, _CUT_OFF = 0x1, 0x2, 0x200
_AS_ANOTHER: Final = 0o6000  # set-uid, set-gid
_IOCTLS: Final = (
    0x5401,  # TCGETS: whether it is a terminal
    0x5413,  # TIOCGWINSZ
    0x541B,  # FIONREAD
    0x5421,  # FIONBIO
    0x5450,  # FIONCLEX
    0x5451,  # FIOCLEX
)
_FCNTLS: Final = (
    0,
    1,
    2,
    3,
    1030,
    1032,
    1034,
)  # F_DUPFD to F_GETFL, ..., F_GETPIPE_SZ, F_GET_SEALS
_F_SETFL: Final = 4
_O_ASYNC: Final = 0x2000  # signals to whoever the descriptor is said to belong to
_PRCTLS: Final = (
    2, 3, 15, 16, 21, 39,  # PDEATHSIG and DUMPABLE to get, NAME to set and get, SECCOMP and NO_NEW_PRIVS to get
    0x53564D41,  # PR_SET_VMA: names for memory
)  # fmt: skip
_AF_UNIX: Final = 1
_STREAM: Final = (
    0x80801  # SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK: its ends reach nothing but one another
)
_SENDING: Final = (
    0x4040  # MSG_NOSIGNAL, MSG_DONTWAIT: no out-of-band data, in which the kernel had holes
)
_RECEIVING: Final = 0x0142  # MSG_PEEK, MSG_DONTWAIT, MSG_WAITALL
_SOL_SOCKET: Final = 1
_KINDS: Final = (3, 4, 38, 39)  # SO_TYPE, SO_ERROR, SO_PROTOCOL, SO_DOMAIN
_EXCHANGE: Final = 0xFFFFFFFE  # of renameat2's flags, all but RENAME_NOREPLACE

# Instructions, and where in the data that they look at things are.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE = 0, 4
_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH = range(16, 56, 8)  # the low words of arguments
_ALLOW: Final = 0x7FFF0000
_ERROR: Final = 0x00050000
_REFUSE: Final = _ERROR | errno.EPERM
_PRETEND: Final = _ERROR | errno.ENOSYS

_SECCOMP: Final = {"x86_64": 317, "aarch64": 277}
_SET_FILTER, _ALL_THREADS = 1, 1
_GET_ACTION_AVAILABLE: Final = 2
_FILTER_MODE: Final = 2


def _step(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)


_YES: Final = _step(_RETURN, _ALLOW)
_NO: Final = _step(_RETURN, _REFUSE)


def _when(number: int, *steps: bytes) -> bytes:
    """The steps, for one system call; they return, and are passed over for any other."""
    length = sum(map(len, steps)) // len(_YES)
    return _step(_EQUAL, number, 0, length) + b"".join(steps) if number >= 0 else b""


# Tests of an argument: each refuses the call or goes on.


def _one_of(at: int, *values: int) -> bytes:
    tests = [_step(_EQUAL, v, len(values) - n) for n, v in enumerate(values)]
    return b"".join([_step(_LOAD, at), *tests, _NO])


def _without(at: int, bits: int) -> bytes:
    return _step(_LOAD, at) + _step(_ANY_BIT, bits, 0, 1) + _NO


def _with(at: int, bits: int) -> bytes:
    return _step(_LOAD, at) + _step(_ANY_BIT, bits, 1) + _NO


def _only(at: int, bits: int) -> bytes:
    return _without(at, ~bits & 0xFFFFFFFF)


def _opening(flags: int, mode: int) -> bytes:
    """Of what opens files: they are opened to be read or written; a mode counts only where one is made.

    With both bits a file, device or terminal is opened for neither, which Landlock takes for no use of it. Early
    versions of it have no say in what is cut off either, unless the file is opened to be written.
    """
    both = _step(_ANY_BIT, _WRITE_ONLY, 0, 2) + _step(_ANY_BIT, _READ_WRITE, 0, 1) + _NO
    cut = _step(_ANY_BIT, _CUT_OFF, 0, 2) + _step(_ANY_BIT, _WRITE_ONLY | _READ_WRITE, 1) + _NO
    made = _step(_ANY_BIT, _CREATES, 1) + _YES + _without(mode, _AS_ANOTHER)
    return _step(_LOAD, flags) + both + cut + made


def _checks(pid: int) -> dict[str, bytes]:
    """What the arguments of a call have to be like."""
    me = _one_of(_FIRST, pid)
    mine = _one_of(_FIRST, 0, pid)
    my_process = _one_of(_FIRST, 0) + _one_of(_SECOND, 0, pid)
    nobody = _one_of(_FIFTH, 0) + _one_of(
        _FIFTH + 4, 0
    )  # no address: to the other end, if there is one
    flags = (
        _step(_LOAD, _SECOND) + _step(_EQUAL, _F_SETFL, 0, 4) + _without(_THIRD, _O_ASYNC) + _YES
    )
    return {
        "clone": _only(_FIRST, _OF_A_THREAD) + _with(_FIRST, _THREAD),
        "open": _opening(_SECOND, _THIRD),
        "openat": _opening(_THIRD, _FOURTH),
        "creat": _without(_SECOND, _AS_ANOTHER),
        "mkdir": _without(_SECOND, _AS_ANOTHER),
        "mkdirat": _without(_THIRD, _AS_ANOTHER),
        "renameat2": _without(_FIFTH, _EXCHANGE),
        "ioctl": _one_of(_SECOND, *_IOCTLS),
        "fcntl": flags + _one_of(_SECOND, *_FCNTLS),
        "prctl": _one_of(_FIRST, *_PRCTLS),
        "socketpair": _one_of(_FIRST, _AF_UNIX) + _only(_SECOND, _STREAM) + _one_of(_THIRD, 0),
        "sendto": _only(_FOURTH, _SENDING) + nobody,
        "recvfrom": _only(_FOURTH, _RECEIVING),
        "getsockopt": _one_of(_SECOND, _SOL_SOCKET) + _one_of(_THIRD, *_KINDS),
        **dict.fromkeys(_SIGNALS, me),
        "prlimit64": mine,
        "sched_setaffinity": mine,
        "getpriority": my_process,
        "setpriority": my_process,
    }


_SIGNALS: Final = ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")


def program(machine: str, pid: int) -> bytes:
    """The filter, as instructions of classic BPF. Raises OSError for a machine that is not known here."""
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"millpond has no list of system calls for {machine}")
    column = list(_ARCHITECTURES).index(machine)
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, _ARCHITECTURES[machine], 1),
        _NO,
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, _COMPATIBLE, 0, 1),
        _NO,
        _step(_AT_LEAST, _UNKNOWN, 0, 1),
        _step(_RETURN, _PRETEND),
        *(_when(_CHECKED[name][column], test, _YES) for name, test in _checks(pid).items()),
        *(_when(numbers[column], _YES) for numbers in _ALLOWED.values()),
        *(_when(numbers[column], _step(_RETURN, _PRETEND)) for numbers in _ABSENT.values()),
        _NO,
    ]
    return b"".join(steps)


def check() -> None:
    """Raises OSError where this system cannot do it."""
    machine = platform.machine()
    program(machine, 0)
    kernel.call(_SECCOMP[machine], _GET_ACTION_AVAILABLE, 0, struct.pack("=I", _ERROR))


def refuse() -> None:
    """Apply it, to every thread of this process. Raises OSError. The process needs no_new_privs."""
    machine = platform.machine()
    code = program(machine, os.getpid())
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: a count, and after the gap a pointer
    head = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    thread = kernel.call(_SECCOMP[machine], _SET_FILTER, _ALL_THREADS, head)
    if thread:
        raise OSError(errno.EBUSY, f"thread {thread} has a filter of its own")
    if kernel.prctl(kernel.PR_GET_SECCOMP) != _FILTER_MODE:
        raise OSError(errno.EINVAL, "the kernel took the filter, and does not use it")
