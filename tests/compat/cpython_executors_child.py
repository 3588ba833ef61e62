"""Runs classes of CPython's executor tests on millpond (see cpython_executors.py), a line an outcome.

Arguments: family, topic, file for the lines, seconds a test may take, what to leave out (names of
tests, parts of classes' names).
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import unittest
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import owning_executors  # type: ignore[import-not-found]
from cpython_child import Lines  # type: ignore[import-not-found]

PACKAGE = "test.test_concurrent_futures"
PRELUDE = (
    "import sys; sys.path[:0] = {path!r}\nimport owning_executors\nowning_executors.install()\n"
)


def modules() -> Iterator[ModuleType]:
    """CPython's test modules: a package, or in older versions one file."""
    package = importlib.import_module(PACKAGE)
    yield package
    for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
        if module.name.startswith("test_"):
            yield importlib.import_module(f"{PACKAGE}.{module.name}")


def with_prelude(run: Callable[..., Any]) -> Callable[..., Any]:
    """For the programs that CPython's tests run in interpreters of their own."""

    def run_script(option: str, program: str) -> Any:
        path = [os.path.dirname(__file__), *filter(None, sys.path)]
        return run(option, PRELUDE.format(path=path) + program)

    return run_script


def chosen(family: str, topic: str) -> Iterator[type[unittest.TestCase]]:
    for module in modules():
        if hasattr(module, "assert_python_ok"):
            vars(module)["assert_python_ok"] = with_prelude(vars(module)["assert_python_ok"])
        for value in list(vars(module).values()):
            if not (isinstance(value, type) and issubclass(value, unittest.TestCase)):
                continue
            mixins = {base.__name__ for base in value.__mro__}
            mine = value.__module__ == module.__name__ and f"{family}Mixin" in mixins
            if mine and topic in value.__name__:
                yield value


def main(family: str, topic: str, path: str, limit: str, *left_out: str) -> None:
    from test import support

    support.verbose = 0
    owning_executors.install()
    suite = unittest.TestSuite()
    for cls in chosen(family, topic):
        if any(part in cls.__name__ for part in left_out):
            continue
        names = unittest.defaultTestLoader.getTestCaseNames(cls)
        suite.addTests(cls(name) for name in names if name not in left_out)
    with open(path, "a") as out:
        result = Lines(out, float(limit))
        suite.run(result)
        result.say("finished", topic)


if __name__ == "__main__":
    main(*sys.argv[1:])
