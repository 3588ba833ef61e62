"""A worker's place in the machine: the threads of its libraries, its CPUs, its random numbers."""

from __future__ import annotations

import json
import multiprocessing.context
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import millpond
from millpond import cpus
from millpond.backends.places import thread_variables
from millpond.worker import place
from tests.processes.waiting import until

METHODS = ["fork", "spawn", "forkserver"]
PROGRAM = Path(__file__).with_name("numpy_workers.py")
USABLE = sorted(os.sched_getaffinity(0))


def asked(what: str, method: str, environment: dict[str, str], **options: Any) -> Any:
    """What the program with NumPy says."""
    # A program that is one of these tests' own workers would be limited; this one is not.
    clean = {n: v for n, v in os.environ.items() if n not in place.LIBRARIES}
    finished = subprocess.run(
        [sys.executable, str(PROGRAM), what, method, json.dumps(options)],
        capture_output=True,
        text=True,
        env={**clean, "MILLPOND_CPU_COUNT": "8", **environment},
        timeout=60,
    )
    assert finished.stderr == ""
    return json.loads(finished.stdout)


# Threads ------------------------------------------------------------------------------------------


def test_every_variable_is_set_where_the_user_set_none() -> None:
    variables = thread_variables(3, {"PATH": "/"}, asked=False)
    assert {variables[name] for name in place.LIBRARIES} == {"3"}


def test_a_variable_of_the_user_s_stays() -> None:
    variables = thread_variables(3, {"MKL_NUM_THREADS": "5", "BLIS_NUM_THREADS": ""}, asked=False)
    assert "MKL_NUM_THREADS" not in variables
    assert variables["BLIS_NUM_THREADS"] == variables["OPENBLAS_NUM_THREADS"] == "3"


def test_who_has_set_openmp_s_variable_has_told_all_libraries() -> None:
    assert thread_variables(3, {"OMP_NUM_THREADS": "5"}, asked=False) == {}


def test_the_pool_s_own_argument_beats_the_user_s_variables() -> None:
    variables = thread_variables(3, {"OMP_NUM_THREADS": "5"}, asked=True)
    assert variables["OMP_NUM_THREADS"] == "3"


def test_a_pool_in_a_task_replaces_what_a_pool_has_set() -> None:
    outer = thread_variables(4, {"MKL_NUM_THREADS": "5"}, asked=False)
    inside = {"MKL_NUM_THREADS": "5", **outer, "BLIS_NUM_THREADS": "2"}  # set in the task
    variables = thread_variables(1, inside, asked=False)
    assert variables["OMP_NUM_THREADS"] == variables["OPENBLAS_NUM_THREADS"] == "1"
    assert not {"MKL_NUM_THREADS", "BLIS_NUM_THREADS"} & variables.keys()


def test_libraries_may_be_left_alone() -> None:
    assert thread_variables(0, {}, asked=True) == {}


@pytest.mark.parametrize(("method", "threads"), [*((m, 1) for m in METHODS), ("fork", 3)])
def test_libraries_use_the_threads_that_were_asked_for(method: str, threads: int) -> None:
    said = asked("limits", method, {"OMP_NUM_THREADS": "2"}, blas_threads=threads)
    assert said["parent"][0] == said["parent"][1]
    assert said["parent"][0], "no library was found"
    assert said["workers"] == [[threads] * len(said["parent"][0])] * 4
    assert said["variable"] == str(threads)
    assert said["info"] == [4, threads, "environment, threadpoolctl"]


def test_libraries_use_no_more_threads_than_the_worker_s_share(method: str) -> None:
    said = asked("limits", method, {"MILLPOND_CPU_COUNT": "2"}, parent=2)
    assert {n for library in said["parent"] for n in library} == {2}
    assert {n for library in said["workers"] for n in library} == {1}
    assert said["variable"] == "1"
    assert said["info"] == [1, 1, "environment, threadpoolctl"]


@pytest.mark.parametrize(("parent", "worker"), [(6, 4), (3, 3)])
def test_a_library_is_not_given_more_threads_than_it_has(parent: int, worker: int) -> None:
    said = asked("limits", "fork", {}, parent=parent)
    assert {n for library in said["parent"] for n in library} == {parent}
    assert {n for library in said["workers"] for n in library} == {worker}
    assert said["variable"] == "4"
    assert said["native"] == 1  # it was done before the worker was forked


