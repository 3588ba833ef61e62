"""What a child of the fork server gets from its parent, at each start."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import millpond
from tests.processes import work
from tests.processes.waiting import LIMIT


@pytest.fixture(autouse=True)
def a_server_that_knows_nothing_of_it() -> None:
    """The server must be there before the test changes anything."""
    process = millpond.get_context("forkserver").Process(target=work.double, args=(1,))
    process.start()
    process.join(LIMIT)


@pytest.fixture
def other_umask() -> Iterator[int]:
    before = os.umask(0o27)
    yield 0o27
    os.umask(before)


def in_a_child(method: str, target: Any, *args: Any) -> Any:
    process = millpond.get_context(method).Process(target=target, args=args)
    process.start()
    return process.result(LIMIT)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_child_gets_its_parent_s_surroundings(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_umask: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILLPOND_TEST_VARIABLE", "known")
    monkeypatch.setattr(sys, "argv", ["program", "argument"])
    monkeypatch.syspath_prepend("/nowhere/of/the/test")
    affinity = os.sched_getaffinity(0)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[0] - 1, limit[1]))
    os.sched_setaffinity(0, {min(affinity)})
    try:
        seen = in_a_child(method, work.surroundings)
    finally:
        os.sched_setaffinity(0, affinity)
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert seen == {
        "cwd": str(tmp_path),
        "variable": "known",
        "argv": ["program", "argument"],
        "umask": other_umask,
        "affinity": {min(affinity)},
        "nofile": (limit[0] - 1, limit[1]),
        "blocked": set(),
        "path": True,
    }
    assert in_a_child(method, work.surroundings)["affinity"] == affinity


def test_a_variable_that_is_gone_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLPOND_TEST_VARIABLE", "known")
    assert in_a_child("forkserver", work.surroundings)["variable"] == "known"
    monkeypatch.delenv("MILLPOND_TEST_VARIABLE")
    assert in_a_child("forkserver", work.surroundings)["variable"] is None


def test_the_calling_thread_s_signal_mask() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        assert in_a_child("forkserver", work.surroundings)["blocked"] == {signal.SIGUSR2}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_standard_output_is_the_parent_s_of_now(
    method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    in_a_child(method, print, f"from a {method} child")
    assert capfd.readouterr().out == f"from a {method} child\n"


def test_a_child_holds_no_more_descriptors_the_more_siblings_it_has() -> None:
    context = millpond.get_context("forkserver")
    alone = in_a_child("forkserver", work.descriptors)
    siblings = [context.Process(target=work.wait_for_end, daemon=True) for _ in range(5)]
    for sibling in siblings:
        sibling.start()
    assert in_a_child("forkserver", work.descriptors) == alone
    for sibling in siblings:
        sibling.kill()
        sibling.join(LIMIT)


def test_preload_is_what_the_parent_imported_less_what_leaves_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaves_a_thread.py").write_text(
        "import os, threading\n"
        f"if os.getpid() != {os.getpid()}:\n"
        "    threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    (tmp_path / "harmless.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("leaves_a_thread", "harmless"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        __import__(name)
    millpond.shutdown()
    try:
        loaded = in_a_child("forkserver", work.loaded, ["leaves_a_thread", "harmless"])
    finally:
        millpond.shutdown()
        for name in ("leaves_a_thread", "harmless"):
            sys.modules.pop(name, None)
    assert loaded == [False, True]


def test_set_forkserver_preload_is_obeyed() -> None:
    from multiprocessing import forkserver

    before: Any = forkserver._forkserver._preload_modules  # type: ignore[attr-defined]
    millpond.shutdown()
    millpond.set_forkserver_preload(["this.does.not.exist", "colorsys"])
    try:
        assert in_a_child("forkserver", work.loaded, ["colorsys", "pytest"]) == [True, False]
        with pytest.raises(TypeError, match="list of strings"):
            millpond.set_forkserver_preload([1])  # type: ignore[list-item]
    finally:
        millpond.set_forkserver_preload(before)
        millpond.shutdown()
