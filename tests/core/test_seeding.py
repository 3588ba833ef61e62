"""Each task of a seeded call has its own random numbers, and leaves the process's own as they were."""

from __future__ import annotations

import asyncio
import contextvars
import os
import pickle
import random
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import millpond
from millpond.backends import local
from millpond.backends.inline import InlineBackend
from millpond.core.commands import Span
from millpond.job import MapJob
from millpond.worker import codec, frames, seeding
from millpond.worker.codec import CALL, MAP, STAR
from millpond.worker.conduct import Conduct, Conducted
from millpond.worker.loop import Settings
from millpond.worker.outcome import take
from millpond.worker.slate import DECODING, Slate
from tests.core.wire import call, chunk, new_slate, run

SEED = (7,)


def draw(_: object = None, *_more: object) -> tuple[float, float, float]:
    """The first number of each kind."""
    return random.random(), float(np.random.random()), float(millpond.rng().random())


def draw_or_fail(word: object) -> tuple[float, float, float]:
    if word == "fail":
        raise ValueError
    return draw()


def seeded(function: Any = draw, seed: tuple[int, ...] = SEED) -> Conducted:
    return Conducted(function, Conduct(seed=seed))


def locally(index: int, seed: tuple[int, ...] = SEED) -> tuple[float, float, float]:
    """What the task of this index draws."""
    with seeding.Borrowed():
        value: tuple[float, float, float] = take(local.run(seeded(seed=seed), MAP, 0, index, True))
    return value


@pytest.fixture
def slate() -> Iterator[Slate]:
    with new_slate() as slate:
        yield slate


# The same for ever --------------------------------------------------------------------------------


def test_the_numbers_of_a_task_never_change() -> None:
    """Pinned: a new version of this, of Python or of NumPy must not change anybody's results."""
    assert locally(3) == (0.10124564812566106, 0.7610886778835958, 0.9823227993863488)
    assert locally(3, (7, 2**80)) == (
        0.6404751510837327, 0.8917057465402415, 0.20088763464171788,
    )  # fmt: skip


def test_rng_is_the_child_of_that_index_of_numpys_seed_sequence() -> None:
    children = np.random.SeedSequence(7).spawn(4)
    assert [locally(n)[2] for n in range(4)] == [
        np.random.default_rng(c).random() for c in children
    ]


def test_tasks_and_calls_have_streams_of_their_own() -> None:
    tasks = [(index, seed) for index in range(200) for seed in [(7,), (8,), (7, 1), (7, 2), (1, 7)]]
    drawn = [locally(index, seed) for index, seed in tasks]
    for kind in range(3):
        assert len({numbers[kind] for numbers in drawn}) == len(tasks)


# In a worker process ------------------------------------------------------------------------------


@pytest.mark.parametrize("style", [MAP, STAR])
def test_numbers_depend_on_the_index_alone(slate: Slate, style: int) -> None:
    arguments = [(n,) for n in range(6)] if style == STAR else list(range(6))
    whole = run(slate, chunk(seeded(), arguments, style=style)).answers()
    assert whole == {n: locally(n) for n in range(6)}
    parts = run(
        slate,
        chunk(seeded(), arguments[4:], style=style, first=4),
        chunk(seeded(), arguments[1:4], style=style, first=1, seq=2, grain=8),
        chunk(seeded(), arguments[:1], style=style, seq=5),
        chunk(seeded(), arguments[3:4], style=style, first=3, seq=6),  # again
    ).answers()
    assert list(parts.values()) == [whole[n] for n in (4, 5, 1, 2, 3, 0, 3)]


def test_a_call_has_the_index_0(slate: Slate) -> None:
    answers = run(slate, chunk(seeded(), [((), {})], style=CALL, first=5), call(seq=1)).answers()
    assert answers == {0: locally(0), 1: locally(0)}


def test_what_fails_or_is_missing_takes_no_numbers_from_others(slate: Slate) -> None:
    worker = run(slate, chunk(seeded(draw_or_fail), ["", "fail", ""]))
    assert worker.answers() == {0: locally(0), 1: "ValueError", 2: locally(2)}


