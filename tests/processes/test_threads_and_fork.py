"""A pool of the default start method while other threads run: forked where they are at rest, and only there."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import millpond
from millpond import Pool
from millpond.backends.processes import ways
from millpond.backends.processes.starting import bystanders, main_module, parked
from tests.processes.other_threads import (
    AT_REST,
    LIMIT,
    NOT_AT_REST,
    Act,
    Other,
    is_of_another_module,
    under_locks,
    waits,
    with_a_lock,
)


@pytest.fixture
def run() -> Iterator[Callable[[Act], threading.Thread]]:
    """Start a thread that does something until the test ends."""
    other, threads = Other(), list[threading.Thread]()

    def start(act: Act) -> threading.Thread:
        thread = threading.Thread(target=act, args=(other,), name="somebody")
        threads.append(thread)
        thread.start()
        assert other.there.wait(LIMIT)
        return thread

    yield start
    other.end()
    for thread in threads:
        thread.join()
    other.reader.close()


def until_parked(thread: threading.Thread) -> None:
    """Wait until the thread has come to its wait."""
    deadline = time.monotonic() + LIMIT
    while not parked.is_parked(sys._current_frames().get(thread.ident or 0)):
        assert time.monotonic() < deadline
        os.sched_yield()


@pytest.fixture(autouse=True)
def default_is_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before Python 3.14; and nobody was warned yet."""
    import multiprocessing.context

    default: Any = multiprocessing.context._default_context
    monkeypatch.setattr(default, "_default_context", multiprocessing.get_context("fork"))
    monkeypatch.setattr(default, "_actual_context", None)
    monkeypatch.setattr(millpond.context._default_context, "_chosen", None)
    monkeypatch.setattr(ways, "_warned", False)
    monkeypatch.setattr(ways, "_patience", ways._PATIENT)


setting = "as it was imported"


def get_setting(_: object) -> str:
    return setting


def hold(lock: object) -> None:
    """An initializer whose argument can only be inherited."""


