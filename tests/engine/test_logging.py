"""What workers log reaches the parent's loggers: all of it, once, in order, and before the results."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from functools import partial
from multiprocessing import util
from pathlib import Path
from typing import Any

import pytest

import millpond
from millpond import Pool
from millpond.testing import tasks
from millpond.worker import frames, records
from millpond.worker.channel import WorkerChannel
from tests.engine.logged import Gathering, logger, say

LIMIT = 60.0


# Tasks ------------------------------------------------------------------------------------------


class Unsendable:
    def __repr__(self) -> str:
        return "<unsendable>"

    def __reduce__(self) -> Any:
        raise ValueError("it stays")


class Unloadable:
    def __reduce__(self) -> Any:
        return int, ("no number",)


def say_more() -> int:
    extra = {"place": ("here", 1), "left": Unsendable(), "broken": Unloadable(), "kind": 3}
    try:
        raise KeyError("lost")
    except KeyError:
        logger.exception("it %s", "failed", extra=extra)
    return os.getpid()


def say_at_the_end() -> None:
    util.Finalize(None, logger.info, ("at the end",), exitpriority=10)


def say_later(asked: Path, said: Path) -> None:
    """A thread says it once the task has ended, when it is asked to."""

    def later() -> None:
        tasks.wait_until(asked.exists, "it is asked to")
        logger.info("later")
        said.touch()

    threading.Thread(target=later, daemon=True).start()


def say_much(count: int) -> int:
    for number in range(count):
        logger.info("%d", number)
    return count


def say_in_threads(count: int) -> bytes:
    """Threads talk while the main one sends a large value."""

    def talk(letter: str) -> None:
        for _ in range(count):
            logger.info(letter * 3000)

    for letter in "abc":
        threading.Thread(target=talk, args=(letter,)).start()
    return bytes(1 << 20)


def say_and_die() -> None:
    logger.info("before the end")
    os.kill(os.getpid(), signal.SIGKILL)


def say_wrongly() -> int:
    logger.info("%d", "no number")
    return 1


def say_in_a_fork() -> int:
    pid = os.fork()
    if pid == 0:
        logger.info("in a fork")
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def say_in_a_nested_pool() -> None:
    with Pool(1) as pool:
        pool.map(say, [1, 2])


# Tests ------------------------------------------------------------------------------------------


def test_they_are_there_when_the_results_are(method: str, gathering: Gathering) -> None:
    with Pool(2, start_method=method) as pool:
        pool.map(say, range(20))
        assert sorted(gathering.messages) == sorted(f"number {n}" for n in range(20))
        for number in range(20):
            pool.apply(say, (100 + number,))
            assert gathering.messages[-1] == f"number {100 + number}"
    assert len(gathering.records) == 40


def test_a_record_keeps_what_it_says(method: str, gathering: Gathering) -> None:
    with Pool(1, start_method=method) as pool:
        pid = pool.apply(say_more)
        name = pool._pool[0].name
    (record,) = gathering.records
    assert record.getMessage() == "it failed"
    assert record.levelno == logging.ERROR
    assert (record.name, record.funcName) == ("tests.mill", "say_more")
    assert (record.process, record.processName, record.threadName) == (pid, name, "MainThread")
    extra = record.__dict__
    assert (extra["place"], extra["kind"], extra["left"]) == (("here", 1), 3, "<unsendable>")
    assert extra["broken"] == "<cannot be unpickled: ValueError>"
    shown = logging.Formatter().format(record)
    assert shown.endswith("KeyError: 'lost'")
    assert shown.count("Traceback") == 1


def test_the_last_record_of_a_worker_arrives(method: str, gathering: Gathering) -> None:
    pool = Pool(1, start_method=method)
    pool.apply(say_at_the_end)
    pool.close()
    pool.join()
    assert gathering.messages == ["at the end"]


def test_terminate_delivers_what_was_sent(
    method: str, gathering: Gathering, tmp_path: Path
) -> None:
    asked, said = tmp_path / "asked", tmp_path / "said"
    pool = Pool(1, start_method=method)
    pool.apply(say_later, (asked, said))
    asked.touch()
    tasks.wait_until(said.exists, "the thread has logged")
    pool.terminate()
    assert gathering.messages == ["later"]
    pool.join()


def test_a_flood_is_not_lost_and_not_piled_up(gathering: Gathering) -> None:
    numbers: list[int] = []

    def take() -> None:
        numbers.append(int(gathering.records.pop().getMessage()))

    gathering.act = take
    logger.propagate = False  # pytest keeps what it gets
    try:
        with Pool(1, start_method="fork") as pool:
            assert pool.apply(say_much, (100_000,)) == 100_000
    finally:
        logger.propagate = True
    assert numbers == list(range(100_000))


def test_threads_do_not_tear_frames(gathering: Gathering) -> None:
    with Pool(1, start_method="fork") as pool:
        assert [len(value) for value in pool.map(say_in_threads, [50] * 4, 1)] == [1 << 20] * 4
        pool.close()
        pool.join()
    assert sorted(gathering.messages) == sorted([x * 3000 for x in "abc" for _ in range(200)])


def test_a_signal_handler_amid_a_frame_waits_for_its_end() -> None:
    """The frame is larger than the socket's buffer, and nothing more is read before the handler runs."""
    body = bytes(1 << 23)
    came = bytearray()
    begun = threading.Event()
    main = threading.get_ident()

    def log(*_: object) -> None:
        if not begun.is_set():
            begun.set()
            channel.send_amid([b"record"])
            channel.send_amid([b"another"])

    def read() -> None:
        came.extend(ours.recv(1))
        # A signal that comes just before a call does not interrupt it.
        while not begun.wait(0.01):
            signal.pthread_kill(main, signal.SIGUSR1)
        while piece := ours.recv(1 << 20):
            came.extend(piece)

    ours, theirs = socket.socketpair()
    channel = WorkerChannel(theirs.detach())
    reader = threading.Thread(target=read)
    before = signal.signal(signal.SIGUSR1, log)
    try:
        reader.start()
        channel.send([b"head", body])
    finally:
        channel.close()
        reader.join(LIMIT)
        signal.signal(signal.SIGUSR1, before)
        ours.close()
    whole = came == b"head" + body + b"recordanother"
    assert whole, (len(came), came.find(b"record"))


