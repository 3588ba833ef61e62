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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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


def files(**texts: str) -> Callable[[Path], None]:
    """Files by name; `__` in a name is a slash, `_DOT_` a dot."""

    def prepare(folder: Path) -> None:
        for name, text in texts.items():
            path = folder / name.replace("_DOT_", ".").replace("__", "/")
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
TESTS = """
    import unittest
    class Numbers(unittest.TestCase):
        def test_even(self):
            self.assertEqual(({n} * 2) % 2, 0)
        def test_fails_for_seven(self):
            self.assertNotEqual({n}, 7)
        @unittest.skip("on purpose")
        def test_skipped(self):
            pass
"""
DJANGO_SETTINGS = """
    SECRET_KEY = "x"
    INSTALLED_APPS = ["app"]
    DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
    USE_TZ = True
"""
DJANGO_TESTS = """
    from django.test import TestCase
    from app.models import Thing
    class Things{n}(TestCase):
        def test_count(self):
            Thing.objects.create(name="a")
            self.assertEqual(Thing.objects.count(), 1)
        def test_fails_for_three(self):
            self.assertNotEqual({n}, 3)
        def test_sub(self):
            for i in range(3):
                with self.subTest(i=i):
                    self.assertLess(i, 3)
"""
MODELS = """
    from django.db import models
    class Thing(models.Model):
        name = models.CharField(max_length=20)
"""
EMCEE = """
    import numpy as np, emcee
    from multiprocessing import Pool
    def log_prob(x, ivar):
        return -0.5 * float(np.sum(ivar * x ** 2))
    if __name__ == "__main__":
        np.random.seed(42)
        with Pool(2) as pool:
            sampler = emcee.EnsembleSampler(32, 5, log_prob, pool=pool, args=[1.0 / np.arange(1, 6)])
            sampler.run_mcmc(np.random.randn(32, 5), 60)
        print(repr(float(sampler.get_chain().sum())), repr(float(sampler.acceptance_fraction.sum())))
"""
DEAP = """
    import random
    from multiprocessing import Pool
    from deap import algorithms, base, creator, tools
    creator.create("Fit", base.Fitness, weights=(1.0,))
    creator.create("Individual", list, fitness=creator.Fit)
    def ones(individual):
        return (sum(individual),)
    tools_ = base.Toolbox()
    tools_.register("bit", random.randint, 0, 1)
    tools_.register("individual", tools.initRepeat, creator.Individual, tools_.bit, 60)
    tools_.register("population", tools.initRepeat, list, tools_.individual)
    tools_.register("evaluate", ones)
    tools_.register("mate", tools.cxTwoPoint)
    tools_.register("mutate", tools.mutFlipBit, indpb=0.05)
    tools_.register("select", tools.selTournament, tournsize=3)
    if __name__ == "__main__":
        random.seed(7)
        with Pool(2) as pool:
            tools_.register("map", pool.map)
            end, log = algorithms.eaSimple(tools_.population(80), tools_, 0.5, 0.2, 20, verbose=False)
        print(max(sum(i) for i in end), [record["nevals"] for record in log])
"""
PARMAP = """
    import parmap
    def f(x, a, b=0):
        return x * a + b
    def g(x, y, a):
        return x + y + a
    if __name__ == "__main__":
        print(parmap.map(f, range(50), 3, b=1, pm_processes=2))
        print(parmap.starmap(g, list(zip(range(20), range(20))), 5, pm_processes=2, pm_pbar=True))
        with parmap.map_async(f, range(20), 2, pm_processes=2) as r1:
            with parmap.starmap_async(g, [(1, 2), (3, 4)], 9, pm_processes=2) as r2:
                print(r1.get(), r2.get())
        print(parmap.map(f, range(9), 2, pm_chunksize=2, pm_processes=2))
"""
COVERED = """
    import sys
    from multiprocessing import Pool, Process
    def in_pool(x):
        if x > 5:
            return x
        return -x
    def in_process():
        print("in a process")
    if __name__ == "__main__":
        with Pool(2) as pool:
            print(pool.map(in_pool, range(10)))
            pool.close()
            pool.join()
        process = Process(target=in_process)
        process.start()
        process.join()
        sys.exit(process.exitcode)
"""
DODO = """
    def task_make():
        for n in range(12):
            yield {
                "name": str(n),
                "actions": [f"echo {n} > out{n}.txt"],
                "targets": [f"out{n}.txt"],
                "verbosity": 2,
            }
    def task_fail():
        return {"actions": [lambda: False], "task_dep": ["make"]}
"""
LUIGI = """
    import luigi
    class Part(luigi.Task):
        n = luigi.IntParameter()
        def output(self):
            return luigi.LocalTarget(f"part{self.n}.txt")
        def run(self):
            if self.n == 5:
                raise ValueError("five")
            with self.output().open("w") as f:
                f.write(str(self.n ** 2))
    class All(luigi.WrapperTask):
        def requires(self):
            return [Part(n) for n in range(8)]
    if __name__ == "__main__":
        ok = luigi.build([All()], workers=3, local_scheduler=True, log_level="CRITICAL")
        print("all done:", ok)
"""
SPHINX_CONF = "project = 'p'\nextensions = []\n"
SPHINX_PAGE = "Page {n}\n=======\n\nText of page {n}, see :doc:`page0`.\n\n.. index:: word{n}\n"
SQL = "SELECT a, b from  t{n} where x = {n}\nand y in (1,2, 3)\n"
RST = "Title {n}\n====\n\n.. code-block:: python\n\n   print({n}\n\n`broken {n}\n"

