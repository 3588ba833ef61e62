"""Runs one class of the renamed suite (see cpython_suite.py) and writes a line for each outcome.

Arguments: start method, class, file for the lines, seconds a test may take.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import sys
import unittest
from types import TracebackType
from typing import TextIO

Raised = (
    tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
)  # what unittest calls OptExcInfo


class Lines(unittest.TestResult):
    """One JSON line as each test starts, and one as it ends."""

    def __init__(self, out: TextIO, limit: float) -> None:
        super().__init__()
        self.out, self.limit, self.outcome, self.text = out, limit, "pass", ""

    def say(self, event: str, test: str, text: str = "") -> None:
        self.out.write(json.dumps([event, test, text[-3000:]]) + "\n")
        self.out.flush()

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.outcome, self.text = "pass", ""
        self.say("start", test.id())
        faulthandler.dump_traceback_later(self.limit, exit=True)

    def stopTest(self, test: unittest.TestCase) -> None:
        faulthandler.cancel_dump_traceback_later()
        self.say(self.outcome, test.id(), self.text)
        super().stopTest(test)

    def addFailure(self, test: unittest.TestCase, err: Raised) -> None:
        super().addFailure(test, err)
        self.outcome, self.text = "fail", self.failures[-1][1]

    def addError(self, test: unittest.TestCase, err: Raised) -> None:
        super().addError(test, err)
        self.outcome, self.text = "error", self.errors[-1][1]
        if not hasattr(test, "_testMethodName"):  # a fixture of the class or the module
            self.say("error", str(test), self.text)

    def addSubTest(
        self, test: unittest.TestCase, subtest: unittest.TestCase, err: Raised | None
    ) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.outcome, self.text = "fail", str(err[1])

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self.outcome, self.text = "skip", reason
        if not hasattr(test, "_testMethodName"):
            self.say("skip", str(test), reason)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        self.outcome, self.text = "fail", "unexpected success"


def main(method: str, cls: str, path: str, limit: str) -> None:
    from test import support

    support.verbose = 0
    module = importlib.import_module(f"suite_{method}")
    tests = unittest.defaultTestLoader.loadTestsFromTestCase(getattr(module, cls))
    with open(path, "a") as out:
        result = Lines(out, float(limit))
        unittest.TestSuite(tests).run(result)
        result.say("finished", cls)


if __name__ == "__main__":
    main(*sys.argv[1:])
