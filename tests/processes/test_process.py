"""Process: multiprocessing's, and it gives back what run() returned."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import threading
import weakref
from collections.abc import Iterator
from multiprocessing import connection
from pathlib import Path
from typing import Any

import pytest

import millpond
from millpond import errors
from millpond.backends.processes.starting.terms import terms_of
from tests.processes import work
from tests.processes.waiting import LIMIT


def started(context: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
    process = context.Process(target=target, args=args, **kwargs)
    process.start()
    return process


def test_result_is_what_run_returned(context: Any) -> None:
    process = started(context, work.double, 21)
    assert process.result(LIMIT) == 42
    assert process.result() == 42  # as often as one likes
    assert process.exception() is None
    assert process.exitcode == 0
    assert process not in millpond.active_children()


def test_result_raises_what_run_raised_with_the_remote_traceback(context: Any) -> None:
    process = started(context, work.fail, "missing")
    with pytest.raises(KeyError, match="missing") as caught:
        process.result(LIMIT)
    assert type(caught.value.__cause__).__name__ == "RemoteTraceback"
    assert "work.py" in str(caught.value.__cause__)
    assert isinstance(process.exception(), KeyError)
    assert process.exitcode == 1


@pytest.mark.parametrize(
    ("target", "args", "exitcode"),
    [
        (work.leave, (3,), 3),
        (work.leave, (None,), 0),
        (work.leave, ("words",), 1),
        (work.interrupted, (), 1),
        (work.grave, (), 1),
    ],
)
def test_what_is_no_exception_arrives_as_task_aborted(
    context: Any, target: Any, args: tuple[Any, ...], exitcode: int
) -> None:
    process = started(context, target, *args)
    with pytest.raises(errors.TaskAborted):
        process.result(LIMIT)
    assert process.exitcode == exitcode


def test_a_value_that_cannot_be_pickled(context: Any) -> None:
    process = started(context, work.unpicklable)
    with pytest.raises(errors.MaybeEncodingError):
        process.result(LIMIT)
    assert process.exitcode == 0


def test_an_exception_that_cannot_be_unpickled(context: Any) -> None:
    process = started(context, work.unloadable)
    with pytest.raises(errors.TaskError, match="1 and 2"):
        process.result(LIMIT)


@pytest.mark.parametrize("code", [0, 7])
def test_leaving_without_returning_is_a_death(context: Any, code: int) -> None:
    process = started(context, work.vanish, code)
    with pytest.raises(errors.WorkerDied) as caught:
        process.result(LIMIT)
    assert (caught.value.exitcode, caught.value.pid) == (code, process.pid)


def test_a_signal_is_named(context: Any) -> None:
    process = started(context, work.shoot, int(signal.SIGKILL))
    with pytest.raises(errors.WorkerDied, match="SIGKILL") as caught:
        process.result(LIMIT)
    assert caught.value.signal == "SIGKILL"
    assert process.exitcode == -signal.SIGKILL


def test_a_large_result_needs_no_reader(context: Any) -> None:
    size = 50_000_000
    process = started(context, work.big, size)
    process.join(LIMIT)
    assert process.exitcode == 0
    assert process.result() == work.big(size)


def too_large(limit: int) -> bytes:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return work.big(2 * limit)


def test_a_result_that_there_is_no_room_for(context: Any) -> None:
    process = started(context, too_large, 4096)
    with pytest.raises(errors.TaskError, match=r"could not be kept: .* File too large"):
        process.result(LIMIT)
    process = started(context, too_large, 1)
    with pytest.raises(errors.WorkerDied, match="before it returned"):
        process.result(LIMIT)


def test_only_the_process_s_own_return_counts(context: Any) -> None:
    assert started(context, work.twice_forked).result(LIMIT) == "child"


def test_a_file_of_the_user_s_is_never_taken_for_the_outcome_s(
    context: Any, tmp_path: Path
) -> None:
    """The child closes all descriptors and opens its own, which get the numbers."""
    files = tmp_path / "files"
    files.mkdir()
    process = started(context, work.take_all_descriptors, str(files))
    with pytest.raises(errors.WorkerDied):
        process.result(LIMIT)
    assert process.exitcode == 0
    assert {path.read_bytes() for path in files.iterdir()} == {b"mine"}


def test_a_timeout_is_multiprocessing_s(context: Any) -> None:
    process = started(context, work.wait_for_end, daemon=True)
    with pytest.raises(millpond.TimeoutError):
        process.result(0.01)
    with pytest.raises(millpond.TimeoutError):
        process.exception(0)
    process.kill()
    assert isinstance(process.exception(LIMIT), errors.WorkerDied)


def test_result_before_the_start_and_after_the_close() -> None:
    process = millpond.Process(target=work.double, args=(1,))
    with pytest.raises(ValueError, match="not started"):
        process.result()
    process.start()
    process.join(LIMIT)
    process.close()
    with pytest.raises(ValueError, match="closed"):
        process.result()


def test_awaiting_leaves_the_loop_free(context: Any) -> None:
    async def main() -> tuple[Any, ...]:
        ours, theirs = context.Pipe()
        slow = started(context, work.told, theirs)
        asking = [asyncio.ensure_future(slow), asyncio.ensure_future(slow)]
        assert await started(context, work.double, 2) == 4
        assert not any(one.done() for one in asking)
        ours.send("word")
        answers = await asyncio.wait_for(asyncio.gather(*asking), LIMIT)
        ours.close()
        theirs.close()
        return tuple(answers)

    assert asyncio.run(main()) == ("word", "word")


def test_awaiting_raises_as_result_does(context: Any) -> None:
    async def main() -> None:
        await started(context, work.fail, "gone")

    with pytest.raises(KeyError, match="gone"):
        asyncio.run(main())


def test_a_subclass_with_its_own_run() -> None:
    shouter = work.Shouter("hello")
    shouter.start()
    assert shouter.result(LIMIT) == "HELLO"
    assert shouter.name == "shouter"


NAMES = (
    "server", "outcome", "result", "exception", "returned", "timeout", "deadline", "limit", "left", "decoded",
    "blocked", "bound", "place", "terms", "state", "parent", "pidfd", "data", "queue", "loop", "thread", "lock",
)  # fmt: skip


class Own(millpond.Process):
    """Has attributes of all the names that come to mind, as subclasses in programs do."""

    def __init__(self) -> None:
        super().__init__()
        for name in NAMES:
            setattr(self, name, f"my {name}")
            setattr(self, f"_{name}", f"my {name}")

    def run(self) -> bool:  # type: ignore[override]
        return all(
            getattr(self, name) == getattr(self, f"_{name}") == f"my {name}" for name in NAMES
        )


class Inheritor(millpond.Process):
    """Calls another ``__init__`` than its base's, which it may do there."""

    def __init__(self) -> None:
        millpond.process.BaseProcess.__init__(self)

    def run(self) -> int:  # type: ignore[override]
        return 5


