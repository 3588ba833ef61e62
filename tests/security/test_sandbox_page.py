"""Sentences of docs/how-to/sandbox.md that the other tests here do not hold."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
import threading
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any

import pytest

from millpond import Pool, Sandbox, TaskError
from millpond.worker import landlock
from tests.security.test_attacks import SECRET, secrets


def has_landlock() -> bool:
    return landlock.version() > 0


def read(path: str) -> str:
    return Path(path).read_text("utf-8", "replace")


def write(path: str, text: str) -> None:
    Path(path).write_text(text)


# What to ask for ----------------------------------------------------------------------------------


def test_files_and_links_may_be_named(tmp_path: Path) -> None:
    source, target, link = tmp_path / "source", tmp_path / "target", tmp_path / "link"
    for path in source, target:
        path.write_text(path.name)
    link.symlink_to(source)
    with Pool(1, sandbox=Sandbox(read=[link], write=[target])) as pool:
        assert pool.apply(read, (str(link),)) == pool.apply(read, (str(source),)) == "source"
        pool.apply(write, (str(target), "new"))
        for path in (source, tmp_path / "another") if has_landlock() else ():
            with pytest.raises(TaskError, match="Errno 13"):
                pool.apply(write, (str(path), "new"))
    assert (source.read_text(), target.read_text()) == ("source", "new")


def all_readable(paths: list[str]) -> list[str]:
    """Those of them that are not."""
    refused = []
    for path in paths:
        try:
            os.listdir(path) if os.path.isdir(path) else open(path, "rb").close()
        except OSError:
            refused.append(path)
    return refused


def test_what_a_worker_reads_beyond_them(method: str) -> None:
    paths = [
        os.__file__, "/usr/lib", "/usr/share", "/proc/self/status", "/proc/self/net/dev", "/proc/cpuinfo",
        "/proc/meminfo", "/sys/devices/system/cpu", "/dev/urandom",
    ]  # fmt: skip
    here = [path for path in paths if os.path.exists(path)]
    assert len(here) > 6
    with Pool(1, sandbox=True, start_method=method) as pool:
        assert pool.apply(all_readable, (here,)) == []


seen: Any = None


def note_variables() -> None:
    global seen
    seen = os.environ.get("MY_PASSWORD"), os.environ.get("OTHER"), os.environ.get("PATH")


def noted() -> Any:
    return seen


def test_the_initializer_has_the_same_variables(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_PASSWORD", SECRET)
    monkeypatch.setenv("OTHER", "x")
    options = Sandbox(environment=["MY_PASSWORD"])
    with Pool(1, note_variables, sandbox=options, start_method=method) as pool:
        assert pool.apply(noted) == (SECRET, None, os.environ["PATH"])


def mapped_with_numpy() -> int:
    importlib.import_module("numpy")
    return int(read("/proc/self/statm").split()[0]) * os.sysconf("SC_PAGESIZE")


def test_how_much_python_with_numpy_maps() -> None:
    with Pool(1, sandbox=Sandbox(memory=1 << 30)) as pool:
        assert pool.apply(mapped_with_numpy) < 600 << 20


# What is applied ----------------------------------------------------------------------------------


def await_end_of(path: str) -> None:
    read(path)


def test_nothing_is_said_before_a_worker_is_ready(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with Pool(1, await_end_of, (str(fifo),), sandbox=True) as pool:
        with open(fifo, "w"):  # once the initializer has opened it, too
            assert pool.info()["sandbox"] is None
        assert pool.apply(abs, (-1,)) == 1
        assert pool.info()["sandbox"]["no_new_privs"] is True


def open_at_first() -> dict[int, str]:
    """What a worker has open that nobody has opened since it began."""
    found = {}
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            pass  # the listing's own
    return found


def test_what_a_worker_has_open(method: str, tmp_path: Path) -> None:
    with open(tmp_path / "file", "w"), Pool(1, sandbox=True, start_method=method) as pool:
        found = pool.apply(open_at_first)
    assert found[0] == os.devnull
    pipes = {found[1], found[2]}
    assert len(pipes) == 2
    others = set(found.values()) - pipes - {os.devnull}
    assert sorted(name.partition(":")[0] for name in others) == ["/memfd", "socket"]
    assert "/memfd:millpond-slate (deleted)" in others


# What changes for tasks ---------------------------------------------------------------------------

kept_open: Any = None


def keep_open() -> None:
    global kept_open
    kept_open = os.open("/etc/passwd", os.O_RDONLY)


def read_what_is_open() -> str:
    return os.read(kept_open, 1 << 20).decode()


def test_what_the_initializer_leaves_open_stays_open(method: str) -> None:
    with Pool(1, keep_open, sandbox=True, start_method=method) as pool:
        assert pool.apply(read_what_is_open) == read("/etc/passwd")


class Opening:
    """Opens a file as it is unpickled."""

    def __reduce__(self) -> Any:
        return read, ("/etc/passwd",)


def test_arguments_are_loaded_in_the_sandbox() -> None:
    with Pool(1) as pool:
        assert pool.apply(len, (Opening(),)) > 0
    if has_landlock():
        with Pool(1, sandbox=True) as pool, pytest.raises(TaskError, match="Permission denied"):
            pool.apply(len, (Opening(),))


def test_threads_of_blas_libraries() -> None:
    with Pool(1, sandbox=True, blas_threads=2) as pool:
        assert pool.apply(abs, (-1,)) == 1
        assert pool.info()["blas_threads"] == 2


def test_a_context_of_the_standard_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PASSWORD", SECRET)
    context = multiprocessing.get_context("spawn")
    with Pool(1, context=context, sandbox=True) as pool:
        assert pool.apply(secrets) == []


shared: Any = None


def share(array: Any) -> None:
    global shared
    shared = array


def write_shared() -> None:
    shared[0] = 1


def test_a_copy_can_write_what_the_program_shares() -> None:
    array = RawArray("i", 1)
    with Pool(1, share, (array,), sandbox=True, start_method="fork") as pool:
        pool.apply(write_shared)
    assert array[0] == 1


def test_what_can_only_be_inherited_is_where_fork_is_the_default() -> None:
    lock = threading.Lock()
    if sys.version_info < (3, 14):
        with Pool(1, share, (lock,), sandbox=True) as pool:
            assert pool.apply(abs, (-1,)) == 1
            assert pool.info()["start_method"] == "fork"
    else:
        with pytest.raises(TypeError, match="cannot pickle"):
            Pool(1, share, (lock,), sandbox=True)


# What it does not do ------------------------------------------------------------------------------


def find_out(path: str, link: str) -> Any:
    status = os.stat(path)
    found = status.st_size, status.st_mtime, status.st_uid, os.readlink(link), os.path.exists("/no")
    return found, sys.argv


def test_what_a_worker_can_still_find_out(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/etc/passwd")
    with Pool(1, sandbox=True) as pool:
        assert pool.apply(find_out, ("/etc/passwd", str(link))) == find_out(
            "/etc/passwd", str(link)
        )
        assert pool.apply(os.getsid, (os.getpid(),)) == os.getsid(0)


def is_loaded(module: str) -> bool:
    return module in sys.modules


def test_the_pools_interpreter_imports_what_the_program_has_imported() -> None:
    importlib.import_module("colorsys")
    with Pool(1, sandbox=True) as pool:
        assert pool.apply(is_loaded, ("colorsys",))
        assert not pool.apply(is_loaded, ("this",))
