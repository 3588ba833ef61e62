"""Workers that die, by the phase in which they do."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from millpond import errors
from millpond.testing import poison, tasks
from millpond.testing.deaths import gone
from tests.stress import work
from tests.stress.catalogue import fault
from tests.stress.stage import SOON, SQUARES, Stage, error_of, errors_in, settled

BIG = 50 << 20


def _kill_idle(stage: Stage, victims: int) -> None:
    with stage.pool() as pool:
        assert pool.map(tasks.square, range(20)) == SQUARES
        pids = [worker.pid for worker in pool._pool][:victims]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        tasks.wait_until(lambda: all(map(gone, pids)), "they are dead")
        results = [pool.apply_async(work.jot_slowly, (stage.journal, x)) for x in range(8)]
        assert settled(results) == list(range(8))
        stage.check_runs(8)


@fault(1, "SIGKILL of one idle worker", "replaced, nobody notices")
def one_idle_worker(stage: Stage) -> None:
    _kill_idle(stage, 1)


@fault(2, "SIGKILL of all idle workers", "replaced, nobody notices")
def all_idle_workers(stage: Stage) -> None:
    _kill_idle(stage, 2)


@fault(3, "SIGKILL before a worker is ready", "started again; if each dies so, one clear error")
def before_it_is_ready(stage: Stage) -> None:
    for point in ("boot", "ready"):
        with stage.failpoint(f"{point}=kill") as acted, stage.pool() as pool:
            tasks.wait_until(acted.exists, "one was killed")
            assert pool.map_async(tasks.square, range(20)).get(SOON) == SQUARES
    with stage.failpoint("boot=exit"):
        del os.environ["MILLPOND_FAILPOINTS_ONCE"]  # each one
        with stage.pool(usable=False) as pool, stage.within(5, "giving up"):
            error_of(pool.apply_async(tasks.nothing), errors.WorkerDied, "before it was ready")
        os.environ["MILLPOND_FAILPOINTS_ONCE"] = ""


@fault(
    4, "SIGKILL while a large argument is read", "the task had not begun: another worker runs it"
)
def amid_a_large_argument(stage: Stage) -> None:
    with stage.failpoint(f"mid_recv=kill:1:{1 << 20}") as acted, stage.pool() as pool:
        results = [
            pool.apply_async(work.jot_slowly, (stage.journal, x, b"x" * BIG)) for x in range(3)
        ]
        assert settled(results) == [0, 1, 2]
        assert acted.exists()
        stage.check_runs(3)


@fault(5, "death while the argument is unpickled", "`WorkerDied`, which names that phase")
def unpickling_the_argument(stage: Stage) -> None:
    with stage.pool() as pool:
        others = [pool.apply_async(work.jot_slowly, (stage.journal, x)) for x in range(10)]
        error_of(
            pool.apply_async(tasks.identity, (poison.KillsWhenLoaded(),)),
            errors.WorkerDied, "unpickling the argument",
        )  # fmt: skip
        assert settled(others) == list(range(10))
        stage.check_runs(10)


def _die_among(stage: Stage, how: str, *words: str, function: object = None) -> None:
    """One task of nine dies: it fails, and the eight others run once."""
    with stage.pool() as pool:
        given = [(stage.journal, x, 4, how) for x in range(9)]
        results = [pool.apply_async(function or work.jot_and_die_on, row) for row in given]
        got = settled(results)
        assert [x for x in got if isinstance(x, int)] == [0, 1, 2, 3, 5, 6, 7, 8], got
        assert [type(x) for x in errors_in(got)] == [errors.WorkerDied]
        for word in words:
            assert word in str(got[4]), f"{word!r} is not in {got[4]}"
        assert got[4].pid
        assert str(got[4].pid) in str(got[4])
        stage.check_runs(9)


@fault(
    6,
    "SIGKILL while running, as by the out-of-memory killer",
    "`WorkerDied` for that task, signal and pid named",
)
def killed_while_running(stage: Stage) -> None:
    _die_among(stage, "SIGKILL", "SIGKILL", "running")


@fault(7, "SIGTERM from outside while running", "the same")
def terminated_while_running(stage: Stage) -> None:
    with stage.pool() as pool:
        gate, started = stage.path("gate"), stage.path("started")
        other = pool.apply_async(work.wait_and_return, (gate, started, 1))
        tasks.wait_until(lambda: os.path.exists(started), "one runs")
        victim = pool.apply_async(work.tell_and_wait, (stage.path("pid"),))
        tasks.wait_until(lambda: os.path.exists(stage.path("pid")), "the other runs")
        pid = int(Path(stage.path("pid")).read_text())
        os.kill(pid, signal.SIGTERM)
        error_of(victim, errors.WorkerDied, "SIGTERM", "running", str(pid))
        Path(gate).touch()
        assert other.get(SOON) == 1
        assert tasks.executions(Path(started)) == 1


@fault(8, "out of memory in a control group", "`WorkerDied`, SIGKILL named; other tasks go on")
def out_of_memory(stage: Stage) -> None:
    with (
        stage.group("memory", {"memory.limit_in_bytes": 64 << 20, "memory.max": 64 << 20}) as group,
        stage.pool() as pool,
    ):
        others = [pool.apply_async(work.jot_slowly, (stage.journal, x)) for x in range(10)]
        hungry = pool.apply_async(work.eat, (group, 512 << 20))
        if group:
            error_of(hungry, errors.WorkerDied, "SIGKILL", "eat")
        assert settled(others) == list(range(10))
        stage.check_runs(10)


@fault(9, "SIGSEGV in native code", "`WorkerDied` with the stack of the crash")
def crash_in_native_code(stage: Stage) -> None:
    with stage.pool() as pool:
        error = error_of(pool.apply_async(work.crash), errors.WorkerDied, "SIGSEGV", "crash")
        assert "in crash" in error.stack, error.stack  # type: ignore[attr-defined]
    _die_among(stage, "segv", "SIGSEGV")


@fault(10, "SIGABRT", "`WorkerDied` for that task, signal and pid named")
def aborted(stage: Stage) -> None:
    _die_among(stage, "SIGABRT", "SIGABRT")


@fault(11, "overflow of the C stack", "the same")
def stack_overflow(stage: Stage) -> None:
    with stage.pool() as pool:
        others = [pool.apply_async(work.jot_slowly, (stage.journal, x)) for x in range(10)]
        error_of(pool.apply_async(work.overflow), errors.WorkerDied, "SIGSEGV", "overflow")
        assert settled(others) == list(range(10))
        stage.check_runs(10)


@fault(
    12,
    "`os._exit(0)`, which looks like success",
    "`WorkerDied`: exited with code 0 before returning",
)
def exit_without_a_word(stage: Stage) -> None:
    _die_among(stage, "exit0", "exited with code 0 before returning")


@fault(13, "death while the result is pickled", "`WorkerDied`, which names that phase")
def pickling_the_result(stage: Stage) -> None:
    with stage.pool() as pool:
        others = [pool.apply_async(work.jot_slowly, (stage.journal, x)) for x in range(10)]
        error_of(
            pool.apply_async(poison.return_kills_when_dumped),
            errors.WorkerDied,
            "pickling the result",
        )
        assert settled(others) == list(range(10))
        stage.check_runs(10)


@fault(
    14, "SIGKILL with part of the result sent", "`WorkerDied` for that task, no other is disturbed"
)
def amid_a_large_result(stage: Stage) -> None:
    with stage.failpoint(f"mid_put=kill:2:{1 << 20}") as acted, stage.pool() as pool:
        results = [
            pool.apply_async(work.jot_and_return, (stage.journal, x, BIG * b"x")) for x in range(4)
        ]
        got = settled(results)
        assert acted.exists()
        assert [type(x) for x in errors_in(got)] == [errors.WorkerDied], got
        assert [x[0] for x in got if isinstance(x, tuple)] == [
            x for x, y in enumerate(got) if isinstance(y, tuple)
        ]
        stage.check_runs(4)


@fault(15, "death after the result's last byte, before the parent has read it", "the result counts")
def between_sending_and_reading(stage: Stage) -> None:
    body = (
        "result = pool.apply_async(work.wait_and_return, (sys.argv[1], sys.argv[2], 7))\n"
        "print(result.get(30), flush=True)\n"
    )
    gate, started = stage.path("gate"), stage.path("started")
    with (
        stage.failpoint("after_send=kill") as acted,
        stage.program(body, gate, started) as running_,
    ):
        program, _ = running_
        tasks.wait_until(lambda: os.path.exists(started), "the task runs")
        os.kill(program.pid, signal.SIGSTOP)
        Path(gate).touch()
        tasks.wait_until(acted.exists, "it has sent its answer")
        victim = int(acted.read_text().split()[0])
        tasks.wait_until(lambda: gone(victim), "it is dead")
        os.kill(program.pid, signal.SIGCONT)
        assert program.stdout is not None
        assert program.stdout.readline() == "7\n"
        assert program.wait(SOON) == 0


@fault(16, "one poisonous task among sixty", "59 values and one error")
def one_among_sixty(stage: Stage) -> None:
    with stage.pool() as pool:
        given = [(stage.journal, x, 31, "SIGKILL") for x in range(60)]
        got = pool.map(work.jot_and_die_row, given, on_error="return")
        assert [x for x in got if isinstance(x, int)] == [x for x in range(60) if x != 31]
        assert isinstance(got[31], errors.WorkerDied)
        stage.check_runs(60)


@fault(17, "every task kills its worker", "an error each, each run once, in bounded time")
def every_task_kills(stage: Stage) -> None:
    with stage.pool() as pool, stage.within(10, "twelve deaths"):
        given = [(stage.journal, x, x, "SIGKILL") for x in range(12)]
        got = settled([pool.apply_async(work.jot_and_die_on, row) for row in given])
        assert {type(x) for x in got} == {errors.WorkerDied}
        assert len({x.pid for x in got}) == 12
        stage.check_runs(12)


@fault(
    18, "kills at sixteen moments of a busy run", "at most one failed task a kill, each run once"
)
def kills_amid_work(stage: Stage) -> None:
    count, kills = 2000, 0
    with stage.pool() as pool:
        given = [(stage.journal, x, b"-") for x in range(count)]
        results = pool.imap(work.jot_slowly_row, given, on_error="return")
        got = []
        for value in results:
            got.append(value)
            workers = pool._pool  # none, for a moment, after both have died
            if workers and kills < 16 and len(got) > 100 * (kills + 1):
                workers[kills % len(workers)].kill()
                kills += 1
        failed = errors_in(got)
        assert {type(x) for x in failed} <= {errors.WorkerDied}
        assert kills == 16
        assert len(failed) <= kills
        assert [x for x in got if isinstance(x, int)] == [
            x for x in range(count) if isinstance(got[x], int)
        ]
        stage.check_at_most_once()
        never = set(range(count)) - set(stage.runs())
        assert not any(isinstance(got[x], int) for x in never)
