"""The faults by their number in the list of faults, each with the scenario that places it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.stress.stage import METHODS, Stage

SECTIONS: Final = {
    "deaths": "Worker death, by phase",
    "journeys": "Exits, exceptions, pickling",
    "values": "What tasks raise, return and keep",
    "callers": "The caller's own code",
    "barges": "Code that comes amid the pool's own",
    "handshakes": "Words that a program and its workers share",
    "stuck": "Stuck workers and shutdown",
    "parents": "The parent's fate",
    "resources": "Resources and nasty tasks",
    "beginnings": "Start-up environment",
    "subclasses": "Subclasses and recipes",
    "poorer": "Poorer systems",
    "strangers": "Workers that were taken over",
}
"""Modules with scenarios, in the order of the table."""


@dataclass(frozen=True)
class Fault:
    """One row."""

    row: int
    text: str  # what goes wrong
    promise: str  # and how it has to end
    act: Callable[[Stage], None]
    methods: tuple[str, ...]
    section: str

    @property
    def name(self) -> str:
        return self.act.__name__


FAULTS: Final[list[Fault]] = []


def fault(
    row: int, text: str, promise: str, methods: tuple[str, ...] = METHODS
) -> Callable[[Callable[[Stage], None]], Callable[[Stage], None]]:
    """Enter a scenario into the catalogue."""

    def enter(act: Callable[[Stage], None]) -> Callable[[Stage], None]:
        section = act.__module__.rpartition(".")[2]
        FAULTS.append(Fault(row, text, promise, act, methods, section))
        return act

    return enter


def load(sections: tuple[str, ...] = tuple(SECTIONS)) -> list[Fault]:
    """All faults, in order."""
    for section in sections:
        importlib.import_module(f"tests.stress.{section}")
    return sorted(FAULTS, key=lambda fault: fault.row)
