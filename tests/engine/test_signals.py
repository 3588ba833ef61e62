"""A signal at every place where CPython may run its handler: the pool goes on, and nothing hangs.

See interrupted.py; it runs in a process of its own, since a signal is for the main thread alone and a hang should
show every thread's stack. Strides are prime, so that other places are struck whenever the code changes.
"""

from __future__ import annotations

import pytest

from tests.engine.sweeps import places

SCENARIOS = [
    ("apply", 1), ("apply_async", 1), ("callback", 2), ("imap", 2), ("timeout", 2),
    ("map_some", 23), ("end", 53), ("terminate", 29),
]  # fmt: skip


@pytest.mark.parametrize(("scenario", "stride"), SCENARIOS)
def test_ctrl_c_anywhere(scenario: str, stride: int) -> None:
    assert places("interrupted", "fork", scenario, "SIGINT", stride) > 20


@pytest.mark.parametrize(("scenario", "stride"), SCENARIOS)
def test_another_signal_whose_handler_raises_anywhere(scenario: str, stride: int) -> None:
    assert places("interrupted", "fork", scenario, "SIGALRM", stride) > 20


@pytest.mark.parametrize("signal", ["SIGINT", "SIGALRM"])
@pytest.mark.parametrize("scenario", ["make", "start"])
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_what_is_struck_while_it_is_made_leaves_nothing(
    method: str, scenario: str, signal: str
) -> None:
    assert places("interrupted", method, scenario, signal, 307) > 20


@pytest.mark.parametrize("backend", ["threads", "inline"])
@pytest.mark.parametrize("scenario", ["apply", "imap"])
def test_ctrl_c_on_other_backends(backend: str, scenario: str) -> None:
    assert places("interrupted", backend, scenario, "SIGINT", 7) > 20
