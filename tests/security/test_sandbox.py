"""What workers in a sandbox cannot do, can do, and say that they gave up.

Nothing is skipped: where the kernel lacks something, what is said of it is tested, and that the rest holds.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

import millpond
from millpond import (
    InitializerError,
    MaybeEncodingError,
    Pool,
    Sandbox,
    SandboxError,
    TaskAborted,
    TaskError,
    WorkerDied,
)
from millpond.worker import landlock, sandbox
from millpond.worker.sandbox import FEATURES, ordered

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


# What travels -------------------------------------------------------------------------------------


class Mine(ValueError):
    def __str__(self) -> str:
        return Text("mine")


class Text(str):
    __slots__ = ()


def fail() -> None:
    raise Mine


def leave() -> None:
    sys.exit("enough")


def test_errors_are_stand_ins(method: str) -> None:
    with Pool(1, sandbox=True, start_method=method) as pool:
        with pytest.raises(TaskError) as failed:
            pool.apply(fail)
        with pytest.raises(TaskAborted, match=r"SystemExit\(enough\)"):
            pool.apply(leave)
        with pytest.raises(MaybeEncodingError, match=r"builtins\.object"):
            pool.apply(object)
        assert pool.apply(max, (1, 2)) == 2
    error = failed.value
    assert (type(error), error.type_name, error.text) == (TaskError, "Mine", "mine")
    assert type(error.text) is str
    assert "raise Mine" in error.traceback
    assert str(error.__cause__) == f'\n"""\n{error.traceback}"""'


def many_kinds() -> Any:
    return {
        "numbers": (1, -(2**80), 2.5, 1j, True, None),
        "text": ["é", b"b", bytearray(b"a")],
        "sets": ({1, 2}, frozenset([3])),
        "arrays": [np.arange(6).reshape(2, 3), np.float32(0.5)],
    }


def test_values_of_every_kind() -> None:
    with Pool(1, sandbox=True) as pool:
        found = pool.apply(many_kinds)
        plain = pool.map(str, range(1000))
        mixed: list[Any] = pool.map(divmod_or_fail, range(10), on_error="return")
        large = pool.apply(bytes, (3 << 20,))
    expected = many_kinds()
    assert np.array_equal(found["arrays"][0], expected["arrays"][0])
    assert type(found["arrays"][1]) is np.float32
    for name in ("numbers", "text", "sets"):
        assert found[name] == expected[name]
    assert plain == [str(x) for x in range(1000)]
    assert [m for m in mixed if not isinstance(m, TaskError)] == [(5, x) for x in range(1, 10)]
    assert len(large) == 3 << 20


def divmod_or_fail(x: int) -> tuple[int, int]:
    return (10 // x) * 0 + 5, x


def flaky(path: str) -> int:
    with open(path, "ab") as file:
        file.write(b".")
    if os.path.getsize(path) < 3:
        raise ConnectionError("not yet")
    return 1


def test_retries_know_the_class_that_was_raised(tmp_path: Path) -> None:
    path = str(tmp_path / "tries")
    with Pool(1, sandbox=Sandbox(write=[tmp_path])) as pool:
        assert pool.apply(flaky, (path,), retries=5, retry_on=ConnectionError, backoff=0) == 1
        os.remove(path)
        with pytest.raises(TaskError, match="not yet"):
            pool.apply(flaky, (path,), retries=5, retry_on=KeyError, backoff=0)


async def later(x: int) -> tuple[int, list[int]]:
    return x, [x]


async def fail_later(x: int) -> None:
    raise Mine


def test_coroutines() -> None:
    with Pool(1, sandbox=True) as pool:
        found: list[Any] = pool.map(later, range(5))
        assert found == [(x, [x]) for x in range(5)]
        with pytest.raises(TaskError, match="mine"):
            _ = pool.apply(fail_later, (1,))


def log(text: str) -> None:
    try:
        raise ValueError("at\x1b[2Jtached")
    except ValueError:
        logging.getLogger("a.b").warning(
            "a \x1b[2J %s", text, exc_info=True, extra={"mine": {1: 2}}
        )


def test_log_records(method: str, caplog: pytest.LogCaptureFixture) -> None:
    with Pool(1, sandbox=True, start_method=method) as pool:
        pool.apply(log, ("word",))
    (record,) = caplog.records
    assert record.getMessage() == "a \\x1b[2J word"
    assert (record.name, record.levelname, record.funcName) == ("a.b", "WARNING", "log")
    assert record.processName is not None
    assert record.processName.startswith("ForkPoolWorker") or "PoolWorker" in record.processName
    assert "\nValueError: at\\x1b[2Jtached" in str(record.exc_text)
    assert record.mine == "{1: 2}"  # type: ignore[attr-defined]


def by_value_function() -> Callable[[int], list[int]]:
    return lambda x: [x]


def test_functions_by_value(method: str) -> None:
    with Pool(1, sandbox=True, start_method=method) as pool:
        assert pool.map(by_value_function(), [1, 2]) == [[1], [2]]


# What is said -------------------------------------------------------------------------------------


def status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_what_was_applied_is_said_and_true(method: str) -> None:
    with Pool(1, sandbox=True, start_method=method) as pool:
        kernel = pool.apply(status)
        info = pool.info()
        (worker,) = info["workers"].values()
    said = info["sandbox"]
    assert worker.sandbox == said
    assert set(said) == {*FEATURES, "missing", "read", "write"}
    assert (said["no_new_privs"], kernel["NoNewPrivs"]) == (True, "1")
    assert (said["seccomp"], kernel["Seccomp"]) == (True, "2")
    assert said["landlock"] == landlock.version()
    assert set(said["missing"]) == (set() if has_landlock() else {"landlock"})
    assert said["capabilities"] is True
    held = int(kernel["CapEff"], 16) | int(kernel["CapPrm"], 16) | int(kernel["CapInh"], 16)
    assert held in {0, 1 << 1}
    assert info["blas_threads"] == 1


def test_nothing_is_loaded_without_one() -> None:
    code = (
        "import sys; from millpond import Pool\n"
        "with Pool(1) as pool: pool.apply(len, ('x',))\n"
        "print([m for m in sys.modules if m.startswith('millpond') and m.rpartition('.')[2] in "
        "('sandbox', 'sandboxed', 'untrusted', 'fixed_codec', 'kernel', 'seccomp', 'landlock')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout == "[]\n", run.stderr


def start_thread() -> None:
    threading.Thread(target=threading.Event().wait, daemon=True).start()


def test_threads_of_the_initializer_are_not_covered(method: str) -> None:
    with Pool(1, start_thread, sandbox=True, start_method=method) as pool:
        assert pool.apply(abs, (-1,)) == 1
        said = pool.info()["sandbox"]
    assert said["landlock"] is False
    assert "not covered: 1" in said["missing"]["landlock"] or not has_landlock()
    assert said["seccomp"] is True
    why = r"landlock \((threads|the kernel)"
    with (
        pytest.raises(SandboxError, match=why),
        Pool(1, start_thread, sandbox="require", start_method=method) as pool,
    ):
        pool.apply(abs, (-1,))


def no_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)


def test_a_kernel_without_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    no_landlock(monkeypatch)
    with Pool(1, sandbox=True, start_method="fork") as pool:  # a copy: it sees the kernel as we do
        assert pool.apply(read, ("/etc/passwd",))
        with pytest.raises(TaskError, match="Errno 1"):
            pool.apply(socket.socket)
        said = pool.info()["sandbox"]
    assert said["landlock"] is False
    assert said["missing"] == {"landlock": landlock.ABSENT}
    with pytest.raises(
        SandboxError, match=r"required.*landlock \(the kernel has no Landlock"
    ) as no:
        Pool(1, sandbox="require")
    assert no.value.missing == {"landlock": landlock.ABSENT}


def test_an_unknown_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with Pool(1, sandbox=True, start_method="fork") as pool:
        said = pool.apply(status), pool.info()["sandbox"]
    assert said[0]["Seccomp"] == "0"
    assert said[1]["seccomp"] is False
    assert "riscv64" in said[1]["missing"]["seccomp"]
    with pytest.raises(SandboxError, match="riscv64"):
        Pool(1, sandbox="require")


@pytest.mark.parametrize("abi", range(1, 8))
def test_older_versions_of_landlock(
    abi: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a kernel of that version is asked for is a part of what this one knows."""
    newest = landlock.version()
    monkeypatch.setattr(landlock, "version", lambda: min(abi, newest))
    with Pool(1, sandbox=Sandbox(write=[tmp_path]), start_method="fork") as pool:
        said = pool.apply(write, (str(tmp_path / "x"), b"x")), pool.info()["sandbox"]
        if newest:
            with pytest.raises(TaskError, match="Errno 13"):
                pool.apply(read, ("/etc/passwd",))
    assert said[1]["landlock"] == min(abi, newest)


