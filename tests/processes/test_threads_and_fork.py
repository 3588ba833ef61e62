"""A pool of the default start method while other Python threads run: no fork of this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import millpond
from millpond import Pool


@pytest.fixture
def other_thread() -> Iterator[str]:
    """A thread that runs meanwhile; its name."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait, name="somebody")
    thread.start()
    yield thread.name
    over.set()
    thread.join()


@pytest.fixture
def default_is_fork() -> Iterator[None]:
    before = millpond.get_start_method(allow_none=True)
    millpond.set_start_method("fork", force=True)
    millpond.set_start_method(None, force=True)
    if millpond.get_start_method() != "fork":  # 3.14's default
        millpond.set_start_method("fork", force=True)
    yield
    millpond.set_start_method(before, force=True)


def hold(lock: object) -> None:
    """An initializer whose argument can only be inherited."""


@pytest.mark.usefixtures("default_is_fork")
def test_other_threads_mean_a_fork_server(other_thread: str) -> None:
    with Pool(2) as pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]
        info = pool.info()
    assert info["start_method"] == "forkserver"
    assert other_thread in info["reason"]


@pytest.mark.usefixtures("default_is_fork")
def test_alone_it_is_a_fork() -> None:
    with Pool(2) as pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]
        assert pool.info()["start_method"] == "fork"


@pytest.mark.usefixtures("other_thread")
def test_what_was_asked_for_is_obeyed() -> None:
    with Pool(2, start_method="fork") as pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]
        assert pool.info()["start_method"] == "fork"


@pytest.mark.usefixtures("default_is_fork", "other_thread")
def test_what_can_only_be_inherited_is() -> None:
    with Pool(2, hold, (millpond.Lock(),)) as pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]
        assert pool.info()["start_method"] == "fork"