def test_what_the_user_has_set_stays(method: str) -> None:
    said = asked("limits", method, {"OPENBLAS_NUM_THREADS": "6"})
    assert said["workers"] == [said["parent"][0]] * 4
    assert said["variable"] == "6"


@pytest.mark.parametrize(
    ("method", "preload"),
    [("spawn", {}), ("forkserver", {"preload": []})],
    ids=["spawn", "forkserver"],
)
def test_a_worker_takes_its_place_before_it_imports_the_main_module(
    method: str, preload: dict[str, Any]
) -> None:
    """Else a library that the main module loads would not find the variable."""
    said = asked("limits", method, {"MILLPOND_CPU_COUNT": "2"}, cpus=[USABLE[0]], **preload)
    assert said["at_import"] == ["1", [USABLE[0]]]
    assert {n for library in said["workers"] for n in library} == {1}


def test_what_the_fork_server_has_imported_is_told_of_the_worker_s_place() -> None:
    """The server serves pools of all sizes, so it has no place; a worker has one before its first task."""
    said = asked("limits", "forkserver", {"MILLPOND_CPU_COUNT": "2"}, cpus=[USABLE[0]])
    assert said["at_import"] == [None, USABLE]
    assert {n for library in said["workers"] for n in library} == {1}
    assert (said["variable"], said["runs_on"]) == ("1", [USABLE[0]])


def test_zero_leaves_the_libraries_as_they_are(method: str) -> None:
    said = asked("limits", method, {}, blas_threads=0)
    assert said["workers"] == [said["parent"][0]] * 4
    assert said["variable"] is None
    assert said["info"] == [4, None, None]


def test_a_pool_in_a_task_limits_libraries_to_its_part_of_the_share(method: str) -> None:
    task, inside, variable = asked("nested", method, {}, blas_threads=4)
    assert method == "spawn" or set(task) == {
        4
    }  # OpenBLAS obeys a variable up to the CPUs there are
    assert set(inside) == {1}
    assert variable == "1"


