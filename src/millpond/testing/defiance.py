"""Exceptions that do not let themselves be touched: each is its task's error and costs nothing else."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from millpond import errors
from millpond.testing import defiant, tasks
from millpond.testing.suite import SOON, Suite

if TYPE_CHECKING:
    from collections.abc import Callable

    from millpond import Pool

STAND_INS: Final = (errors.TaskError, errors.TaskAborted)


def caught(act: Callable[[], object]) -> BaseException:
    """What it raises; ``pytest.raises`` would look at that."""
    try:
        value = act()
    except BaseException as error:
        return error
    raise AssertionError(f"no error, but {value!r}")


def check(error: BaseException, kind: str) -> None:
    """It is the one that was raised, or a stand-in that names it."""
    if type(error) is not defiant.KINDS[kind]:
        assert type(error).__mro__[0] is not errors.WorkerDied
        assert issubclass(type(error), STAND_INS), f"{kind}: a {type(error)}"
        assert kind in str(error), str(error)


def each_call(pool: Pool, kind: str) -> dict[str, Callable[[], Any]]:
    """Ways to have it raised by a task."""
    odd = partial(defiant.throw_odd, kind)
    return {
        "apply": lambda: pool.apply(defiant.throw, (kind,)),
        "apply with retries": lambda: pool.apply(defiant.throw, (kind,), retries=1),
        "map": lambda: pool.map(odd, range(4)),
        "map with on_error": lambda: pool.map(odd, range(4), on_error="raise"),
        "starmap": lambda: pool.starmap(defiant.throw_odd, [(kind, x) for x in range(4)]),
        "imap": lambda: list(pool.imap(odd, range(4))),
        "imap_unordered": lambda: list(pool.imap_unordered(odd, range(4))),
        "an executor": lambda: pool.executor.submit(defiant.throw, kind).result(),
    }


class DefiantCoroutineTests(Suite):
    """For backends that run coroutines beside the caller."""

    @pytest.mark.parametrize("kind", defiant.KINDS)
    def test_a_coroutine_s_exception_that_cannot_be_touched(self, kind: str) -> None:
        with self.make_pool(2) as pool:
            check(caught(lambda: pool.map(partial(defiant.throw_later, kind), range(4))), kind)
            assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
            assert pool.info()["lost"] == 0


class DefiantErrorTests(Suite):
    """For any backend."""

    @pytest.mark.parametrize("kind", defiant.KINDS)
    def test_an_exception_that_cannot_be_touched_is_its_task_s(self, kind: str) -> None:
        with self.make_pool(2) as pool:
            for act in each_call(pool, kind).values():
                check(caught(act), kind)
            assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]
            assert pool.info()["lost"] == 0

    @pytest.mark.parametrize("kind", defiant.KINDS)
    def test_a_callback_gets_it(self, kind: str) -> None:
        with self.make_pool(2) as pool:
            told: list[BaseException] = []
            result = pool.apply_async(defiant.throw, (kind,), error_callback=told.append)
            result.wait(SOON)
            (error,) = told
            check(error, kind)

    @pytest.mark.parametrize("kind", defiant.KINDS)
    def test_input_that_raises_it_ends_the_call(self, kind: str) -> None:
        with self.make_pool(2) as pool:
            for method in (pool.map, pool.imap, pool.imap_unordered):
                act = partial(method, tasks.square, defiant.inputs(kind))
                error = caught(lambda act=act: list(act()))  # type: ignore[misc]
                assert type(error) is defiant.KINDS[kind]
            assert pool.map(tasks.square, range(4)) == [0, 1, 4, 9]

    @pytest.mark.parametrize("kind", [kind for kind in defiant.KINDS if kind != "Exits"])
    def test_an_initializer_that_raises_it_is_reported(self, kind: str) -> None:
        pool = self.make_pool(1, initializer=defiant.begin, initargs=(kind,))
        try:
            error = caught(lambda: pool.apply_async(tasks.square, (3,)).get(SOON))
            assert type(error) is errors.InitializerError
            assert kind in str(error)
        finally:
            pool.terminate()
            pool.join()