def test_arguments_that_were_cancelled_or_cannot_be_loaded_count(slate: Slate) -> None:
    good = codec.encode_argument((), True)
    function = codec.encode_argument(seeded(), True)
    part = codec.Part(1, MAP, 0, 1, function, None, [None, b"?", good, good])
    sent = frames.encode(frames.CHUNK, codec.encode_chunk([part]), count=4)
    assert run(slate, sent).answers() == {
        0: None, 1: "UnpicklingError", 2: locally(2), 3: locally(3),
    }  # fmt: skip


def test_what_was_seeded_in_the_worker_goes_on_as_if_no_seeded_task_had_come(slate: Slate) -> None:
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    run(slate, chunk(seeded(draw_or_fail), ["", "fail", ""]))
    assert (random.random(), np.random.random()) == expected


def test_a_task_without_a_seed_is_not_seeded(slate: Slate) -> None:
    state = random.getstate(), np.random.get_state()[1].tobytes()  # type: ignore[index]
    answers = run(slate, chunk(seeded(), [0]), chunk(Conducted(draw, Conduct()), [0], seq=1))
    random.setstate(state[0])
    assert answers.answers()[1][0] == random.random()
    assert answers.answers()[1][2] != locally(0)[2]


def test_the_slate_names_the_call_alone_before_it_runs(
    slate: Slate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NumPy may be imported there, which takes its time, or the worker's life."""
    seen: list[tuple[int, int, int]] = []

    class Watched(seeding.Borrowed):
        def __enter__(self) -> None:
            seen.append(slate.read())
            super().__enter__()

    monkeypatch.setattr(seeding, "Borrowed", Watched)
    run(slate, chunk(seeded(), [((), {})], style=CALL), call(seq=1))
    assert seen == [(0, 1, DECODING), (1, 2, DECODING)]


# In the caller's process --------------------------------------------------------------------------


def inline(*functions: Any) -> list[Any]:
    """The outcomes of one task of each, in an inline backend."""
    backend = InlineBackend(Settings())
    outcomes = []
    for seq, function in enumerate(functions):
        job = MapJob(function, "f", MAP, [0, 0, 0], 1, 1)
        backend.send(1, seq, [(job, Span(1, 1, 2))])
        ((_, batch),) = backend.poll(0)
        assert batch is not None
        outcomes += batch
    return outcomes


def test_an_inline_task_leaves_the_callers_numbers_alone() -> None:
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    assert take(*inline(seeded())) == locally(1)
    assert (random.random(), np.random.random()) == expected
    assert millpond.rng().random() != np.random.default_rng(np.random.SeedSequence(7)).random()


def test_an_inline_task_without_a_seed_draws_the_callers_numbers() -> None:
    random.seed(1)
    (outcome,) = inline(Conducted(draw, Conduct()))
    random.seed(1)
    assert take(outcome)[0] == random.random()


def test_a_seeded_task_in_a_seeded_task() -> None:
    def outer(_: object) -> Any:
        mine = millpond.rng()
        (inner,) = inline(seeded(seed=(9,)))
        return draw(), take(inner), millpond.rng() is mine

    assert take(*inline(seeded(outer))) == (locally(1), locally(1, (9,)), True)


def test_a_task_in_a_thread_has_rng_and_leaves_the_rest_alone() -> None:
    state = random.getstate()
    outcome = local.run(seeded(lambda _: millpond.rng().random()), MAP, 0, 4)
    assert take(outcome) == locally(4)[2]
    assert random.getstate() == state


def test_local_tasks_know_their_index() -> None:
    job = MapJob(seeded(), "f", MAP, list("abcd"), 1, 1)
    assert [(t[2], t[3]) for t in local.tasks_of([(job, Span(1, 1, 3))])] == [("b", 1), ("c", 2)]
    job.style = CALL
    assert [t[3] for t in local.tasks_of([(job, Span(1, 1, 3))])] == [0, 0]


# rng() --------------------------------------------------------------------------------------------


def test_rng_is_one_and_the_same_in_a_task() -> None:
    function = seeded(
        lambda _: (millpond.rng() is millpond.rng(), asyncio.run(same(millpond.rng())))
    )
    assert take(local.run(function, MAP, 0, 0)) == (True, True)


async def same(generator: object) -> bool:
    return millpond.rng() is generator


def test_outside_a_task_rng_has_fresh_numbers_each_time() -> None:
    assert len({millpond.rng().random() for _ in range(4)}) == 4


def test_after_a_task_its_stream_is_gone() -> None:
    assert take(local.run(seeded(lambda _: millpond.rng()), MAP, 0, 0)) is not millpond.rng()
    with seeding.Borrowed():  # a Ctrl-C may end an inline task before it puts things right
        seeding.begin(SEED, 0)
        left = millpond.rng()
    assert left is not millpond.rng()


def test_a_context_has_the_stream_that_was_begun_in_it() -> None:
    def enter(index: int) -> float:
        seeding.begin(SEED, index)
        return float(millpond.rng().random())

    contexts = [contextvars.copy_context() for _ in range(3)]
    assert [c.run(enter, n) for n, c in enumerate(contexts)] == [locally(n)[2] for n in range(3)]
    assert contexts[1].run(millpond.rng) is contexts[1].run(millpond.rng)


def test_a_thread_that_the_task_starts_has_no_stream() -> None:
    def ask(_: object) -> Any:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(millpond.rng()))
        thread.start()
        thread.join()
        return found[0] is millpond.rng()

    assert take(local.run(seeded(ask), MAP, 0, 0)) is False


