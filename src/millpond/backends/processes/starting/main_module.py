"""What happens to ``__main__`` in a child that is no copy of its parent.

Rules: where spawn or forkserver was asked for, the main file is run again as ``__mp_main__``, as
multiprocessing does, but straight into the module's own dict, so that what was defined survives
when the run is cut short; a ``Pool()`` reached there ends it quietly, a ``Process.start()`` reached
there stays the RuntimeError that it is; a main without a file, or one that somebody types into, is
never run again: what it defines travels by value.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import sys
import types
import weakref
from collections.abc import Mapping
from typing import Any

from millpond.backends.processes.starting import half_imported, standard

_importing = False
_own: types.ModuleType | None = (
    None  # this process's main module, where that has given way to its parent's
)
_COMPILED = importlib.util.MAGIC_NUMBER
_GUARD = re.compile(rb"^if\b.*\b__name__\b.*__main__|^if\b.*__main__.*\b__name__\b", re.MULTILINE)

Source = tuple[str, str]
"""How a child gets the main module: ("path", file), ("name", module), or ("frozen", "")."""


class MainReached(BaseException):
    """Ends the import of an unguarded main module, where it wants what is the parent's to do."""


def importing() -> bool:
    """Whether this child is running its parent's main module to import it."""
    return _importing


def check() -> None:
    """End this child's import of its parent's main module, if that is what wants a pool."""
    if _importing:
        raise MainReached


def importable_by(start_method: str) -> bool:
    """Whether a child started by the method has this process's ``__main__`` by itself."""
    return start_method == "fork" or source() is not None


def defined() -> Mapping[str, weakref.ref[Any]] | None:
    """The functions of a main module without a file, a prompt's or a notebook's, in which more may be defined."""
    if source() is not None:
        return None
    made = list(vars(sys.modules["__main__"]).items())
    return {name: weakref.ref(one) for name, one in made if type(one) is types.FunctionType}


def source() -> Source | None:
    """Where a child can import this process's main module from, or None."""
    if getattr(sys, "frozen", False):
        return "frozen", ""  # the child runs the program, as far as freeze_support()
    main = sys.modules["__main__"]
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        # A package's __main__ runs its program in any case; multiprocessing leaves it alone too.
        return None if name == "__main__" or name.endswith(".__main__") else ("name", name)
    path = getattr(main, "__file__", None)
    if path is None or hasattr(sys, "ps1"):
        return None
    if not os.path.isabs(path) and standard.process.ORIGINAL_DIR is not None:
        path = os.path.join(standard.process.ORIGINAL_DIR, path)
    if os.path.splitext(os.path.basename(path))[0] == "ipython" or not os.path.isfile(path):
        return None
    return "path", os.path.normpath(path)


def guarded() -> bool:
    """Whether a child can import this process's main module without running the program again."""
    where = source()
    if where is None:
        return False
    try:
        if where[0] == "name":
            spec = importlib.util.find_spec(where[1])
            loader: Any = None if spec is None else spec.loader
            text = (loader.get_source(where[1]) or "").encode()
        else:
            text = _text(where[1])
            if text.startswith(_COMPILED):
                code = _from_path(where[1])[1]
                return "__name__" in code.co_names and "__main__" in code.co_consts
    except Exception:  # a loader may raise anything; a child that has to load it would show it
        return False
    return _GUARD.search(text) is not None


def load(where: Source) -> None:
    """In a child: import the parent's main module, and let ``__main__`` be it."""
    global _importing, _own
    kind, value = where
    if kind == "frozen":
        return
    current = sys.modules["__main__"]
    if kind == "name":
        if getattr(current.__spec__, "name", None) == value:
            return
        module, code = _from_name(value)
    else:
        if getattr(current, "__file__", None) == value:
            return
        module, code = _from_path(value)
    standard.spawn.old_main_modules.append(current)
    _importing = True
    before = half_imported.cuts()
    try:
        _run(module, code)
    except MainReached:
        pass
    except BaseException as error:
        if half_imported.cuts() == before or not isinstance(error, Exception):
            sys.modules["__mp_main__"] = current
            raise  # else it lacks what a module that it imports would have made further on
    finally:
        _importing = False
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    _own = current


def unload() -> None:
    """In a child of a server that has the parent's main module: what is sent by value must not meet it."""
    global _own
    if _own is not None:
        sys.modules["__main__"] = sys.modules["__mp_main__"] = _own
        _own = None


def _run(module: types.ModuleType, code: types.CodeType) -> None:
    program = sys.argv[0] if sys.argv else None
    sys.modules["__mp_main__"] = module
    if program is not None:
        sys.argv[0] = str(module.__file__)
    try:
        exec(code, vars(module))
    finally:
        if program is not None and sys.argv:
            sys.argv[0] = program


def _text(path: str) -> bytes:
    with io.open_code(path) as file:
        return file.read()


def _from_path(path: str) -> tuple[types.ModuleType, types.CodeType]:
    text = _text(path)
    module = types.ModuleType("__mp_main__")
    facts: dict[str, Any] = {"__file__": path, "__cached__": None, "__package__": ""}
    vars(module).update(facts)
    if text.startswith(_COMPILED):
        import marshal

        code: types.CodeType = marshal.loads(text[16:])
        return module, code
    return module, compile(text, path, "exec", dont_inherit=True)


def _from_name(name: str) -> tuple[types.ModuleType, types.CodeType]:
    spec = importlib.util.find_spec(name)
    loader: Any = spec.loader if spec is not None else None
    code = loader.get_code(name) if loader is not None else None
    if spec is None or code is None:
        raise ImportError(f"the main module {name!r} cannot be imported again")
    module = types.ModuleType("__mp_main__")
    facts: dict[str, Any] = {
        "__file__": spec.origin,
        "__cached__": spec.cached,
        "__loader__": loader,
        "__package__": spec.parent,
        "__spec__": spec,
    }
    vars(module).update(facts)
    return module, code
