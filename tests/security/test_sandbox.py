"""What workers in a sandbox cannot do, can do, and say that they gave up.

Nothing is skipped: where the kernel lacks something, what is said of it is tested, and that the rest holds.
"""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from millpond import (
    Pool,
    Sandbox,
    TaskError,
    WorkerDied,
)
from millpond.worker import landlock

PHOTOGRAPHS = Path(skimage.data.__file__).parent


def has_landlock() -> bool:
    return landlock.version() > 0


# What is refused ----------------------------------------------------------------------------------


def connect() -> None:
    socket.create_connection(("127.0.0.1", 9), timeout=5)


def execute() -> None:
    os.execv(sys.executable, [sys.executable, "-c", ""])


def trace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    attach = 16
    if libc.ptrace(attach, os.getppid(), None, None) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def read_memory_of(pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.process_vm_readv(pid, None, 0, None, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "process_vm_readv")


def limit_of(pid: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, 0))


def link(path: str) -> None:
    os.symlink("/etc/passwd", path)


REFUSED: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "connect": (connect, ()),
    "a socket": (socket.socket, ()),
    "a unix socket": (socket.socket, (socket.AF_UNIX,)),
    "exec": (execute, ()),
    "fork": (os.fork, ()),
    "a program": (subprocess.run, (["true"],)),
    "ptrace": (trace, ()),
    "another's memory": (read_memory_of, (1,)),
    "a signal to the parent": (os.kill, (os.getppid(), 0)),
    "a signal to the group": (os.kill, (0, 0)),
    "another's limits": (limit_of, (1,)),
    "a mode": (os.chmod, ("/", 0o755)),
}
BY_LANDLOCK: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "a file": (open, ("/etc/passwd",)),
    "a folder": (os.listdir, ("/etc",)),
    "writing": (open, ("/etc/millpond-was-here", "w")),
    "removing": (os.unlink, ("/etc/passwd",)),
    "what is loaded, to write": (open, (os.__file__, "a")),
}


def test_the_world_outside(method: str, tmp_path: Path) -> None:
    options = Sandbox(write=[tmp_path])
    with Pool(1, sandbox=options, start_method=method) as pool:
        for name, (function, args) in REFUSED.items():
            with pytest.raises(TaskError) as refused:
                pool.apply(function, args)
            assert refused.value.type_name == "PermissionError", (name, refused.value)
            assert "Errno 1" in str(refused.value) or "Errno 13" in str(refused.value), name
        for name, (function, args) in BY_LANDLOCK.items() if has_landlock() else ():
            with pytest.raises(TaskError) as refused:
                pool.apply(function, args)
            assert refused.value.type_name == "PermissionError", (name, refused.value)
        with pytest.raises(TaskError, match=r"Permission|not permitted"):
            pool.apply(link, (str(tmp_path / "link"),))
        info = pool.info()
    assert info["lost"] == 0
    assert bool(info["sandbox"]["landlock"]) is has_landlock()


def test_the_same_is_allowed_without_one(tmp_path: Path) -> None:
    """So that the test above can fail."""
    with Pool(1) as pool:
        pool.apply(link, (str(tmp_path / "link"),))
        assert pool.apply(read, ("/etc/passwd",))
        pool.apply(os.kill, (os.getppid(), 0))
        assert pool.info()["sandbox"] is None


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def listed(path: str) -> list[str]:
    return sorted(os.listdir(path))


def write(path: str, data: bytes) -> None:
    Path(path).write_bytes(data)


