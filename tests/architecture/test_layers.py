"""Imports point down (the contracts are in pyproject.toml), and nothing is loaded needlessly."""

from __future__ import annotations

import ast
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture import tree

PARENTS_SIDE = ("backends", "engine", "job", "journal", "pool", "process", "results", "watch")
APPLICATIONS = ("compute", "download", "images", "shell")
OFFERED = {name for name in multiprocessing.__all__ if name != "reducer"} | {"shutdown"}
PUBLIC = {"context", "dummy", "errors", "pool", "process", "shell", "testing"}


def test_the_contracts_hold() -> None:
    run = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=tree.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(tree.ROOT / "src"), "NO_COLOR": "1"},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout


def loaded_by(statement: str) -> set[str]:
    """Return what an interpreter of its own has loaded after a statement."""
    script = f"{statement}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    return set(json.loads(run.stdout))


def test_a_worker_loads_nothing_of_its_parents_side() -> None:
    package = tree.ROOT / "src" / "millpond" / "worker"
    names = [p.stem for p in package.glob("*.py") if p.stem != "__init__"]
    loaded = loaded_by("; ".join(f"import millpond.worker.{name}" for name in names) or "pass")
    parents = {f"millpond.{name}" for name in PARENTS_SIDE}
    assert {name for name in loaded if ".".join(name.split(".")[:2]) in parents} == set()


def test_importing_the_package_loads_only_the_standard_library_and_itself() -> None:
    before = {name.partition(".")[0] for name in loaded_by("pass")}
    after = {name.partition(".")[0] for name in loaded_by("import millpond; millpond.Pool")}
    allowed = {*sys.stdlib_module_names, "__mp_main__", "millpond", "cloudpickle"}
    assert after - before - allowed == set()


def imports(text: str) -> Iterator[str]:
    """Yield the full name of everything that a module's text imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "millpond":
            yield from (f"millpond.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def is_front_door(name: str) -> bool:
    """Say whether a name is the package itself, or an object that it offers; not a module's."""
    package, _, part = name.partition(".")
    return package == "millpond" and (not part or part[0].isupper() or part in OFFERED)


def private_imports(paths: Iterator[Path]) -> list[str]:
    parts = {p.stem for p in (tree.ROOT / "src" / "millpond").iterdir()} - PUBLIC
    return [
        f"{tree.name_of(path)}: {part.partition('.')[0]}"
        for path in paths
        for name in imports(path.read_text(encoding="utf-8"))
        for package, _, part in [name.partition(".")]
        if package == "millpond" and part.partition(".")[0] in parts
    ]


def test_nothing_inside_goes_through_the_front_door() -> None:
    """What goes through the package's face (millpond.Pool) the contracts can't see."""
    source = tree.ROOT / "src" / "millpond"
    outside = {*APPLICATIONS, "cli.py", "testing", "__init__.py"}
    through = [
        f"{tree.name_of(path)}: {name}"
        for path in source.rglob("*.py")
        if path.relative_to(source).parts[0] not in outside
        for name in imports(path.read_text(encoding="utf-8"))
        if is_front_door(name)
    ]
    assert through == []


def test_examples_use_public_names_only() -> None:
    assert private_imports((tree.ROOT / "examples").rglob("*.py")) == []


@pytest.mark.parametrize("application", APPLICATIONS)
def test_applications_use_public_names_only(application: str) -> None:
    own = tree.ROOT / "src" / "millpond" / application
    assert [x for x in private_imports(own.rglob("*.py")) if not x.endswith(application)] == []


def test_what_is_imported_is_seen() -> None:
    text = (
        "import millpond, millpond.engine as e\n"
        "from millpond import job, Pool\n"
        "from millpond.core import x"
    )
    names = list(imports(text))
    assert names == [
        "millpond",
        "millpond.engine",
        "millpond.job",
        "millpond.Pool",
        "millpond.core",
    ]
    assert [name for name in names if is_front_door(name)] == ["millpond", "millpond.Pool"]
