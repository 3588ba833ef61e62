"""What the demo runs: one function, many inputs, and a sentence about the results.

Each of the three example modules describes itself as one ``Workload``. ``demo.py`` runs it first
with ``map`` and then with ``Pool.imap``; the two runs write into different folders and must return
equal results, so a result says nothing about its folder.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

Input = TypeVar("Input")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Workload(Generic[Input, Result]):
    """A job for the demo: ``conclude([function(each) for each in inputs(folder)])``.

    ``workers`` is only given where there should not be one for each processor.
    """

    title: str
    function: Callable[[Input], Result]
    inputs: Callable[[Path], Sequence[Input]]
    conclude: Callable[[Sequence[Result]], str]
    workers: int | None = None
