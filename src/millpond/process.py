"""``Process``: multiprocessing's, and it gives back what ``run()`` returned.

    with a Process p:   p.start() ... p.join()          as ever
                        p.result()                      run()'s value, or what it raised
                        await p                         the same, in asyncio

What ``run()`` returned or raised is written by the child into an unnamed file that the parent made
before the start, so the child ends whether anybody reads it or not.

Rules: everything that ``multiprocessing.process`` decides stays decided there (names, counters, the
authkey, the set of children, ``_bootstrap``); a name that is not here is that module's.
"""

from __future__ import annotations

import multiprocessing.process
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from millpond import amounts, errors
from millpond.backends.processes import starting
from millpond.backends.processes.starting import interruptions, outcome_file, standard
from millpond.backends.processes.starting.returned import Returned, captured
from millpond.backends.processes.starting.terms import terms_of
from millpond.system import leash, low

if TYPE_CHECKING:
    import asyncio
    from multiprocessing.process import BaseProcess as BaseProcess
    from multiprocessing.process import active_children as active_children
    from multiprocessing.process import current_process as current_process
    from multiprocessing.process import parent_process as parent_process

__all__ = ["BaseProcess", "active_children", "current_process", "parent_process"]

_taking = threading.RLock()  # garbage collection may ask another process while this thread has it


class Process(multiprocessing.process.BaseProcess):
    """A process that runs ``target``, or the ``run()`` of a subclass.

    With ``die_with_parent=True`` it ends when the process that started it ends, however that ends,
    as daemonic ones always do. Unlike in multiprocessing, a daemonic process may have children;
    they end with it.

    With ``timeout=`` (seconds; None: no limit) it is killed when it still runs so long after
    ``start()`` has made it, which under spawn and forkserver includes its imports, and ``result()``
    raises ``TaskTimeout``. SIGKILL ends it whatever it does, and its daemonic and bound children
    with it; other programs that it started go on. A result that it left whole before counts. The
    process that started it is the one to watch: where that ends first, and the child is neither
    daemonic nor bound to it, the limit goes with it.

    Raises TypeError for a ``timeout`` that is no number, ValueError for one that is not above zero.
    """

    _parent_pid: int
    _target: Callable[..., object] | None
    _args: tuple[Any, ...]
    _kwargs: dict[str, Any]
    _check_closed: Callable[[], None]

    _start_method: str | None = None

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] = {},
        *,
        daemon: bool | None = None,
        die_with_parent: bool = False,
        timeout: float | None = None,
    ) -> None:
        super().__init__(group, target, name, args, kwargs, daemon=daemon)
        terms = terms_of(self)
        terms.die_with_parent = bool(die_with_parent)
        terms.time_limit = None if timeout is None else _seconds(timeout)

    @staticmethod
    def _Popen(process_obj: Process) -> Any:
        method = process_obj._start_method or standard.context._default_context.get_start_method()
        return starting.launch(process_obj, method)

    @staticmethod
    def _after_fork() -> None:
        current = standard.process.current_process()
        method = getattr(current, "_start_method", None)
        if (method or standard.context._default_context.get_start_method()) != "spawn":
            standard.process.BaseProcess._after_fork()

    # --- the parent's side ---

    def start(self) -> None:
        """Start the child process."""
        self._check_closed()
        assert self._popen is None, "cannot start a process twice"
        assert self._parent_pid == os.getpid(), (
            "can only start a process object created by current process"
        )
        standard.process._cleanup()
        terms = terms_of(self)
        current: Any = standard.process.current_process()
        terms.bound = bool(
            self.daemon or terms.die_with_parent or current.daemon or leash.TIE in current._config
        )
        with interruptions.held():
            terms.outcome = outcome_file.OutcomeFile() if terms.returns else None
            try:
                self._popen: Any = _launch(self)
            except BaseException:
                if terms.outcome is not None:
                    terms.outcome.close()
                    terms.outcome = None
                raise
            self._sentinel = self._popen.sentinel
            # The target may refer to this object, or be large (bpo-30775).
            del self._target, self._args, self._kwargs
            standard.process._children.add(self)

    def interrupt(self) -> None:
        """Send SIGINT, which raises KeyboardInterrupt in the process unless it chose otherwise."""
        self._check_closed()
        self._popen.interrupt()

    def close(self) -> None:
        """Give back what this object holds, the result included; the process must have ended."""
        super().close()
        outcome = terms_of(self).outcome
        if outcome is not None:
            outcome.close()

    @property
    def die_with_parent(self) -> bool:
        """Whether it ends with the process that started it; daemonic ones do in any case."""
        return terms_of(self).die_with_parent

    @property
    def _exit_unknown(self) -> bool:
        """Whether the exit code (255) stands for one that nobody can tell: somebody else reaped."""
        return self._popen is not None and bool(self._popen.exit_unknown)

    def result(self, timeout: float | None = None) -> Any:
        """What ``run()`` returned, once the process has ended; raises what it raised.

        That exception has the remote traceback as its cause. Raises
        ``multiprocessing.TimeoutError`` after ``timeout`` seconds, ``WorkerDied`` where the process
        ended before ``run()`` returned, ``TaskTimeout`` where that was for its own limit,
        ``TaskAborted`` where it raised SystemExit or
        KeyboardInterrupt, ``MaybeEncodingError`` where the value cannot be pickled.
        """
        self._await_end(timeout)
        return _outcome_of(self).get()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What ``result()`` would raise once the process has ended, or None; waits as it does."""
        self._await_end(timeout)
        return _outcome_of(self).error

    def __await__(self) -> Generator[Any, None, Any]:
        """``await process`` is ``result()`` that lets the event loop go on meanwhile."""
        self._check_started()
        if self._popen.poll() is None:
            yield from _readable(self.sentinel).__await__()
        self._await_end(None)
        return _outcome_of(self).get()

    def _check_started(self) -> None:
        self._check_closed()
        if self._popen is None:
            raise ValueError("process not started")
        assert self._parent_pid == os.getpid(), "can only ask a child process for its result"

    def _await_end(self, timeout: float | None) -> None:
        self._check_started()
        if self._popen.wait(timeout) is None:
            raise errors.TimeoutError(f"{self.name} has not ended after {timeout} s")
        standard.process._children.discard(self)

    # --- the child's side ---

    def run(self) -> Any:
        """What the child does: call the target. What it returns, or a subclass's, is the result."""
        if self._target:
            return self._target(*self._args, **self._kwargs)
        return None

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        outcome = terms_of(self).outcome
        if outcome is not None:
            vars(self)["run"] = captured(self.run, outcome)
        try:
            code: int = standard.process.BaseProcess._bootstrap(self, parent_sentinel)
            return code
        finally:
            vars(self).pop("run", None)


