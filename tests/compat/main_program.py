"""A program all of whose functions and classes are in `__main__`, and the ways to run it.

The program appends a byte to one file as its body begins and to another as it ends: the sizes count
how often each was run, workers included. It prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.compat import sessions

LIMIT = 60.0

# No blank line inside a block, one after each: this is also typed into a REPL.
DEFINITIONS = """\
import json, os, sys
import {module} as multiprocessing
def note(path):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, b".")
    os.close(fd)

note({begun!r})
WORD = None
TABLE = {{"k": 7}}
class Odd(Exception):
    pass

class Point:
    def __init__(self, x):
        self.x = x
    def moved(self, by):
        return Point(self.x + by)
    def __eq__(self, other):
        return type(self) is type(other) and self.x == other.x

def start(word):
    global WORD
    WORD = word

def read(_):
    return WORD

def square(x):
    return x * x

def outer(x):
    return square(x) + TABLE["k"]

def even(x):
    if x % 2:
        raise Odd(x)
    return x

def adder(k):
    return lambda x: x + k

def seen(error):
    return [type(error) is Odd, list(error.args)]

def work(pool):
    out = {{}}
    out["initializer"] = pool.map(read, range(6), 1)
    out["function"] = pool.map(square, range(4))
    out["calls another"] = pool.map(outer, range(4))
    out["lambda"] = pool.map(lambda x: x + 1, range(4))
    out["closure"] = pool.map(adder(10), range(4))
    out["instance"] = pool.apply(Point(3).moved, (4,)) == Point(7)
    out["instances"] = pool.map(type, [Point(1)])[0] is Point
    out["imap"] = list(pool.imap(outer, iter(range(3))))
    out["async"] = pool.starmap_async(pow, [(2, 3)]).get(30)
    try:
        pool.map(even, [2, 3])
    except Exception as error:
        out["error"] = seen(error)
    return out

"""
MAIN = """\
with {pool} as pool:
    print(json.dumps(work(pool)), flush=True)

note({ended!r})
"""
EXPECTED: dict[str, Any] = {
    "initializer": ["set"] * 6, "function": [0, 1, 4, 9], "calls another": [7, 8, 11, 16],
    "lambda": [1, 2, 3, 4], "closure": [10, 11, 12, 13], "instance": True, "instances": True,
    "imap": [7, 8, 11], "async": [8], "error": [True, [3]],
}  # fmt: skip

OPTIONS = "2, initializer=start, initargs=('set',)"
POOLS = {
    "argument": "multiprocessing.Pool(" + OPTIONS + ", start_method={method!r})",
    "context": "multiprocessing.get_context({method!r}).Pool(" + OPTIONS + ")",
    "context argument": (
        "multiprocessing.Pool(" + OPTIONS + ", context=multiprocessing.get_context({method!r}))"
    ),
    "set_start_method": (
        "(multiprocessing.set_start_method({method!r}), multiprocessing.Pool(" + OPTIONS + "))[1]"
    ),
    "default": "multiprocessing.Pool(" + OPTIONS + ")",
}


class Program:
    """One text of the program, in a folder of its own."""

    def __init__(self, folder: Path, method: str, asked: str, module: str = "millpond") -> None:
        self.folder = folder
        self.begun, self.ended = folder / "begun", folder / "ended"
        self.definitions = DEFINITIONS.format(module=module, begun=str(self.begun))
        pool = POOLS[asked].format(method=method)
        self.main = MAIN.format(pool=pool, ended=str(self.ended))

    def times(self) -> tuple[int, int]:
        """How often the body began, and how often it came to its end."""
        return tuple(p.stat().st_size if p.exists() else 0 for p in (self.begun, self.ended))  # type: ignore[return-value]


def guarded(program: Program) -> str:
    path = program.folder / "guarded.py"
    body = "".join(f"    {line}\n" for line in program.main.splitlines())
    path.write_text(f'{program.definitions}if __name__ == "__main__":\n{body}')
    return run([str(path)])


def unguarded(program: Program) -> str:
    path = program.folder / "unguarded.py"
    path.write_text(program.definitions + program.main)
    return run([str(path)])


def dash_c(program: Program) -> str:
    return run(["-c", program.definitions + program.main])


def stdin(program: Program) -> str:
    return run(["-"], program.definitions + program.main)


def repl(program: Program) -> str:
    return type_in(program.definitions + program.main)


def notebook(program: Program) -> str:
    cells = [program.definitions, program.main]
    return run([str(Path(__file__).with_name("run_notebook.py"))], json.dumps(cells))


WAYS: dict[str, Callable[[Program], str]] = {
    "guarded": guarded, "unguarded": unguarded, "dash-c": dash_c, "stdin": stdin, "repl": repl,
    "notebook": notebook,
}  # fmt: skip


IPYKERNEL_ENDS = re.compile(
    r"^Task was destroyed but it is pending!\ntask: <Task [^\n]*ipykernel/kernelbase\.py[^\n]*\n",
    re.MULTILINE,
)
"""What ipykernel says now and then of a task of its own when a kernel is shut down."""


def run(arguments: list[str], text: str = "") -> str:
    """Run the interpreter; its output, which must be all that it says."""
    with subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(text, timeout=LIMIT)
        finally:
            sessions.end(process)
    err = IPYKERNEL_ENDS.sub("", err)
    assert (err, process.returncode) == ("", 0), f"exit {process.returncode}\n{err}"
    return out


def type_in(text: str) -> str:
    """Type the text into an interactive interpreter on a terminal; all that it shows."""
    leader, follower = pty.openpty()
    env = dict(os.environ, PYTHON_BASIC_REPL="1", TERM="dumb", PYTHONSTARTUP="")
    with subprocess.Popen(
        [sys.executable, "-q", "-i"], stdin=follower, stdout=follower, stderr=follower,
        start_new_session=True, env=env,
    ) as process:  # fmt: skip
        os.close(follower)
        try:
            shown = converse(leader, [*text.splitlines(), "exit()"])
            process.wait(LIMIT)
        finally:
            sessions.end(process)
            os.close(leader)
    return shown


def converse(terminal: int, lines: list[str]) -> str:
    """Give a line at each prompt, and read on to the end."""
    shown, answered, end = "", 0, time.monotonic() + LIMIT
    while time.monotonic() < end:
        if not select.select([terminal], [], [], 1.0)[0]:
            continue
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the terminal's other end is closed: the interpreter has ended
            return shown
        shown += data.decode(errors="replace")
        if lines and shown[answered:].endswith((">>> ", "... ")):
            answered = len(shown)
            os.write(terminal, lines.pop(0).encode() + b"\n")
    raise AssertionError(f"the interpreter did not end:\n{shown[-3000:]}")