def test_without_threadpoolctl_there_is_the_environment(method: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['threadpoolctl'] = None")
    program = "import os, sys, millpond\nif __name__ == '__main__':\n"
    program += f"  with millpond.Pool(2, start_method={method!r}, blas_threads=1) as pool:\n"
    program += (
        "    print(pool.apply(os.getenv, ('OMP_NUM_THREADS',)), pool.info()['blas_limited_by'])"
    )
    (tmp_path / "program.py").write_text("import numpy\n" + program)
    finished = subprocess.run(
        [sys.executable, "program.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        timeout=60,
    )
    assert (finished.stdout, finished.stderr) == ("1 environment\n", "")


@pytest.mark.parametrize(("threads", "error"), [(-1, ValueError), ("2", TypeError)])
def test_threads_that_make_no_sense(threads: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        millpond.Pool(1, blas_threads=threads)


# Random numbers -----------------------------------------------------------------------------------


def test_no_two_workers_are_seeded_alike(method: str) -> None:
    drawn = asked("draws", method, {})
    assert len({pid for pid, _, _ in drawn}) == 6
    assert len({number for _, number, _ in drawn}) == 6
    assert len({number for _, _, number in drawn}) == 6


def test_another_kind_of_generator_is_seeded_too() -> None:
    drawn = asked("draws", "fork", {}, other_generator=True)
    assert len({number for _, number, _ in drawn}) == 6


def test_an_initializer_may_seed_alike(method: str) -> None:
    drawn = asked("initialized", method, {})
    assert len({pid for pid, _, _ in drawn}) == 2
    assert len({number for _, number, _ in drawn}) == 1


# CPUs ---------------------------------------------------------------------------------------------


def affinities(pool: Any) -> list[set[int]]:
    """Of each worker, in the order of their starts; a worker that has gone has none."""
    found = []
    for worker in pool._pool:
        try:
            found.append(os.sched_getaffinity(worker.pid))
        except ProcessLookupError:
            pass
    return found


def nap(_: int) -> int:
    return os.getpid()


@pytest.fixture
def two_cpus() -> list[int]:
    """Two CPUs, or the one that there is, twice."""
    return [USABLE[0], USABLE[-1]]


def test_each_worker_runs_on_a_cpu_of_its_own(context: Any) -> None:
    count = len(USABLE) + 1
    with millpond.Pool(count, context=context, cpus=True) as pool:
        expected = [{USABLE[n % len(USABLE)]} for n in range(count)]
        until(lambda: affinities(pool) == expected)
    assert sorted(os.sched_getaffinity(0)) == USABLE


def test_cpus_are_for_the_workers_in_turn(two_cpus: list[int]) -> None:
    with millpond.Pool(3, cpus=[two_cpus, two_cpus[1]]) as pool:
        until(lambda: affinities(pool) == [set(two_cpus), {two_cpus[1]}, set(two_cpus)])


def test_a_worker_takes_the_place_of_the_one_that_it_replaces(two_cpus: list[int]) -> None:
    first, second = ({cpu} for cpu in two_cpus)
    with millpond.Pool(2, cpus=two_cpus) as pool:
        for number, expected in ((1, [first, second]), (0, [second, first]), (1, [second, first])):
            victim = pool._pool[number]
            victim.kill()
            victim.join()
            pool.map(nap, range(4), 1)  # somebody has to look
            until(lambda: affinities(pool) == expected)  # noqa: B023


def leave_a_thread(cpu: int) -> frozenset[int]:
    """In the worker that has this CPU."""
    if affinity(0) == [cpu]:
        threading.Thread(target=threading.Event().wait).start()
    return frozenset(affinity(0))


def test_one_that_gets_the_place_of_a_worker_that_does_not_leave_gets_its_cpu(
    two_cpus: list[int],
) -> None:
    first, second = (frozenset({cpu}) for cpu in two_cpus)
    with millpond.Pool(2, cpus=two_cpus, maxtasksperchild=1) as pool:
        while second not in pool.map(leave_a_thread, two_cpus[1:] * 2, 1):
            pass
        found = Counter({first: 1, second: 2})
        until(lambda: pool.map(abs, [1]) and Counter(map(frozenset, affinities(pool))) == found)


def test_workers_that_are_recycled_keep_to_the_cpus(two_cpus: list[int]) -> None:
    with millpond.Pool(2, cpus=two_cpus, maxtasksperchild=1) as pool:
        where = pool.map(affinity, range(8), 1)
        until(
            lambda: (
                Counter(map(frozenset, affinities(pool)))
                == Counter(frozenset({cpu}) for cpu in two_cpus)
            )
        )
    assert {cpu for cpus_of_it in where for cpu in cpus_of_it} == set(two_cpus)
    assert all(len(cpus_of_it) == 1 for cpus_of_it in where)


def affinity(_: int) -> list[int]:
    return sorted(os.sched_getaffinity(0))


def test_a_pool_in_a_pinned_task_counts_its_cpus(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setenv("MILLPOND_CPU_COUNT", "8")
    with millpond.Pool(1, start_method=method, cpus=[USABLE[0]]) as pool:
        assert pool.apply(cpus.available) == 1


def test_cpus_that_may_not_be_used_are_named_before_anything_starts() -> None:
    other = max(USABLE) + 1
    with pytest.raises(ValueError, match=rf"cpus names {other}; this process may use"):
        millpond.Pool(2, cpus=[USABLE[0], other])


@pytest.mark.parametrize("backend", ["threads", "inline"])
@pytest.mark.parametrize("options", [{"cpus": True}, {"blas_threads": 1}])
def test_only_processes_have_places(backend: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="starts no processes"):
        millpond.Pool(1, backend=backend, **options)


# Another library's processes ----------------------------------------------------------------------


class TheirFork(multiprocessing.context.ForkContext):
    """As a library has that makes contexts of its own."""


class TheirSpawn(multiprocessing.context.SpawnContext):
    """The same."""


@pytest.mark.parametrize("foreign", [TheirFork(), TheirSpawn()], ids=["fork", "spawn"])
def test_another_library_s_processes_take_their_places_too(
    monkeypatch: pytest.MonkeyPatch, foreign: Any
) -> None:
    monkeypatch.setenv("MILLPOND_CPU_COUNT", "6")
    with millpond.Pool(2, context=foreign) as pool:
        assert type(pool._pool[0]).__module__ == "multiprocessing.context"
        assert pool.map(share, range(2), 1) == [(3, 1)] * 2
    with millpond.Pool(1, context=foreign, cpus=[USABLE[0]]) as pool:
        assert pool.apply(affinity, (0,)) == [USABLE[0]]


def share(_: int) -> tuple[int, int]:
    return cpus.available(), cpus.depth()
