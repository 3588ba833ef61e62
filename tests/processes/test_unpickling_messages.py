"""What an error of unpickling says: what it was that did not unpickle, and no more than is known."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from millpond import Pool, Process, errors
from millpond.worker.refusals import absence

MISSING = "Answer.__init__() missing 1 required positional argument: 'text'"
DEEP = "RecursionError: maximum recursion depth exceeded"
IN_THE_WORKER = "raised while an argument of the task was unpickled in the worker"


class Proxy:
    """Recurses while it is unpickled, before it has its attributes."""

    def __init__(self) -> None:
        self.inner = {"step": 1}

    def __getattr__(self, name: str) -> Any:
        return self.inner[name]

    def run(self, x: int) -> Any:
        return x + self.step


class Answer(Exception):
    """Its args are not what it is made from."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


class Unmarked(Exception):
    """Takes no attributes."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


class Thrower:
    """Unpickling it raises the other."""

    def __reduce__(self) -> Any:
        return throw, ()


def throw() -> None:
    raise Unmarked("not here")


def answer_to_two(x: int) -> Any:
    return Answer(x, "fine") if x == 2 else x


def thrower(_: Any = None) -> Thrower:
    return Thrower()


def process_result(_: Pool) -> Any:
    process = Process(target=answer_to_two, args=(2,))
    process.start()
    return process.result()


CASES: dict[str, tuple[Callable[[Pool], Any], type[BaseException], str]] = {
    "a function": (
        lambda pool: pool.map(Proxy().run, [1]),
        errors.TaskError,
        f"the worker cannot load Proxy.run: {DEEP}. This was raised while the worker unpickled it.",
    ),
    "an argument": (
        lambda pool: pool.apply(print, (Answer(1, "fine"),)),
        TypeError,
        f"{MISSING}\n{IN_THE_WORKER}",
    ),
    "an argument of a map": (
        lambda pool: pool.map(print, [Answer(1, "fine")]),
        TypeError,
        f"{MISSING}\n{IN_THE_WORKER}",
    ),
    "a result": (
        lambda pool: pool.apply(answer_to_two, (2,)),
        TypeError,
        f"{MISSING}\nraised while the result of answer_to_two was unpickled",
    ),
    "a result of map": (
        lambda pool: pool.map(answer_to_two, [1, 2, 3]),
        TypeError,
        f"{MISSING}\nraised while the result of task 1 of answer_to_two was unpickled",
    ),
    "a result of imap": (
        lambda pool: list(pool.imap(answer_to_two, [1, 2, 3])),
        TypeError,
        f"{MISSING}\nraised while the result of task 1 of answer_to_two was unpickled",
    ),
    "a result of imap_unordered": (
        lambda pool: list(pool.imap_unordered(answer_to_two, [1, 2, 3])),
        TypeError,
        f"{MISSING}\nraised while the result of task 1 of answer_to_two was unpickled",
    ),
    "a result of a process": (
        process_result,
        TypeError,
        f"{MISSING}\nraised while the result of the process was unpickled",
    ),
    "a result whose error takes no attributes": (
        lambda pool: pool.apply(thrower),
        Unmarked,
        "not here\nraised while the result of thrower was unpickled",
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_what_does_not_unpickle_is_named(what: str) -> None:
    provoke, kind, text = CASES[what]
    with Pool(1, start_method="fork") as pool:
        with pytest.raises(kind) as found:
            provoke(pool)
        assert "\n".join([str(found.value), *getattr(found.value, "__notes__", [])]) == text
        assert pool.apply(abs, (-1,)) == 1


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import nowhere_at_all", "sys.path"),
        ("raise ValueError('not today')", "when the worker imports it"),
        ("def other(x): return x", "has no such name"),
    ],
)
def test_the_hint_is_what_is_known(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "changes_its_mind.py"
    module.write_text("import threading\nLOCK = threading.Lock()\ndef f(x): return LOCK and x\n")
    monkeypatch.syspath_prepend(tmp_path)
    import changes_its_mind  # type: ignore[import-not-found]

    try:
        module.write_text(source)
        with Pool(1, start_method="spawn") as pool:
            with pytest.raises(errors.TaskError, match="the worker cannot load f") as found:
                pool.map(changes_its_mind.f, [1])
            assert said in str(found.value)
    finally:
        del sys.modules["changes_its_mind"]


def test_an_attribute_error_of_its_own_is_no_missing_name() -> None:
    said = absence("f", "AttributeError", "'Proxy' object has no attribute 'inner'", "", "")
    assert "unpickled it" in said
