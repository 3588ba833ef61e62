"""The environment of a worker in a sandbox: what Python and its libraries go by, and what the caller named.

A program's environment has passwords and keys in it. A worker that is a fresh interpreter is started without
them; one that is a copy of the program takes them out of its environment, though not out of its memory.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

_NAMES: Final = frozenset({
    "PATH", "HOME", "TMPDIR", "TEMP", "TMP", "TZ", "LD_LIBRARY_PATH", "LD_PRELOAD",
    "LANG", "LANGUAGE", "LC_ALL", "LC_COLLATE", "LC_CTYPE", "LC_MESSAGES", "LC_MONETARY", "LC_NUMERIC", "LC_TIME",
    "PYTHONCOERCECLOCALE", "PYTHONDEVMODE", "PYTHONDONTWRITEBYTECODE", "PYTHONFAULTHANDLER", "PYTHONHASHSEED",
    "PYTHONHOME", "PYTHONINTMAXSTRDIGITS", "PYTHONIOENCODING", "PYTHONMALLOC", "PYTHONNODEBUGRANGES",
    "PYTHONNOUSERSITE", "PYTHONOPTIMIZE", "PYTHONPATH", "PYTHONPLATLIBDIR", "PYTHONPYCACHEPREFIX",
    "PYTHONSAFEPATH", "PYTHONTRACEMALLOC", "PYTHONUNBUFFERED", "PYTHONUSERBASE", "PYTHONUTF8", "PYTHONWARNINGS",
    "PYTHON_CPU_COUNT", "PYTHON_GIL", "PYTHON_JIT", "VECLIB_MAXIMUM_THREADS",
})  # fmt: skip
_FAMILIES: Final = (
    "BLIS_", "GOMP_", "KMP_", "MILLPOND_", "MKL_", "NPY_", "NUMBA_", "NUMEXPR_", "OMP_", "OPENBLAS_", "VIPS_",
)  # fmt: skip
"""What names of variables begin with that set up libraries."""
_ENVIRONMENT: Final = 48
"""Of the fields of ``/proc/self/stat`` after the name, the first of the two that say where it is."""


def kept(named: Iterable[str]) -> dict[str, str]:
    """Of this process's environment, what a worker may have."""
    wanted = {*_NAMES, *named}
    return {k: v for k, v in os.environ.items() if k in wanted or k.startswith(_FAMILIES)}


def reduce(environment: Mapping[str, str]) -> None:
    """Have no variables but these: neither ``os.environ``, nor the C library, nor what the kernel shows of it."""
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    known: Any = sys.modules.get("posix")
    if known is not None:
        known.environ.clear()  # a copy of what the process was started with
    _wipe()
    os.environ.update(environment)  # what was wiped has to be written anew


def _wipe() -> None:
    """Overwrite what the process was started with."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        begin, end = map(int, fields[_ENVIRONMENT - 1 : _ENVIRONMENT + 1])
    except (OSError, ValueError):
        return  # there is no /proc, which also shows nothing then
    if 0 < begin < end:
        ctypes.memset(begin, 0, end - begin)
