"""Dialogs with the SMTP doors, as data: tests/dialogs/smtp/*.txt."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.dialogs import Player

DIALOGS = sorted((Path(__file__).parent.parent / "dialogs" / "smtp").glob("*.txt"))


def test_there_are_dialogs() -> None:
    """Would catch a folder that moved away and leaves nothing tested."""
    assert len(DIALOGS) >= 10


@pytest.mark.parametrize("path", DIALOGS, ids=[p.stem for p in DIALOGS])
def test_dialog(path: Path) -> None:
    """Would catch any answer of the doors that is not the one written down; what it is about stands in the file."""
    Player(path).play()
