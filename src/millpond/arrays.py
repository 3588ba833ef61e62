"""Arrays that need not be copied to travel: ``millpond.empty``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from millpond.backends.processes import arena
from millpond.errors import ExtraMissing
from millpond.worker import arena as workers
from millpond.worker.segments import SMALLEST

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray


def empty(shape: int | tuple[int, ...], dtype: DTypeLike = float) -> NDArray[Any]:
    """``numpy.empty`` in memory that this program and its workers share.

    Such an array, or a contiguous part of it of 64 KiB or more, goes to a worker process without being copied: as
    an argument, in one, in ``functools.partial`` or closed over. The task sees it copy-on-write: what it writes is
    its own. What its owner writes while tasks run they may see, or not, page by page: let them end first. In a
    task it lies where the worker's results do, and returning it copies nothing.

    A process that was forked shares it as well, with its writes. Where there is no room it is an ordinary array.
    Raises TypeError for a dtype with objects, ExtraMissing without NumPy. Fresh pages cost about 0.4 ms a MiB,
    such as an earlier array had a tenth of it.
    """
    try:
        import numpy as np
    except ModuleNotFoundError as missing:
        if missing.name != "numpy":
            raise
        raise ExtraMissing(
            "millpond.empty() needs NumPy, which is not installed: pip install 'millpond[numpy]'"
        ) from None
    dtype = np.dtype(dtype)
    if dtype.hasobject:
        raise TypeError(f"objects cannot be shared between processes: dtype={dtype}")
    like: Any = np.broadcast_to(np.empty((), dtype), shape)  # NumPy's own checks, without memory
    if like.nbytes >= SMALLEST:
        owned = (workers.lending or arena.current()).own(like.nbytes, np)
        if owned is not None:
            found: NDArray[Any] = np.asarray(owned).view(dtype).reshape(like.shape)
            return found
    return np.empty(shape, dtype)
