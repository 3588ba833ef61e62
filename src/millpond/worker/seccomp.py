"""Seccomp: system calls that a sandboxed worker has no use for fail with EPERM, in all its threads.

A list of what is refused, not of what is let through: Python and the libraries that it loads need most of the
others, and which ones changes with every release of theirs. What the kernel has got since the list was made
(``_UNKNOWN`` on) fails with ENOSYS, to which C libraries know an answer.
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
_REFUSED: Final = {
    # other programs
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, -1), "vfork": (58, -1),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "kcmp": (312, 272),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "migrate_pages": (256, 238), "move_pages": (279, 239),
    # the network, and other ways to talk to strangers
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242), "shmget": (29, 194), "shmat": (30, 196),
    "shmctl": (31, 195), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "msgctl": (71, 187), "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191),
    "semtimedop": (220, 192), "mq_open": (240, 180), "mq_unlink": (241, 181),
    # large parts of the kernel that are no business of a worker's, or ways around this list
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "fanotify_init": (300, 262), "open_by_handle_at": (304, 265),
    # owners and modes of files, which Landlock does not restrict
    "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, -1),
    "lchown": (94, -1), "fchown": (93, 55), "fchownat": (260, 54), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    # the machine
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "move_mount": (429, 429), "open_tree": (428, 428), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "syslog": (103, 116), "sethostname": (170, 161),
    "setdomainname": (171, 162), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "iopl": (172, -1), "ioperm": (173, -1),
    "vhangup": (153, 58),
}  # fmt: skip
# Refused unless their first argument is this process.
_SIGNALS: Final = {
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
}  # fmt: skip
_CLONE, _CLONE3, _PRLIMIT = (56, 220), (435, 435), (302, 261)
_IOCTL, _FCNTL = (16, 29), (72, 25)
_UNKNOWN: Final = 451

_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_COMPATIBLE: Final = 0x40000000  # numbers of x86_64's second ABI begin here
_THREAD: Final = 0x00010000  # of clone's flags
_PUSHES: Final = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: typing at the program's terminal
_OWNERS: Final = (0x8901, 0x8902)  # FIOSETOWN, SIOCSPGRP: signals to others by way of a descriptor
_FCNTL_OWNERS: Final = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX

# Instructions, and where in the data that they look at things are.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24  # the low words of arguments
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


def _when(number: int, *steps: bytes) -> bytes:
    """The steps, for one system call; they return, and are passed over for any other."""
    return _step(_EQUAL, number, 0, len(steps)) + b"".join(steps)


def _only(at: int, *values: int) -> list[bytes]:
    """Allow the call if that argument is one of these, else refuse it."""
    tests = [_step(_EQUAL, v, len(values) - n) for n, v in enumerate(values)]
    return [_step(_LOAD, at), *tests, _step(_RETURN, _REFUSE), _step(_RETURN, _ALLOW)]


def _none(at: int, *values: int) -> list[bytes]:
    """Refuse the call if that argument is one of these, else allow it."""
    tests = [_step(_EQUAL, v, len(values) - n) for n, v in enumerate(values)]
    return [_step(_LOAD, at), *tests, _step(_RETURN, _ALLOW), _step(_RETURN, _REFUSE)]


def program(machine: str, pid: int) -> bytes:
    """The filter, as instructions of classic BPF. Raises OSError for a machine that is not known here."""
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"millpond has no list of system calls for {machine}")
    column = list(_ARCHITECTURES).index(machine)
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, _ARCHITECTURES[machine], 1),
        _step(_RETURN, _REFUSE),
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, _COMPATIBLE, 0, 1),
        _step(_RETURN, _REFUSE),
        _step(_AT_LEAST, _UNKNOWN, 0, 1),
        _step(_RETURN, _PRETEND),
        _when(_CLONE3[column], _step(_RETURN, _PRETEND)),  # its flags cannot be looked at
        _when(
            _CLONE[column],
            _step(_LOAD, _FIRST),
            _step(_ANY_BIT, _THREAD, 1),
            _step(_RETURN, _REFUSE),
            _step(_RETURN, _ALLOW),
        ),
        _when(_PRLIMIT[column], *_only(_FIRST, 0, pid)),
        _when(_IOCTL[column], *_none(_SECOND, *_PUSHES, *_OWNERS)),
        _when(_FCNTL[column], *_none(_SECOND, *_FCNTL_OWNERS)),
        *(_when(numbers[column], *_only(_FIRST, pid)) for numbers in _SIGNALS.values()),
        *(
            _when(numbers[column], _step(_RETURN, _REFUSE))
            for numbers in _REFUSED.values()
            if numbers[column] >= 0
        ),
        _step(_RETURN, _ALLOW),
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
