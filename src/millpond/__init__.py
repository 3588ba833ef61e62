"""multiprocessing's Process and Pool, with the same names and without the faults.

cli                                 the commands
compute  download  images           the applications, on public names only
shell  testing                      what commands share; what tests of backends share
pool  process  context              the names of multiprocessing
watch  results  journal             views of a job
engine  job                         event -> scheduler -> commands -> backend
backends                            how workers exist: processes, threads, inline
worker                              what runs in a worker
core  cpus                          decides, and does nothing else
errors                              every exception that a user can catch
"""

from __future__ import annotations

import importlib
import multiprocessing as _std
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from multiprocessing import Array as Array
    from multiprocessing import AuthenticationError as AuthenticationError
    from multiprocessing import Barrier as Barrier
    from multiprocessing import BoundedSemaphore as BoundedSemaphore
    from multiprocessing import BufferTooShort as BufferTooShort
    from multiprocessing import Condition as Condition
    from multiprocessing import Event as Event
    from multiprocessing import JoinableQueue as JoinableQueue
    from multiprocessing import Lock as Lock
    from multiprocessing import Manager as Manager
    from multiprocessing import Pipe as Pipe
    from multiprocessing import ProcessError as ProcessError
    from multiprocessing import Queue as Queue
    from multiprocessing import RawArray as RawArray
    from multiprocessing import RawValue as RawValue
    from multiprocessing import RLock as RLock
    from multiprocessing import Semaphore as Semaphore
    from multiprocessing import SimpleQueue as SimpleQueue
    from multiprocessing import TimeoutError as TimeoutError
    from multiprocessing import Value as Value
    from multiprocessing import active_children as active_children
    from multiprocessing import allow_connection_pickling as allow_connection_pickling
    from multiprocessing import cpu_count as cpu_count
    from multiprocessing import current_process as current_process
    from multiprocessing import freeze_support as freeze_support
    from multiprocessing import get_all_start_methods as get_all_start_methods
    from multiprocessing import get_logger as get_logger
    from multiprocessing import get_start_method as get_start_method
    from multiprocessing import log_to_stderr as log_to_stderr
    from multiprocessing import parent_process as parent_process
    from multiprocessing import reducer as reducer
    from multiprocessing import set_executable as set_executable
    from multiprocessing import set_forkserver_preload as set_forkserver_preload
    from multiprocessing import set_start_method as set_start_method

    from millpond import errors as errors
    from millpond.arrays import empty as empty
    from millpond.context import BaseContext
    from millpond.errors import CannotKill as CannotKill
    from millpond.errors import ExtraMissing as ExtraMissing
    from millpond.errors import InitializerError as InitializerError
    from millpond.errors import MaybeEncodingError as MaybeEncodingError
    from millpond.errors import MillpondError as MillpondError
    from millpond.errors import PoolForkedError as PoolForkedError
    from millpond.errors import ProtocolError as ProtocolError
    from millpond.errors import SandboxError as SandboxError
    from millpond.errors import TaskAborted as TaskAborted
    from millpond.errors import TaskError as TaskError
    from millpond.errors import TaskTimeout as TaskTimeout
    from millpond.errors import WorkerDied as WorkerDied
    from millpond.executor import PoolExecutor as PoolExecutor
    from millpond.options import TaskOptions as TaskOptions
    from millpond.pool import Pool as Pool
    from millpond.process import Process as Process
    from millpond.results import AsyncResult as AsyncResult
    from millpond.watch.snapshot import Snapshot as Snapshot
    from millpond.worker.sandbox import Sandbox as Sandbox
    from millpond.worker.seeding import rng as rng

    def get_context(method: str | None = None) -> BaseContext: ...


_ERRORS = (
    "CannotKill",
    "ExtraMissing",
    "InitializerError",
    "MaybeEncodingError",
    "MillpondError",
    "PoolForkedError",
    "ProtocolError",
    "SandboxError",
    "TaskAborted",
    "TaskError",
    "TaskTimeout",
    "WorkerDied",
)

# Where the names are that no context has: name -> module.
_HOMES = {
    "AsyncResult": "millpond.results",
    "Pool": "millpond.pool",
    "PoolExecutor": "millpond.executor",
    "Process": "millpond.process",
    "Sandbox": "millpond.worker.sandbox",
    "Snapshot": "millpond.watch.snapshot",
    "TaskOptions": "millpond.options",
    "empty": "millpond.arrays",
    "rng": "millpond.worker.seeding",
    **dict.fromkeys(_ERRORS, "millpond.errors"),
}

__all__ = [  # noqa: PLE0604
    *_std.__all__, *_HOMES, "__version__", "errors", "shutdown",
]  # fmt: skip


def shutdown() -> None:
    """End what millpond keeps running for this process between uses: its fork server.

    The next start that needs one begins a new one.
    """
    from millpond.backends.processes.starting import nursery

    nursery.shutdown()


def __getattr__(name: str) -> Any:
    # PEP 562: a name is found, and its module imported, when it is first used.
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name in _std.__all__:
        value = getattr(importlib.import_module("millpond.context")._default_context, name)
    else:
        return _submodule(name)
    if name != "reducer":  # a property: what it gives may change
        globals()[name] = value
    return value


def _submodule(name: str) -> Any:
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as missing:
        if missing.name != f"{__name__}.{name}":
            raise
    try:
        return getattr(_std, name)  # SUBDEBUG, SUBWARNING
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_std.__all__})
