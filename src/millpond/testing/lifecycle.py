"""A pool's life: constructor, close, terminate, join, with, and what is refused after the end."""

from __future__ import annotations

import itertools
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from millpond import errors
from millpond.testing import initializers, rows, tasks
from millpond.testing.suite import SOON, Suite

if TYPE_CHECKING:
    from millpond import Pool

CALLS: dict[str, Callable[[Any], Any]] = {
    "apply": lambda p: p.apply(tasks.square, (1,)),
    "apply_async": lambda p: p.apply_async(tasks.square, (1,)),
    "map": lambda p: p.map(tasks.square, [1]),
    "map_async": lambda p: p.map_async(tasks.square, [1]),
    "imap": lambda p: p.imap(tasks.square, [1]),
    "imap-chunked": lambda p: p.imap(tasks.square, [1], 2),
    "imap_unordered": lambda p: p.imap_unordered(tasks.square, [1]),
    "starmap": lambda p: p.starmap(pow, [(1, 2)]),
    "starmap_async": lambda p: p.starmap_async(pow, [(1, 2)]),
    "with": lambda p: p.__enter__(),
}


class LifecycleTests(Suite):
    """From the constructor to the end, in every order."""

    @pytest.mark.parametrize("end", ["close", "terminate"])
    @pytest.mark.parametrize("call", CALLS)
    def test_an_ended_pool_refuses_work(self, end: str, call: str) -> None:
        pool = self.make_pool(1)
        getattr(pool, end)()
        with pytest.raises(ValueError, match="Pool not running"):
            CALLS[call](pool)
        pool.terminate()
        pool.join()

    def test_leaving_the_with_block_terminates(self) -> None:
        with self.make_pool(2) as pool:
            assert pool.map(tasks.square, range(3)) == [0, 1, 4]
        with pytest.raises(ValueError, match="Pool not running"):
            pool.apply(tasks.square, (1,))
        pool.join()

    def test_with_gives_the_pool_itself(self) -> None:
        made = self.make_pool(1)
        with made as pool:
            assert pool is made

    def test_an_error_in_the_with_block_is_not_swallowed(self) -> None:
        with pytest.raises(tasks.Oops), self.make_pool(1):
            raise tasks.Oops(1)

    def test_graceful_finishes_what_was_asked_for(self) -> None:
        with self.make_pool(2, graceful=True) as pool:
            results = [pool.apply_async(tasks.sleep_a_little, (x,)) for x in range(20)]
        assert [r.get(0) for r in results] == list(range(20))
        with pytest.raises(ValueError, match="Pool not running"):
            pool.map(tasks.square, [1])

    def test_close_and_join_finish_what_was_asked_for(self) -> None:
        pool = self.make_pool(2)
        results = [pool.apply_async(tasks.sleep_a_little, (x,)) for x in range(20)]
        mapped = pool.map_async(tasks.square, range(100))
        pool.close()
        pool.join()
        assert all(r.ready() for r in results)
        assert [r.get(0) for r in results] == list(range(20))
        assert mapped.get(0) == [x * x for x in range(100)]

    def test_join_of_a_running_pool_is_a_value_error(self, pool: Pool) -> None:
        with pytest.raises(ValueError, match="still running"):
            pool.join()
        assert pool.apply(tasks.square, (2,)) == 4

    @pytest.mark.parametrize(
        "order",
        ["close close join join", "terminate terminate join join", "close terminate join",
         "terminate close join", "close join terminate join", "close join close join"],
    )  # fmt: skip
    def test_endings_may_be_repeated(self, order: str) -> None:
        pool = self.make_pool(2)
        results = [pool.apply_async(tasks.square, (x,)) for x in range(10)]
        for step in order.split():
            getattr(pool, step)()
        if order.startswith("close join"):
            assert [r.get(0) for r in results] == [x * x for x in range(10)]

    def test_a_pool_that_never_worked_ends(self) -> None:
        for end in ("close", "terminate"):
            pool = self.make_pool(2)
            getattr(pool, end)()
            pool.join()

    @pytest.mark.parametrize("processes", [0, -1])
    def test_fewer_than_one_worker_is_a_value_error(self, processes: int) -> None:
        with pytest.raises(ValueError, match="at least 1"):
            self.make_pool(processes)

    def test_bad_constructor_arguments_are_refused(self) -> None:
        with pytest.raises(TypeError, match="callable"):
            self.make_pool(1, initializer=5)
        for bad in (0, -1, 1.5, "2"):
            with pytest.raises(ValueError, match="maxtasksperchild"):
                self.make_pool(1, maxtasksperchild=bad)
        with pytest.raises(TypeError):
            self.make_pool(1, no_such_option=1)

    def test_a_pool_cannot_be_pickled(self, pool: Pool) -> None:
        with pytest.raises(NotImplementedError):
            pickle.dumps(pool)

    def test_the_states_that_programs_look_at(self) -> None:
        from millpond.pool import CLOSE, RUN, TERMINATE

        pool = self.make_pool(2)
        assert pool._state == RUN == "RUN"
        pool.close()
        assert pool._state == CLOSE == "CLOSE"
        pool.terminate()
        assert pool._state == TERMINATE == "TERMINATE"
        pool.join()

    def test_repr_and_info_say_how_it_is(self, pool: Pool) -> None:
        assert pool.map(tasks.square, range(7)) == [x * x for x in range(7)]
        assert "Pool" in repr(pool)
        assert "worker" in repr(pool)
        assert str(pool.info())
        pool.close()
        pool.join()
        assert "Pool" in repr(pool)
        assert str(pool.info())

    def test_the_initializer_runs_before_any_task(self, tmp_path: Path) -> None:
        journal = tmp_path / "journal"
        options = {"initializer": initializers.leave, "initargs": ("k", 42, str(journal))}
        with self.make_pool(2, **options) as pool:
            assert pool.map(initializers.left, ["k"] * 50) == [42] * 50
        assert 1 <= tasks.executions(journal) <= 2