def test_arguments_that_do_not_fit_harm_nobody(
    gathering: Gathering, capfd: pytest.CaptureFixture[str]
) -> None:
    with Pool(1, start_method="fork") as pool:
        assert pool.apply(say_wrongly) == 1
        assert pool.apply(say, (1,)) == 1
    assert gathering.messages == ["number 1"]
    assert "Logging error" in capfd.readouterr().err


def test_a_handler_that_raises_is_reported(
    gathering: Gathering, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("no room")

    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    gathering.act = fail
    with Pool(1, start_method="fork") as pool:
        assert pool.map(say, [1, 2]) == [1, 2]
    assert [str(entry.exc_value) for entry in told] == ["no room", "no room"]
    told.clear()


def test_ctrl_c_in_a_handler_is_the_caller_s(gathering: Gathering) -> None:
    gathering.act = partial(signal.raise_signal, signal.SIGINT)
    with Pool(1, start_method="fork") as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.apply(say, (1,))
        gathering.act = bool
        assert pool.apply(say, (2,)) == 2
    assert gathering.messages == ["number 1", "number 2"]


def test_a_worker_that_dies_has_said_what_it_said(gathering: Gathering) -> None:
    with Pool(1, start_method="fork") as pool, pytest.raises(millpond.WorkerDied):
        pool.apply(say_and_die)
    assert gathering.messages == ["before the end"]


def test_a_handler_may_use_the_pool(gathering: Gathering) -> None:
    answers: list[int] = []
    with Pool(1, start_method="fork") as pool:
        gathering.act = lambda: answers.append(pool.apply(tasks.square, (3,)))
        assert pool.apply(say, (1,)) == 1
    assert answers == [9]


def test_a_fork_of_a_worker_logs_as_in_multiprocessing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    handler = logging.FileHandler(path)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with Pool(1, start_method="fork") as pool:
            assert pool.apply(say_in_a_fork) == 0
            pool.apply(say, (1,))
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
        handler.close()
    assert path.read_text().splitlines() == ["in a fork", "number 1"]


def test_a_nested_pool_s_records_come_all_the_way(method: str, gathering: Gathering) -> None:
    with Pool(1, start_method=method) as pool:
        pool.apply(say_in_a_nested_pool)
        assert gathering.messages == ["number 1", "number 2"]


def test_a_record_that_is_no_record_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    from millpond import logs

    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    logs.reissue(b"nonsense")
    assert len(told) == 1
    told.clear()
    gc.collect()


def test_threads_and_inline_log_as_ever(gathering: Gathering) -> None:
    for backend in ("threads", "inline"):
        with Pool(1, backend=backend) as pool:
            pool.map(say, [1])
    assert gathering.messages == ["number 1"] * 2


def test_without_a_parent_there_is_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = socket.socketpair()
    channel = WorkerChannel(theirs.detach())
    ours.close()
    record = logging.makeLogRecord({"msg": "alone", "name": "x", "levelname": "INFO"})
    records.Forwarder(channel, records.pack).handle(record)
    channel.close()
    assert capsys.readouterr().err == "INFO:x:alone\n"


def test_frames_and_records_agree() -> None:
    record = logging.makeLogRecord({"msg": "a %s", "args": ("b",), "name": "x"})
    (frame,) = frames.Decoder().feed(b"".join(frames.encode(frames.LOG, [records.pack(record)])))
    assert records.unpack(frame.body).getMessage() == "a b"


def test_millpond_itself_loads_no_logging() -> None:
    code = "import sys, millpond; sys.exit('logging' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=LIMIT).returncode == 0
    assert millpond.__name__ == "millpond"
