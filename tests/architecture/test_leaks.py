"""The leak fixture catches each kind of leak, and lets pass what is gone or exempt."""

from __future__ import annotations

import os
import re
import textwrap
import time
from pathlib import Path

import pytest

from tests import leaks

ROOT = Path(__file__).parents[2]
PRELUDE = "import os, pathlib, subprocess, sys, tempfile, threading, time\nkept = []\n"

# By name: what a test does, and what the report must say.
LEAKS = {
    "a_child": ("kept.append(subprocess.Popen(['sleep', '60']))", "process: pid .*: sleep 60"),
    "a_forked_child": ("if os.fork() == 0: time.sleep(60)", r"process: pid .*state S"),
    "a_child_of_millponds_fork_server": (
        """
        import millpond
        process = millpond.get_context('forkserver').Process(target=time.sleep, args=(60,))
        process.start()
        kept.append(process)
        """,
        r"process: pid .*state S",
    ),
    "a_zombie": ("if os.fork() == 0: os._exit(0)", r"process: pid .*zombie"),
    "an_orphan_that_ran_a_program": (
        "subprocess.run(['sh', '-c', 'setsid sleep 60 >/dev/null 2>&1 &'], check=True)",
        r"process: pid .*: sleep 60",
    ),
    "an_orphan_that_was_forked": (
        """
        if (child := os.fork()) == 0:
            if os.fork() == 0:
                os.setsid()
                time.sleep(60)
            os._exit(0)
        os.waitpid(child, 0)
        """,
        r"process: pid .*state S",
    ),
    "a_thread": (
        "threading.Thread(target=time.sleep, args=(60,), daemon=True, name='millpond-x').start()",
        "thread: millpond-x, daemonic",
    ),
    "a_raw_thread": (
        """
        import _thread
        begun = threading.Event()
        _thread.start_new_thread(lambda: (begun.set(), time.sleep(60)), ())
        begun.wait()
        """,
        "thread: 0x.*not made by threading",
    ),
    "a_descriptor": ("kept.append(os.open('/dev/zero', 0))", r"descriptor: fd \d+ -> /dev/zero"),
    "a_memfd": ("kept.append(os.memfd_create('lost'))", r"descriptor: .* -> /memfd:lost"),
    "a_reused_descriptor": (
        "fd = os.open('/dev/zero', 0); os.dup2(fd, 0); os.close(fd)",
        r"descriptor: fd 0 -> /dev/zero",
    ),
    "shared_memory": (
        "pathlib.Path(f'/dev/shm/leak-{os.getppid()}').write_bytes(b'x')",
        r"shared memory: /dev/shm/leak-\d+",
    ),
    "a_temporary_file": ("os.close(tempfile.mkstemp(suffix='.lost')[0])", "temporary file: .*lost"),
    "a_childs_temporary_file": (
        "subprocess.run([sys.executable, '-c', 'import tempfile; tempfile.mkdtemp()'], check=True)",
        "temporary file: ",
    ),
}

HARMLESS = {
    "what_is_gone_soon_after": "threading.Thread(target=time.sleep, args=(0.2,)).start()",
    "what_only_garbage_collection_closes": """
        class Cycle:
            def __init__(self):
                self.me, self.file = self, os.open('/dev/zero', 0)
            def __del__(self):
                os.close(self.file)
        Cycle()
        """,
    "what_another_run_has": """
        other = {**os.environ, 'MILLPOND_TEST_RUN': 'another'}
        subprocess.run(['sh', '-c', 'setsid sleep 5 >/dev/null 2>&1 &'], check=True, env=other)
        """,
    "millponds_fork_server": """
        import millpond
        process = millpond.get_context('forkserver').Process(target=int)
        process.start()
        process.join()
        process.close()
        from millpond.backends.processes.starting.nursery import current_fork_server
        assert current_fork_server().alive()
        """,
    "multiprocessings_servers": """
        import multiprocessing
        process = multiprocessing.get_context('forkserver').Process(target=int)
        process.start()
        process.join()
        process.close()
        """,
    "shared_memory_that_was_unlinked": """
        from multiprocessing.shared_memory import SharedMemory
        memory = SharedMemory(create=True, size=10)
        memory.close()
        memory.unlink()
        """,
}


def run_inside(pytester: pytest.Pytester, bodies: dict[str, str]) -> pytest.RunResult:
    """Run a test for each body in a pytest of its own, under the project's conftest."""
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text())
    source = [PRELUDE]
    for name, body in bodies.items():
        lines = textwrap.indent(textwrap.dedent(body).strip(), "    ")
        source.append(f"def test_{name}():\n{lines}\n\ndef test_after_{name}():\n    pass\n")
    pytester.makepyfile("\n".join(source))
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=90)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'src'}")


def test_each_leak_fails_the_test_that_made_it_and_no_other(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLPOND_TEST_PATIENCE", "0.3")
    try:
        result = run_inside(pytester, {name: body for name, (body, _) in LEAKS.items()})
    finally:
        Path(f"/dev/shm/leak-{os.getpid()}").unlink(missing_ok=True)
    result.assert_outcomes(passed=2 * len(LEAKS), errors=len(LEAKS))
    reports = re.split(r"_+ ERROR at teardown of test_(\w+) _+\n", result.stdout.str())[1:]
    said = dict(zip(reports[::2], reports[1::2], strict=True))
    wrong = {
        name: said.get(name)
        for name, (_, message) in LEAKS.items()
        if not re.match(f"the test left behind:\n *{message}", said.get(name, ""))
    }
    assert not wrong


def test_what_is_gone_or_exempt_passes(pytester: pytest.Pytester) -> None:
    result = run_inside(pytester, HARMLESS)
    result.assert_outcomes(passed=2 * len(HARMLESS))


def test_a_test_that_failed_is_not_blamed_for_what_its_traceback_holds(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLPOND_TEST_PATIENCE", "1000")  # over the limit of the run inside
    result = run_inside(pytester, {"failing": "fd = os.open('/dev/zero', 0)\nassert fd < 0"})
    result.assert_outcomes(passed=1, failed=1)


def test_looking_is_cheap(watcher: leaks.Watcher) -> None:
    times = []
    for _ in range(10):
        start = time.perf_counter()
        watcher.snapshot()
        times.append(time.perf_counter() - start)
    assert min(times) < 0.01
