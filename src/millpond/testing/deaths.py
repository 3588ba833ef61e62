"""Worker processes that die: one task's error, never the pool's end."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from millpond import errors
from millpond.testing import poison, rows, tasks
from millpond.testing.failures import outcomes
from millpond.testing.suite import SOON, Suite

if TYPE_CHECKING:
    from millpond import Pool

SQUARES = [x * x for x in range(20)]
DEATHS: dict[str, tuple[int, str | None]] = {
    "SIGKILL": (-signal.SIGKILL, "SIGKILL"),
    "SIGTERM": (-signal.SIGTERM, "SIGTERM"),
    "SIGABRT": (-signal.SIGABRT, "SIGABRT"),
    "segv": (-signal.SIGSEGV, "SIGSEGV"),
    "exit0": (0, None),
    "exit7": (7, None),
}
"""How to die: the exit code and the signal that WorkerDied then tells."""


def gone(pid: int) -> bool:
    """Whether the process has ended (a zombie has)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


class DeathTests(Suite):
    """A task ends its worker."""

    @pytest.mark.parametrize("how", DEATHS)
    def test_a_death_is_the_task_s_error(self, pool: Pool, how: str) -> None:
        workers = {w.pid for w in pool._pool}
        with pytest.raises(errors.WorkerDied) as info:
            pool.apply(tasks.die, (how,))
        exitcode, signum = DEATHS[how]
        assert info.value.exitcode == exitcode
        assert info.value.signal == signum
        assert info.value.pid in workers
        assert pool.map(tasks.square, range(20)) == SQUARES

    @pytest.mark.parametrize(("how", "word"), [("SIGKILL", "SIGKILL"), ("exit7", "7")])
    def test_the_error_names_function_argument_and_reason(
        self, pool: Pool, how: str, word: str
    ) -> None:
        with pytest.raises(errors.WorkerDied) as info:
            pool.starmap(tasks.die_on, [(x, 2, how) for x in range(4)], 1)
        text = str(info.value)
        assert "die_on" in text
        assert word in text
        assert str(info.value.pid) in text
        assert "2" in text

    @pytest.mark.parametrize("method", ["apply_async", "map_async", "starmap_async"])
    def test_asynchronous_calls_get_it_too(self, pool: Pool, method: str) -> None:
        told: list[BaseException] = []
        args: dict[str, Any] = {
            "apply_async": ("SIGKILL",), "map_async": ["SIGKILL"], "starmap_async": [("SIGKILL",)],
        }  # fmt: skip
        result = getattr(pool, method)(tasks.die, args[method], error_callback=told.append)
        with pytest.raises(errors.WorkerDied):
            result.get(SOON)
        assert [type(e) for e in told] == [errors.WorkerDied]
        assert isinstance(result.exception(), errors.WorkerDied)
        assert pool.apply(tasks.square, (3,)) == 9

    @pytest.mark.parametrize("chunksize", [None, 1, 7, 100])
    @pytest.mark.parametrize("how", ["SIGKILL", "exit0"])
    def test_one_death_among_sixty_costs_one_task(
        self, pool: Pool, how: str, chunksize: int | None
    ) -> None:
        options: Any = {} if chunksize is None else {"chunksize": chunksize}
        got = outcomes(
            pool.imap(rows.die_on_17 if how == "SIGKILL" else rows.exit_on_17, range(60), **options)
        )
        assert [g for g in got if isinstance(g, int)] == [x for x in range(60) if x != 17]
        assert isinstance(got[17], tuple)
        assert got[17][0] == "WorkerDied"

    def test_other_calls_do_not_notice(self, pool: Pool) -> None:
        results = [pool.apply_async(tasks.die_on, (x, 13, "SIGKILL")) for x in range(60)]
        for x, result in enumerate(results):
            if x == 13:
                with pytest.raises(errors.WorkerDied):
                    result.get(SOON)
            else:
                assert result.get(SOON) == x

    def test_every_task_may_kill(self, pool: Pool) -> None:
        results = [pool.apply_async(tasks.die, ("SIGKILL",)) for _ in range(12)]
        for result in results:
            with pytest.raises(errors.WorkerDied):
                result.get(SOON)
        assert pool.map(tasks.square, range(20)) == SQUARES

    def test_a_started_task_is_not_run_again(self, pool: Pool, tmp_path: Path) -> None:
        path = tmp_path / "once"
        with pytest.raises(errors.WorkerDied):
            pool.apply(tasks.die_once, (str(path), 5))
        assert pool.apply(tasks.die_once, (str(path), 5)) == 5

    def test_a_death_while_the_argument_is_unpickled(self, pool: Pool) -> None:
        values = [1, poison.KillsWhenLoaded(), 3]
        got = outcomes(pool.imap(tasks.identity, values))
        assert (got[0], got[2]) == (1, 3)
        assert got[1][0] == "WorkerDied"
        with pytest.raises(errors.WorkerDied, match="unpickl"):
            pool.apply(tasks.identity, (poison.KillsWhenLoaded("exit0"),))

    @pytest.mark.parametrize("method", ["apply", "imap"])
    def test_the_error_says_which_argument_without_loading_it_here(
        self, pool: Pool, method: str
    ) -> None:
        deadly = poison.KillsWhenLoaded("SIGSEGV", anywhere=True)
        if method == "apply":
            result = pool.apply_async(tasks.identity, ([deadly],)).get
        else:
            result = pool.imap(tasks.identity, iter([[deadly]])).next
        with pytest.raises(errors.WorkerDied, match=r"_die_on_load|millpond object"):
            result()

    def test_a_death_while_the_result_is_pickled(self, pool: Pool) -> None:
        others = [pool.apply_async(tasks.square, (x,)) for x in range(20)]
        with pytest.raises(errors.WorkerDied, match="pickling"):
            pool.apply(poison.return_kills_when_dumped)
        assert [r.get(SOON) for r in others] == SQUARES

    def test_an_argument_without_a_repr_is_no_obstacle(self, pool: Pool) -> None:
        with pytest.raises(errors.WorkerDied):
            pool.apply(poison.die_with_shy_argument, (poison.ReprRaises(),))

    def test_the_error_comes_at_once(self, pool: Pool, tmp_path: Path) -> None:
        started = tmp_path / "started"
        results = [
            pool.apply_async(tasks.pass_gate, (str(tmp_path / "never"), x, str(started)))
            for x in range(2)
        ]
        tasks.wait_until(lambda: tasks.executions(started) == 2, "both run")
        began = time.monotonic()
        for worker in pool._pool:
            os.kill(worker.pid, signal.SIGKILL)
        for result in results:
            with pytest.raises(errors.WorkerDied):
                result.get(SOON)
        assert time.monotonic() - began < 2.0

    def test_an_imap_over_many_deaths_ends(self, pool: Pool) -> None:
        got = outcomes(pool.imap_unordered(rows.die_on_tenth, range(100)))
        assert len(got) == 100
        assert sorted(g for g in got if isinstance(g, int)) == [x for x in range(100) if x % 10]


