"""The user's code, at any bytecode of the engine, uses the pool: it is answered or refused, and others go on.

See barging.py; it runs in a process of its own, so that a hang shows every thread's stack. Strides are prime, so
that other places are met whenever the code changes.
"""

from __future__ import annotations

import gc
import threading
from concurrent.futures import CancelledError
from typing import Any, cast

import pytest

from millpond import Pool
from millpond.backends.processes import packing
from millpond.testing import tasks
from millpond.worker import codec
from tests.engine.sweeps import places

SOON = 20.0

ACTS = [
    "apply", "map", "imap", "apply_async", "callback", "future", "large", "info", "terminate", "close",
]  # fmt: skip


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("scenario", ["apply", "map_hooks"])
def test_code_of_the_user_s_anywhere(scenario: str, act: str) -> None:
    assert places("barging", "fork", scenario, act, 389) > 20


@pytest.mark.parametrize("act", ["apply", "apply_async", "terminate"])
@pytest.mark.parametrize("scenario", ["callback", "imap", "many", "cancel"])
def test_code_of_the_user_s_among_calls(scenario: str, act: str) -> None:
    assert places("barging", "fork", scenario, act, 389) > 20


@pytest.mark.parametrize(
    ("backend", "scenario", "act"),
    [
        ("threads", "map_hooks", "apply"), ("threads", "imap", "apply_async"), ("threads", "imap", "terminate"),
        ("inline", "apply", "apply"), ("inline", "map_hooks", "apply_async"), ("inline", "imap", "terminate"),
    ],
)  # fmt: skip
def test_code_of_the_user_s_on_other_backends(backend: str, scenario: str, act: str) -> None:
    assert places("barging", backend, scenario, act, 89) > 20


# Pickling hooks -----------------------------------------------------------------------------------


class Asking:
    """An argument whose pickling asks the pool for something, and takes a refusal."""

    pool: Any
    got: list[Any]

    def __init__(self, ask: Any, x: int) -> None:
        self.ask = ask
        self.x = x

    def __reduce__(self) -> Any:
        try:
            self.got.append(self.ask(self.pool))
        except RuntimeError:
            self.got.append(RuntimeError)  # the class: a traceback would hold the driver's frames
        return int, (self.x,)


def applying(pool: Pool) -> int:
    return pool.apply(tasks.square, (4,))


def mapping(pool: Pool) -> list[int]:
    return pool.map(tasks.square, range(5), 1)


def iterating(pool: Pool) -> list[int]:
    return list(pool.imap(tasks.square, iter(range(5))))


def called_back(pool: Pool) -> int:
    return pool.apply_async(tasks.square, (4,), callback=lambda _: None).get(SOON)


def joining(pool: Pool) -> None:
    pool.close()
    pool.join()


ASKING = {applying: 16, mapping: [0, 1, 4, 9, 16], iterating: [0, 1, 4, 9, 16], called_back: 16}


@pytest.mark.parametrize("ask", ASKING)
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"maxtasksperchild": 1}], ids=["", "recycled"])
def test_a_pickling_hook_uses_the_pool(workers: int, ask: Any, options: dict[str, Any]) -> None:
    with Pool(workers, start_method="fork", **options) as pool:
        pool.map(tasks.square, range(30))
        Asking.pool, Asking.got = pool, []
        innocents = [pool.apply_async(tasks.square, (x,)) for x in range(20)]
        given: list[Any] = [Asking(ask, x) for x in range(8)]
        assert pool.map_async(abs, given, 1).get(SOON) == list(range(8))
        assert [call.get(SOON) for call in innocents] == [x * x for x in range(20)]
        answers = [got for got in Asking.got if got is not RuntimeError]
        assert all(got == ASKING[ask] for got in answers)
        assert len(Asking.got) == 8
        assert answers or workers < 3
        assert pool.apply(tasks.square, (7,)) == 49
        pool.terminate()
        pool.join()


def test_a_pickling_hook_waits_for_the_end_of_the_pool() -> None:
    with Pool(2, start_method="fork") as pool:
        Asking.pool, Asking.got = pool, []
        innocent = pool.apply_async(tasks.square, (3,))
        assert pool.map(abs, cast(Any, [Asking(joining, 5)])) == [5]
        assert Asking.got == [RuntimeError]
        assert innocent.get(SOON) == 9
        pool.join()


def test_a_pickling_hook_ends_the_pool() -> None:
    with Pool(2, start_method="fork") as pool:
        Asking.pool, Asking.got = pool, []
        given: list[Any] = [Asking(Pool.terminate, x) for x in range(5)]
        with pytest.raises(CancelledError):
            pool.map(abs, given, 1)
        pool.join()


# Garbage collection -------------------------------------------------------------------------------


class Dropped:
    """Garbage in a cycle, which uses the pool when it is collected."""

    def __init__(self, pool: Pool, got: list[Any]) -> None:
        self.me = self
        self.pool = pool
        self.got = got

    def __del__(self) -> None:
        try:
            self.got.append(self.pool.apply(tasks.square, (3,)))
        except RuntimeError:
            self.got.append(RuntimeError)  # the class: a traceback would hold the driver's frames


@pytest.mark.parametrize("backend", ["processes", "threads"])
def test_garbage_that_uses_the_pool_is_collected_all_the_time(backend: str) -> None:
    before = gc.get_threshold()
    got: list[Any] = []
    with Pool(2, backend=backend) as pool:
        gc.set_threshold(20, 2, 2)
        try:

            def go() -> None:
                for x in range(60):
                    Dropped(pool, got)
                    assert pool.apply(tasks.square, (x,)) == x * x
                    assert pool.map_async(tasks.square, range(3)).get(SOON) == [0, 1, 4]

            other = threading.Thread(target=go)
            other.start()
            go()
            other.join(SOON)
            assert not other.is_alive()
        finally:
            gc.set_threshold(*before)
        gc.collect()
        assert len(got) == 120
        assert all(answer == 9 for answer in got if answer is not RuntimeError)
        pool.terminate()
        pool.join()


# What encoding raises -----------------------------------------------------------------------------


class Leaving:
    """Its pickling asks the program to end."""

    def __reduce__(self) -> Any:
        raise SystemExit(3)


def test_an_exit_amid_pickling_is_that_task_s_error() -> None:
    with Pool(2, start_method="fork") as pool:
        got = pool.map(abs, cast(Any, [-1, Leaving(), -3]), 1, on_error="return")
        assert got[::2] == [1, 3]
        assert type(got[1]).__name__ == "TaskAborted"
        assert pool.apply(abs, (-3,)) == 3
        pool.terminate()
        pool.join()


@pytest.mark.parametrize("kind", [MemoryError, ValueError])
def test_what_encoding_a_chunk_raises_is_its_tasks_error(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is: the engine goes on, and so do the calls of others."""
    encode = codec.encode_chunk

    def fail(parts: Any, parcels: Any = None) -> Any:
        if any(part.plain is not None and "bad" in part.plain for part in parts):
            raise kind("in the test")
        return encode(parts, parcels)

    monkeypatch.setattr(packing, "encode_chunk", fail)
    with Pool(2, start_method="fork") as pool:
        innocents = [pool.apply_async(tasks.square, (x,)) for x in range(20)]
        for _ in range(2):
            with pytest.raises(kind, match="in the test"):
                pool.map(len, ["good", "bad"], 2)
        assert [call.get(SOON) for call in innocents] == [x * x for x in range(20)]
        assert pool.map(len, ["good"]) == [4]
        pool.terminate()
        pool.join()
