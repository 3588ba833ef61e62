"""CPython's own Pool and Process tests pass with `multiprocessing` replaced by millpond.

An interpreter built without its tests yields no test here. MILLPOND_COMPAT_WITH=multiprocessing
runs them on the standard library instead, which shows that this runner does them no harm.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.compat import cpython_suite as suite

NAME = os.environ.get("MILLPOND_COMPAT_WITH", "millpond")
SOURCE = suite.source()

if SOURCE is not None:

    @pytest.fixture(scope="module")
    def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Where the renamed copies are."""
        assert SOURCE is not None
        made = tmp_path_factory.mktemp("cpython")
        suite.build(made, SOURCE, NAME)
        return made

    @pytest.mark.parametrize("cls", [*suite.POOL, *suite.PROCESS])
    def test_the_interpreter_s_own_tests(folder: Path, cls: str) -> None:
        # The start methods side by side: these tests wait more than they work.
        with ThreadPoolExecutor(len(suite.METHODS)) as threads:
            run = partial(suite.run_class, folder, cls=cls)
            reports = dict(zip(suite.METHODS, threads.map(run, suite.METHODS), strict=True))
        for method, report in reports.items():
            bad = "\n\n".join(f"{test}\n{text}" for test, text in report.bad.items())
            assert not report.bad, f"{method}: {bad}"
            assert report.passed or report.skipped
