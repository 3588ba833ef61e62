"""Large data and deaths at every stage, forks, and what is taken back: nothing wrong, and nothing left."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import millpond
from tests.arena import work
from tests.arena.work import ARRAY, MIB, TOTAL, lent, nothing_is_lent
from tests.processes.waiting import until


def test_what_a_dead_worker_had_borrowed_is_free_again(pool: millpond.Pool) -> None:
    pid = pool.apply(work.keep, (ARRAY,))
    assert lent(pool) == MIB
    os.kill(pid, signal.SIGKILL)
    until(lambda: nothing_is_lent(pool))


def test_a_death_with_an_argument_costs_its_task_alone(pool: millpond.Pool) -> None:
    deaths = [pool.apply_async(work.die, (ARRAY,)) for _ in range(3)]
    others = [pool.apply_async(work.total, (ARRAY,)) for _ in range(9)]
    for death in deaths:
        with pytest.raises(millpond.WorkerDied) as caught:
            death.get()
        assert "bytes, pickled" in str(caught.value)
    assert [other.get() for other in others] == [TOTAL] * 9
    until(lambda: nothing_is_lent(pool))


def test_a_death_amid_a_result_that_was_laid_aside(pool: millpond.Pool) -> None:
    with pytest.raises(millpond.WorkerDied) as caught:
        pool.apply(work.dies_amid, (0,))
    assert caught.value.phase == "pickling the result"
    assert [float(a[0]) for a in pool.map(work.full, range(4))] == [0.0, 1.0, 2.0, 3.0]


def test_a_task_that_is_run_again_gets_the_argument_as_it_was(
    pool: millpond.Pool, tmp_path: Path
) -> None:
    options: Any = {"retries": 1, "retry_on": millpond.WorkerDied}
    first, second = ARRAY, (ARRAY, str(tmp_path / "second"))
    assert pool.apply(work.die_once, (first, str(tmp_path / "first")), **options) == TOTAL
    assert pool.starmap(work.die_once, [second], **options) == [TOTAL]


def test_results_of_a_worker_that_died_stay_good(forked: millpond.Pool) -> None:
    found = forked.map(work.full, range(8))
    for process in forked._pool:
        process.kill()
    more = forked.map(work.full, range(8))
    assert [float(a[3]) for a in found + more] == [float(n) for n in range(8)] * 2


def test_results_that_were_sent_count_though_their_worker_is_dead_and_their_views_die(
    forked: millpond.Pool,
) -> None:
    """Killed again and again while results are dropped: each is right or its task is blamed."""
    good = 0
    for number in range(12):
        results = [forked.apply_async(work.full, (n,)) for n in range(8)]
        os.kill(forked._pool[number % 2].pid, signal.SIGKILL)
        for n, result in enumerate(results):
            try:
                array = result.get()
            except millpond.WorkerDied:
                continue
            assert (array == n).all()
            good += 1
            array[:] = -1
        del results
    assert good >= 12 * 7
    until(lambda: nothing_is_lent(forked))


def test_what_a_forked_copy_of_a_worker_sees_is_not_used_again(
    forked: millpond.Pool, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    with millpond.Pool(1, start_method="fork") as one:
        one.apply(work.forked_copy_sees, (ARRAY, str(mark)))
        for _ in range(8):
            one.apply(work.total, (np.zeros(1 << 17),))
        os.kill(one._pool[0].pid, signal.SIGKILL)
        for _ in range(8):
            one.apply(work.total, (np.zeros(1 << 17),))
        mark.touch()
        seen = tmp_path / "mark.seen"
        until(seen.exists)
        assert float(seen.read_text()) == TOTAL


def test_what_a_forked_copy_of_the_program_sees_is_not_used_again(forked: millpond.Pool) -> None:
    found = forked.map(work.full, range(4))
    go, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.read(go, 1)
            code = 0 if [float(a.sum()) for a in found] == [n * (1 << 17) for n in range(4)] else 2
            for array in found:
                array[:] = -1
        finally:
            os._exit(code)
    kept = found.pop()
    del found
    for _ in range(6):
        forked.map(work.full, range(50, 60))
    os.write(told, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (kept == 3).all()
    os.close(go)
    os.close(told)


# Taking back -----------------------------------------------------------------------------------------


def test_cancelled_calls_and_abandoned_streams_release_what_they_hold(
    forked: millpond.Pool,
) -> None:
    results = [forked.apply_async(work.total, (ARRAY,)) for _ in range(40)]
    for result in results[10:]:
        result.cancel()
    assert [result.get() for result in results[:10]] == [TOTAL] * 10
    stream = forked.imap(work.same, (ARRAY for _ in range(100)))
    next(stream)
    stream.close()
    del stream, result, results
    until(lambda: gc.collect() or nothing_is_lent(forked))


def test_unsent_calls_go_with_the_pool() -> None:
    pool = millpond.Pool(1, start_method="fork")
    arena = pool._backend._arena
    results = [pool.apply_async(work.total, (ARRAY,)) for _ in range(30)]
    pool.terminate()
    pool.join()
    del results
    assert arena.fd == -1