class EndingWithWorkTests(Suite):
    """Ending a pool whose workers are busy: it takes workers beside the caller."""

    kills_workers = True
    """False where a worker cannot be killed; the attempt is then CannotKill, and never hangs."""

    def terminate_busy(self, pool: Pool) -> None:
        """Terminate a pool with tasks that will not end by themselves."""
        began = time.monotonic()
        if self.kills_workers:
            pool.terminate()
        else:
            with pytest.raises(errors.CannotKill):
                pool.terminate()
        assert time.monotonic() - began < SOON

    def test_terminate_with_ten_thousand_queued_tasks(self, pool: Pool, tmp_path: Path) -> None:
        gate, started = tmp_path / "gate", tmp_path / "started"
        busy = [pool.apply_async(tasks.pass_gate, (str(gate), 1, str(started))) for _ in range(2)]
        queued = [pool.apply_async(tasks.square, (x,)) for x in range(10_000)]
        tasks.wait_until(lambda: tasks.executions(started) == 2, "both workers are busy")
        self.terminate_busy(pool)
        gate.touch()
        pool.join()
        for result in [*busy, *queued]:
            assert result.done()
        for result in queued[::1000]:
            with pytest.raises(Exception):  # noqa: B017, PT011 - which one is left open
                result.get(0)

    def test_terminate_wakes_those_who_wait(self, pool: Pool, tmp_path: Path) -> None:
        gate, begun = tmp_path / "gate", tmp_path / "begun"
        ended: list[str] = []

        def wait() -> None:
            try:
                pool.starmap(tasks.pass_gate, [(str(gate), x, str(begun)) for x in range(4)])
            except Exception as error:
                ended.append(type(error).__name__)

        waiting = threading.Thread(target=wait)
        waiting.start()
        tasks.wait_until(lambda: tasks.executions(begun), "a task runs")
        self.terminate_busy(pool)
        gate.touch()
        waiting.join(SOON)
        assert not waiting.is_alive()
        assert len(ended) == 1

    def test_terminate_after_close_does_not_wait_for_the_queue(
        self, pool: Pool, tmp_path: Path
    ) -> None:
        gate, started = tmp_path / "gate", tmp_path / "started"
        args = (str(gate), 1, str(started))
        results = [pool.apply_async(tasks.pass_gate, args) for _ in range(50)]
        tasks.wait_until(lambda: tasks.executions(started) == 2, "both workers are busy")
        pool.close()
        self.terminate_busy(pool)
        gate.touch()
        pool.join()
        assert all(r.done() for r in results)

    def test_terminate_ends_a_reader(self, pool: Pool, tmp_path: Path) -> None:
        gate, started = tmp_path / "gate", tmp_path / "started"
        row = (str(gate), str(started))
        results = pool.imap(rows.pass_gate_row, itertools.repeat(row))
        ended: list[type[BaseException]] = []

        def read() -> None:
            try:
                next(results)
            except BaseException as error:
                ended.append(type(error))

        reader = threading.Thread(target=read)
        reader.start()
        tasks.wait_until(lambda: tasks.executions(started), "a task runs")
        self.terminate_busy(pool)
        reader.join(SOON)
        gate.touch()
        assert not reader.is_alive()
        assert len(ended) == 1

    def test_many_pools_end_while_work_is_submitted(self) -> None:
        pools = [self.make_pool(2) for _ in range(6)]
        for number, pool in enumerate(pools):
            for x in range(number * 10):
                pool.apply_async(tasks.square, (x,))
            pool.terminate()
        for pool in pools:
            pool.join()

    def test_killing_a_worker(self, pool: Pool) -> None:
        assert len(pool._pool) == pool._processes == 2
        if self.kills_workers:
            pool._pool[0].kill()
        else:
            with pytest.raises(errors.CannotKill):
                pool._pool[0].kill()
        assert pool.map(tasks.square, range(20)) == [x * x for x in range(20)]
        pool._repopulate_pool()
        tasks.wait_until(lambda: len(pool._pool) == 2, "two workers again")
