"""The code blocks of the documents, and where each of them is.

Every block whose fence says ``python`` is a program that must run; one that says
``python fragment`` is only to be read. Where a ``text`` block comes next, it is what the program
prints.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCED = re.compile(
    r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```[ ]*\n?(?P<between>\s*)", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Program:
    """A block of Python that runs; ``output`` is None where the document does not say it."""

    place: str
    source: str
    output: str | None


def programs_in(document: str, name: str) -> Iterator[Program]:
    """Every runnable block of a document."""
    blocks = list(_FENCED.finditer(document))
    for block, follower in zip_longest(blocks, blocks[1:]):
        if block["info"].strip() != "python":
            continue
        output = None
        if follower and follower.start() == block.end() and follower["info"].strip() == "text":
            output = follower["body"]
        line = document.count("\n", 0, block.start()) + 1
        yield Program(f"{name}:{line}", block["body"], output)


def all_programs() -> list[Program]:
    """Every runnable block of every document."""
    return [
        program
        for path in DOCUMENTS
        for program in programs_in(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())
    ]