def _seconds(timeout: Any) -> float:
    """A limit that was given, checked."""
    import numbers

    if not isinstance(timeout, numbers.Real):
        raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}")
    seconds = amounts.real("timeout", timeout)
    if not seconds > 0:
        raise ValueError(f"timeout must be more than 0 seconds, not {timeout!r}")
    return seconds


@low.filled()
def _launch(process: Process) -> Any:
    """Start the child, and its time."""
    popen = process._Popen(process)
    limit = terms_of(process).time_limit
    if limit is not None:
        from millpond.backends.processes import deadlines

        deadlines.watch(popen, limit)
    return popen


def _outcome_of(process: Process) -> Returned:
    """What a process that has ended left; decoded once."""
    terms = terms_of(process)
    with _taking:  # a file can be taken once
        if terms.outcome is not None:
            terms.left = terms.outcome.read()
            file, terms.outcome = terms.outcome, None
            file.close()
    if terms.decoded is None:  # runs the user's code, so not under the lock
        decoded = Returned(terms.left, _death_of(process))
        with _taking:
            if terms.decoded is None:
                terms.decoded = decoded
                terms.left = None
    return terms.decoded


def _death_of(process: Process) -> errors.MillpondError:
    """What to say of a process that left nothing."""
    code = None if process._exit_unknown else process.exitcode
    who = f"{process.name} (pid {process.pid})"
    deadline = process._popen.deadline
    if deadline is not None and deadline.passed and code in {None, -signal.SIGKILL}:
        return errors.TaskTimeout(
            f"{who} ran longer than its limit of {deadline.seconds:g} s and was killed"
        )
    return errors.WorkerDied(
        f"{who} {errors.describe_exit(code)} before it returned",
        pid=process.pid,
        exitcode=code,
        phase="running",
    )


class ForkProcess(Process):
    """A process that is forked."""

    _start_method = "fork"


class SpawnProcess(Process):
    """A process in a fresh interpreter."""

    _start_method = "spawn"


class ForkServerProcess(Process):
    """A process forked by the fork server."""

    _start_method = "forkserver"


async def _readable(fd: int) -> None:
    """Wait, in asyncio, until ``fd`` is readable."""
    import asyncio

    loop = asyncio.get_running_loop()
    future = loop.create_future()
    own = os.dup(fd)  # the loop knows one reader a descriptor, and several tasks may wait
    loop.add_reader(own, _set_once, future)
    try:
        await future
    finally:
        loop.remove_reader(own)
        os.close(own)


def _set_once(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _forget_siblings() -> None:
    # After a plain os.fork() the parent's children are not ours to end when we exit.
    for process in list(standard.process._children):
        if isinstance(process, Process):
            standard.process._children.discard(process)
    _taking._at_fork_reinit()  # type: ignore[attr-defined]


os.register_at_fork(after_in_child=_forget_siblings)


def __getattr__(name: str) -> Any:
    return getattr(standard.process, name)
