"""Python imports this at its start: from then on `import multiprocessing` gives millpond.

It is what changing that import in every module of a program would do. The standard library and
millpond itself go on with the original. Each Pool made and each Process started is noted in the
file $MILLPOND_JOURNAL, so that a run that used neither is not taken for a proof.
"""

from __future__ import annotations

import builtins
import functools
import os
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_ORIGINAL = builtins.__import__
_STDLIB = sysconfig.get_path("stdlib") + os.sep
_SITE = (sysconfig.get_path("purelib") + os.sep, sysconfig.get_path("platlib") + os.sep)


def _belongs_to_a_program(importer: Mapping[str, object] | None) -> bool:
    if importer is None or str(importer.get("__name__", "")).partition(".")[0] == "millpond":
        return False
    file = str(importer.get("__file__") or "")
    return file.startswith(_SITE) or not file.startswith(_STDLIB)


def _swapped(
    name: str,
    globals: Mapping[str, object] | None = None,  # noqa: A002
    locals: Mapping[str, object] | None = None,  # noqa: A002
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    if (
        level == 0
        and name.partition(".")[0] == "multiprocessing"
        and _belongs_to_a_program(globals)
    ):
        name = "millpond" + name.removeprefix("multiprocessing")
    return _ORIGINAL(name, globals, locals, fromlist or (), level)


def _note(word: str) -> None:
    with open(os.environ["MILLPOND_JOURNAL"], "a", encoding="ascii") as journal:
        journal.write(word + "\n")


def _noted(method: Callable[..., Any], word: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwds: Any) -> Any:
        _note(word)
        return method(*args, **kwds)

    return call


if "MILLPOND_JOURNAL" in os.environ:
    builtins.__import__ = _swapped
    import millpond.pool
    import millpond.process

    millpond.pool.Pool.__init__ = _noted(millpond.pool.Pool.__init__, "Pool")  # type: ignore[method-assign]
    millpond.process.Process.start = _noted(millpond.process.Process.start, "Process")  # type: ignore[method-assign]
