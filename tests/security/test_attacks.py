"""Each sentence of the page on the sandbox of what a worker cannot do has an attack here."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFilter

from millpond import Pool, Sandbox, TaskError
from millpond.worker import landlock
from tests.security import attacks

SECRET = "hunter2-hunter2"


@pytest.fixture
def values(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What attacks are aimed at."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "kept").write_text("kept")
    path = str(tmp_path / "daemon")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(path)
        yield {"$pid": os.getpid(), "$folder": str(folder), "$socket": path}
        daemon.setblocking(False)
        with pytest.raises(BlockingIOError):
            daemon.recv(1)


def surroundings() -> tuple[Any, ...]:
    pid = os.getpid()
    return (
        os.getpriority(os.PRIO_PROCESS, pid),
        os.sched_getaffinity(pid),
        os.sched_getscheduler(pid),
    )


def test_attacks(method: str, values: dict[str, Any]) -> None:
    before = surroundings()
    with Pool(1, sandbox=Sandbox(write=[values["$folder"]]), start_method=method) as pool:
        pid = pool.apply(os.getpid)
        found = {name: pool.apply(attacks.attempt, (name, values)) for name in attacks.ATTACKS}
        assert pool.apply(os.getpid) == pid
        assert pool.info()["lost"] == 0
    here = attacks.BY_LANDLOCK if not landlock.version() else ()
    through = [name for name, what in found.items() if what == "done" and name not in here]
    assert through == []
    assert surroundings() == before
    assert Path(values["$folder"], "kept").read_text() == "kept"
    assert not [path for path in Path(values["$folder"]).iterdir() if path.stat().st_mode & 0o6000]


def test_some_of_them_succeed_without_a_sandbox(values: dict[str, Any]) -> None:
    """So that the test above can fail."""
    harmless = [
        "an attribute", "the program's CPUs", "a set-uid file", "names in a folder that may not be read",
        "a hard link", "to outlive the program", "memory that is not counted", "a lock that others wait for",
        "times", "passwords", "who else is there", "a personality", "a handle of the program",
        "a file, opened so", "what a file has, by its name", "what a file has, as it is opened to be read",
    ]  # fmt: skip
    cpus = os.sched_getaffinity(0)
    try:
        with Pool(1) as pool:
            found = {name: pool.apply(attacks.attempt, (name, values)) for name in harmless}
    finally:
        os.sched_setaffinity(0, cpus)
    assert [name for name, what in found.items() if what != "done"] in ([], ["an attribute"])


# The environment ----------------------------------------------------------------------------------


def secrets() -> list[str]:
    """Where the variable's value is to be found."""
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_char_p
    places = {
        "os.environ": SECRET in str(dict(os.environ)),
        "posix.environ": SECRET in str(sys.modules["posix"].__dict__["environ"]),
        "getenv": libc.getenv(b"MY_PASSWORD") is not None,
    }
    with contextlib.suppress(OSError), open("/proc/self/environ", "rb") as file:
        places["/proc/self/environ"] = SECRET.encode() in file.read()
    return [name for name, there in places.items() if there]


def in_memory() -> int:
    """How often it is in this process's memory, but for where it is looked for."""
    wanted, found = SECRET[:7].encode() + SECRET[7:].encode(), 0
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps.read().splitlines():
            span, rights = line.split()[:2]
            if not rights.startswith("rw") or "[v" in line:
                continue
            begin, end = (int(n, 16) for n in span.split("-"))
            with contextlib.suppress(OSError):
                memory.seek(begin)
                found += memory.read(end - begin).count(b"MY_PASSWORD=" + wanted)
    return found


PROGRAM = f"""
import os, sys
sys.path.insert(0, {os.getcwd()!r})
from millpond import Pool, Sandbox
from tests.security import test_attacks as t
if __name__ == "__main__":
    method = sys.argv[1] if sys.argv[1] != "default" else None
    with Pool(1, sandbox=True, start_method=method) as pool:
        print(pool.apply(t.secrets), pool.apply(t.in_memory), os.environ["MY_PASSWORD"])
    with Pool(1, sandbox=Sandbox(environment=["MY_PASSWORD"]), start_method=method) as pool:
        print(pool.apply(os.getenv, ("MY_PASSWORD",)), pool.apply(os.getenv, ("OTHER",)))
"""