def test_require(method: str) -> None:
    if has_landlock():
        with Pool(1, sandbox="require", start_method=method) as pool:
            assert pool.apply(abs, (-2,)) == 2
            assert pool.info()["sandbox"]["missing"] == {}
    else:
        with pytest.raises(SandboxError):
            Pool(1, sandbox="require", start_method=method)


# Before it, and instead of it ---------------------------------------------------------------------

loaded = b""


def load(path: str) -> None:
    global loaded
    loaded = Path(path).read_bytes()


def loaded_bytes() -> bytes:
    return loaded


def fail_to_load() -> None:
    raise KeyError("no\x1bmodel")


def test_the_initializer_runs_before(method: str, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.write_bytes(b"weights")
    with Pool(1, load, (str(model),), sandbox=True, start_method=method) as pool:
        assert pool.apply(loaded_bytes) == b"weights"


def test_an_initializer_that_fails(method: str) -> None:
    with Pool(1, fail_to_load, sandbox=True, start_method=method) as pool:
        result = pool.apply_async(abs, (1,))
        with pytest.raises(InitializerError) as failed:
            result.get()
    assert "fail_to_load raised TaskError: KeyError" in str(failed.value)
    assert "\x1b" not in str(failed.value)


def test_too_little_memory() -> None:
    with Pool(1, sandbox=Sandbox(memory=1 << 20)) as pool:
        result = pool.apply_async(abs, (1,))
        with pytest.raises(SandboxError, match=r"memory=1048576 is no more than"):
            result.get()


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (1, TypeError),
        ("yes", TypeError),
        (Sandbox(read="folder"), TypeError),
        (Sandbox(read=["no/such/folder"]), FileNotFoundError),
        (Sandbox(write=["no/such/folder"]), FileNotFoundError),
        (Sandbox(memory=0), ValueError),
        (Sandbox(memory=1e9), TypeError),  # type: ignore[arg-type]
        (Sandbox(cpu_seconds=0), ValueError),
        (Sandbox(files=3), ValueError),
        (Sandbox(files=None), TypeError),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_sense(asked: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Pool(1, sandbox=asked)


@pytest.mark.parametrize("backend", ["threads", "inline"])
def test_only_processes_can_be_confined(backend: str) -> None:
    with pytest.raises(ValueError, match="sandbox"):
        Pool(1, sandbox=True, backend=backend)


def test_names_for_it() -> None:
    assert ordered(None) is ordered(False) is None
    assert ordered(True) == Sandbox()
    assert millpond.Sandbox is sandbox.Sandbox
    assert ordered(Sandbox(read=["."])) == Sandbox(read=(os.getcwd(),))


def test_a_home_is_not_readable_for_a_program_is_run_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), str(project), "/"])
    monkeypatch.chdir(tmp_path)
    needed = sandbox._needed()
    assert str(project) in needed
    assert not {str(tmp_path), "/", ""} & set(needed)


