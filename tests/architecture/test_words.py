"""Names say what a thing is, and the tree holds no unfinished notes and no machine's paths."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.architecture import tree

EMPTY_WORDS = {"util", "helper", "common", "misc", "manager", "handler"}
# Put together here, so that this file does not hold what it looks for.
NOTE = "(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]) + ")"
NOTES = re.compile(rf"\b{NOTE}\s*[:(]|(#|//|<!--)\s*{NOTE}\b")
PATHS = re.compile(
    "|".join(
        [
            r"(?<![\w.~$/}])/" + r"work/",
            r"(?<![\w.~$/}])/" + r"root/",
            r"(?<![\w.~$/}])/" + r"home/\w",
            r"(?<![\w.~$/}])/" + r"Users/\w",
            r"(?<![\w.~$/}])/" + r"opt/(wheels|pypi)",
        ]
    )
)


def words(name: str) -> set[str]:
    """Split a file's or a class's name into its words, in lower case and singular."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return {part.lower() for part in parts} | {part.lower().removesuffix("s") for part in parts}


def named() -> Iterator[tuple[str, str]]:
    for path in tree.modules():
        where = tree.name_of(path)
        yield where, path.stem
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                yield f"{where}::{node.name}", node.name


def test_no_file_or_class_has_a_name_that_says_nothing() -> None:
    exempt = {row["where"] for row in tree.exemptions("names")}
    empty = {where for where, name in named() if words(name) & EMPTY_WORDS}
    assert sorted(empty - exempt) == []
    assert sorted(exempt - empty) == [], "exemptions that are no longer needed"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("utils", True),
        ("path_helpers", True),
        ("SignalHandler", True),
        ("HTTPManager", True),
        ("utility", False),
        ("Scheduler", False),
        ("commonest", False),
    ],
)
def test_words_are_told_apart(name: str, found: bool) -> None:
    assert bool(words(name) & EMPTY_WORDS) is found


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{tree.name_of(path)}:{number}: {line.strip()}"
        for path in tree.files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_unfinished_notes() -> None:
    assert lines_with(NOTES) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# TO" + "DO later", True),
        ("x = 1  # FIX" + "ME", True),
        ("TO" + "DO(me): x", True),
        ("<!-- XX" + "X -->", True),
        ("a to" + "do list", False),
        ("re.compile('TO" + "DO|x')", False),
    ],
)
def test_notes_are_told_apart(text: str, found: bool) -> None:
    assert bool(NOTES.search(text)) is found


def test_no_paths_of_one_machine() -> None:
    assert lines_with(PATHS) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see /" + "home/somebody/x", True),
        ("'/" + "root/x'", True),
        ("~/" + "root/x", False),
        ("$HOME/" + "work/x", False),
        ("https://example.org/" + "work/x", False),
    ],
)
def test_paths_are_told_apart(text: str, found: bool) -> None:
    assert bool(PATHS.search(text)) is found