@pytest.mark.parametrize("how", ["default", "fork", "spawn", "forkserver"])
def test_variables_that_were_not_named(how: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "MY_PASSWORD": SECRET, "OTHER": "x"}
    run = subprocess.run(
        [sys.executable, str(tmp_path / "program.py"), how],
        env=environment, capture_output=True, text=True, timeout=100, cwd=tmp_path,
    )  # fmt: skip
    first, second = run.stdout.splitlines()
    assert (first[:3], first[-len(SECRET) :]) == ("[] ", SECRET), run.stderr
    if how != "fork":  # which is a copy
        assert first == f"[] 0 {SECRET}"
    assert second == f"{SECRET} None"


@pytest.mark.parametrize("names", ["PATH", [5], b"PATH"])
def test_names_of_variables(names: Any) -> None:
    with pytest.raises(TypeError, match="environment"):
        Pool(1, sandbox=Sandbox(environment=names))


# What it has open, and prints ---------------------------------------------------------------------

AT_A_TERMINAL = f"""
import os, sys
sys.path.insert(0, {os.getcwd()!r})
from millpond import Pool
from tests.security import test_attacks as t
if __name__ == "__main__":
    with Pool(1, sandbox=True) as pool:
        print("terminals", pool.apply(t.terminals), flush=True)
        pool.apply(t.shout)
    print("THE END", flush=True)
"""


def terminals() -> list[int]:
    return [fd for fd in range(256) if os.isatty(fd)]


def shout() -> None:
    print("\x1b]0;owned\x07to the terminal")
    os.write(2, b"\x1b[2Jraw\n")


def test_at_a_terminal(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(AT_A_TERMINAL)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, str(program)])
    seen, until = b"", time.monotonic() + 60
    while b"THE END" not in seen and time.monotonic() < until:
        if select.select([terminal], [], [], 1)[0]:
            try:
                seen += os.read(terminal, 4096)
            except OSError:
                break
    os.waitpid(pid, 0)
    os.close(terminal)
    text = seen.decode()
    assert "terminals []" in text, text
    assert "\\x1b]0;owned\\x07to the terminal" in text
    assert "\\x1b[2Jraw" in text
    assert "\x1b" not in text


def greet(name: str) -> None:
    print("hello", name)
    print("careful", name, file=sys.stderr)


