"""The filter of system calls, run here as the kernel runs it, so that one of another machine is tested as well."""

from __future__ import annotations

import errno
import struct

import pytest

from millpond.worker import seccomp

PID = 4321
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW = 0x7FFF0000
EPERM, ENOSYS = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
THREAD = 0x3D0F00  # what pthread_create gives to clone


def run(machine: str, number: int, *arguments: int, architecture: int = 0) -> int:
    """What the filter says to a system call: a small machine for classic BPF."""
    six = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack(
        "=IIQ6Q", number, architecture or ARCHITECTURES[machine], 0, *(a % (1 << 64) for a in six)
    )
    program = list(struct.iter_unpack("=HBBI", seccomp.program(machine, PID)))
    at = accumulator = 0
    for _ in range(len(program)):
        code, then, otherwise, value = program[at]
        at += 1
        if code == 0x20:  # load a word
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == 0x06:  # return
            return int(value)
        else:
            true = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[code]
            at += then if true else otherwise
    raise AssertionError("the program does not end")


MACHINES = pytest.mark.parametrize("machine", ARCHITECTURES)
# read, write, mmap, futex, rt_sigaction, exit_group, newfstatat, epoll_ctl
ORDINARY = {
    "x86_64": [0, 1, 9, 202, 13, 231, 262, 233],
    "aarch64": [63, 64, 222, 98, 134, 94, 79, 21],
}
# execve, ptrace, socket, connect, bind, sendmsg, recvmsg, bpf, mount, setns, unshare, pidfd_open, pidfd_getfd,
# fchmod, inotify_init1, mknodat, setxattr, utimensat, linkat, symlinkat, sched_setscheduler, sched_setparam,
# ioprio_set, setuid, setsid, umask, personality, pidfd_send_signal, open_by_handle_at, name_to_handle_at, syslog,
# truncate
REFUSED = {
    "x86_64": [
        59, 101, 41, 42, 49, 46, 47, 321, 165, 308, 272, 434, 438, 91, 294, 259, 188, 280, 265, 266, 144, 142,
        251, 105, 112, 95, 135, 424, 304, 303, 103, 76,
    ],
    "aarch64": [
        221, 117, 198, 203, 200, 211, 212, 280, 40, 268, 97, 434, 438, 52, 26, 33, 5, 88, 37, 36, 119, 118,
        30, 146, 157, 166, 92, 424, 265, 264, 116, 45,
    ],
}  # fmt: skip


@MACHINES
def test_what_is_not_on_the_list_is_refused(machine: str) -> None:
    column = list(ARCHITECTURES).index(machine)
    tables = seccomp._ALLOWED, seccomp._ABSENT, seccomp._CHECKED
    numbers = [row[column] for table in tables for row in table.values() if row[column] >= 0]
    assert len(set(numbers)) == len(numbers)
    for number in set(range(451)) - set(numbers):
        assert run(machine, number) == EPERM
    assert set(REFUSED[machine]).isdisjoint(numbers)


@MACHINES
def test_what_is_let_through(machine: str) -> None:
    for number in ORDINARY[machine]:
        assert run(machine, number) == ALLOW


@MACHINES
def test_another_architecture_is_refused(machine: str) -> None:
    i386 = 0x40000003
    assert run(machine, ORDINARY[machine][0], architecture=i386) == EPERM
    for number in (0x40000000, 0x40000000 + 59, 0xFFFFFFFF):  # x32
        assert run(machine, number) == EPERM


@MACHINES
def test_calls_that_have_a_substitute_and_those_that_came_later_are_not_there(machine: str) -> None:
    for number in (425, 435, 437, 451, 452, 463, 1000):  # io_uring_setup, clone3, openat2
        assert run(machine, number) == ENOSYS


HIGH = 1 << 32  # of an argument that the kernel takes the low word of