def test_a_fork_of_the_task_does_not_draw_the_same_numbers() -> None:
    def ask(_: object) -> float:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(writer, pickle.dumps(millpond.rng().random()))
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader, "rb") as file:
            theirs: float = pickle.loads(file.read())
        os.waitpid(pid, 0)
        return theirs

    assert take(local.run(seeded(ask), MAP, 0, 0)) != locally(0)[2]


def program(source: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_without_numpy_rng_says_what_to_install() -> None:
    said = program(
        "import sys, importlib.abc\n"
        "class Hidden(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'numpy': raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "import millpond, random\n"
        "from millpond.worker import seeding\n"
        "try: millpond.rng()\n"
        "except millpond.ExtraMissing as error: print(error, error.__cause__, error.__suppress_context__)\n"
        "with seeding.Borrowed():\n"
        "    print(seeding.Seeded(random.random, (7,), lambda: 3, alone=True)())\n"
    )
    assert said.splitlines() == [
        "millpond.rng() needs NumPy, which is not installed: pip install 'millpond[numpy]' None True",
        repr(locally(3)[0]),
    ]


def test_a_task_that_is_the_first_to_import_numpy_is_seeded() -> None:
    said = program(
        "import sys, millpond\n"
        "from millpond.worker import seeding\n"
        "def draw():\n"
        "    import numpy.random\n"
        "    return float(numpy.random.random())\n"
        "assert 'numpy' not in sys.modules\n"
        "with seeding.Borrowed():\n"
        "    print(seeding.Seeded(draw, (7,), lambda: 3, alone=True)())\n"
    )
    assert said == f"{locally(3)[1]!r}\n"


def test_nothing_is_imported_without_a_seed() -> None:
    said = program(
        "import sys, millpond.worker.loop, millpond.backends.inline\n"
        "print([name for name in ('numpy', 'hashlib', 'random') if name in sys.modules])\n"
    )
    assert said == "[]\n"


def test_a_generator_of_another_kind_that_a_task_installed_is_taken_out_again(slate: Slate) -> None:
    def replace(_: object) -> float:
        np.random.set_bit_generator(np.random.PCG64())  # type: ignore[attr-defined]
        return float(np.random.random())

    before = np.random.get_bit_generator()  # type: ignore[attr-defined]
    np.random.seed(1)
    expected = [np.random.standard_normal() for _ in range(3)][1:]  # made in pairs, one is kept
    np.random.seed(1)
    np.random.standard_normal()
    run(slate, chunk(seeded(replace), [0, 0]))
    assert np.random.get_bit_generator() is before  # type: ignore[attr-defined]
    assert [np.random.standard_normal() for _ in range(2)] == expected


# By value -----------------------------------------------------------------------------------------


def test_a_conducted_function_goes_by_value_with_its_module(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = types.ModuleType("nowhere")
    exec("import random\ndef helper(): return 5\ndef task(_): return helper()", vars(module))
    monkeypatch.setitem(sys.modules, "nowhere", module)
    data = codec.encode_by_value(seeded(module.task))
    monkeypatch.delitem(sys.modules, "nowhere")
    conducted = codec.decode_argument(data)
    assert type(conducted) is Conducted
    assert conducted.function(0) == 5
