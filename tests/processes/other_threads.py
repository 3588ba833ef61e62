"""What another thread may do while a pool is made: rest, or hold something, or work."""

from __future__ import annotations

import _thread
import ctypes
import hashlib
import multiprocessing
import os
import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

LIMIT = 30.0


class Other:
    """What the other thread has to do with."""

    def __init__(self) -> None:
        self.there = threading.Event()  # the thread does what it is here for, or is about to
        self.over = threading.Event()
        self.reader, self.writer = socket.socketpair()
        self.queue: Any = queue.Queue()
        self.simple: Any = queue.SimpleQueue()
        self.event = threading.Event()

    def wait(self) -> None:
        self.there.set()
        self.over.wait(LIMIT)

    def end(self) -> None:
        self.over.set()
        self.queue.put(None)
        self.simple.put(None)
        self.writer.close()


lock = threading.Lock()
again = threading.RLock()
gate = threading.Semaphore(1)
bounded = threading.BoundedSemaphore(1)
condition = threading.Condition()


def under_locks(x: int) -> int:
    for one in (lock, again, gate, bounded, condition):
        with one:
            pass
    return x


# Threads at rest ----------------------------------------------------------------------------------


def waits(other: Other) -> None:
    other.wait()


def waits_with_a_file(other: Other) -> None:
    with open(os.devnull):
        other.wait()


def takes_from_a_queue(other: Other) -> None:
    other.there.set()
    other.queue.get()


def takes_from_a_simple_queue(other: Other) -> None:
    other.there.set()
    other.simple.get()


def waits_for_another_process(other: Other) -> None:
    shared = multiprocessing.get_context("fork").Event()

    def end() -> None:
        other.over.wait(LIMIT)
        shared.set()

    threading.Thread(target=end, daemon=True).start()
    other.there.set()
    shared.wait(LIMIT)


def polls(other: Other) -> None:
    poller = select.poll()
    poller.register(other.reader, select.POLLIN)
    other.there.set()
    poller.poll(1000 * LIMIT)


def receives(other: Other) -> None:
    other.there.set()
    other.reader.recv(1)


def sleeps_now_and_then(other: Other) -> None:
    other.there.set()
    while not other.over.is_set():
        time.sleep(0.1)


def held_before(other: Other) -> None:
    with lock:
        pass
    other.wait()


def waits_in_a_generator(other: Other) -> None:
    def values() -> Iterator[int]:
        other.wait()
        yield 1

    list(values())


AT_REST = [
    waits, waits_with_a_file, takes_from_a_queue, takes_from_a_simple_queue, polls, receives,
    waits_for_another_process,
    sleeps_now_and_then, held_before, waits_in_a_generator,
]  # fmt: skip


# And others ---------------------------------------------------------------------------------------


def with_a_lock(other: Other) -> None:
    with lock:
        other.wait()


def acquired(other: Other) -> None:
    lock.acquire()
    other.wait()
    lock.release()


def with_a_lock_further_up(other: Other, levels: int = 20) -> None:
    if levels:
        with_a_lock_further_up(other, levels - 1)
    else:
        with_a_lock(other)


def with_a_lock_of_its_own_kind(other: Other) -> None:
    with again:
        other.wait()


def with_a_semaphore(other: Other) -> None:
    with gate:
        other.wait()


def with_a_bounded_semaphore(other: Other) -> None:
    with bounded:
        other.wait()


def with_a_condition_and_waits_for_something_else(other: Other) -> None:
    with condition:
        other.wait()


def holds_while_another_waits_for_it(other: Other) -> None:
    def second() -> None:
        with lock:
            pass

    with lock:
        thread = threading.Thread(target=second, name="somebody else")
        thread.start()
        other.wait()
    thread.join()


def with_a_lock_in_a_generator(other: Other) -> None:
    def values() -> Iterator[int]:
        with lock:
            other.wait()
            yield 1

    list(values())


def computes_in_native_code(other: Other) -> None:
    other.there.set()
    while not other.over.is_set():
        hashlib.pbkdf2_hmac("sha256", b"", b"", 300_000)


def sleeps_in_native_code(other: Other) -> None:
    library = ctypes.CDLL(None)
    other.there.set()
    while not other.over.is_set():
        library.usleep(100_000)


def is_called_by_native_code(other: Other) -> None:
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    first = True

    def compare(a: int, b: int) -> int:
        nonlocal first
        if first:
            first = False
            other.wait()
        return 0

    ctypes.CDLL(None).qsort((ctypes.c_int * 2)(2, 1), 2, 4, kind(compare))


def reads_a_buffer(other: Other) -> None:
    with other.reader.makefile("rb") as file:
        other.there.set()
        file.readline()


def computes(other: Other) -> None:
    other.there.set()
    while not other.over.is_set():
        pass


def is_of_another_module(other: Other) -> None:
    ended = threading.Lock()
    ended.acquire()

    def raw() -> None:
        other.wait()
        ended.release()

    _thread.start_new_thread(raw, ())
    ended.acquire()


NOT_AT_REST = [
    with_a_lock, acquired, with_a_lock_further_up, with_a_lock_of_its_own_kind, with_a_semaphore,
    with_a_bounded_semaphore, with_a_condition_and_waits_for_something_else, with_a_lock_in_a_generator,
    holds_while_another_waits_for_it, computes_in_native_code, sleeps_in_native_code,
    is_called_by_native_code, reads_a_buffer, computes, is_of_another_module,
]  # fmt: skip

Act = Callable[[Other], None]