@pytest.mark.parametrize("act", AT_REST)
def test_a_program_is_forked_beside_threads_at_rest(
    act: Act, run: Callable[[Act], threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    until_parked(run(act))
    monkeypatch.setattr(sys.modules[__name__], "setting", "as it is now")
    with Pool(2) as pool:
        assert pool.map_async(under_locks, range(9)).get(LIMIT) == list(range(9))
        assert pool.map(get_setting, [0]) == ["as it is now"]
        assert pool.info()["start_method"] == "fork"


@pytest.mark.parametrize("act", NOT_AT_REST)
def test_other_threads_mean_a_fork_server(
    act: Act, run: Callable[[Act], threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "_patience", 0.1)
    run(act)
    with pytest.warns(RuntimeWarning, match="fork server") as said:
        pool = Pool(2)
    with pool:
        assert pool.map_async(under_locks, range(9)).get(LIMIT) == list(range(9))
        info = pool.info()
    assert info["start_method"] == "forkserver"
    assert [warning.filename for warning in said] == [__file__]
    if act is not is_of_another_module:
        assert "(somebody" in info["reason"]
        assert "(somebody" in str(said[0].message)


def test_the_warning_comes_once(run: Callable[[Act], threading.Thread]) -> None:
    run(with_a_lock)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(2):
            with Pool(1) as pool:
                assert pool.info()["start_method"] == "forkserver"
    assert len(said) == 1


@pytest.mark.parametrize("guarded", [True, False])
def test_the_warning_says_whether_the_main_module_is_imported(
    guarded: bool, run: Callable[[Act], threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main_module, "guarded", lambda: guarded)
    run(with_a_lock)
    said = "have imported the main module" if guarded else "have not imported the main module"
    with pytest.warns(RuntimeWarning, match=said):
        pool = Pool(1)
    pool.terminate()


def test_a_warning_that_is_an_error_leaves_nothing(run: Callable[[Act], threading.Thread]) -> None:
    run(with_a_lock)
    with pytest.raises(RuntimeWarning):
        Pool(1)


def test_a_thread_that_wakes_while_the_program_is_copied(
    run: Callable[[Act], threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is thrown away, and another made; here the first two."""
    until_parked(run(waits))
    awake, copies = bystanders.Rest.awake, list[str]()

    def at_first(rest: bystanders.Rest) -> str:
        copies.append("somebody" if len(copies) < 2 else awake(rest))
        return copies[-1]

    monkeypatch.setattr(bystanders.Rest, "awake", at_first)
    with Pool(1) as pool:
        assert pool.apply(abs, (-1,)) == 1
        assert pool.info()["start_method"] == "fork"
    assert len(copies) >= 3


def test_one_that_always_wakes_means_a_fork_server(
    run: Callable[[Act], threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    until_parked(run(waits))
    monkeypatch.setattr(bystanders.Rest, "awake", lambda rest: "somebody")
    with pytest.warns(RuntimeWarning, match="somebody"):
        pool = Pool(1)
    with pool:
        assert pool.info()["start_method"] == "forkserver"


def test_where_the_kernel_tells_nothing_nobody_is_forked(
    run: Callable[[Act], threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    until_parked(run(waits))
    monkeypatch.setattr(bystanders, "_sleep", lambda thread: None)
    with pytest.warns(RuntimeWarning, match="somebody"):
        pool = Pool(1)
    with pool:
        assert pool.info()["start_method"] == "forkserver"


def test_an_import_that_goes_on(
    run: Callable[[Act], threading.Thread], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its module is locked."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "imported_slowly.py").write_text(
        "import threading; threading.current_thread().act()"
    )

    def imports(other: Other) -> None:
        threading.current_thread().act = other.wait  # type: ignore[attr-defined]
        import imported_slowly  # type: ignore[import-not-found]  # noqa: F401

        del sys.modules["imported_slowly"]

    run(imports)
    with pytest.warns(RuntimeWarning, match="somebody"):
        pool = Pool(1)
    with pool:
        assert pool.info()["start_method"] == "forkserver"


def test_the_main_thread_counts_too(run: Callable[[Act], threading.Thread]) -> None:
    """Here it waits for the thread that makes the pool."""
    found: list[object] = []

    def make(other: Other) -> None:
        with Pool(1) as pool:
            found.append(pool.info()["start_method"])

    thread = threading.Thread(target=make, args=(None,))
    thread.start()
    thread.join()
    assert found == ["fork"]


def test_threads_of_another_pool_are_no_reason() -> None:
    with Pool(2) as first:
        pending = first.map_async(abs, range(3))
        with Pool(1) as second:
            assert second.info()["start_method"] == "fork"
        assert pending.get(LIMIT) == [0, 1, 2]


def test_alone_it_is_a_fork() -> None:
    with Pool(2) as pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]
        assert pool.info()["start_method"] == "fork"


def by_argument() -> Pool:
    return Pool(2, start_method="fork")


def by_context() -> Pool:
    return millpond.get_context("fork").Pool(2)


def by_setting() -> Pool:
    millpond.set_start_method("fork", force=True)
    try:
        return Pool(2)
    finally:
        millpond.set_start_method(None, force=True)


@pytest.mark.parametrize("make", [by_argument, by_context, by_setting])
def test_what_was_asked_for_is_obeyed(
    make: Callable[[], Pool], run: Callable[[Act], threading.Thread]
) -> None:
    run(with_a_lock)
    with make() as pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]
        assert pool.info()["start_method"] == "fork"
        assert pool.info()["reason"] == "asked for"


def by_the_default_context() -> Pool:
    return millpond.get_context().Pool(2)


def with_the_default_context() -> Pool:
    return Pool(2, context=millpond.get_context())


@pytest.mark.parametrize("make", [by_the_default_context, with_the_default_context])
def test_a_context_without_a_name_asks_for_nothing(
    make: Callable[[], Pool], run: Callable[[Act], threading.Thread]
) -> None:
    run(with_a_lock)
    with pytest.warns(RuntimeWarning, match="fork server"):
        pool = make()
    with pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]
        assert pool.info()["start_method"] == "forkserver"


def test_what_can_only_be_inherited_is(run: Callable[[Act], threading.Thread]) -> None:
    run(with_a_lock)
    with Pool(2, hold, (millpond.Lock(),)) as pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]
        assert pool.info()["start_method"] == "fork"
