"""Every alarm that the program can raise is described, in ``core.alarms.KINDS`` and in the operations guide, and nothing else is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from hornetmail.compose.rooms.stores import CODES
from hornetmail.core.alarms import KINDS, Ends

ROOT = Path(__file__).parent.parent

RAISERS = {"Alarm", "AlarmEnded", "Warn", "alarm", "_alarm", "_alarm_over", "here"}
"""Calls whose first argument is a code; ``_warned`` has it fourth."""


def named(call: ast.Call) -> str:
    target = call.func
    return target.id if isinstance(target, ast.Name) else target.attr if isinstance(target, ast.Attribute) else ""


def codes_of(path: Path) -> set[str]:
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        place = 3 if named(node) == "_warned" else 0 if named(node) in RAISERS else None
        if place is None or len(node.args) <= place:
            continue
        argument = node.args[place]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            found.add(argument.value)
        elif isinstance(argument, ast.Name) and argument.id in constants:
            found.add(constants[argument.id])
    return found


def raised() -> set[str]:
    found = {*CODES.values(), "store-broken"}  # what broken stores raise: the code by the store, or this one
    for path in (ROOT / "hornetmail").rglob("*.py"):
        found |= codes_of(path)
    return found


def test_every_code_that_is_raised_is_described() -> None:
    """Would catch an alarm of which nobody knows what it means, what to do, and what ends it."""
    codes = raised()
    assert len(codes) > 20, "the search finds nothing"
    assert codes == KINDS.keys(), (codes - KINDS.keys(), KINDS.keys() - codes)


def test_the_guide_describes_each() -> None:
    """Would catch a code without a line in docs/operations.rst, and a line for one that is gone."""
    text = (ROOT / "docs" / "operations.rst").read_text()
    table = text[text.index("code ", text.index("Alarms\n------")) : text.index("Watching\n--------")]
    lines = dict(re.findall(r"^``([a-z-]+)`` +(\S.*)$", table, re.MULTILINE))
    assert lines.keys() == KINDS.keys(), lines.keys() ^ KINDS.keys()
    for code, words in lines.items():
        assert ("cknowledge" in words) == (KINDS[code].ends is Ends.SEEN), f"{code}: what ends it"


def test_titles_fit_the_subject_of_a_mail() -> None:
    """A title that is not ASCII or long would come out as question marks."""
    for kind in KINDS.values():
        assert kind.title.isascii(), kind
        assert len(kind.title) < 60, kind
