"""Small random programs over a pool, and what can be seen of them from outside.

Rules: a program is data, so that Hypothesis can shrink it; what it observes is what both pools must
agree on, whatever their timing (values, orders where there is one, types and arguments of errors).
Left out: what follows an error inside an imap chunk of several tasks (millpond goes on), results
that were pending at terminate(), tasks that exit (multiprocessing hangs on both).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

LIMIT = 10.0


def square(x: int) -> int:
    return x * x


def picky(x: int) -> int:
    if x % 5 == 3:
        raise ValueError("picky", x)
    return x


def lookup(x: int) -> str:
    return {0: "zero", 1: "one", 2: "two"}[x]


def two(a: int, b: int = 7, *, c: int = 9) -> tuple[int, int, int]:
    if a == 4:
        raise KeyError(a)
    return a, b, c


def opaque(x: int) -> Any:
    return (lambda: x) if x == 2 else x


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "square": square, "picky": picky, "lookup": lookup, "two": two, "opaque": opaque, "str": str,
}  # fmt: skip
SAFE = ("square", "str")


@dataclass(frozen=True)
class Input:
    """What is given to a map, in one of its shapes."""

    values: tuple[int, ...]
    shape: str

    def make(self, star: bool) -> Any:
        items: list[Any] = [(v,) if i % 2 else (v, i) for i, v in enumerate(self.values)]
        made = items if star else list(self.values)
        match self.shape:
            case "tuple":
                return tuple(made)
            case "generator":
                return (x for x in made)
            case "failing":
                return self._failing(made)
            case "dict":
                return dict.fromkeys(made)
        return made

    @staticmethod
    def _failing(made: list[Any]) -> Iterator[Any]:
        yield from made
        raise ArithmeticError(len(made))


@dataclass(frozen=True)
class Step:
    """One thing that the program does with its pool."""

    kind: str
    func: str = "square"
    input: Input = Input((), "list")
    chunksize: int | None = None
    callback: bool = False
    take: int | None = None
    which: int = 0


_inputs = st.builds(
    Input,
    st.lists(st.integers(0, 9), max_size=12).map(tuple),
    st.sampled_from(["list", "tuple", "generator", "failing", "dict"]),
)
_functions = st.sampled_from(sorted(FUNCTIONS))
_good_inputs = _inputs.filter(lambda given: given.shape != "failing")
_chunks = st.sampled_from([None, None, 1, 2, 5, 100])


def _call(*kinds: str, **more: Any) -> st.SearchStrategy[Step]:
    options: dict[str, Any] = {"func": _functions, "input": _inputs, "chunksize": _chunks, **more}
    return st.builds(Step, kind=st.sampled_from(kinds), **options)


_STEPS = st.one_of(
    _call("apply", "map", "starmap"),
    _call("apply_async", "map_async", "starmap_async", callback=st.booleans()),
    _call("imap", "imap_unordered", chunksize=st.none()),
    _call("imap", func=st.sampled_from(SAFE)),
    _call("imap_unordered", func=st.sampled_from(SAFE), input=_good_inputs),
    _call("imap", chunksize=st.none(), take=st.integers(0, 3)),
    st.builds(Step, kind=st.sampled_from(["get", "wait", "successful"]), which=st.integers(0, 5)),
    st.builds(Step, kind=st.sampled_from(["close", "terminate", "join", "enter", "apply"])),
)
programs = st.tuples(st.integers(1, 3), st.lists(_STEPS, min_size=1, max_size=12).map(tuple))


def told(value: object) -> str:
    """A value as both pools must show it: without an object's place in memory."""
    return re.sub(r"0x[0-9a-f]+", "0x", repr(value))


def shown(error: BaseException, several: bool = False) -> tuple[str, ...]:
    """An error as both pools must show it; with several in one map, which is first is open."""
    kind = type(error).__name__
    if several or kind in {"MaybeEncodingError", "TypeError"}:
        return ("raised", "some error" if several else kind)
    return ("raised", kind, repr(error.args))


@dataclass
class Run:
    """A program on its way through one of the pools."""

    pool: Any
    seen: list[Any] = field(default_factory=list)
    called: list[list[Any]] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def run(self, steps: tuple[Step, ...]) -> list[Any]:
        for step in steps:
            try:
                self.seen.append((step.kind, self.do(step)))
            except Exception as error:
                self.seen.append((step.kind, shown(error, self.several(step))))
        self.settle()
        self.seen.append([[told(x) for x in calls] for calls in self.called])
        return self.seen

    def several(self, step: Step) -> bool:
        """Whether more than one task of the call may fail, so that the first is by timing."""
        if step.kind in {"get", "wait", "successful"} and self.results:
            step = self.steps[step.which % len(self.results)]
        return "map" in step.kind and "imap" not in step.kind and step.func not in SAFE

    def do(self, step: Step) -> Any:
        match step.kind:
            case "close" | "join":
                getattr(self.pool, step.kind)()
            case "terminate":
                self.settle()
                self.pool.terminate()
            case "enter":
                return self.pool.__enter__() is self.pool
            case "apply":
                return told(self.pool.apply(FUNCTIONS[step.func], step.input.values[:3]))
            case "map" | "starmap":
                items = step.input.make(star=step.kind == "starmap")
                method = getattr(self.pool, step.kind)
                return told(method(FUNCTIONS[step.func], items, step.chunksize))
            case "imap" | "imap_unordered":
                return self.iterate(step)
            case "get" | "wait" | "successful":
                return self.look(step)
            case _:
                self.submit(step)
        return None

    def iterate(self, step: Step) -> Any:
        method = getattr(self.pool, step.kind)
        options = {} if step.chunksize is None else {"chunksize": step.chunksize}
        results = method(FUNCTIONS[step.func], step.input.make(star=False), **options)
        got: list[Any] = []
        while step.take is None or len(got) < step.take:
            try:
                got.append(told(next(results)))
            except StopIteration:
                break
            except Exception as error:
                got.append(shown(error))
        return got if step.kind == "imap" else sorted(map(str, got))

    def submit(self, step: Step) -> None:
        calls: list[Any] = []
        hooks: dict[str, Any] = {}
        several = self.several(step)
        if step.callback:
            hooks["callback"] = calls.append
            hooks["error_callback"] = lambda error: calls.append(shown(error, several))
        method = getattr(self.pool, step.kind)
        if step.kind == "apply_async":
            made = method(FUNCTIONS[step.func], step.input.values[:3], **hooks)
        else:
            items = step.input.make(star=step.kind == "starmap_async")
            made = method(FUNCTIONS[step.func], items, chunksize=step.chunksize, **hooks)
        self.results.append(made)
        self.steps.append(step)
        self.called.append(calls)

    def look(self, step: Step) -> Any:
        if not self.results:
            return None
        result = self.results[step.which % len(self.results)]
        match step.kind:
            case "get":
                return told(result.get(LIMIT))
            case "wait":
                result.wait(LIMIT)
                return result.ready()
        result.wait(LIMIT)
        return result.successful()

    def settle(self) -> None:
        for result in self.results:
            result.wait(LIMIT)
            assert result.ready()