PROGRAMS: list[Program] = [
    Program(
        "flake8", ["flake8"], [PYTHON, "-m", "flake8", "-j", "2", "--statistics", "input"],
        source("email", "logging", "json", "unittest"), exit_codes=(1,),
    ),
    Program(
        "isort", ["isort"], [PYTHON, "-m", "isort", "--jobs", "2", "--check-only", "input"],
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
        many(30, "input/page{n}.rst", RST), exit_codes=(1,),
    ),
    Program(
        "unittest-parallel", ["unittest-parallel"],
        [PYTHON, "-m", "unittest_parallel.main", "-j", "2", "-v"],
        many(10, "test_{n}.py", TESTS), exit_codes=(1,),
    ),
    Program(
        "nose2", ["nose2"],
        [PYTHON, "-m", "nose2", "-v", "--plugin", "nose2.plugins.mp", "-N", "2"],
        many(10, "test_{n}.py", TESTS), exit_codes=(1,),
    ),
    Program(
        "Django's test runner", ["django"],
        [PYTHON, "-m", "django", "test", "--parallel", "2", "--settings", "settings", "-v", "2"],
        both(
            files(settings_DOT_py=DJANGO_SETTINGS, app____init_____DOT_py="", app__models_DOT_py=MODELS),
            many(8, "app/test_{n}.py", DJANGO_TESTS),
        ), exit_codes=(1,),
    ),
    Program(
        "sqlfluff", ["sqlfluff"],
        [PYTHON, "-m", "sqlfluff", "lint", "--dialect", "ansi", "--processes", "2", "--nocolor",
         "--disable-progress-bar", "input"],
        many(16, "input/q{n}.sql", SQL), exit_codes=(1,),
    ),
    Program(
        "Sphinx", ["sphinx"],
        [PYTHON, "-m", "sphinx", "-j", "2", "-q", "-b", "html", ".", "out"],
        both(
            files(conf_DOT_py=SPHINX_CONF, index_DOT_rst="Top\n===\n\n.. toctree::\n   :glob:\n\n   page*\n"),
            many(40, "page{n}.rst", SPHINX_PAGE),
        ), results=["out/page7.html", "out/genindex.html", "out/index.html"],
    ),
    Program(
        "coverage", ["coverage"],
        ["sh", "-c", "{python} -m coverage run --concurrency=multiprocessing -p main.py"
         " && {python} -m coverage combine -q && {python} -m coverage report -m"],
        files(main_DOT_py=COVERED),
    ),
    Program("emcee", ["emcee"], [PYTHON, "main.py"], files(main_DOT_py=EMCEE)),
    Program("deap", ["deap"], [PYTHON, "main.py"], files(main_DOT_py=DEAP)),
    Program("parmap", ["parmap", "tqdm"], [PYTHON, "main.py"], files(main_DOT_py=PARMAP)),
    Program(
        "doit", ["doit"], [PYTHON, "-m", "doit", "-n", "3", "--continue"],
        files(dodo_DOT_py=DODO), exit_codes=(1,),
    ),
    Program("luigi", ["luigi"], [PYTHON, "main.py"], files(main_DOT_py=LUIGI)),
    Program(
        "honcho", ["honcho"], [PYTHON, "-m", "honcho", "start"],
        files(Procfile="a: echo from a\nb: echo from b && sleep 60\n"),
    ),
]  # fmt: skip
