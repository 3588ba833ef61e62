"""How the program was started: without a guard, from standard input, by ``-c``, in a notebook."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from millpond.testing import tasks
from tests import leaks
from tests.stress import judge
from tests.stress.catalogue import fault
from tests.stress.stage import SOON, Stage

SCRIPT = """
import os, sys, millpond
os.write(os.open({starts!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND), b".")
def triple(x):
    return 3 * x
pool = millpond.Pool(2, **{options})
print(pool.map(triple, range(5)), pool.map(lambda x: x + 1, range(3)), flush=True)
pool.close()
pool.join()
"""
WANTED = "[0, 3, 6, 9, 12] [1, 2, 3]\n"


def run(stage: Stage, *command: str, given: str = "") -> None:
    """The program prints what it should, and its file was not run again and again."""
    done = subprocess.run(
        [sys.executable, *command],
        input=given,
        capture_output=True,
        text=True,
        timeout=SOON,
        cwd=stage.folder,
    )
    assert (done.stdout, done.returncode) == (WANTED, 0), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert tasks.executions(Path(stage.path("starts"))) <= 4  # the program, a server, two workers


@fault(75, "a script without the main guard", "works; its file is not run again and again")
def without_a_guard(stage: Stage) -> None:
    script = SCRIPT.format(starts=stage.path("starts"), options=stage.options())
    Path(stage.path("script.py")).write_text(script)
    run(stage, stage.path("script.py"))


@fault(76, "a program from standard input, or by `-c`", "works: functions are sent by value")
def without_a_file(stage: Stage) -> None:
    script = SCRIPT.format(starts=stage.path("starts"), options=stage.options())
    run(stage, "-c", script)
    run(stage, "-", given=script)


@fault(
    77,
    "a notebook: interrupted, a function defined anew, the kernel started anew",
    "KeyboardInterrupt; the new function; no worker left",
)
def notebook(stage: Stage) -> None:
    from jupyter_client.manager import KernelManager
    from jupyter_core.utils import ensure_event_loop

    for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        os.environ[name] = stage.path(name)
    manager: Any = KernelManager(kernel_name="python3", transport="ipc", ip=stage.path("kernel"))
    manager.start_kernel(cwd=str(stage.folder))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=SOON)
        show = "print(sorted(w.pid for w in pool._pool))"
        answer(client, f"import time, millpond; pool = millpond.Pool(2, **{stage.options()})")
        answer(client, "def f(x): return x + 1")
        assert answer(client, "print(pool.map(f, range(3)))") == "[1, 2, 3]\n"
        answer(client, "def f(x): return x + 10")
        assert answer(client, "print(pool.map(f, range(3)))") == "[10, 11, 12]\n"
        started = stage.path("started")
        sleep = f"pool.map(lambda x: (open({started!r}, 'a').close(), time.sleep(60)), range(4), 1)"
        request = client.execute(sleep)
        tasks.wait_until(lambda: os.path.exists(started), "the cell runs")
        with stage.within(1.0, "the interrupt"):
            manager.interrupt_kernel()
            assert outcome(client, request)[0] == "KeyboardInterrupt"
        pids = set(map(int, answer(client, show).strip("[]\n").split(",")))
        assert pids <= set(living())
        manager.shutdown_kernel(now=True, restart=True)
        with stage.within(1.0, "no worker left"):
            tasks.wait_until(lambda: not pids & set(living()), "the workers are gone", 10.0)
    finally:
        client.stop_channels()
        with contextlib.suppress(Exception):
            manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
        manager.context.destroy(linger=0)
        ensure_event_loop().close()


def living() -> list[int]:
    return judge.Tree(os.environ[leaks.MARK], Path()).living()


def answer(client: Any, code: str) -> str:
    """What the cell prints; it must not fail."""
    name, text = outcome(client, client.execute(code))
    assert name == "", (name, text)
    return text


def outcome(client: Any, request: str) -> tuple[str, str]:
    """The exception's name that the cell ends with, or "", and what it prints."""
    name, text = "", ""
    limit = time.monotonic() + SOON
    while time.monotonic() < limit:
        message = client.get_iopub_msg(timeout=SOON)
        if message["parent_header"].get("msg_id") != request:
            continue
        content = message["content"]
        if message["msg_type"] == "stream":
            text += content["text"] if content["name"] == "stdout" else ""
        elif message["msg_type"] == "error":
            name = content["ename"]
        elif message["msg_type"] == "status" and content["execution_state"] == "idle":
            return name, text
    raise TimeoutError("the cell does not end")


TABLES = """
import os, millpond
os.write(os.open({starts!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND), b".")
def triple(x):
    return 3 * x
POOL = millpond.Pool(2, **{options})
TABLE = POOL.map(triple, range(5))
"""
READER = """
import tables
if __name__ == "__main__":
    print(tables.TABLE, tables.POOL.map(lambda x: x + 1, range(3)), flush=True)
    tables.POOL.close()
    tables.POOL.join()
"""


@fault(86, "a module that is imported makes and uses a pool", "works; no pool within the pool")
def at_import(stage: Stage) -> None:
    module = TABLES.format(starts=stage.path("starts"), options=stage.options())
    Path(stage.path("tables.py")).write_text(module)
    Path(stage.path("script.py")).write_text(READER)
    run(stage, stage.path("script.py"))


FROZEN = """
import sys
sys.frozen, sys.executable = True, {executable!r}
import os, millpond
def triple(x):
    return 3 * x
if __name__ == "__main__":
    {support}
    os.write(os.open({starts!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND), b".")
    with millpond.Pool(2, **{options}) as pool:
        print(pool.map(triple, range(5)), pool.map(lambda x: x + 1, range(3)), flush=True)
"""


@fault(
    87,
    "a frozen program, with `freeze_support()` and without",
    "works; it does not start itself without end",
)
def frozen(stage: Stage) -> None:
    for support in ("millpond.freeze_support()", "pass"):
        own = stage.anew()
        executable, script = Path(own.path("program")), Path(own.path("script.py"))
        executable.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
        executable.chmod(0o755)
        text = FROZEN.format(
            executable=str(executable), support=support,
            starts=own.path("starts"), options=own.options(),
        )  # fmt: skip
        script.write_text(text)
        run(own, str(script))


CLOSED = """
import os, millpond
def write(x):
    return os.write(1, b"said by nobody") and x
if __name__ == "__main__":
    kept = os.dup(1)
    for fd in (0, 1, 2):
        os.close(fd)
    with millpond.Pool(2, **{options}) as pool:
        got = pool.map(write, range(20), 1)
        write(1)
        assert pool.map(write, range(20)) == got == list(range(20))
    os.write(kept, {wanted!r})
"""
HANDLED = """
import os, signal, millpond
def handler(number, frame):
    raise SystemExit("the program's handler ran")
signal.signal(signal.SIGTERM, handler)
if __name__ == "__main__":
    with millpond.Pool(2, **{options}) as pool:
        for _ in range(3):
            os.kill(pool.apply(os.getpid), signal.SIGTERM)
        copy = os.fork()
        if not copy:
            raise SystemExit(0)
        assert os.waitpid(copy, 0)[1] == 0
        assert pool.map(abs, range(9)) == list(range(9))
    os.write(1, {wanted!r})
"""


def same_everywhere(stage: Stage, text: str) -> None:
    script = Path(stage.path("script.py"))
    Path(stage.path("starts")).touch()
    script.write_text(text.format(options=stage.options(), wanted=WANTED.encode()))
    run(stage, str(script))


@fault(88, "descriptors 0 to 2 are closed", "works; nothing of the pool's gets these numbers")
def closed_descriptors(stage: Stage) -> None:
    same_everywhere(stage, CLOSED)


@fault(
    89,
    "the program handles SIGTERM; a forked copy leaves the `with` block",
    "no worker runs the handler; the copy exits with 0",
)
def handled_signal(stage: Stage) -> None:
    same_everywhere(stage, HANDLED)