@pytest.fixture
def default_method(method: str) -> Iterator[None]:
    millpond.set_start_method(method, force=True)
    yield
    millpond.set_start_method(None, force=True)


@pytest.mark.usefixtures("default_method")
def test_a_subclass_may_have_attributes_of_any_name() -> None:
    async def wait_for(process: Any) -> Any:
        return await process

    process: Any = Own()
    process.start()
    assert asyncio.run(wait_for(process)) is True  # though its ``result`` is something else
    assert all(getattr(process, name) == f"my {name}" for name in NAMES)
    process.close()


@pytest.mark.usefixtures("default_method")
def test_a_subclass_that_calls_the_base_s_init() -> None:
    process = Inheritor()
    process.start()
    assert process.result(LIMIT) == 5
    assert process.die_with_parent is False


@pytest.mark.parametrize("kind", ["lambda", "closure", "method", "local class"])
def test_targets_that_pickle_refuses(context: Any, kind: str) -> None:
    ten = 10

    class Local:
        def times(self, x: int) -> int:
            return x * ten

    targets: dict[str, Any] = {
        "lambda": lambda x: x * 10,
        "closure": lambda x: x * ten,
        "method": Local().times,
        "local class": Local().times,
    }
    assert started(context, targets[kind], 5).result(LIMIT) == 50


