"""What a ``Pool`` consists of, put together.

Apart from ``pool``, and imported by the first Pool that is made: a spawned worker imports the class with the
program's main module, makes no pool, and need not wait for all this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from millpond.arguments import check_count, check_recycling
from millpond.backends import registry
from millpond.backends.places import Staff
from millpond.context import starting
from millpond.core.policy import Policy
from millpond.engine import Engine
from millpond.options import NONE, TaskOptions, parse
from millpond.submission import Submission

if TYPE_CHECKING:
    from millpond.overrides import Overrides


class Wanted(NamedTuple):
    """The arguments of ``Pool``, but for its tasks' options; see there."""

    processes: int | None
    initializer: Callable[..., object] | None
    initargs: Iterable[Any]
    maxtasksperchild: int | None
    context: Any
    start_method: str | None
    backend: str | None
    cpus: Any
    blas_threads: int | None
    sandbox: Any
    at_most_once: bool


class Parts(NamedTuple):
    """Of one pool."""

    processes: int
    choice: registry.Choice
    engine: Engine
    submission: Submission


def assemble(wanted: Wanted, options: TaskOptions, overrides: Overrides | None = None) -> Parts:
    """Check the arguments and make the parts; no worker has been ordered yet.

    A pool that is the program's, and not this worker's, has no processes. ``overrides``: what its class has of its
    own, if that is a subclass.
    """
    others = registry.elsewhere()
    if others is not None:
        return Parts(0, others, others, others)
    registry.check_may_start()
    processes = check_count(wanted.processes)
    initializer, initargs = wanted.initializer, wanted.initargs
    max_chunks = check_recycling(wanted.maxtasksperchild)
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    start = starting(wanted.context, wanted.start_method)
    defaults = parse(NONE, options)
    if overrides is not None:
        processes_wanted = wanted.backend in (None, "processes")
        start = overrides.started(start, processes=processes_wanted, sandbox=bool(wanted.sandbox))
        overrides.warn(stacklevel=4)
        if start.queues is not None:
            initializer = overrides.initializer(start.queues, initializer)
    staff = Staff(processes, wanted.cpus, wanted.blas_threads, bool(wanted.at_most_once))
    choice = registry.choose(
        wanted.backend, start, initializer, tuple(initargs), staff, wanted.sandbox
    )
    policy = Policy(processes, max_chunks, staff.at_most_once, cpus=choice.usable)
    engine = Engine(policy, choice.backend, attended=choice.attended)
    submission = Submission(engine, choice.backend.packing, policy, defaults)
    return Parts(processes, choice, engine, submission)
