"""The short form of ``make simulate``, and that a seed which fails says so and can be played again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.core import planted
from tests.simulate import __main__ as command
from tests.simulate.campaign import Block, replay, run_block

SEEDS = 120


def test_a_short_campaign() -> None:
    block = run_block(range(SEEDS))
    assert block.failure is None, f"make simulate SEED={block.failure[0]}\n{block.failure[1]}"
    assert block.rehearsals == SEEDS
    assert set(block.deaths) == {
        "starting", "unpickling the argument", "running", "pickling the result", "sending the result",
    }  # fmt: skip
    assert block.deaths.total() > 20 * SEEDS


def test_a_seed_that_fails_is_named_and_fails_again() -> None:
    bug = planted.rehearsal_with(planted.DropsSuspects)
    found = run_block(range(SEEDS), bug)
    assert found.failure is not None
    seed, text = found.failure
    assert found.rehearsals == seed
    assert f"replay with rehearse({seed}, 300, kills=" in text
    last = replay(seed, rehearsal_type=bug)
    assert [line for line in last if line.startswith("AssertionError: ")] == [
        line for line in text.splitlines() if line.startswith("AssertionError: ")
    ]
    assert any("Lost(worker=" in line for line in last)
    assert replay(seed)[-1] == f"seed {seed}: nothing is wrong"


def test_what_the_command_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = Block(25, Counter(running=600), None)
    bad = Block(3, Counter(running=10), (28, "AssertionError: lost"))

    def blocks(_first: int, _processes: int) -> Iterator[tuple[int, Block]]:
        yield 0, good
        yield 25, bad

    monkeypatch.setattr(command, "blocks", blocks)
    assert command.campaign(600, 0, 1) == 0
    said = capsys.readouterr().out
    assert "25 rehearsals, 600 deaths" in said
    assert "while running: 600" in said
    assert command.campaign(1000, 0, 1) == 1
    assert "seed 28 fails; again: make simulate SEED=28" in capsys.readouterr().out


def test_processes_share_the_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.campaign(1, 0, 2) == 0
    assert "nothing was lost" in capsys.readouterr().out