def test_what_neither_way_can_send_raises_pickle_s_own_error() -> None:
    for name in ("spawn", "forkserver"):
        process = millpond.get_context(name).Process(target=work.double, args=(threading.Lock(),))
        with pytest.raises(TypeError, match="cannot pickle"):
            process.start()
        assert process not in millpond.active_children()


def test_primitives_travel_as_arguments(context: Any) -> None:
    queue, lock = context.Queue(), context.Lock()
    process = started(context, work.put_locked, lock, queue)
    assert queue.get(timeout=LIMIT) == 77
    process.join(LIMIT)
    queue.close()
    queue.join_thread()


def test_connections_travel_beside_what_pickle_refuses(context: Any) -> None:
    ours, theirs = context.Pipe()
    process = started(context, lambda pipe, text: pipe.send(text), theirs, "hello")
    assert ours.poll(LIMIT)
    assert ours.recv() == "hello"
    process.join(LIMIT)
    ours.close()
    theirs.close()


def test_the_parent_is_the_one_that_started_it(context: Any) -> None:
    assert started(context, work.from_parent).result(LIMIT) == (os.getpid(), "MainProcess", True)


def test_a_child_has_its_context_s_start_method(context: Any, method: str) -> None:
    assert started(context, work.default_method).result(LIMIT) == method


def test_a_daemonic_process_may_have_children(context: Any) -> None:
    assert started(context, work.with_child, daemon=True).result(LIMIT) == 8


def test_the_sentinel_can_be_waited_for(context: Any) -> None:
    ours, theirs = context.Pipe()
    process = started(context, work.told, theirs)
    assert connection.wait([process.sentinel], 0) == []
    ours.send(None)
    assert connection.wait([process.sentinel], LIMIT) == [process.sentinel]
    process.join()
    ours.close()
    theirs.close()


def test_the_sentinel_shows_the_end_although_a_grandchild_holds_everything(context: Any) -> None:
    ours, theirs = context.Pipe()
    process = started(context, leaves_a_grandchild, theirs)
    process.join(LIMIT)
    assert process.exitcode == 0
    ours.send("end")
    assert ours.recv() == "ended"
    ours.close()
    theirs.close()


def leaves_a_grandchild(pipe: Any) -> None:
    if os.fork() == 0:
        pipe.recv()
        pipe.send("ended")
        os._exit(0)


def test_interrupt_is_sigint(context: Any) -> None:
    ours, theirs = context.Pipe()
    process = started(context, work.told, theirs)
    assert ours.recv() == process.pid
    process.interrupt()
    with pytest.raises(errors.TaskAborted, match="KeyboardInterrupt"):
        process.result(LIMIT)
    ours.close()
    theirs.close()


def test_signals_can_stay_blocked_from_the_first_instruction_on(context: Any) -> None:
    process = context.Process(target=work.blocked)
    terms_of(process).blocked = frozenset({signal.SIGINT})
    process.start()
    assert process.result(LIMIT) == {signal.SIGINT}
    assert started(context, work.blocked).result(LIMIT) == set()


def test_join_from_several_threads(context: Any) -> None:
    process = started(context, work.double, 1)
    threads = [threading.Thread(target=process.join, args=(LIMIT,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process.exitcode == 0


def test_a_process_that_nobody_keeps_holds_nothing(context: Any) -> None:
    process = started(context, work.double, 1)
    process.join(LIMIT)
    gone = weakref.ref(process)
    del process
    gc.collect()
    assert gone() is None


def test_a_second_start_is_refused() -> None:
    process = started(millpond, work.double, 1)
    with pytest.raises(AssertionError, match="twice"):
        process.start()
    process.join(LIMIT)


def test_names_count_as_ever(context: Any) -> None:
    process = context.Process(target=work.double)
    assert process.name.split("-")[0] == type(process).__name__
    assert repr(process).startswith(f"<{type(process).__name__} name=")
    assert millpond.Process().name.startswith("Process-")
