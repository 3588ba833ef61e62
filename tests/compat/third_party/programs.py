"""Real programs from the package index that use multiprocessing, each with something to do.

A program's input is made from the interpreter's own library, or is written here; what it prints and
writes must not depend on how its work was spread, once its lines are sorted where they come in any
order, and times are blotted out.
"""

from __future__ import annotations

import re
import shutil
import sysconfig
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.compat.third_party import samples

STDLIB = Path(sysconfig.get_path("stdlib"))


@dataclass(frozen=True)
class Program:
    """What to install, how to set it up in a folder, what to run there, and what to compare."""

    name: str
    requires: Sequence[str]
    command: Sequence[str]
    prepare: Callable[[Path], None]
    results: Sequence[str] = ()
    exit_codes: Sequence[int] = (0,)


def source(*packages: str) -> Callable[[Path], None]:
    """A folder `input` with packages of the standard library."""

    def prepare(folder: Path) -> None:
        for package in packages:
            shutil.copytree(
                STDLIB / package, folder / "input" / package,
                ignore=shutil.ignore_patterns("__pycache__", "*.pyc"),
            )  # fmt: skip

    return prepare


def files(texts: Mapping[str, str]) -> Callable[[Path], None]:
    """Files by name."""

    def prepare(folder: Path) -> None:
        for name, text in texts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text).lstrip("\n"))

    return prepare


def many(count: int, pattern: str, text: str) -> Callable[[Path], None]:
    """Many files whose name and text hold the number `{n}`."""

    def prepare(folder: Path) -> None:
        for n in range(count):
            path = folder / pattern.format(n=n)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text).lstrip("\n").replace("{n}", str(n)))

    return prepare


def both(*steps: Callable[[Path], None]) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        for step in steps:
            step(folder)

    return prepare


def comparable(shown: str, folder: Path) -> list[str]:
    """The lines of an output, sorted, without times, pids and the folder's own name."""
    shown = shown.replace(str(folder), "FOLDER")
    shown = re.sub(r"\d\d:\d\d:\d\d(\.\d+)?|\d+\.\d+ ?s(econds)?\b", "TIME", shown)
    shown = re.sub(r"\bpid[ =:]*\d+|\d{4}-\d\d-\d\d|0x[0-9a-f]+", "ID", shown)
    shown = re.sub(r"(salt|workers?)=\d+|host=\S+|username=\S+|pid \d+", "ID", shown)
    return sorted(line.rstrip() for line in shown.splitlines())


PYTHON = "{python}"
PROGRAMS: list[Program] = [
    Program(
        "flake8", ["flake8"], [PYTHON, "-m", "flake8", "-j", "2", "--statistics", "input"],
        source("email", "logging", "json", "unittest"), exit_codes=(1,),
    ),
    Program(
        "autopep8", ["autopep8"],
        [PYTHON, "-m", "autopep8", "--in-place", "-r", "--jobs", "2", "input"],
        source("json", "urllib"), results=["input"],
    ),
    Program(
        "autoflake", ["autoflake"],
        [PYTHON, "-m", "autoflake", "-i", "-r", "-j", "2", "--remove-all-unused-imports", "input"],
        source("email", "json", "unittest"), results=["input"],
    ),
    Program(
        "rstcheck", ["rstcheck"], [PYTHON, "-m", "rstcheck", "-r", "input"],
        many(30, "input/page{n}.rst", samples.RST), exit_codes=(1,),
    ),
    Program(
        "unittest-parallel", ["unittest-parallel"],
        ["unittest-parallel", "-j", "2", "-v"],
        many(10, "test_{n}.py", samples.TESTS), exit_codes=(1,),
    ),
    Program(
        "nose2", ["nose2"],
        [PYTHON, "-m", "nose2", "-v", "--plugin", "nose2.plugins.mp", "-N", "2"],
        many(10, "test_{n}.py", samples.TESTS), exit_codes=(1,),
    ),
    Program(
        "Django's test runner", ["django"],
        [PYTHON, "-m", "django", "test", "--parallel", "2", "--settings", "settings", "-v", "2"],
        both(
            files({
                "settings.py": samples.DJANGO_SETTINGS, "app/__init__.py": "",
                "app/models.py": samples.MODELS,
            }),
            many(8, "app/test_{n}.py", samples.DJANGO_TESTS),
        ), exit_codes=(1,),
    ),
    Program(
        "sqlfluff", ["sqlfluff"],
        [PYTHON, "-m", "sqlfluff", "lint", "--dialect", "ansi", "--processes", "2", "--nocolor",
         "--disable-progress-bar", "input"],
        many(16, "input/q{n}.sql", samples.SQL), exit_codes=(1,),
    ),
    Program(
        "Sphinx", ["sphinx"],
        [PYTHON, "-m", "sphinx", "-j", "2", "-q", "-b", "html", ".", "out"],
        both(
            files({"conf.py": samples.SPHINX_CONF, "index.rst": samples.SPHINX_TOP}),
            many(40, "page{n}.rst", samples.SPHINX_PAGE),
        ), results=["out/page7.html", "out/genindex.html", "out/index.html"],
    ),
    Program(
        "coverage", ["coverage"], ["sh", "-c", samples.COVERAGE.replace("\n", " ")],
        files({"main.py": samples.COVERED, ".coveragerc": samples.COVERAGE_SETTINGS}),
    ),
    Program("emcee", ["emcee"], [PYTHON, "main.py"], files({"main.py": samples.EMCEE})),
    Program("deap", ["deap"], [PYTHON, "main.py"], files({"main.py": samples.DEAP})),
    Program("parmap", ["parmap", "tqdm"], [PYTHON, "main.py"], files({"main.py": samples.PARMAP})),
    Program(
        "joblib", ["joblib", "numpy"], [PYTHON, "main.py"], files({"main.py": samples.JOBLIB}),
    ),
    Program(  # from 0.4 on it uses another package's pool
        "schwimmbad", ["schwimmbad<0.4", "setuptools"], [PYTHON, "main.py"],
        files({"main.py": samples.SCHWIMMBAD}),
    ),
    Program(
        "the istarmap recipe", ["tqdm"], [PYTHON, "main.py"], files({"main.py": samples.ISTARMAP}),
    ),
    Program(
        "doit", ["doit"], [PYTHON, "-m", "doit", "-n", "3", "--continue"],
        files({"dodo.py": samples.DODO}), exit_codes=(1,),
    ),
    Program("luigi", ["luigi"], [PYTHON, "main.py"], files({"main.py": samples.LUIGI})),
    Program(
        "honcho", ["honcho"], [PYTHON, "-m", "honcho", "start"],
        files({"Procfile": "a: echo from a\nb: echo from b && sleep 60\n"}),
    ),
]  # fmt: skip
