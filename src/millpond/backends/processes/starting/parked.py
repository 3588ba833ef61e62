"""Whether a thread lies in a wait in which it holds nothing, and whether any lock is held that could be its own.

Rules: the waits are a list of functions of C, which are found in the frame that calls them; a plain lock has no
owner, so one that is held counts, unless it is known what for; a semaphore at zero may be a signal that nobody has
given yet, and counts where a thread has a name for it.
"""

from __future__ import annotations

import _io
import functools
import gc
import sys
import threading
import types
import weakref
from collections.abc import Iterator
from typing import Any, Final

from millpond.backends.processes.starting import calls
from millpond.backends.processes.starting.bystanders import OWN
from millpond.parking import FORSAKEN, Parking

_Lock: Final = type(threading.Lock())
_RLock: Final = type(threading.RLock())
_KINDS: Final = frozenset({_Lock, _RLock, threading.Semaphore, threading.BoundedSemaphore})

_WAITS: Final = {
    "_thread.lock": "acquire acquire_lock __enter__",
    "_thread.RLock": "acquire __enter__",
    "_thread._ThreadHandle": "join",
    "_queue.SimpleQueue": "get",
    "_multiprocessing.SemLock": "acquire __enter__",
    "select": "select",
    "select.poll": "poll",
    "select.epoll": "poll",
    "_socket.socket": "recv recv_into recvfrom recvfrom_into recvmsg _accept",
    "time": "sleep",
    "posix": "read wait wait3 wait4 waitpid waitid",
    "_signal": "pause sigwait sigwaitinfo sigtimedwait",
    "zmq.backend.cython._zmq": "proxy",  # in which each Jupyter kernel has a thread
}
"""Functions of C in which a thread waits and holds nothing: their modules or classes, and names."""
_PARKED: Final = frozenset(f"{of}.{name}" for of, names in _WAITS.items() for name in names.split())

_FROZEN_AT_START: Final = 1000
"""Objects that the interpreter itself may have frozen: 3.12 freezes some hundred, a program thousands."""

_WAITERS: Final = {
    threading.Condition.wait.__code__: "waiter",
    Parking.park.__code__: "mine",
}
"""Functions that lock a lock only to be woken by its release, with the variable that it is in."""

_HOLD_NOTHING: Final = frozenset({"builtins", "_contextvars", "functools"})
"""Modules in C whose functions call others with no lock held."""


def is_parked(frame: types.FrameType | None) -> bool:
    """Whether the thread waits, and nothing above that wait in its stack is known to hold a lock."""
    if frame is None or not (_is_wait(calls.callee(frame)) or _is_pool_idle(frame)):
        return False
    called = frame
    while not _may_hold(called):
        if called.f_back is None:
            return True
        if not _holds_nothing(calls.callee(called.f_back), called.f_code):
            return False
        called = called.f_back
    return False


def _is_pool_idle(frame: types.FrameType) -> bool:
    """Whether it is the thread of multiprocessing's pool that loops over ``iter(queue.get, None)``."""
    pool: Any = sys.modules.get("multiprocessing.pool")
    its_own = pool is not None and frame.f_code is pool.Pool._handle_tasks.__code__
    return its_own and calls.callee(frame) is calls.NONE


def _is_wait(function: Any) -> bool:
    while type(function) is functools.partial:
        function = function.func
    return _path(function) in _PARKED


def _path(function: Any) -> str:
    """Where a function of C is from: its class or module, and its name."""
    kind = type(function)
    built_in = types.BuiltinFunctionType in kind.__mro__
    if kind is types.MethodDescriptorType:
        of = function.__objclass__
    elif built_in and type(function.__self__) is not types.ModuleType:
        of = type(function.__self__)
    elif built_in or kind.__name__ == "cython_function_or_method":
        return f"{function.__module__}.{function.__name__}"
    else:
        return ""
    return f"{of.__module__}.{of.__qualname__}.{function.__name__}"


def _holds_nothing(function: Any, called: types.CodeType) -> bool:
    """Whether no lock is held in C between the call of a function and the code that it has come to."""
    if function is calls.NONE:
        return True
    kind = type(function)
    if kind is calls.Unknown:
        return called.co_name in (
            function.name,
            "__call__",
        )  # by its own name, it was called by Python
    if kind is types.MethodDescriptorType or types.BuiltinFunctionType in kind.__mro__:
        return _path(function).partition(".")[0] in _HOLD_NOTHING
    if isinstance(function, type) or kind.__module__ in _HOLD_NOTHING:
        return True
    if kind in (types.FunctionType, types.MethodType, staticmethod, classmethod):
        return True
    return any(type(vars(one).get("__call__")) is types.FunctionType for one in kind.__mro__)


def _may_hold(frame: types.FrameType) -> bool:
    """An import holds its module's lock; what is read in Python for a buffer of C, the buffer's."""
    code = frame.f_code
    if code.co_filename == "<frozen importlib._bootstrap>":
        return True
    if not code.co_argcount:
        return False
    return _io._RawIOBase in type(calls.local(frame, code.co_varnames[0])).__mro__


class Locks:
    """All locks of this process; those that came since they were found are found soon."""

    def __init__(self) -> None:
        self._collected = -1
        self._found: list[
            weakref.ref[Any]
        ] = []  # one that was locked to wait on it is forgotten after that

    def is_one_held(self, frames: dict[int, types.FrameType]) -> bool:
        """Whether another thread may hold one, but for those of ours; ``frames``: what the threads do."""
        if gc.get_freeze_count() > _FROZEN_AT_START:
            return True  # where the collector does not look, neither can this
        known = set(map(id, _known(frames)))
        ours = {thread.ident for thread in threading.enumerate() if thread.name.startswith(OWN)}
        held = [one for one in self._all() if id(one) not in known and _is_held(one, ours)]
        signals = {id(one) for one in held if type(one) is threading.Semaphore}
        return len(held) > len(signals) or any(
            id(one) in signals
            for frame in frames.values()
            for outer in _stack(frame)
            for one in calls.within_reach(outer)
        )

    def _all(self) -> Iterator[Any]:
        collected = _collected()
        if collected != self._collected:
            found = [one for one in gc.get_referrers(*_KINDS) if type(one) in _KINDS]
            self._found = list(map(weakref.ref, found))
            self._collected = collected
            yield from found
        else:
            yield from filter(None, (one() for one in self._found))
        for one in gc.get_objects(generation=0):  # all that have come since are among the youngest
            if type(one) in _KINDS:
                yield one


def _stack(frame: types.FrameType | None) -> Iterator[types.FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _collected() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


def _known(frames: dict[int, types.FrameType]) -> Iterator[Any]:
    """Locks that are held, and it is known what for."""
    yield from FORSAKEN
    for thread in threading.enumerate():
        yield getattr(thread, "_tstate_lock", None)  # until 3.12: by each thread that lives
    for frame in frames.values():
        variable = _WAITERS.get(frame.f_code)
        if variable is not None:
            yield calls.local(frame, variable)


def _is_held(one: Any, ours: set[int | None]) -> bool:
    """Whether a lock is held by a thread that is neither this one nor in ``ours``, or nobody knows by whom."""
    if type(one) is _Lock:
        return bool(one.locked())
    if type(one) is threading.BoundedSemaphore:
        return bool(vars(one)["_value"] < vars(one)["_initial_value"])
    if type(one) is threading.Semaphore:
        return bool(vars(one)["_value"] == 0)
    if one.acquire(False):
        one.release()
        return False
    owner = repr(one).partition("owner=")[2].partition(" ")[0]
    return not (owner.isdigit() and int(owner) in ours)
