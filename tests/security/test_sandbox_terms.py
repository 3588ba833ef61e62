"""What a sandbox says of itself, what is asked of it, and what comes before it closes.

Nothing is skipped: where the kernel lacks something, what is said of it is tested, and that the rest holds.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import skimage.data

import millpond
from millpond import (
    InitializerError,
    Pool,
    Sandbox,
    SandboxError,
    TaskError,
)
from millpond.worker import landlock, sandbox
from millpond.worker.sandbox import FEATURES, ordered

PHOTOGRAPHS = Path(skimage.data.__file__).parent


def has_landlock() -> bool:
    return landlock.version() > 0


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def write(path: str, data: bytes) -> None:
    Path(path).write_bytes(data)


def burn() -> None:
    while True:
        pass


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


def test_a_path_that_is_out_of_reach_does_not_cost_landlock(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original = os.open

    def refusing(path: Any, *rest: Any, **options: Any) -> int:
        if path == str(tmp_path):
            raise PermissionError(13, "Permission denied", path)
        return original(path, *rest, **options)

    monkeypatch.setattr(os, "open", refusing)
    with Pool(1, sandbox=Sandbox(read=[tmp_path]), start_method="fork") as pool:
        assert pool.apply(abs, (-1,)) == 1
        assert pool.info()["sandbox"]["landlock"] == landlock.version()
        if has_landlock():
            with pytest.raises(TaskError, match="Errno 13"):
                pool.apply(os.listdir, (str(tmp_path),))


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


def test_a_home_is_not_readable_by_another_of_its_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Python puts the real folder of a program on ``sys.path``, which ``HOME`` may name by a link."""
    real, name = tmp_path / "real", tmp_path / "name"
    (real / "project").mkdir(parents=True)
    name.symlink_to(real)
    for home in real, name:
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setattr(sys, "path", [str(real), str(name), str(name / "project")])
        monkeypatch.chdir(real)
        needed = sandbox._needed()
        assert str(name / "project") in needed
        assert not {str(real), str(name)} & set(needed)


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
    own = ("socket:", "/memfd:millpond-slate", "pipe:", os.devnull)
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