ARGUMENTS: dict[str, tuple[list[tuple[int, ...]], list[tuple[int, ...]]]] = {
    "clone": (
        [(THREAD,), (0x7D0F00,)],
        # fork, vfork, no thread; threads that are traced, of another parent, in new namespaces
        [(17,), (0x4111,), (0,), (THREAD | 0x2000,), (THREAD | 0x8000,), (THREAD | 0x20000,), (0x10000011,)],
    ),
    "openat": (
        [
            (0, 0, 0, 0o6777), (0, 0, 0x80241, 0o666), (0, 0, 0x410002, 0o600), (0, 0, 0x241, 0o1700),
            (0, 0, 1), (0, 0, 2), (0, 0, 0x201), (0, 0, 0x202), (0, 0, 0x200000),
        ],
        # set-uid and set-gid files; opened for neither reading nor writing; cut off, though not to be written
        [
            (0, 0, 0x241, 0o4755), (0, 0, 0x41, 0o2755), (0, 0, 0x410002, 0o6600), (0, 0, 0x241, HIGH | 0o4000),
            (0, 0, 3), (0, 0, HIGH | 0x80003), (0, 0, 0x43, 0o600), (0, 0, 0x203), (0, 0, 0x200),
        ],
    ),
    "mkdirat": ([(0, 0, 0o777)], [(0, 0, 0o2777)]),
    "renameat2": ([(0, 0, 0, 0, 0), (0, 0, 0, 0, 1)], [(0, 0, 0, 0, 2), (0, 0, 0, 0, 4)]),
    "ioctl": (
        [(0, 0x5401), (0, 0x5421), (0, 0x5451), (0, HIGH | 0x5451)],
        # TCSETS, TIOCSCTTY, TIOCSPGRP, TIOCSTI, TIOCSWINSZ, FIOASYNC, owners, FS_IOC_SETFLAGS, a pidfd's
        [(0, n) for n in (0x5402, 0x540E, 0x5410, 0x5412, 0x5414, 0x5452, 0x8901, 0x8902, 0x40086602, 0xFF0B)],
    ),
    "fcntl": (
        [(5, 0), (5, 1), (5, 2), (5, 3), (5, 4, 0x800), (5, 1030), (5, 1034)],
        # O_ASYNC, locks, owners, leases, notices, sizes of pipes, seals
        [(5, 4, 0x2000)] + [(5, n) for n in (6, 7, 8, 10, 15, 37, 38, 1024, 1026, 1031, 1033)],
    ),
    "prctl": (
        [(15,), (16,), (21,), (39,)],
        # PDEATHSIG, DUMPABLE, SECCOMP, TIMERSLACK, MM, CHILD_SUBREAPER, PTRACER
        [(n,) for n in (1, 4, 22, 29, 35, 36, 0x59616D61)],
    ),
    "socketpair": ([(1, 1, 0), (1, 0x80801, 0)], [(1, 2, 0), (1, 5, 0), (2, 1, 0), (1, 0x80803, 0), (16, 1, 0)]),
    "sendto": (
        [(5, 1, 1, 0, 0, 0), (5, 1, 1, 0x4040, 0, 0)],
        [(5, 1, 1, 0, 4096, 16), (5, 1, 1, 0, 7 << 32, 16), (5, 1, 1, 1, 0, 0)],  # the last: MSG_OOB
    ),
    "recvfrom": ([(5, 1, 1, 0x40)], [(5, 1, 1, 1), (5, 1, 1, 0x2000)]),
    "getsockopt": ([(5, 1, 3)], [(5, 1, 17), (5, 1, 15), (5, 6, 3)]),  # SO_PEERCRED, SO_REUSEPORT, of TCP
    "prlimit64": ([(0,), (PID,)], [(1,), (PID + 1,)]),
    "sched_setaffinity": ([(0,), (PID,)], [(1,), (PID + 1,)]),
    "setpriority": ([(0, 0), (0, PID)], [(0, 1), (1, 0), (2, 0), (0, PID + 1)]),
    **{
        name: ([(PID, 9)], [(1, 9), (0, 9), (-1, 9), (-PID, 9), (PID + 1, 9)])
        for name in ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
    },
}  # fmt: skip


@MACHINES
@pytest.mark.parametrize("name", ARGUMENTS)
def test_calls_whose_arguments_count(machine: str, name: str) -> None:
    number = seccomp._CHECKED[name][list(ARCHITECTURES).index(machine)]
    allowed, refused = ARGUMENTS[name]
    for arguments in allowed:
        assert run(machine, number, *arguments) == ALLOW, arguments
    for arguments in refused:
        assert run(machine, number, *arguments) == EPERM, arguments


def test_calls_that_only_x86_has() -> None:
    for number, allowed, refused in [
        (2, (0, 0x241, 0o644), (0, 0x241, 0o4755)),
        (2, (0, 0x80000), (0, 0x80003)),
        (2, (0, 0x202), (0, 0x200)),
        (85, (0, 0o644), (0, 0o4755)),
        (83, (0, 0o755), (0, 0o2755)),
    ]:
        assert run("x86_64", number, *allowed) == ALLOW
        assert run("x86_64", number, *refused) == EPERM


def test_a_machine_that_is_not_known() -> None:
    with pytest.raises(OSError, match="no list of system calls for riscv64"):
        seccomp.program("riscv64", PID)
