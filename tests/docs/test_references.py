"""What the documents point at exists: files, tests, benchmarks; nothing is left to fill in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.blocks import DOCUMENTS, ROOT

LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)")
TEST = re.compile(r"`(?:[\w/]+\.py::)?(test_\w+)`")
SCRIPT = re.compile(r"`(?:python )?((?:benchmarks|examples|tests|src)/[\w/]+\.py)`")
PLACEHOLDER = re.compile(r"\b(?:FIGURES?|TEST\(|TODO|FIXME|XXX)")


def names_of_tests() -> set[str]:
    """Every test function of the project, those of the public conformance suite included."""
    sources = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "src/millpond/testing").rglob("*.py")]
    return {
        name
        for path in sources
        for name in re.findall(
            r"^\s*(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE
        )
    }


@pytest.fixture(params=DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def document(request: pytest.FixtureRequest) -> Path:
    path = request.param
    assert isinstance(path, Path)
    return path


def test_links_lead_somewhere(document: Path) -> None:
    targets = LINK.findall(document.read_text("utf-8"))
    assert [target for target in targets if not (document.parent / target).exists()] == []


def test_tests_that_are_named_exist(document: Path) -> None:
    named = set(TEST.findall(document.read_text("utf-8")))
    assert named - names_of_tests() == set()


def test_scripts_that_are_named_exist(document: Path) -> None:
    named = SCRIPT.findall(document.read_text("utf-8"))
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_nothing_is_left_to_fill_in(document: Path) -> None:
    assert PLACEHOLDER.findall(document.read_text("utf-8")) == []


def test_the_readme_names_tests() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(TEST.findall(readme)) >= 8
    assert LINK.findall(readme)
