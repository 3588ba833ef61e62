"""Modules that are still being imported when a pool is made, which as a rule is because they make it.

    the program:  import tables  ->  Pool()    the pool notes that ``tables`` is half imported
    its worker:   import tables  ->  Pool()    is the program's: the import goes on, and ends where it is used

Rules: no worker makes a pool there, whose workers would make theirs; what a module has where its import has
ended stays, as main's does (``main_module.py``); other modules are imported as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

from millpond.errors import PoolForkedError

_expected: frozenset[str] = frozenset()
_cuts = 0


class Reached(BaseException):
    """Ends the import of a module where it uses the pool that the program has made there."""


class Elsewhere:
    """Stands for the parts of a pool that only the program has."""

    def __init__(self, module: str) -> None:
        self._module = module

    @property
    def backend(self) -> Elsewhere:
        return self

    def __getattr__(self, name: str) -> Any:
        if innermost() in _expected:
            raise Reached
        raise PoolForkedError(
            f"this pool is the program's, which made it while it imported {self._module!r}; "
            "a worker that imports it has none: make one in the function that needs it"
        )


def names() -> tuple[str, ...]:
    """The modules that this thread is importing, the innermost first."""
    return tuple(_being_imported())


def innermost() -> str | None:
    """The module whose code asks for something now, while it is being imported."""
    return next(_being_imported(), None)


def expect(modules: Sequence[str]) -> None:
    """In a child: these were half imported when its pool was made."""
    global _expected
    if modules:
        _expected = frozenset(modules)
        sys.meta_path.insert(0, _Finder())


def elsewhere() -> Elsewhere | None:
    """What stands for a pool that is wanted now, where the program has made it already; else None."""
    module = innermost() if _expected else None
    return Elsewhere(module) if module is not None and module in _expected else None


def cuts() -> int:
    """How many imports have ended early in this process."""
    return _cuts


def _being_imported() -> Iterator[str]:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            spec: Any = frame.f_globals.get("__spec__")
            if getattr(spec, "_initializing", False):
                yield spec.name
        frame = frame.f_back


class _Finder:
    """Finds what the other finders find, to be imported as far as the program had come."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in _expected:
            return None
        for finder in sys.meta_path:
            spec: Any = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader)
                return spec
        return None


class _Loader:
    """The module's own loader, which it has back before its code runs."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def create_module(self, spec: Any) -> Any:
        return self._own.create_module(spec)

    def exec_module(self, module: Any) -> None:
        global _cuts
        module.__loader__ = module.__spec__.loader = self._own
        before = _cuts
        try:
            self._own.exec_module(module)
        except Reached:
            _cuts += 1
        except Exception:
            if _cuts == before:
                raise
            _cuts += 1  # it lacks what another one would have made further on
