"""Dialogs with the IMAP door as data: ``*.txt`` beside this file.

``C:`` the client says a line (``\\0`` is NUL); ``S:`` the server says exactly this line, ``…`` standing for anything; ``@`` something happens elsewhere:
``deliver [flags]``, ``remove UID``, ``delete FOLDER``, ``full``, ``fails N`` (committing the Nth message from now), ``objects`` (what comes has MAILBOXID and SAVEDATE), ``claim UID``, ``seconds N``, ``end`` (the server closed). ``#`` explains. A dialog begins
after the greeting, not logged in; ``@ login`` and ``@ select`` shorten the way. INBOX holds two messages, the second one seen.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hornetmail.testing.folders import MemoryTree
from tests.servers.imap.door import SIMPLE, Door, Talk

DIALOGS = sorted(Path(__file__).parent.glob("*.txt"))


class Stage:
    """One dialog being played."""

    def __init__(self) -> None:
        self.door = Door()
        self.door.more = [("Archive/", MemoryTree(1, self.door.bus, readonly=True, inbox=False))]
        archived = self.door.more[0][1].make("2024")  # type: ignore[attr-defined]
        archived.add(SIMPLE)
        self.door.inbox.add(SIMPLE)
        self.door.inbox.add(SIMPLE.replace(b"First", b"Second"), ["\\Seen"])
        for folder in (archived, self.door.inbox):
            folder.recent_from = folder.uidnext  # somebody has been told of these
        self.talk: Talk = self.door.connect()
        self.heard: list[bytes] = []

    def hear(self, data: bytes) -> None:
        if data:
            self.heard += data.removesuffix(b"\r\n").split(b"\r\n")

    def happen(self, what: str) -> None:
        word, _, rest = what.partition(" ")
        if word == "login":
            self.talk.login()
        elif word == "select":
            assert b"OK [READ-WRITE]" in self.talk.say(b"z SELECT INBOX")
        elif word == "deliver":
            self.door.inbox.add(SIMPLE, rest.split())
        elif word == "remove":
            self.door.inbox.remove(int(rest))
        elif word == "delete":
            self.door.tree.drop(rest)
        elif word == "full":
            self.door.tree.full = True
        elif word == "fails":
            self.door.tree.fails = int(rest)
        elif word == "objects":
            self.door.tree.objects, self.door.tree.saved = True, 1.7e9 + 86_400
        elif word == "claim":
            self.door.inbox.inuse.add(int(rest))
        elif word == "seconds":
            pass
        elif word == "end":
            assert self.talk.transport.disconnecting
        else:
            raise ValueError(what)
        self.door.clock.advance(float(rest) if word == "seconds" else 0)
        self.hear(self.talk.heard())


@pytest.mark.parametrize("path", DIALOGS, ids=[path.stem for path in DIALOGS])
def test_dialog(path: Path) -> None:
    """Catches any change of what is said on the wire in the situations of the dialogs."""
    stage = Stage()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path.name}:{number}"
        kind, _, said = line.partition(" ")
        if kind == "S:":
            assert stage.heard, f"{where}: nothing came"
            pattern = ".*".join(map(re.escape, said.split("…")))
            assert re.fullmatch(pattern, stage.heard[0].decode()), f"{where}: {stage.heard[0].decode()!r}"
            del stage.heard[0]
        elif kind in ("C:", "@"):
            assert not stage.heard, f"{where}: came too: {stage.heard!r}"
            if kind == "@":
                stage.happen(said)
            else:
                stage.hear(stage.talk.say(said.replace("\\0", "\0").encode()))
        else:
            assert not line or kind.startswith("#"), f"{where}: {line}"
    assert not stage.heard, f"{path.name}: came too: {stage.heard!r}"


def test_there_are_dialogs() -> None:
    """Catches a moved folder, which would make the test above vanish."""
    assert len(DIALOGS) > 10
