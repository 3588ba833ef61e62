"""The project's own files, as the architecture tests see them, and their exemptions.

An exemption stands in exemptions.toml with a reason. It must still be needed, so it can only
shrink: one that is larger than the code, or that names nothing, fails the test it was made for.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "tests", "examples", "benchmarks", "docs", ".ci")
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".cfg", ".txt", ".sh", ".ipynb", ""}


def files() -> Iterator[Path]:
    """Yield every text file of the project: those at the top, and those in its folders."""
    found = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in FOLDERS:
        found += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in sorted(found):
        hidden = [p for p in path.relative_to(ROOT).parts[1:] if p.startswith(".")]
        if path.suffix in TEXT and "__pycache__" not in path.parts and not hidden:
            yield path


def modules() -> Iterator[Path]:
    return (path for path in files() if path.suffix == ".py")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def exemptions(kind: str) -> list[dict[str, Any]]:
    text = (ROOT / "tests" / "architecture" / "exemptions.toml").read_text()
    rows: list[dict[str, Any]] = tomllib.loads(text).get(kind, [])
    for row in rows:
        assert len(row.get("reason", "").split()) >= 3, f"an exemption without a reason: {row}"
    return rows