def opened() -> list[str]:
    """What a worker has open beyond its standard streams."""
    found = []
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if fd > 2:
                found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            pass  # the listing's own
    return found


def test_the_resource_tracker_is_out_of_reach(method: str) -> None:
    """It would remove, unrestricted, whatever it is told of."""
    from multiprocessing import resource_tracker

    tracker: Any = resource_tracker
    pipe = os.readlink(f"/proc/self/fd/{tracker._resource_tracker.getfd()}")
    with Pool(1, start_method=method) as pool:
        assert pipe in pool.apply(opened)
    with Pool(1, sandbox=True, start_method=method) as pool:
        assert pipe not in pool.apply(opened)


def test_workers_are_no_copies_of_the_program() -> None:
    """What it has in memory, and has open, is not theirs, unless fork was asked for."""
    with Pool(1, sandbox=True) as pool:
        found = pool.apply(opened)
        info = pool.info()
    assert info["start_method"] != "fork"
    assert sum(link.startswith("socket:") for link in found) == 1  # the channel
    own = ("socket:", "/memfd:millpond-slate", "anon_inode:[pidfd]", os.devnull)
    assert [link for link in found if not link.startswith(own)] == []


def test_timeouts_and_cancelling() -> None:
    with Pool(1, sandbox=True) as pool:
        with pytest.raises(millpond.TaskTimeout):
            pool.apply(burn, timeout=0.2)
        result = pool.apply_async(burn)
        while not any(worker.running for worker in pool.info()["workers"].values()):
            signal.sigtimedwait([], 0.002)
        assert result.cancel()
        assert pool.apply(abs, (-3,)) == 3
