"""Levels, handlers and ``basicConfig`` in workers: what the parent has holds, what they add is obeyed."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from millpond import Pool
from tests.engine.logged import Gathering, say

LIMIT = 60.0


# Tasks ------------------------------------------------------------------------------------------


def say_at_every_level(name: str) -> None:
    named = logging.getLogger(name)
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.CRITICAL):
        named.log(level, "%s", logging.getLevelName(level))


def say_by_module() -> None:
    logging.warning("by the module's function")  # noqa: LOG015


def say_in_a_library() -> None:
    """A library that was imported in the worker, and has the handler that its authors are told to add."""
    library = logging.getLogger("tests.mill.library")
    library.addHandler(logging.NullHandler())
    library.info("in a library")


def keep_here(path: str) -> None:
    """An initializer that configures the worker's logging."""
    handler = logging.FileHandler(path, delay=True)
    named = logging.getLogger("tests.mill")
    named.handlers = [handler]
    named.propagate = False
    named.info("initialized")


# Tests ------------------------------------------------------------------------------------------


def test_the_parent_s_levels_hold(method: str, gathering: Gathering) -> None:
    low, own = logging.getLogger("tests.mill.low"), logging.getLogger("tests.mill.own")
    low.setLevel(logging.WARNING)
    own.setLevel(logging.DEBUG)
    own.propagate = False
    alone = Gathering()
    own.addHandler(alone)
    try:
        with Pool(1, start_method=method) as pool:
            pool.apply(say_at_every_level, ("tests.mill.low.deep",))
            assert gathering.messages == ["WARNING", "CRITICAL"]
            pool.apply(say_at_every_level, ("tests.mill.own",))
            assert alone.messages == ["DEBUG", "INFO", "WARNING", "CRITICAL"]
            low.setLevel(
                logging.CRITICAL
            )  # what the parent does not want any more, it does not get
            pool.apply(say_at_every_level, ("tests.mill.low.deep",))
        assert gathering.messages == ["WARNING", "CRITICAL", "CRITICAL"]
    finally:
        low.setLevel(logging.NOTSET)
        own.setLevel(logging.NOTSET)
        own.propagate = True
        own.removeHandler(alone)


def test_what_the_parent_disabled_is_not_made(method: str, gathering: Gathering) -> None:
    logging.disable(logging.INFO)
    try:
        with Pool(1, start_method=method) as pool:
            pool.apply(say_at_every_level, ("tests.mill",))
    finally:
        logging.disable(logging.NOTSET)
    assert gathering.messages == ["WARNING", "CRITICAL"]


def test_the_root_and_libraries_are_no_exception(method: str, gathering: Gathering) -> None:
    logging.root.addHandler(gathering)
    try:
        with Pool(1, start_method=method) as pool:
            pool.apply(say_by_module)
            assert gathering.messages == ["by the module's function"]
            pool.apply(say_in_a_library)
            assert gathering.messages[1:] == ["in a library"] * 2  # the tests' logger has it too
    finally:
        logging.root.removeHandler(gathering)


def test_what_the_initializer_configures_stays_there(
    method: str, gathering: Gathering, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    with Pool(1, initializer=keep_here, initargs=(str(path),), start_method=method) as pool:
        pool.map(say, [1, 2])
    assert path.read_text().splitlines() == ["initialized", "number 1", "number 2"]
    assert gathering.messages == []


PROGRAM = """
import logging, sys
from millpond import Pool

def initialize():
    logging.basicConfig(level="INFO", format="in the worker: %(message)s", force={force})

def f(x):
    logging.info("hello")
    logging.getLogger("named").warning("hello")

if __name__ == "__main__":
    if {configured}:
        logging.basicConfig(level="INFO", format="in the parent: %(message)s")
    with Pool(1, initialize if {initializes} else None, start_method="{method}") as pool:
        pool.map(f, [1])
"""


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        ({}, ["hello"]),  # lastResort, of the parent
        ({"configured": True}, ["in the parent: hello"] * 2),
        ({"initializes": True}, ["in the worker: hello"] * 2),
        ({"configured": True, "initializes": True, "force": True}, ["in the worker: hello"] * 2),
    ],
)
def test_basic_configuration_means_what_it_did(
    method: str, given: dict[str, bool], printed: list[str], tmp_path: Path
) -> None:
    options = {"configured": False, "initializes": False, "force": False, **given}
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.format(method=method, **options))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 0
    assert done.stderr.splitlines() == printed
