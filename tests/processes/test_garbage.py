"""A worker in whose channel something else writes: what came before counts, and only what it was in is lost."""

from __future__ import annotations

import os
import pickle
import threading
from typing import Any

import pytest

from millpond import Pool, ProtocolError
from millpond.worker import frames, records
from millpond.worker.slate import IDLE, STEP, WORD

GARBAGE = b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\n"


def channel() -> Any:
    forwarder: Any = records._forwarder
    return forwarder._channel


def answer_and_garble(value: int) -> None:
    """Does the worker's work, with garbage in the same breath: the answer, and a slate that says so."""
    body = pickle.dumps([value])
    answer = b"".join(frames.encode(frames.DONE, [body], flags=frames.PLAIN, count=1, seq=0))
    slate()[WORD] = 1 * STEP + IDLE
    os.write(channel().fileno(), answer + GARBAGE)
    threading.Event().wait()


def slate() -> Any:
    """The words of the slate of the worker that this is."""
    import gc

    from millpond.worker.loop import Worker

    (worker,) = (thing for thing in gc.get_objects() if type(thing) is Worker)
    return worker._page


def garble(_: object) -> None:
    os.write(channel().fileno(), GARBAGE)
    threading.Event().wait()


def forge(body: bytes) -> None:
    """Something like the answer of the task that this is."""
    os.write(channel().fileno(), b"".join(frames.encode(frames.DONE, [body], count=1)))
    threading.Event().wait()


def test_a_frame_whose_body_cannot_be_read_is_garbage_too() -> None:
    with Pool(1, start_method="fork") as pool:
        with pytest.raises(ProtocolError) as found:
            pool.apply(forge, (b"\x1bjunk",))
        assert str(found.value).endswith(
            "since it had sent what no worker sends: a frame cannot be read: UnpicklingError: "
            "invalid load key, '\\x1b'."
        )
        assert pool.apply(abs, (-1,)) == 1


def test_an_answer_that_came_before_garbage_counts() -> None:
    with Pool(1, start_method="fork") as pool:
        assert pool.apply(answer_and_garble, (7,)) == 7
        assert pool.apply(abs, (-1,)) == 1


def test_garbage_costs_the_task_that_its_worker_was_in() -> None:
    with Pool(2, start_method="fork") as pool:
        results = [pool.apply_async(abs, (-n,)) for n in range(20)]
        with pytest.raises(ProtocolError, match=r"task 0 of garble\(None\)"):
            pool.apply(garble, (None,))
        assert [result.get(30) for result in results] == list(range(20))
        assert pool.map(abs, range(-5, 0)) == [5, 4, 3, 2, 1]
