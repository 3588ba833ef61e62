"""Where in a value it is that pickle refuses, and whose words are kept."""

from __future__ import annotations

import functools
import io
import pickle
import threading
import time
from collections import OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from typing import Any

import pytest

from millpond.worker.by_value import dumps
from millpond.worker.refusals import argument_name, explained, way

LOCK = threading.Lock()


def dump(value: object) -> bytes:
    return dumps(value, main_importable=True)


def reason(value: object) -> Exception:
    with pytest.raises(Exception) as found:
        dump(value)
    return found.value


def steps(value: object) -> str:
    return way(value, reason(value), dump)[0]


@dataclass
class Node:
    lock: Any = None
    rest: Any = field(default_factory=list)


class Slots:
    __slots__ = ("lock", "other")

    def __init__(self) -> None:
        self.lock = LOCK


class Label:
    def __init__(self) -> None:
        self.lock = LOCK

    def __repr__(self) -> str:
        return "<label>"


class Bag(dict[Any, Any]):
    pass


class Selective:
    def __init__(self) -> None:
        self.lock = LOCK
        self.kept = [1, LOCK]

    def __getstate__(self) -> Any:
        return {"kept": self.kept}


class Stated:
    def __getstate__(self) -> Any:
        return ["no dict", LOCK]


class Made:
    def __reduce__(self) -> Any:
        return Made, (1, LOCK)


class Method:
    def __init__(self) -> None:
        self.lock = LOCK

    def run(self) -> None: ...


Point = namedtuple("Point", "x y")  # noqa: PYI024


def iter_of_nothing() -> Any:
    yield


def with_closure() -> Any:
    held = Node(LOCK)
    return lambda: held


def with_default() -> Any:
    return lambda x=LOCK: x


def bag() -> Bag:
    made = Bag(a=1)
    made.lock = LOCK  # type: ignore[attr-defined]
    return made


def cyclic() -> Node:
    node = Node(rest=[1])
    node.rest += [node, Node(LOCK)]
    return node


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (LOCK, ""),
        ([1, 2, LOCK], "[2]"),
        ((1, [LOCK]), "[1][0]"),
        ({"a b": LOCK}, "['a b']"),
        ({1: {"x": LOCK}}, "[1]['x']"),
        ({Label(): 1}, ", its key <label>.lock"),
        ({"k": {Label()}}, "['k'], its element <label>.lock"),
        (deque([1, LOCK]), "[1]"),
        (OrderedDict(a=LOCK), "['a']"),
        (defaultdict(list, a=[LOCK]), "['a'][0]"),
        (Point(1, LOCK), ".y"),
        (Node(LOCK), ".lock"),
        (Node(rest=[Node(), Node(LOCK)]), ".rest[1].lock"),
        (Slots(), ".lock"),
        (bag(), ".lock"),
        (Selective(), ".kept[1]"),
        (Stated(), ", its state[1]"),
        (Made(), ", argument 2 of its constructor"),
        (Method().run, ".__self__.lock"),
        (LOCK.acquire, ".__self__"),
        (functools.partial(print, LOCK), ".args[0]"),
        (functools.partial(print, sep=LOCK), ".keywords['sep']"),
        (functools.partial(LOCK.acquire), ".func.__self__"),
        (with_closure(), ", its variable 'held'.lock"),
        (with_default(), ", its defaults[0]"),
        (ValueError("x", LOCK), ".args[1]"),
        (cyclic(), ".rest[2].lock"),
        (iter_of_nothing(), ""),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_way(value: Any, want: str) -> None:
    assert steps(value) == want


def test_the_text_is_that_of_what_is_to_blame_and_the_class_that_of_the_refusal() -> None:
    function = with_closure()
    refusal = reason(function)
    found = explained(refusal, "function 'f'", function, dump)
    assert type(found) is type(refusal) is not TypeError
    assert str(found) == (
        "function 'f', its variable 'held'.lock: cannot pickle '_thread.lock' object"
    )
    assert found.__traceback__ is refusal.__traceback__


def test_a_whole_that_is_to_blame_itself_is_named_only_if_that_says_something() -> None:
    refusal = reason(LOCK)
    assert explained(refusal, "result", LOCK, dump, bare=False) is refusal
    assert str(explained(refusal, "argument 1", LOCK, dump, more=" of task 3")) == (
        "argument 1 of task 3: cannot pickle '_thread.lock' object"
    )


class Moody:
    """Refuses the first time only."""

    times = 0

    def __reduce__(self) -> Any:
        self.times += 1
        if self.times == 1:
            raise TypeError("not now")
        return Moody, ()


class Own(Exception):
    pass


class Stubborn:
    def __reduce__(self) -> Any:
        raise Own("never")


def test_what_is_not_pickle_s_own_refusal_is_left_alone() -> None:
    refusal = reason(Stubborn())
    assert type(refusal) is Own
    assert explained(refusal, "argument 1", Stubborn(), dump) is refusal


def test_what_is_not_refused_again_is_left_alone() -> None:
    moody = Moody()
    with pytest.raises(TypeError) as found:
        pickle.dumps(moody)
    assert explained(found.value, "argument 1", moody, pickle.dumps) is found.value


def test_control_characters_in_names_are_escaped() -> None:
    value = Node()
    vars(value)["\x1b[2J"] = LOCK
    assert "\x1b" not in str(explained(reason(value), "result", value, dump))


def test_a_repr_that_fails_stops_nothing() -> None:
    class Key:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    assert ".rest[<Key instance at" in steps(Node(rest={Key(): LOCK}))


def test_the_search_is_bounded_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock is a tenth of a second here; what is known by then is told."""
    now = [0.0]

    def clock() -> float:
        now[0] += 0.1
        return now[0]

    monkeypatch.setattr(time, "monotonic", clock)
    value = [Node(rest=[*([Node()] * 50), LOCK])]
    assert steps(value) == "[0].rest"
    monkeypatch.setattr(time, "monotonic", time.perf_counter)
    assert steps(value) == "[0].rest[50]"


def test_the_search_is_bounded_in_depth() -> None:
    value: Any = LOCK
    for _ in range(100):
        value = [value]
    assert steps(value) == "[0]" * 32


def f(a: Any, /, b: Any, *rest: Any, key: Any = None) -> None: ...


@pytest.mark.parametrize(
    ("function", "at", "want"),
    [
        (f, 0, "argument 'a'"),
        (f, 1, "argument 'b'"),
        (f, 2, "argument 'rest'[0]"),
        (f, 4, "argument 'rest'[2]"),
        (f, "key", "argument 'key'"),
        (functools.partial(f, 1), 0, "argument 'b'"),
        (Method().run, 0, "argument 1"),
        (dict.fromkeys, 5, "argument 6"),
        (None, 0, "argument 1"),
        (io.StringIO, 1, "argument 'newline'"),
    ],
)
def test_the_name_of_an_argument(function: Any, at: Any, want: str) -> None:
    assert argument_name(function, at) == want
