"""``import millpond as multiprocessing`` is enough: every name is there."""

from __future__ import annotations

import importlib
import multiprocessing
import multiprocessing.pool
import pkgutil
import subprocess
import sys
from typing import Any

import pytest

import millpond

SUBMODULES = [
    module.name
    for module in pkgutil.iter_modules(multiprocessing.__path__)
    if module.name != "popen_spawn_win32"
]


def names_of(module: Any) -> set[str]:
    return {name for name in vars(module) if not name.startswith("__")}


def test_every_public_name_is_there() -> None:
    missing = [name for name in multiprocessing.__all__ if not hasattr(millpond, name)]
    assert missing == []
    assert set(multiprocessing.__all__) <= set(millpond.__all__)
    assert set(multiprocessing.__all__) <= set(dir(millpond))


@pytest.mark.parametrize("name", SUBMODULES)
def test_every_name_of_each_submodule_is_there(name: str) -> None:
    theirs = importlib.import_module(f"multiprocessing.{name}")
    ours = importlib.import_module(f"millpond.{name}")
    assert [n for n in sorted(names_of(theirs)) if not hasattr(ours, n)] == []
    assert getattr(millpond, name) is ours


@pytest.mark.parametrize(
    "name", sorted(set(SUBMODULES) - {"process", "context", "pool", "forkserver"})
)
def test_other_submodules_are_the_standard_library_s_own(name: str) -> None:
    theirs = importlib.import_module(f"multiprocessing.{name}")
    assert importlib.import_module(f"millpond.{name}") is theirs


def test_the_windows_module_fails_as_there() -> None:
    with pytest.raises(ImportError):
        importlib.import_module("multiprocessing.popen_spawn_win32")
    with pytest.raises(ImportError):
        importlib.import_module("millpond.popen_spawn_win32")


def test_process_and_pool_are_classes_of_ours() -> None:
    assert isinstance(millpond.Process, type)
    assert isinstance(millpond.Pool, type)
    assert issubclass(millpond.Process, multiprocessing.process.BaseProcess)
    assert millpond.process.BaseProcess is multiprocessing.process.BaseProcess
    for method in multiprocessing.get_all_start_methods():
        context = millpond.get_context(method)
        assert issubclass(context.Process, millpond.Process)
        assert context.get_start_method() == method
        assert context.get_context() is context
        assert isinstance(context, type(multiprocessing.get_context(method)))


def test_dummy_s_submodule() -> None:
    module = importlib.import_module("millpond.dummy.connection")
    assert module is importlib.import_module("multiprocessing.dummy.connection")


def test_a_name_that_is_nowhere() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Proces'"):
        millpond.Proces  # noqa: B018
    with pytest.raises(AttributeError):
        millpond.context.nothing  # noqa: B018
    with pytest.raises(ValueError, match="cannot find context for 'frok'"):
        millpond.get_context("frok")


@pytest.mark.parametrize("backend", ["threads", "inline"])
def test_a_start_method_that_is_set_is_nothing_to_pools_without_processes(backend: str) -> None:
    millpond.set_start_method("spawn", force=True)
    try:
        with millpond.Pool(1, backend=backend) as pool:
            assert pool.map(abs, [-1]) == [1]
        with pytest.raises(ValueError, match="starts no processes"):
            millpond.Pool(1, backend=backend, start_method="spawn")
    finally:
        millpond.set_start_method(None, force=True)


def test_the_default_start_method_is_known_in_one_place() -> None:
    before = multiprocessing.get_start_method(allow_none=True)
    default = multiprocessing.get_all_start_methods()[0]
    try:
        millpond.set_start_method("spawn", force=True)
        assert multiprocessing.get_start_method() == "spawn"
        assert millpond.get_context() is millpond.get_context("spawn")
        multiprocessing.set_start_method("forkserver", force=True)
        assert millpond.get_start_method() == "forkserver"
        with pytest.raises(RuntimeError, match="already been set"):
            millpond.set_start_method("fork")
        multiprocessing.set_start_method(default, force=True)
        assert millpond.get_context() is not millpond.get_context(default), (
            "it is the default again"
        )
    finally:
        multiprocessing.set_start_method(before, force=True)


def test_resolve() -> None:
    from millpond.context import resolve

    spawn = millpond.get_context("spawn")
    assert resolve("spawn") is spawn
    assert resolve(multiprocessing.get_context("spawn")) is spawn
    assert resolve(spawn) is spawn
    assert resolve(None) is millpond.get_context()
    assert resolve(multiprocessing.context._default_context) is millpond.get_context()
    foreign = object()
    assert resolve(foreign) is foreign


def loads(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after the statement."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
        ).stdout.split()
    )


def test_importing_loads_the_rest_on_first_use() -> None:
    loaded = loads("import millpond")
    assert loaded.isdisjoint(
        {
            "cloudpickle",
            "multiprocessing.pool",
            "concurrent.futures",
            "asyncio",
            "ctypes",
            "logging",
        }
    )
    assert {name for name in loaded if name.startswith("millpond.")} == set()


def test_star_import_gives_every_name() -> None:
    scope: dict[str, Any] = {}
    exec("from millpond import *", scope)
    assert set(multiprocessing.__all__) <= set(scope)
