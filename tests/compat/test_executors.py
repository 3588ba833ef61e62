"""CPython's own executor tests pass with `concurrent.futures`' executors replaced by PoolExecutor.

An interpreter built without these tests yields none here.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.compat import cpython_executors as suite

if suite.present():

    @pytest.mark.parametrize("topic", suite.TOPICS)
    def test_the_interpreter_s_own_executor_tests(topic: str, tmp_path: Path) -> None:
        # The families side by side: these tests wait more than they work.
        with ThreadPoolExecutor(len(suite.FAMILIES)) as threads:
            reports = list(threads.map(partial(suite.run, tmp_path, topic), suite.FAMILIES))
        for family, report in zip(suite.FAMILIES, reports, strict=True):
            bad = "\n\n".join(f"{test}\n{text}" for test, text in report.bad.items())
            assert not report.bad, f"{family}: {bad}"
        assert any(report.passed for report in reports)
