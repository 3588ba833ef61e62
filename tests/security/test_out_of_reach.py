"""A pool that runs has nothing that a stranger on the same machine could reach, and tells nothing in passing."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import re
import subprocess
import sys
import tempfile
from multiprocessing import current_process
from pathlib import Path

import pytest

from millpond import Pool
from millpond.backends.processes.outfit import _shared_page
from millpond.worker.slate import SIZE
from tests.leaks import descendants

SECRET = "a-word-that-nobody-else-may-read"

_LISTENING = "0A"
_UNCONNECTED = "07"


def listeners() -> set[str]:
    """Internet sockets that take connections or datagrams, of the whole machine."""
    found = set()
    for kind, state in [
        ("tcp", _LISTENING),
        ("tcp6", _LISTENING),
        ("udp", _UNCONNECTED),
        ("udp6", _UNCONNECTED),
    ]:
        table = Path("/proc/net", kind)
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            fields = line.split()
            if fields[3] == state:
                found.add(f"{kind} {fields[1]} inode {fields[9]}")
    return found


def named_unix_sockets() -> set[str]:
    """Unix sockets that have a name, in the file system or not."""
    lines = Path("/proc/net/unix").read_text().splitlines()[1:]
    return {line for line in lines if len(line.split()) > 7}


def held_by(pids: set[int]) -> set[str]:
    """Inodes of the sockets that processes have open."""
    links: set[str] = set()
    for pid in pids:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                links.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
            except FileNotFoundError:
                pass  # closed meanwhile
    return {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}


def names() -> set[str]:
    """What is in shared memory and in the folder for temporary files."""
    folders = [Path("/dev/shm"), Path("/dev/mqueue"), Path(tempfile.gettempdir())]
    return {str(path) for folder in folders if folder.is_dir() for path in folder.rglob("*")}


def double(x: int) -> int:
    return 2 * x


def test_what_looks_for_sockets_and_names_finds_them() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as unix:
        unix.bind("\0a name")
        unix.listen()
        mine = held_by({os.getpid()})
        assert any(line.split()[-1] in mine for line in listeners())
        assert any(line.split()[6] in mine for line in named_unix_sockets())
        assert server.getsockname()
    with tempfile.NamedTemporaryFile() as file:
        assert file.name in names()


def test_no_socket_and_no_name(method: str) -> None:
    before = names()
    with Pool(2, start_method=method) as pool:
        assert pool.map(double, range(50)) == [2 * x for x in range(50)]
        assert pool.apply(len, (b"x" * (1 << 21),)) == 1 << 21
        pids = {os.getpid(), *descendants(os.getpid())}
        assert len(pids) > 2
        inodes = held_by(pids)
        assert inodes, "the channels are sockets"
        assert [line for line in listeners() if line.split()[-1] in inodes] == []
        assert [line for line in named_unix_sockets() if line.split()[6] in inodes] == []
        ours = {name for name in names() - before if "pymp-" not in name}
        assert ours == set()


def test_command_lines_and_environments_hold_no_secret(method: str) -> None:
    key = bytes(current_process().authkey)
    written = {key, key.hex().encode(), repr(key).encode(), SECRET.encode()}
    with Pool(2, init, (SECRET,), start_method=method) as pool:
        assert pool.apply(len, (SECRET,)) == len(SECRET)
        pids = set(descendants(os.getpid()))
        told = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids]
        told += [Path(f"/proc/{pid}/environ").read_bytes() for pid in pids]
        assert any(told)
        for text in told:
            assert not any(word in text for word in written)


def init(_: str) -> None:
    pass


def shared_files(pid: int) -> list[str]:
    """The files without a name that a process has open."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        name = f"/proc/{pid}/fd/{fd}"
        try:
            if "memfd:" in os.readlink(name):
                found.append(name)
        except FileNotFoundError:
            pass  # the listing's own
    return found


def cut_off() -> dict[str, str]:
    """In a worker: try to cut off each shared file that it has, and to make its slate longer."""
    said = {}
    for name in shared_files(os.getpid()):
        fd = os.open(name, os.O_RDWR)
        try:
            sizes = (0, SIZE * 2) if "slate" in os.readlink(name) else (0,)
            for size in sizes:
                try:
                    os.ftruncate(fd, size)
                    said[f"{name} to {size}"] = "done"
                except PermissionError:
                    said[f"{name} to {size}"] = "refused"
        finally:
            os.close(fd)
    return said


def test_a_worker_cannot_cut_off_what_the_parent_reads(method: str) -> None:
    with Pool(1, start_method=method) as pool:
        large = bytes(1 << 21)
        assert pool.apply(bytes, (large,)) == large  # both files of the arena hold something now
        said = pool.apply(cut_off)
        assert len(said) >= 4
        assert set(said.values()) == {"refused"}, said
        assert pool.info()["workers"]  # which reads the slate
        assert pool.apply(double, (4,)) == 8


def test_the_slate_is_sealed() -> None:
    fd = _shared_page()
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        assert seals & fcntl.F_SEAL_SHRINK
        assert seals & fcntl.F_SEAL_GROW
        assert seals & fcntl.F_SEAL_SEAL
        with pytest.raises(PermissionError):
            os.ftruncate(fd, SIZE - 1)
        mapped = mmap.mmap(fd, SIZE)  # and it is as useful as before
        mapped[0] = 1
        mapped.close()
        assert os.fstat(fd).st_size == SIZE
    finally:
        os.close(fd)


def test_a_slate_without_seals_would_be_cut_off() -> None:
    """So that the tests above can fail."""
    fd = os.memfd_create("x", os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, SIZE)
        os.ftruncate(fd, 0)
    finally:
        os.close(fd)


WITHOUT_SEALS = f"""
import sys
sys.path.insert(0, {os.getcwd()!r})
from tests import refusing
refusing.refuse(["memfd_create"], 1)
from millpond import Pool, WorkerDied
from tests.security import test_out_of_reach as t
if __name__ == "__main__":
    with Pool(1, sandbox=True, start_method=sys.argv[1]) as pool:
        print("memfd_create" in pool.info()["missing"], pool.apply(t.cut_off_all))
        try:
            pool.apply(t.crash)
        except WorkerDied as died:
            print(died.signal)
        print(pool.apply(t.double, (4,)), len(pool.info()["workers"]))
"""


def cut_off_all() -> int:
    """In a worker: cut off whatever it has open; how many files that were."""
    done = 0
    for fd in range(256):
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)
            done += 1
    return done


def crash() -> None:
    ctypes.string_at(0)


def test_what_cannot_be_sealed_is_not_open_in_a_sandbox(method: str, tmp_path: Path) -> None:
    """The program looks at it, and would be ended by SIGBUS."""
    program = tmp_path / "program.py"
    program.write_text(WITHOUT_SEALS)
    run = subprocess.run(
        [sys.executable, str(program), method], capture_output=True, text=True, timeout=60
    )
    assert run.stdout.splitlines() == ["True 0", "SIGSEGV", "8 1"], (run.returncode, run.stderr)


def test_names_of_shared_files_say_nothing() -> None:
    """What /proc shows of them is the same for every pool."""
    with Pool(1) as pool:
        (process,) = pool._pool
        links = [os.readlink(name) for name in shared_files(process.pid)]
    assert links
    assert all(re.fullmatch(r"/memfd:millpond-[a-z]+ \(deleted\)", link) for link in links)
