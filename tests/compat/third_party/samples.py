"""What the programs are given to do: scripts, tests, settings and pages, each a text."""

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
            weights = 1.0 / np.arange(1, 6)
            sampler = emcee.EnsembleSampler(32, 5, log_prob, pool=pool, args=[weights])
            sampler.run_mcmc(np.random.randn(32, 5), 60)
        print(repr(float(sampler.get_chain().sum())))
        print(repr(float(sampler.acceptance_fraction.sum())))
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
            start = tools_.population(80)
            end, log = algorithms.eaSimple(start, tools_, 0.5, 0.2, 20, verbose=False)
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
        print(parmap.starmap(g, list(zip(range(20), range(20))), 5, pm_processes=2))
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
COVERAGE = """
    {python} -m coverage run main.py && {python} -m coverage combine -q &&
    {python} -m coverage report -m
"""
COVERAGE_SETTINGS = """
    [run]
    concurrency = multiprocessing
    parallel = true
    branch = true
    include = main.py
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
SPHINX_TOP = "Top\n===\n\n.. toctree::\n   :glob:\n\n   page*\n"
SPHINX_PAGE = "Page {n}\n=======\n\nText of page {n}, see :doc:`page0`.\n\n.. index:: word{n}\n"
SQL = "SELECT a, b from  t{n} where x = {n}\nand y in (1,2, 3)\n"
RST = "Title {n}\n====\n\n.. code-block:: python\n\n   print({n}\n\n`broken {n}\n"
JOBLIB = """
    import os, tempfile
    import numpy as np
    from joblib import Parallel, delayed
    from joblib.pool import MemmappingPool
    def kind(i, array):
        return i, type(array).__name__, float(array[i])
    def fill(out, i):
        out[i] = i * i
    def double(array):
        return array * 2
    def invert(i):
        return 1 / i
    if __name__ == "__main__":
        large = np.arange(300_000.0)
        many = Parallel(n_jobs=2, backend="multiprocessing")
        print(many(delayed(kind)(i, large) for i in range(20)))
        print(all((each == large * 2).all() for each in many(delayed(double)(large) for _ in "12345")))
        with tempfile.TemporaryDirectory() as folder:
            out = np.memmap(os.path.join(folder, "out"), dtype=float, shape=50, mode="w+")
            many(delayed(fill)(out, i) for i in range(50))
            print(list(out))
        try:
            many(delayed(invert)(i) for i in range(3))
        except ZeroDivisionError as error:
            print(error)
        with MemmappingPool(2) as pool:
            print(pool.starmap(kind, [(i, large) for i in range(5)]))
            print(pool.apply_async(kind, (3,), {"array": large}).get())
        print(Parallel(n_jobs=2)(delayed(abs)(-i) for i in range(5)))
"""
SCHWIMMBAD = """
    import functools
    from schwimmbad import choose_pool
    def square(x, scale=1):
        return scale * x * x
    if __name__ == "__main__":
        got = []
        with choose_pool(mpi=False, processes=2) as pool:
            print(type(pool).__name__, pool.size)
            print(pool.map(square, range(30)))
            print(pool.map(functools.partial(square, scale=3), list(range(9)), callback=got.append))
        print(sorted(got))
"""
ISTARMAP = """
    import multiprocessing.pool as mpp
    from multiprocessing import Pool
    from tqdm import tqdm
    def istarmap(self, func, iterable, chunksize=1):
        self._check_running()
        task_batches = mpp.Pool._get_tasks(func, iterable, chunksize)
        result = mpp.IMapIterator(self)
        self._taskqueue.put((
            self._guarded_task_generation(result._job, mpp.starmapstar, task_batches),
            result._set_length,
        ))
        return (item for chunk in result for item in chunk)
    mpp.Pool.istarmap = istarmap
    def power(base, exponent):
        return base ** exponent
    def pairs():
        yield 2, 3
        raise KeyError("input")
    if __name__ == "__main__":
        with Pool(2) as pool:
            print(list(tqdm(pool.istarmap(power, zip(range(50), range(50))), total=50, disable=True)))
            print(sum(pool.istarmap(power, ((n, 2) for n in range(200)), 7)))
            results = pool.istarmap(power, pairs())
            try:
                print(next(results), next(results))
            except KeyError as error:
                print(error)
            try:
                print(list(pool.istarmap(power, [(1, 1), (0, -1)])))
            except ZeroDivisionError as error:
                print(error)
"""
