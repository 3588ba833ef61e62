"""Measure files, functions and classes, as the size limits count them.

A file counts its lines. A function counts its lines without its docstring, the places where it
branches (if, for, while, except, case, a conditional expression, a comprehension's if), and its
parameters without self or cls. A class counts its methods by name, so that overloads and a
property's setter are one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LIMITS = {"lines": 40, "branches": 10, "params": 7, "methods": 15}
FILE_LINES = 400
CORE_LINES = 300  # for a file of src/millpond/core

Function = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BRANCHES = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.match_case,
    ast.IfExp,
)


@dataclass(frozen=True)
class Measure:
    where: str
    what: str
    figure: int
    limit: int


def of_file(name: str, text: str) -> Iterator[Measure]:
    """Measure a file and everything defined in it."""
    limit = CORE_LINES if name.startswith("src/millpond/core/") else FILE_LINES
    yield Measure(name, "file", len(text.splitlines()), limit)
    yield from _of_body(ast.parse(text), name + "::", in_class=False)


def _of_body(node: ast.AST, prefix: str, *, in_class: bool) -> Iterator[Measure]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, FUNCTIONS):
            where = prefix + child.name
            yield from _of_function(child, where, is_method=in_class)
            yield from _of_body(child, where + ".", in_class=False)
        elif isinstance(child, ast.ClassDef):
            where = prefix + child.name
            names = {item.name for item in child.body if isinstance(item, FUNCTIONS)}
            if not _is_suite(where, child):
                yield Measure(where, "methods", len(names), LIMITS["methods"])
            yield from _of_body(child, where + ".", in_class=True)
        else:
            yield from _of_body(child, prefix, in_class=in_class)


def _is_suite(where: str, node: ast.ClassDef) -> bool:
    """Say whether a class is a list of tests, which may be as long as there are cases."""
    return Path(where.partition("::")[0]).parts[0] == "tests" and node.name.startswith("Test")


def _of_function(node: Function, where: str, *, is_method: bool) -> Iterator[Measure]:
    yield Measure(where, "lines", _lines(node), LIMITS["lines"])
    yield Measure(where, "branches", _branches(node), LIMITS["branches"])
    yield Measure(where, "params", _params(node, is_method=is_method), LIMITS["params"])


def _lines(node: Function) -> int:
    assert node.end_lineno is not None
    lines = node.end_lineno - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None and first.end_lineno is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def _branches(node: ast.AST) -> int:
    """Count the branches of a function, leaving out those of functions and classes inside it."""
    count = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*FUNCTIONS, ast.ClassDef)):
            continue
        if isinstance(child, ast.comprehension):
            count += len(child.ifs)
        count += isinstance(child, BRANCHES)
        count += _branches(child)
    return count


def _params(node: Function, *, is_method: bool) -> int:
    args = node.args
    named = [*args.posonlyargs, *args.args, *args.kwonlyargs]
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
    implicit = 1 if is_method and not static and (args.posonlyargs or args.args) else 0
    return len(named) - implicit + (args.vararg is not None) + (args.kwarg is not None)
