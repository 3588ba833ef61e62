"""What holds for every test: whatever it did, nothing of it is left. See leaks.py."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests import leaks


@pytest.fixture(scope="session")
def watcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[leaks.Watcher]:
    """Mark this run's processes and give them a folder of their own for temporary files."""
    tmp_path_factory.getbasetemp()  # pytest's own folder is made before, and stays where it is
    mark = f"{os.getpid():x}{random.SystemRandom().getrandbits(12):03x}"
    folder = Path(tempfile.mkdtemp(prefix="test-"))
    name = Path("/proc/self/comm")
    before = name.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", None)
        patch.setenv(leaks.MARK, mark)
        name.write_bytes(leaks.thread_name(mark))
        watch = leaks.Watcher(folder, mark)
        start = watch.snapshot()
        yield watch
        leaks.stop_servers()
        left = watch.leaks(start, "process")  # of the rest, each test was asked
        name.write_bytes(before.strip())
    shutil.rmtree(folder, ignore_errors=True)
    if left:
        pytest.fail("the run as a whole left behind:\n  " + "\n  ".join(left), pytrace=False)


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(autouse=True)
def nothing_left_behind(watcher: leaks.Watcher, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process, thread, descriptor, shared memory, temporary file, or signals blocked.

    A test that failed anyway is let off: its traceback keeps alive what it held.
    """
    before, mask = watcher.snapshot(), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    blocked = signal.pthread_sigmask(signal.SIG_SETMASK, mask) ^ mask
    if request.node.stash.get(FAILED, False):
        return
    left = watcher.leaks(before)
    if blocked:
        left.append(f"{len(blocked)} signals blocked, or let in, that were not")
    if left:
        watcher.kill(before)
        pytest.fail("the test left behind:\n  " + "\n  ".join(left), pytrace=False)
