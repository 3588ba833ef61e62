"""Files, functions and classes stay small; what does not is exempt at its figure, and no more."""

from __future__ import annotations

import textwrap

import pytest

from tests.architecture import sizes, tree


def measures() -> list[sizes.Measure]:
    found: list[sizes.Measure] = []
    for path in tree.modules():
        found += sizes.of_file(tree.name_of(path), path.read_text(encoding="utf-8"))
    return found


def verdicts(found: list[sizes.Measure], exempt: dict[tuple[str, str], int]) -> list[str]:
    """Say what is wrong: too large without an exemption, or an exemption that is not exact."""
    wrong = []
    for m in found:
        allowed = exempt.get((m.where, m.what), m.limit)
        if m.figure > allowed:
            wrong.append(f"{m.where}: {m.what} {m.figure}, at most {allowed}")
    current = {(m.where, m.what): m for m in found}
    for key, figure in exempt.items():
        if key not in current:
            wrong.append(f"{key[0]}: an exemption for {key[1]} that is not there (any more)")
            continue
        m = current[key]
        if m.figure <= m.limit:
            wrong.append(f"{m.where}: {m.what} {m.figure} needs no exemption, remove it")
        elif m.figure < figure:
            wrong.append(f"{m.where}: {m.what} {m.figure}, lower the exemption from {figure}")
    return wrong


def test_everything_is_within_its_limit_or_exempt_at_its_very_figure() -> None:
    rows = tree.exemptions("sizes")
    exempt = {(row["where"], row["what"]): row["figure"] for row in rows}
    assert len(exempt) == len(rows), "an exemption twice"
    wrong = verdicts(measures(), exempt)
    assert not wrong, "\n" + "\n".join(wrong)


SAMPLE = '''
def f(a, /, b, *c, d=1, **e):
    """One
    two."""
    for x in a:
        if x:
            pass
        elif b:
            pass
    def inner():
        if a: pass
    return [y for y in c if y if d] if b else None

class C:
    @property
    def p(self): ...
    @p.setter
    def p(self, value): ...
    @staticmethod
    def s(a): ...
    def m(self, a, b): ...
'''


@pytest.mark.parametrize(
    ("where", "what", "figure"),
    [
        ("x.py", "file", 21),
        ("x.py::f", "lines", 9),
        ("x.py::f", "branches", 6),
        ("x.py::f", "params", 5),
        ("x.py::f.inner", "branches", 1),
        ("x.py::C", "methods", 3),
        ("x.py::C.s", "params", 1),
        ("x.py::C.m", "params", 2),
    ],
)
def test_what_is_counted(where: str, what: str, figure: int) -> None:
    found = {(m.where, m.what): m.figure for m in sizes.of_file("x.py", SAMPLE)}
    assert found[where, what] == figure


def test_the_core_has_a_limit_of_its_own() -> None:
    limits = {
        name: next(iter(sizes.of_file(name, ""))).limit
        for name in ("src/millpond/core/x.py", "src/millpond/x.py", "tests/core/x.py")
    }
    assert list(limits.values()) == [300, 400, 400]


def test_the_ratchet_only_goes_down() -> None:
    long = textwrap.dedent("def f():\n") + "    x = 1\n" * 49
    found = list(sizes.of_file("a.py", long))
    key = ("a.py::f", "lines")
    assert verdicts(found, {}) == ["a.py::f: lines 50, at most 40"]
    assert verdicts(found, {key: 49}) == ["a.py::f: lines 50, at most 49"]
    assert verdicts(found, {key: 50}) == []
    assert verdicts(found, {key: 51}) == ["a.py::f: lines 50, lower the exemption from 51"]
    small = list(sizes.of_file("a.py", "def f(): ...\n"))
    assert verdicts(small, {key: 50}) == ["a.py::f: lines 1 needs no exemption, remove it"]
    assert verdicts([], {key: 50}) == [
        "a.py::f: an exemption for lines that is not there (any more)"
    ]
