"""Single-operator changes of a module's source: what could be changed where, and the source with one of them made."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARED = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
}
_COUNTED = {ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "//"), ast.FloorDiv: ("//", "*"), ast.Div: ("/", "*")}
_CALLED = {"min": "max", "max": "min", "any": "all", "all": "any"}
_SILENT = frozenset({"info", "warn", "error", "debug", "failure", "critical"})
"""Methods of a logger: what is said there is for people."""


@dataclass(frozen=True, order=True)
class Change:
    """Bytes ``start`` to ``end`` of a module become ``new``; ``line`` is for people and for the tests that run it."""

    path: str
    line: int
    start: int
    end: int
    new: str

    def made(self, source: bytes) -> bytes:
        """The module with this change."""
        return source[: self.start] + self.new.encode() + source[self.end :]

    def told(self, source: bytes) -> str:
        """``path:line: old -> new``, with the line's text."""
        text = source.splitlines()[self.line - 1].decode().strip()
        return f"{self.path}:{self.line}: {source[self.start : self.end].decode()} -> {self.new}   {text}"


class _Reader(ast.NodeVisitor):
    def __init__(self, path: str, source: bytes) -> None:
        self.path = path
        self.source = source
        self.found: list[Change] = []
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def _at(self, line: int, column: int) -> int:
        return self._starts[line - 1] + column

    def _span(self, node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._at(node.lineno, node.col_offset), self._at(node.end_lineno, node.end_col_offset)

    def _add(self, start: int, end: int, new: str) -> None:
        line = self.source.count(b"\n", 0, start) + 1
        self.found.append(Change(self.path, line, start, end, new))

    def _between(self, left: ast.expr, right: ast.expr, old: str, new: str, *, word: bool = False) -> None:
        """The operator between two operands; brackets and white space may stand around it."""
        start, end = self._span(left)[1], self._span(right)[0]
        pattern = rf"\b{old}\b" if word else old
        match = re.search(pattern.encode(), self.source[start:end])
        if match:
            self._add(start + match.start(), start + match.end(), new)

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
            old, new = _COMPARED[type(operator)]
            self._between(left, right, old, new, word=old[0].isalpha())
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._between(left, right, old, new, word=True)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in _COUNTED:
            old, new = _COUNTED[type(node.op)]
            self._between(node.left, node.right, re.escape(old), new)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._add(self._span(node)[0], self._span(node.operand)[0], "")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        start, end = self._span(node)
        if isinstance(node.value, bool):
            self._add(start, end, str(not node.value))
        elif isinstance(node.value, int):
            self._add(start, end, str(node.value + 1))

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func
        if isinstance(name, ast.Attribute) and name.attr in _SILENT and ast.unparse(name.value).endswith("log"):
            return
        if isinstance(name, ast.Name) and name.id in _CALLED:
            self._add(*self._span(name), _CALLED[name.id])
        for part in (name, *node.args, *(one.value for one in node.keywords if one.arg != "strict")):
            self.visit(part)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Texts for people; before Python 3.12 their parts have no true places either."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Not its keywords: ``tests/core/test_values.py`` holds for all values at once that nothing changes them."""
        for statement in node.body:
            self.visit(statement)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        for statement in node.body:
            self.visit(statement)


def changes(path: str, source: bytes) -> Iterator[Change]:
    """All single-operator changes of a module, in order; annotations, log lines, texts for people and ``zip``'s ``strict`` (which is said of what cannot be otherwise) are left alone."""
    reader = _Reader(path, source)
    reader.visit(ast.parse(source))
    for change in sorted(set(reader.found)):
        try:
            ast.parse(change.made(source))
        except SyntaxError:
            continue
        yield change