class IdleDeathTests(Suite):
    """Workers killed from outside, and faults beside the task."""

    @pytest.mark.parametrize("victims", [1, 2])
    def test_idle_workers_are_replaced_in_silence(self, pool: Pool, victims: int) -> None:
        assert pool.map(tasks.square, range(20)) == SQUARES
        pids = [w.pid for w in pool._pool]
        for pid in pids[:victims]:
            os.kill(pid, signal.SIGKILL)
        tasks.wait_until(lambda: all(gone(p) for p in pids[:victims]), "they are dead")
        assert pool.map(tasks.square, range(20)) == SQUARES
        results = [pool.apply_async(tasks.square, (x,)) for x in range(20)]
        assert [r.get(SOON) for r in results] == SQUARES
        tasks.wait_until(lambda: len(pool._pool) == 2, "two workers again")

    def test_workers_killed_before_their_first_task(self) -> None:
        with self.make_pool(2) as pool:
            for worker in pool._pool:
                worker.kill()
            assert pool.map(tasks.square, range(20)) == SQUARES

    def test_kills_during_a_map_cost_at_most_a_task_each(self, pool: Pool, tmp_path: Path) -> None:
        journal = tmp_path / "journal"
        results = pool.imap(rows.note_row, [(str(journal), x) for x in range(3000)])
        kills, got, lost = 0, [], 0
        for _ in range(3000):
            workers = pool._pool  # none, for a moment, after both have died
            if workers and kills < 8 and tasks.executions(journal) > 250 * (kills + 1):
                workers[kills % len(workers)].kill()
                kills += 1
            try:
                got.append(next(results))
            except errors.WorkerDied:
                lost += 1
        assert kills >= 1
        assert lost <= kills
        assert len(got) + lost == 3000
        assert got == sorted(set(got))

    def test_where_once_is_the_most_no_task_runs_twice(self, tmp_path: Path) -> None:
        journal = tmp_path / "journal"
        given = [(str(journal), x, 1500) for x in range(3000)]
        with self.make_pool(2, at_most_once=True) as pool:
            got: list[Any] = pool.starmap(rows.write_line_and_die_on, given, on_error="return")
        failed = [x for x, value in enumerate(got) if isinstance(value, errors.WorkerDied)]
        assert failed == [1500]
        assert sorted(map(int, journal.read_text().split())) == list(range(3000))

    def test_a_task_that_closes_every_fd_costs_its_worker_only(self, pool: Pool) -> None:
        with pytest.raises(errors.MillpondError):
            pool.apply(tasks.close_all_fds)
        assert pool.map(tasks.square, range(20)) == SQUARES

    def test_a_task_that_forks_and_returns_twice(self, pool: Pool) -> None:
        assert pool.apply(rows.fork_and_return) in (0, 1)
        assert pool.map(tasks.square, range(20)) == SQUARES

    def test_a_grandchild_that_holds_the_pipes_hides_no_death(
        self, pool: Pool, tmp_path: Path
    ) -> None:
        gate = tmp_path / "gate"
        try:
            with pytest.raises(errors.WorkerDied):
                pool.apply_async(rows.fork_then_die, (str(gate),)).get(SOON)
            assert pool.map(tasks.square, range(20)) == SQUARES
        finally:
            gate.touch()

    def test_sigchld_ignored_hides_no_death(self) -> None:
        before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        try:
            with self.make_pool(2) as pool:
                with pytest.raises(errors.WorkerDied):
                    pool.apply_async(tasks.die, ("SIGKILL",)).get(SOON)
                assert pool.map(tasks.square, range(20)) == SQUARES
            pool.join()
        finally:
            signal.signal(signal.SIGCHLD, before)
