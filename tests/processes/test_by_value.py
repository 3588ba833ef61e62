"""By reference where the other process can import, by value where it cannot, into one namespace."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from millpond.worker import by_value
from tests.processes import work


def test_what_can_be_imported_goes_by_reference() -> None:
    for importable in (True, False):
        data = by_value.dumps(work.double, main_importable=importable)
        assert data == pickle.dumps(work.double, 5)
        assert by_value.loads(data) is work.double


def test_plain_pickle_needs_no_cloudpickle() -> None:
    code = (
        "import sys; from millpond.worker import by_value; "
        "by_value.dumps([len, 1], main_importable=False); print('cloudpickle' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert answer.stdout == "False\n"


def test_a_lambda_goes_by_value() -> None:
    seven = 7
    function = by_value.loads(by_value.dumps(lambda x: x + seven, main_importable=True))
    assert function(1) == 8


def test_named_objects_are_not_pickled() -> None:
    lock = threading.Lock()
    data = by_value.dumps([lock, lambda: lock], main_importable=True, names={id(lock): "lock"})
    there = threading.Lock()
    first, function = by_value.loads(data, names={"lock": there})
    assert first is there
    assert function() is there


def test_what_neither_way_can_send_raises_what_pickle_raised() -> None:
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object"):
        by_value.dumps([threading.Lock()], main_importable=True)


def test_the_second_attempt_is_announced() -> None:
    calls: list[int] = []
    by_value.dumps([1], main_importable=True, again=lambda: calls.append(1))
    assert calls == []
    by_value.dumps(lambda: 1, main_importable=True, again=lambda: calls.append(1))
    assert calls == [1]


WORKER = """
import pickle, sys
from millpond.worker import by_value
def read():
    size = int.from_bytes(sys.stdin.buffer.read(4), "little")
    return sys.stdin.buffer.read(size)
while data := read():
    function, args = by_value.loads(data)
    answer = by_value.dumps(function(*args), main_importable=True)
    sys.stdout.buffer.write(len(answer).to_bytes(4, "little") + answer)
    sys.stdout.buffer.flush()
"""

MAIN = """
import dataclasses, enum, functools, math, pickle, subprocess, sys
from millpond.worker import by_value
worker = subprocess.Popen([sys.executable, "-c", sys.argv[1]],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)
def call(function, *args):
    data = by_value.dumps((function, args), main_importable=False)
    worker.stdin.write(len(data).to_bytes(4, "little") + data)
    worker.stdin.flush()
    size = int.from_bytes(worker.stdout.read(4), "little")
    return pickle.loads(worker.stdout.read(size))

def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)
assert call(fib, 10) == 55 and call(even, 10) is True

# one namespace: what one task sets the next one sees
counter, seen = 0, {}
def count():
    global counter
    counter += 1
    seen[counter] = True
    return counter, sorted(seen)
def peek(): return counter, sorted(seen)
assert call(count) == (1, [1]) and call(count) == (2, [1, 2]) and call(peek) == (2, [1, 2])

# what the worker has set is not overwritten, what was left alone follows the sender
setting = "sender's"
def initialize():
    global setting
    setting = "worker's"
def get(): return setting
assert call(get) == "sender's"
setting = "sender's second"
assert call(get) == "sender's second"
call(initialize)
setting = "sender's third"
assert call(get) == "worker's"
seen = {9: True}
assert call(peek) == (2, [9])

# a function defined anew is the new one, called directly or by another
def helper(): return 1
def uses(): return helper()
assert call(uses) == 1
def helper(): return 2
assert call(uses) == 2 and call(helper) == 2

# classes, and their instances on the way back
class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return type(self) is type(other) and self.x == other.x
    __hash__ = None
    def twice(self): return Point(self.x * 2)
class Far(Point):
    def twice(self): return super().twice()
class Color(enum.Enum):
    RED = 1
@dataclasses.dataclass
class Record:
    x: int
class Refused(Exception): pass
def twice(p): return p.twice()
def same(x): return x
assert call(twice, Point(3)) == Point(6) and call(twice, Far(3)) == Point(6)
assert call(same, Color.RED) is Color.RED and call(same, Record(4)) == Record(4)
assert call(same, Point) is Point and call(same, fib) is fib
assert type(call(same, Refused("no"))) is Refused
assert call(functools.partial(twice, Point(1))) == Point(2)
assert call(Point(5).twice) == Point(10)
assert call(lambda x: math.sqrt(x) + counter, 4) == 4.0
def scope():
    captured = [1]
    class Inner:
        def get(self): return captured, fib(5)
    return Inner()
assert call(lambda inner: inner.get(), scope()) == ([1], 5)
print("ok")
"""


def test_one_main_namespace(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(MAIN)
    answer = subprocess.run(
        [sys.executable, str(script), WORKER], capture_output=True, text=True, timeout=60
    )
    assert (answer.stdout, answer.stderr) == ("ok\n", "")


def test_a_class_that_travels_keeps_what_the_tasks_of_a_call_set_in_it() -> None:
    program = """
import millpond

class Model:
    loaded = 0

    def __init__(self):
        self.steps = 0

    def run(self, x):
        self.steps += 1
        type(self).loaded += 1
        return self.steps, type(self).loaded

with millpond.Pool(1, start_method="forkserver") as pool:
    assert pool.map(Model().run, range(4), 1) == [(1, n) for n in (1, 2, 3, 4)]
    assert pool.map(Model().run, range(4), 2) == [(1, 1), (2, 2), (1, 3), (2, 4)]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
