"""What is shown of a job, when, and how a watch ends."""

from __future__ import annotations

import contextvars
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from millpond.testing.clock import FakeClock
from millpond.watch import progress
from millpond.watch.progress import Progress
from millpond.watch.snapshot import Snapshot
from millpond.watch.views import Lines, View
from tests.watch.jobs import LIMIT, FakeJob, Recorder, Told


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Exceptions that went to ``sys.unraisablehook``."""
    found: list[BaseException] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda about: found.append(about.exc_value))
    return found


# One look after the other, by a fake clock --------------------------------------------------------


class Looked:
    """A watch without its thread."""

    def __init__(self, total: int | None = 10, view: View | None = None) -> None:
        self.clock = FakeClock()
        self.job = FakeJob(total)
        self.view = Recorder()
        self.watch = Progress(self.job, "squares", view or self.view, self.clock())

    def look(self, seconds: float = 0.0) -> bool:
        self.clock.advance(seconds)
        return self.watch.look(self.clock())


def test_changes_are_shown_but_not_more_often_than_ten_times_a_second() -> None:
    looked = Looked(1_000_000)
    for _ in range(2000):  # each millisecond
        looked.job.settled += 1
        assert looked.look(0.001) is False
    assert 18 <= len(looked.view.shown) <= 24


@pytest.mark.parametrize("count", ["settled", "total", "failed", "retried"])
def test_each_count_is_news(count: str) -> None:
    looked = Looked(None)
    looked.look()
    setattr(looked.job, count, 5)
    looked.look(0.1)
    assert len(looked.view.shown) == 2


def test_without_a_change_it_is_shown_once_a_second() -> None:
    looked = Looked()
    for _ in range(50):
        looked.look(0.1)
    assert 4 <= len(looked.view.shown) <= 6


def test_a_job_that_is_over_is_shown_for_the_last_time_at_once() -> None:
    looked = Looked()
    looked.look(0.1)
    looked.job.complete()
    assert looked.look(0.001) is True
    assert [seen.done for seen in looked.view.last] == [10]
    assert looked.view.last[0].eta == 0.0


@pytest.mark.parametrize("how", ["withdrawn", "finished"])
def test_a_job_that_will_not_go_on_is_shown_as_it_stands(how: str) -> None:
    looked = Looked()
    looked.job.settled = 7
    if how == "withdrawn":
        looked.job.withdrawn = True
    else:
        looked.watch.finish()
    assert looked.look() is True
    assert [(seen.done, seen.eta) for seen in looked.view.last] == [(7, None)]
    assert looked.look(1) is True
    assert len(looked.view.last) == 1


def test_counts_are_read_after_the_job_was_seen_to_be_over() -> None:
    class Racing(FakeJob):
        """Its last tasks end just before it is asked."""

        @property
        def over(self) -> bool:
            self.settled = 10
            return True

    looked = Looked()
    looked.watch = Progress(Racing(10), "squares", looked.view, looked.clock())
    assert looked.look() is True
    assert [seen.done for seen in looked.view.last] == [10]


@pytest.mark.parametrize("method", ["show", "close", "refresh"])
@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_view_that_raises_is_reported_once_and_not_called_again(
    method: str, kind: type[BaseException], reported: list[BaseException]
) -> None:
    calls: list[str] = []

    def fail(*_: object) -> None:
        calls.append(method)
        raise kind

    view = Recorder()
    setattr(view, method, fail)
    looked = Looked(view=view)
    for _ in range(3):
        looked.job.settled += 1
        assert looked.look(0.1) is False
        looked.watch.refresh()
    looked.job.complete()
    assert looked.look(0.1) is True
    assert len(calls) == 1
    assert [type(each) for each in reported] == [kind]


# With the thread ----------------------------------------------------------------------------------


def of_progress() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "millpond-progress"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    assert of_progress() == []
    yield
    assert of_progress() == []


def test_a_callable_is_told_from_the_first_to_the_last() -> None:
    job, told = FakeJob(10), Told()
    watch = progress.start(job, told)
    told.wait(lambda seen: seen.done == 0)
    job.settled, job.failed, job.retried = 4, 1, 2
    told.wait(lambda seen: seen.done == 4)
    job.complete()
    watch.finish()
    assert of_progress() == []
    last = told.snapshots[-1]
    assert last == Snapshot("squares", 10, 10, 1, 2, last.elapsed, last.rate, 0.0)
    assert last.rate == pytest.approx(10 / last.elapsed)
    count = len(told.snapshots)
    watch.finish()
    assert len(told.snapshots) == count


def test_even_the_shortest_job_has_a_last_snapshot() -> None:
    job, told = FakeJob(3), Told()
    watch = progress.start(job, told)
    job.complete()
    watch.finish()
    assert told.snapshots[-1].done == 3


@pytest.mark.parametrize("wanted", [True, "a description"])
def test_plain_lines_on_stderr(wanted: Any, capfd: pytest.CaptureFixture[str]) -> None:
    job = FakeJob(3, name="cubes")
    watch = progress.start(job, wanted)
    job.complete()
    watch.finish()
    print("next", file=sys.stderr)
    description = "cubes" if wanted is True else wanted
    line, follower = capfd.readouterr().err.splitlines()
    assert line.startswith(f"{description}: 3/3, 100%, in 0.")
    assert follower == "next"


def test_one_thread_looks_at_all_jobs_and_ends_with_the_last() -> None:
    jobs, tolds = [FakeJob(5, name=str(n)) for n in range(4)], [Told() for _ in range(4)]
    watches = [progress.start(job, told) for job, told in zip(jobs, tolds, strict=True)]
    for told in tolds:
        told.wait(lambda seen: seen.done == 0)
    assert len(of_progress()) == 1
    for number in range(3):
        jobs[number].complete()
        watches[number].finish()
        assert tolds[number].snapshots[-1].done == 5
        assert len(of_progress()) == 1
    assert [seen.done for seen in tolds[3].snapshots if seen.done] == []
    watches[3].finish()
    assert of_progress() == []


@pytest.mark.parametrize("end", ["over", "withdrawn", "dropped"])
def test_a_watch_whose_result_nobody_takes_ends_by_itself(end: str) -> None:
    job, told = FakeJob(5), Told()
    watch = progress.start(job, told)
    told.wait(lambda seen: seen.done == 0)
    (thread,) = of_progress()
    if end == "over":
        job.complete()
    elif end == "withdrawn":
        job.withdrawn = True
    else:
        watch.finish(wait=False)
    thread.join(LIMIT)
    assert watch.ended.ready()
    assert told.snapshots[-1].done == job.settled


def test_the_next_job_has_a_thread_of_its_own() -> None:
    for _ in range(3):
        job, told = FakeJob(5), Told()
        watch = progress.start(job, told)
        told.wait(lambda seen: seen.done == 0)
        job.complete()
        watch.finish()


def test_many_threads_start_and_finish() -> None:
    failures: list[BaseException] = []

    def go() -> None:
        try:
            for total in range(1, 40):
                job, told = FakeJob(total), Told()
                watch = progress.start(job, told)
                job.complete()
                watch.finish()
                assert told.snapshots[-1].done == total
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert failures == []


def test_a_callable_may_start_and_finish_watches_and_is_called_without_a_lock() -> None:
    inner, seen_inside = Told(), threading.Event()
    unlocked: list[bool] = []

    def told(seen: Snapshot) -> None:
        unlocked.append(not progress._changing._is_owned())  # type: ignore[attr-defined]
        if not seen_inside.is_set():
            job = FakeJob(2)
            nested = progress.start(job, inner)
            job.complete()
            nested.finish()
            progress.catch_up()
            outer[0].finish()  # this very watch: it does not wait for itself
            seen_inside.set()

    ready = threading.Event()
    outer: list[Progress] = []

    def once_ready(seen: Snapshot) -> None:
        assert ready.wait(LIMIT)
        told(seen)

    outer.append(progress.start(FakeJob(5), once_ready))
    ready.set()
    assert seen_inside.wait(LIMIT)
    outer[0].finish()
    progress.catch_up(everything=True)
    assert inner.snapshots[-1].done == 2
    assert len(unlocked) >= 2
    assert all(unlocked)


def test_a_callable_that_does_not_come_back_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "_PATIENCE", 0.05)
    inside, let_go = threading.Event(), threading.Event()

    def told(_: Snapshot) -> None:
        inside.set()
        assert let_go.wait(LIMIT)

    watch = progress.start(FakeJob(5), told)
    assert inside.wait(LIMIT)
    (thread,) = of_progress()
    watch.finish()
    assert not watch.ended.ready()
    let_go.set()
    thread.join(LIMIT)


def test_a_callable_that_raises_does_not_disturb_the_others(reported: list[BaseException]) -> None:
    def fail(_: Snapshot) -> None:
        raise ValueError("mine")

    job, told = FakeJob(5), Told()
    bad, good = progress.start(job, fail), progress.start(job, told)
    told.wait(lambda seen: seen.done == 0)
    job.complete()
    bad.finish()
    good.finish()
    assert [str(each) for each in reported] == ["mine"]
    assert told.snapshots[-1].done == 5


def test_a_callable_runs_in_the_context_of_the_call() -> None:
    variable = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []
    token = variable.set("the caller's")
    watch = progress.start(FakeJob(5), lambda _: seen.append(variable.get()))
    variable.reset(token)
    watch.finish()
    assert set(seen) == {"the caller's"}


def test_what_is_over_is_caught_up_with_and_the_rest_goes_on() -> None:
    done, going, told = FakeJob(5), FakeJob(5), Told()
    ended, goes_on = progress.start(done, told), progress.start(going, Told())
    done.withdrawn = True
    progress.catch_up()
    assert ended.ended.ready()
    assert not goes_on.ended.ready()
    assert len(of_progress()) == 1
    goes_on.finish()


# Where something is missing -----------------------------------------------------------------------


def test_without_a_thread_there_is_no_progress_but_work(
    monkeypatch: pytest.MonkeyPatch, reported: list[BaseException]
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    told = Told()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        watch = progress.start(FakeJob(5), told)
    watch.finish()
    assert [type(each) for each in reported] == [RuntimeError]
    assert told.snapshots == []
    again = progress.start(FakeJob(5), told)
    again.finish()
    assert len(told.snapshots) >= 1


def test_an_interrupt_while_it_starts_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        begin(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(threading.Thread, "start", interrupted)
        progress.start(FakeJob(5), Told())
    for thread in of_progress():
        thread.join(LIMIT)


def test_a_display_that_cannot_be_made_is_reported(
    monkeypatch: pytest.MonkeyPatch, reported: list[BaseException]
) -> None:
    def fail() -> View:
        raise OSError("no such device")

    monkeypatch.setattr(progress, "best_view", fail)
    progress.start(FakeJob(5), True).finish()
    assert [type(each) for each in reported] == [OSError]


def test_stderr_that_is_gone_ends_the_display_only(reported: list[BaseException]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        looked = Looked(view=Lines(stream))
        looked.job.complete()
        assert looked.look() is True
    assert [type(each) for each in reported] == [BrokenPipeError]


# Forks, and the program's end ---------------------------------------------------------------------


def forked(act: Callable[[], None]) -> int:
    """The exit code of a child that does this."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_copy_starts_afresh() -> None:
    told = Told()
    watch = progress.start(FakeJob(5), told)
    told.wait(lambda seen: seen.done == 0)

    def act() -> None:
        watch.finish()  # the parent's: nothing to be done here
        job, mine = FakeJob(3), Told()
        own = progress.start(job, mine)
        job.complete()
        own.finish()
        assert mine.snapshots[-1].done == 3
        assert of_progress() == []

    with progress._changing:  # as if another thread were starting one
        assert forked(act) == 0
    watch.finish()


def test_at_the_program_s_end_the_last_state_is_shown() -> None:
    program = (
        "from millpond.watch import progress; from tests.watch.jobs import FakeJob\n"
        "job = FakeJob(8); job.settled = 3; progress.start(job, 'left alone')"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT
    )
    assert (run.returncode, run.stdout) == (0, "")
    (line,) = run.stderr.splitlines()
    assert line.startswith("left alone: 3/8, 37%, in 0.")
