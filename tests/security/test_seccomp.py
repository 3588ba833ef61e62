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
# read, write, openat, mmap, futex, socketpair, recvmsg, rt_sigaction, exit_group
ORDINARY = {
    "x86_64": [0, 1, 257, 9, 202, 53, 47, 13, 231, 444, 445, 446, 450],
    "aarch64": [63, 64, 56, 222, 98, 199, 212, 134, 94, 444, 445, 446, 450],
}


@MACHINES
def test_what_is_refused(machine: str) -> None:
    column = list(ARCHITECTURES).index(machine)
    refused = [numbers[column] for numbers in seccomp._REFUSED.values() if numbers[column] >= 0]
    assert len(refused) > 70
    assert len(set(refused)) == len(refused)
    for number in refused:
        assert run(machine, number) == EPERM


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
def test_calls_that_came_later_are_not_there(machine: str) -> None:
    for number in (435, 451, 452, 463, 1000):
        assert run(machine, number) == ENOSYS


@pytest.mark.parametrize(
    ("machine", "clone", "kills", "prlimit", "ioctl", "fcntl"),
    [
        ("x86_64", 56, (62, 200, 234, 129, 297), 302, 16, 72),
        ("aarch64", 220, (129, 130, 131, 138, 240), 261, 29, 25),
    ],
)
def test_calls_whose_arguments_count(
    machine: str, clone: int, kills: tuple[int, ...], prlimit: int, ioctl: int, fcntl: int
) -> None:
    assert run(machine, clone, THREAD) == ALLOW
    for flags in (17, 0x4111, 0x10000000 | 17):  # fork, vfork, a new user namespace
        assert run(machine, clone, flags) == EPERM
    for kill in kills:
        assert run(machine, kill, PID, 9) == ALLOW
        for other in (1, 0, -1, -PID, PID + 1):
            assert run(machine, kill, other, 9) == EPERM
    assert run(machine, prlimit, 0) == run(machine, prlimit, PID) == ALLOW
    assert run(machine, prlimit, 1) == EPERM
    assert run(machine, ioctl, 0, 0x5401) == ALLOW
    for request in (0x5412, 0x541C, 0x8901, 0x8902):
        assert run(machine, ioctl, 0, request) == EPERM
    assert run(machine, fcntl, 5, 3) == ALLOW
    for command in (8, 10, 15):
        assert run(machine, fcntl, 5, command) == EPERM


def test_a_machine_that_is_not_known() -> None:
    with pytest.raises(OSError, match="no list of system calls for riscv64"):
        seccomp.program("riscv64", PID)