def test_what_is_printed_comes_before_what_follows_the_call(
    method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Pool(1, sandbox=True, start_method=method) as pool:
        for name in ("a", "b"):
            pool.apply(greet, (name,))
            print("after", name)
    out, err = capsys.readouterr()
    assert out.splitlines() == ["hello a", "after a", "hello b", "after b"]
    assert err.splitlines() == ["careful a", "careful b"]


def print_without_end() -> None:
    while True:
        os.write(1, b"x" * 65_536)


def test_printing_without_end(capsys: pytest.CaptureFixture[str]) -> None:
    with Pool(2, sandbox=True) as pool:
        pool.map(abs, [-1, -2])
        endless = pool.apply_async(print_without_end)
        assert [pool.apply(abs, (-n,)) for n in range(20)] == list(range(20))
        assert endless.cancel()
    assert len(capsys.readouterr().out) < 20 << 20


def print_much() -> None:
    os.write(1, b"x" * (8 << 20))


def test_what_is_left_out_of_what_is_printed_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with Pool(1, sandbox=True) as pool:
        pool.apply(print_much)
        assert pool.apply(abs, (-1,)) == 1
    (said,) = (r.getMessage() for r in caplog.records if r.name == "millpond")
    assert "logs or prints more than one in a sandbox may: the rest is left out" in said


def print_accents() -> None:
    print("caf\u00e9 \u4e2d")


def test_what_is_printed_fits_the_programs_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    with Pool(1, sandbox=True) as pool:
        pool.apply(print_accents)
    assert narrow.buffer.getvalue() == b"caf\\xe9 \\u4e2d\n"


def write_there(fd: int) -> None:
    os.write(fd, b"from the sandbox")


def test_files_of_the_program_are_not_open(method: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with open(path, "w") as file, Pool(1, sandbox=True, start_method=method) as pool:
        with contextlib.suppress(TaskError):
            pool.apply(write_there, (file.fileno(),))
        assert path.read_bytes() == b""


def parent_lives() -> bool:
    from multiprocessing import parent_process

    parent = parent_process()
    return parent is not None and parent.is_alive()


def test_the_parent_is_known_to_live(method: str) -> None:
    with Pool(1, sandbox=True, start_method=method) as pool:
        assert pool.apply(parent_lives)


# Living on ----------------------------------------------------------------------------------------

DYING = f"""
import os, sys, time
sys.path.insert(0, {os.getcwd()!r})
from millpond import Pool
from tests.security import test_attacks as t
if __name__ == "__main__":
    pool = Pool(1, sandbox=True, start_method=sys.argv[1])
    print(pool.apply(os.getpid), flush=True)
    pool.apply_async(t.cling)
    time.sleep(60)
"""


def cling() -> None:
    """Do all that might keep it alive, and nothing that would end it."""
    for fd in range(3, 256):
        with contextlib.suppress(OSError):
            os.close(fd)
    for number in signal.valid_signals():
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        attacks.call("prctl", 1, 0, 0, 0, 0)
    while True:
        time.sleep(0.01)


def test_a_worker_does_not_outlive_the_program(method: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(DYING)
    command = [sys.executable, str(tmp_path / "program.py"), method]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        worker = int(program.stdout.readline())
        pidfd = os.pidfd_open(worker)
        try:
            signal.sigtimedwait([], 0.5)
            program.kill()
            program.wait()
            assert select.select([pidfd], [], [], 10)[0]
        finally:
            os.close(pidfd)


# Real work ----------------------------------------------------------------------------------------

FORMATS = ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM"]


def every_format(source: bytes) -> dict[str, tuple[int, int]]:
    found = {}
    for kind in FORMATS:
        with Image.open(io.BytesIO(source)) as image:
            small = image.convert("RGB").resize((60, 40), Image.Resampling.LANCZOS)
        written = io.BytesIO()
        small.filter(ImageFilter.GaussianBlur(2)).save(written, kind)
        written.seek(0)
        with Image.open(written, formats=[kind]) as image:
            image.load()
            found[kind] = image.size
    return found


def test_pictures(method: str) -> None:
    source = io.BytesIO()
    Image.effect_mandelbrot((300, 200), (-2, -1.5, 1, 1.5), 30).save(source, "PNG")
    with Pool(1, sandbox=True, start_method=method) as pool:
        assert pool.apply(every_format, (source.getvalue(),)) == dict.fromkeys(FORMATS, (60, 40))


def computing(folder: str) -> str:
    import asyncio
    import concurrent.futures

    import numpy as np

    array = np.random.default_rng(1).random((300, 300))
    np.linalg.svd(array @ array)
    importlib.import_module("scipy.linalg").expm(array / 300)
    importlib.import_module("scipy.ndimage").gaussian_filter(array, 3)
    importlib.import_module("scipy.fft").fft2(array, workers=2)
    np.save(f"{folder}/array.npy", array)
    assert (np.load(f"{folder}/array.npy", mmap_mode="r") == array).all()
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        assert sum(threads.map(abs, range(-5, 0))) == 15

    async def aside() -> int:
        await asyncio.sleep(0.001)
        return await asyncio.to_thread(len, "abc")

    assert asyncio.run(aside()) == 3
    os.replace(f"{folder}/array.npy", f"{folder}/moved.npy")
    assert ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 7)() == 7
    return "fine"


def test_computing(method: str, tmp_path: Path) -> None:
    options = Sandbox(write=[tmp_path])
    with Pool(1, sandbox=options, start_method=method) as pool:
        assert pool.apply(computing, (str(tmp_path),)) == "fine"
        assert pool.apply(attacks.executable_memory) == 4096
