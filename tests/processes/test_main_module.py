"""``__main__`` in a spawned or served child, however the program was started."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes.waiting import LIMIT

METHODS = ["fork", "spawn", "forkserver"]

# No blank line inside a block, one after each: this is also typed into a REPL.
DEFINITIONS = """\
import sys
import millpond
OFFSET = 100
class Point:
    def __init__(self, x):
        self.x = x
    def moved(self):
        return Point(self.x + OFFSET)

def add(x):
    return x + OFFSET

def runs(target, *args):
    process = millpond.get_context({method!r}).Process(target=target, args=args)
    process.start()
    return process.result(30)

"""
WORK = """\
print("answer", runs(add, 1), runs(lambda: add(2)), runs(Point(3).moved).x)
"""
ANSWER = "answer 101 102 103"


def run(*arguments: str, text: str = "") -> tuple[str, str, int]:
    done = subprocess.run(
        [sys.executable, *arguments], input=text, capture_output=True, text=True, timeout=LIMIT
    )
    return done.stdout.strip(), done.stderr.strip(), done.returncode


@pytest.mark.parametrize("method", METHODS)
def test_dash_c(method: str) -> None:
    assert run("-c", DEFINITIONS.format(method=method) + WORK) == (ANSWER, "", 0)


@pytest.mark.parametrize("method", METHODS)
def test_standard_input(method: str) -> None:
    assert run("-", text=DEFINITIONS.format(method=method) + WORK) == (ANSWER, "", 0)


@pytest.mark.parametrize("method", METHODS)
def test_a_guarded_script(method: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    guard = 'if __name__ == "__main__":\n    '
    script.write_text(DEFINITIONS.format(method=method) + guard + WORK)
    assert run(str(script)) == (ANSWER, "", 0)


@pytest.mark.parametrize("method", METHODS)
def test_a_module_run_by_name(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    guard = 'if __name__ == "__main__":\n    '
    (tmp_path / "by_name.py").write_text(DEFINITIONS.format(method=method) + guard + WORK)
    assert run("-m", "by_name") == (ANSWER, "", 0)


@pytest.mark.parametrize("method", METHODS)
def test_a_package_run_by_name(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ``__main__`` is imported by nobody, so what it defines goes by value."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(DEFINITIONS.format(method=method) + WORK)
    assert run("-m", "package") == (ANSWER, "", 0)


@pytest.mark.parametrize("method", METHODS)
def test_a_compiled_script(method: str, tmp_path: Path) -> None:
    import py_compile

    script = tmp_path / "script.py"
    guard = 'if __name__ == "__main__":\n    '
    script.write_text(DEFINITIONS.format(method=method) + guard + WORK)
    compiled = py_compile.compile(str(script), str(tmp_path / "compiled.pyc"))
    script.unlink()
    assert run(str(compiled)) == (ANSWER, "", 0)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_script_without_a_guard_is_a_runtime_error(method: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, millpond\n"
        "print('begun', flush=True)\n"
        f"process = millpond.get_context({method!r}).Process(target=print, args=('ran',))\n"
        "process.start()\nprocess.join()\nsys.exit(process.exitcode)\n"
    )
    out, err, code = run(str(script))
    assert out.split() == ["begun", "begun"]  # once here, once in the child, and no loop
    assert "RuntimeError" in err
    assert code == 1


def test_functions_share_the_module_s_globals(tmp_path: Path) -> None:
    """multiprocessing runs the main file in one dict and lets ``__main__`` be a copy of it."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, millpond\n"
        "VALUE = 1\n"
        "def set_value(): sys.modules['__main__'].VALUE = 2; return VALUE\n"
        "if __name__ == '__main__':\n"
        "    process = millpond.get_context('spawn').Process(target=set_value)\n"
        "    process.start(); print(process.result())\n"
    )
    assert run(str(script)) == ("2", "", 0)


def test_an_unguarded_choice_of_the_start_method_may_be_met_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import millpond\n"
        "millpond.set_start_method('spawn')\n"
        "def add(x): return x + 1\n"
        "if __name__ == '__main__':\n"
        "    process = millpond.Process(target=add, args=(1,))\n"
        "    process.start(); print(process.result())\n"
    )
    assert run(str(script)) == ("2", "", 0)


def test_a_child_that_imported_main_sends_it_by_value_in_its_turn(tmp_path: Path) -> None:
    """There ``__main__`` is called ``__mp_main__``; a fork server of our own choice has neither."""
    script = tmp_path / "script.py"
    script.write_text(
        "import millpond\n"
        "from millpond.backends.processes.starting.nursery import fork_server\n"
        "from millpond.backends.processes.starting.terms import terms_of\n"
        "class Point:\n    def __init__(self, x): self.x = x\n"
        "def inner(point): return Point(point.x + OFFSET)\n"
        "OFFSET = 1\n"
        "def outer():\n"
        "    process = millpond.get_context('fork').Process(target=inner, args=(Point(1),))\n"
        "    terms_of(process).server = fork_server()\n"
        "    process.start()\n"
        "    return process.result(30)\n"
        "if __name__ == '__main__':\n"
        "    process = millpond.get_context('spawn').Process(target=outer)\n"
        "    process.start()\n"
        "    point = process.result()\n"
        "    print(type(point) is Point, point.x)\n"
    )
    assert run(str(script)) == ("True 2", "", 0)


