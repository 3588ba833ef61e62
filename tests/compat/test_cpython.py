"""CPython's own Pool and Process tests pass with `multiprocessing` replaced by millpond.

An interpreter built without its tests yields no test here. MILLPOND_COMPAT_WITH=multiprocessing
runs them on the standard library instead, which shows that this runner does them no harm.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.compat import cpython_suite as suite

NAME = os.environ.get("MILLPOND_COMPAT_WITH", "millpond")
SOURCE = suite.source()
Reports = dict[tuple[str, str], suite.Report]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """All classes on all start methods, two at a time: they wait more than they work."""
    assert SOURCE is not None
    folder: Path = tmp_path_factory.mktemp("cpython")
    suite.build(folder, SOURCE, NAME)
    running: dict[tuple[str, str], Future[suite.Report]] = {}
    with ThreadPoolExecutor(2) as threads:
        for cls in (*suite.PROCESS, *suite.POOL):
            for method in suite.METHODS:
                running[method, cls] = threads.submit(suite.run_class, folder, method, cls)
    return {key: future.result() for key, future in running.items()}


if SOURCE is not None:

    @pytest.mark.timeout(1200)  # the first one runs them all
    @pytest.mark.parametrize("method", suite.METHODS)
    @pytest.mark.parametrize("cls", [*suite.POOL, *suite.PROCESS])
    def test_the_interpreter_s_own_tests(reports: Reports, method: str, cls: str) -> None:
        report = reports[method, cls]
        assert not report.bad, "\n\n".join(f"{test}\n{text}" for test, text in report.bad.items())
        assert report.passed or report.skipped

    def test_as_many_run_as_with_multiprocessing(reports: Reports) -> None:
        passed = sum(len(report.passed) for report in reports.values())
        skipped = sum(len(report.skipped) for report in reports.values())
        assert passed >= 225
        assert skipped <= 12