def test_only_the_folders_that_were_named(tmp_path: Path) -> None:
    inputs, outputs, others = (tmp_path / name for name in ("in", "out", "other"))
    for folder in inputs, outputs, others:
        folder.mkdir()
        (folder / "x").write_bytes(folder.name.encode())
    (inputs / "out-of-it").symlink_to(others / "x")
    with Pool(1, sandbox=Sandbox(read=[inputs], write=[str(outputs)])) as pool:
        assert pool.apply(read, (str(inputs / "x"),)) == b"in"
        pool.apply(write, (str(outputs / "y"), b"new"))
        assert pool.apply(listed, (str(outputs),)) == ["x", "y"]
        pool.apply(os.unlink, (str(outputs / "x"),))
        refused: list[tuple[Any, tuple[Any, ...]]] = [
            (write, (str(inputs / "y"), b"")),
            (read, (str(others / "x"),)),
            (read, (str(inputs / "out-of-it"),)),
            (os.rename, (str(inputs / "x"), str(outputs / "z"))),
            (os.mkfifo, (str(outputs / "fifo"),)),
        ]
        for function, args in refused if has_landlock() else ():
            with pytest.raises(TaskError, match=r"Errno (1|13|18)\b"):
                pool.apply(function, args)
    assert listed(str(outputs)) == ["y"]


# Real work ----------------------------------------------------------------------------------------


def thumbnail(source: str, target: str) -> tuple[int, int]:
    """What a worker that reads a stranger's pictures does."""
    with Image.open(source, formats=["JPEG", "PNG"]) as image:
        small = image.convert("RGB")
    small.thumbnail((64, 64))
    small.save(target, "JPEG")
    return small.size


def mean(path: str) -> Any:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).mean(axis=(0, 1)), np.asarray(image.convert("L"))


@pytest.mark.parametrize("asked", ["folders", "require"])
def test_real_photographs(method: str, asked: str, tmp_path: Path) -> None:
    names = ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "hubble_deep_field.jpg"]
    options = Sandbox(
        read=[PHOTOGRAPHS],
        write=[tmp_path],
        memory=4 << 30,
        cpu_seconds=60,
        require=asked == "require" and has_landlock(),
    )
    rows = [(str(PHOTOGRAPHS / name), str(tmp_path / f"{name}.jpg")) for name in names]
    with Pool(2, sandbox=options, start_method=method) as pool:
        sizes = pool.starmap(thumbnail, rows)
        colour, grey = pool.apply(mean, (rows[0][0],))
    assert all(max(size) == 64 for size in sizes)
    for (_, target), size in zip(rows, sizes, strict=True):
        with Image.open(target) as image:
            assert image.size == size
    with Image.open(rows[0][0]) as image:
        assert np.array_equal(grey, np.asarray(image.convert("L")))
    assert colour.shape == (3,)


def crash_on(x: int, bad: int) -> int:
    if x == bad:
        ctypes.string_at(0)
    return x * x


def test_a_crash_costs_one_task(method: str) -> None:
    with Pool(2, sandbox=True, start_method=method) as pool:
        results: list[Any] = pool.starmap(crash_on, [(x, 7) for x in range(20)], on_error="return")
        died = results.pop(7)
        assert isinstance(died, WorkerDied)
        assert died.signal == "SIGSEGV"
        assert "Segmentation fault" in died.stack
        assert results == [x * x for x in range(20) if x != 7]
        assert pool.map(abs, [-1, 1]) == [1, 1]


def take_memory(size: int) -> int:
    return len(bytearray(size))


def burn() -> None:
    while True:
        pass


def open_files(count: int) -> int:
    held: list[int] = []
    try:
        while len(held) < count:
            held.append(os.dup(2))
    finally:
        for fd in held:
            os.close(fd)
    return len(held)


def test_limits() -> None:
    options = Sandbox(memory=1 << 30, cpu_seconds=3, files=64)
    with Pool(1, sandbox=options, start_method="spawn") as pool:
        with pytest.raises(TaskError) as memory:
            pool.apply(take_memory, (1 << 30,))
        assert memory.value.type_name == "MemoryError"
        with pytest.raises(TaskError, match="Too many open files"):
            pool.apply(open_files, (64,))
        assert pool.apply(open_files, (32,)) == 32
        with pytest.raises(WorkerDied) as cpu:
            pool.apply(burn)
        assert cpu.value.signal in {"SIGXCPU", "SIGKILL"}
        assert pool.apply(take_memory, (1000,)) == 1000
        said = pool.info()["sandbox"]["rlimits"]
    assert said == {"core": 0, "nofile": 64, "as": 1 << 30, "cpu": 3}