TYPED = """
import functools, millpond
lock = millpond.Lock()
def plus(x): return x + 1

@functools.cache
def cached(x): return x * 100

def locked(x):
    with lock: return x

pool = millpond.Pool(2, start_method="fork")
print(pool.map(plus, range(3)), pool.map(cached, range(3)), pool.map(locked, range(3)))
def plus(x): return x + 10

print(pool.map(plus, range(3)), pool.apply(plus, (5,)), list(pool.imap(plus, range(3))))
def twice(x): return 2 * plus(x)

print(pool.map(twice, range(3)))
def plus(x): return x + 20

print(pool.map(twice, range(3)), pool.map(plus, range(3), seed=1))
pool.terminate()
"""


def test_a_function_defined_anew_after_a_fork_is_the_one_that_runs() -> None:
    """Where main has no file, as at a prompt; what has not changed is what the workers inherited."""
    done = subprocess.run(
        [sys.executable, "-i"],
        input=TYPED,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "[1, 2, 3] [0, 100, 200] [0, 1, 2]",
        "[10, 11, 12] 15 [10, 11, 12]",
        "[20, 22, 24]",
        "[40, 42, 44] [20, 21, 22]",
    ]


@pytest.mark.parametrize("stop", ["MainReached", "SystemExit", "ValueError"])
def test_what_was_defined_when_a_pool_was_reached_is_used(tmp_path: Path, stop: str) -> None:
    """MainReached ends the import quietly; anything else that is raised there ends the child."""
    script = tmp_path / "script.py"
    script.write_text(
        "import builtins, millpond\n"
        "from millpond.backends.processes.starting import main_module\n"
        "def add(x): return x + 1\n"
        "if main_module.importing():\n"
        f"    raise getattr(builtins, {stop!r}, main_module.MainReached)\n"
        "process = millpond.get_context('spawn').Process(target=add, args=(1,))\n"
        "process.start()\n"
        "print(process.exception() or process.result())\n"
    )
    out, _, code = run(str(script))
    assert code == 0
    assert (out == "2") is (stop == "MainReached")


@pytest.mark.parametrize("method", METHODS)
def test_typed_into_a_repl(method: str) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-i", "-q"],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "PYTHON_BASIC_REPL": "1", "TERM": "dumb"},
    ) as repl:  # fmt: skip
        os.close(theirs)
        for line in (DEFINITIONS.format(method=method) + WORK + "exit()\n").splitlines(True):
            os.write(ours, line.encode())
        shown = b""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the terminal's other side is closed
                break
        assert repl.wait(LIMIT) == 0
    os.close(ours)
    assert ANSWER.encode() in shown, shown.decode()
    assert b"Traceback" not in shown


CLASSES = """
import millpond

class Point:
    def __init__(self, x):
        self.x = x

class Refused(Exception):
    pass

def double(point):
    return Point(2 * point.x)

def refuse(point):
    raise Refused(point.x)

if __name__ == "__main__":
    with millpond.Pool(2, start_method={method!r}) as pool:
        got = pool.map(double, [Point(1), Point(2)])
        print([p.x for p in got], {{type(p) is Point for p in got}})
        try:
            pool.apply(refuse, (Point(3),))
        except Refused as error:
            print(error)
    process = millpond.get_context({method!r}).Process(target=double, args=(Point(4),))
    process.start()
    print(type(process.result(30)) is Point)
"""
WAYS = {
    "by name": ["-m", "way"],
    "a folder": ["folder"],
    "an archive": ["archive.pyz"],
    "run_path": ["-c", "import runpy, multiprocessing; runpy.run_path('way.py', run_name='__main__')"],
    "run_module": ["-c", "import runpy, multiprocessing; runpy.run_module('way', run_name='__main__')"],
    "run_module as main": [
        "-c",
        "import runpy; runpy.run_module('way', run_name='__main__', alter_sys=True)",
    ],
    # As coverage does it.
    "a runner": [
        "-c",
        ("import sys, types, multiprocessing; m = sys.modules['__main__'] = types.ModuleType('__main__');"
        "m.__file__ = 'way.py'; exec(compile(open('way.py').read(), 'way.py', 'exec'), vars(m))"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("way", WAYS)
def test_objects_of_main_s_classes_return(
    way: str, method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zipapp

    monkeypatch.chdir(tmp_path)
    text = CLASSES.format(method=method)
    (tmp_path / "way.py").write_text(text)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "__main__.py").write_text(text)
    zipapp.create_archive("folder", "archive.pyz")
    assert run(*WAYS[way]) == ("[2, 4] {True}\n3\nTrue", "", 0)
