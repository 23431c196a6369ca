"""The pages of a locked archive and of its passphrase (A2, rule 22)."""

from __future__ import annotations

import msgspec
from zope.interface import implementer

from hornetmail.core.archive.archived import ArchiveError, ArchiveFigures, KeyRefused, KeySourceState
from hornetmail.interfaces.unlocking import IUnlocking
from hornetmail.testing.rooms import MemoryArchive

from .people import House


class LockedArchive(MemoryArchive):
    """Locked until somebody says the word."""

    def __init__(self) -> None:
        super().__init__()
        self.locked = True

    async def figures(self) -> ArchiveFigures:
        return msgspec.structs.replace(await super().figures(), locked=self.locked)


@implementer(IUnlocking)
class MemoryUnlocking:
    """A key under a passphrase, and on a paper that is its text and password."""

    def __init__(self, archive: LockedArchive, typed: bool = True) -> None:
        self.archive = archive
        self.typed = typed
        self.passphrase = "correct horse"
        self.trouble = "nobody typed <the> passphrase yet"

    @property
    def state(self) -> KeySourceState:
        return KeySourceState("a passphrase", self.typed, self.trouble if self.archive.locked else "")

    async def unlock(self, passphrase: str) -> None:
        if passphrase != self.passphrase:
            raise KeyRefused("this passphrase does not open the archive's key")
        self.archive.locked = False

    async def unlock_by_paper(self, text: str, password: str) -> None:
        if (text, password) == ("away", "x"):
            raise ArchiveError("medium 1 is out of reach")
        if (text, password) != ("THE PAPER", "its password"):
            raise KeyRefused("line 2: checksum does not match")
        self.archive.locked = False

    async def choose(self, passphrase: str) -> None:
        if self.archive.locked:
            raise KeyRefused("the archive is locked")
        self.passphrase = passphrase


def locked_house(typed: bool = True) -> tuple[House, LockedArchive, MemoryUnlocking]:
    house, archive = House(), LockedArchive()
    unlocking = MemoryUnlocking(archive, typed)
    house.rooms_with(archive=archive, unlocking=unlocking)
    return house, archive, unlocking


def test_unlocking_by_what_is_typed() -> None:
    """Catches a locked archive that no page opens, an error that nobody sees, a secret that comes back in a page, and one that is opened by whoever asks."""
    house, archive, _ = locked_house()
    admin = house.browser("admin@example.test")
    page = admin.get("/archive-key").text
    assert "The archive is locked" in page
    assert "nobody typed &lt;the&gt; passphrase yet" in page
    assert "Change the passphrase" not in page
    for form, told in (
        ({"passphrase": "wrong secret"}, "does not open the archive&#39;s key"),
        ({}, "either it, or"),
        ({"passphrase": "correct horse", "text": "THE PAPER"}, "either it, or"),
        ({"text": "THE PAPER", "password": "wrong secret"}, "line 2: checksum does not match"),
        ({"text": "x" * 200_000}, "too long for a paper"),
        ({"text": "away", "password": "x"}, "medium 1 is out of reach"),
    ):
        answer = admin.post("/archive-key/unlock", form)
        assert 400 <= answer.status < 600, form
        assert told in answer.text, form
        assert "$." not in answer.text.partition("role=")[2][:300]
        assert "wrong secret" not in answer.text
        assert archive.locked
    for who in ("alice@example.test", "auditor@example.test"):
        assert house.browser(who).post("/archive-key/unlock", {"passphrase": "correct horse"}).status == 403
    assert archive.locked
    assert admin.post("/archive-key/unlock", {"passphrase": "correct horse"}).status == 303
    assert not archive.locked
    page = admin.get("/archive-key").text
    assert "The archive is unlocked." in page
    assert 'id="unlock"' not in page


def test_unlocking_by_paper() -> None:
    """Catches a paper with space around it that is refused, as it is pasted."""
    house, archive, _ = locked_house()
    answer = house.browser("admin@example.test").post(
        "/archive-key/unlock", {"text": "\r\nTHE PAPER\r\n", "password": "its password"}
    )
    assert (answer.status, archive.locked) == (303, False)


def test_another_passphrase() -> None:
    """Catches a passphrase that was typed differently the second time and is in force, one that is too short, one that anybody changes, and a form where none is asked for."""
    house, archive, unlocking = locked_house()
    archive.locked = False
    admin = house.browser("admin@example.test")
    assert "Change the passphrase" in admin.get("/archive-key").text
    for form, told in (
        ({"passphrase": "battery staple", "again": "battery stable"}, "The two passphrases differ."),
        ({"passphrase": "short", "again": "short"}, "8 characters"),
    ):
        answer = admin.post("/archive-key/passphrase", form)
        assert answer.status == 400
        assert told in answer.text
        assert "battery" not in answer.text
    for who in ("alice@example.test", "auditor@example.test"):
        form = {"passphrase": "battery staple", "again": "battery staple"}
        assert house.browser(who).post("/archive-key/passphrase", form).status == 403
    assert unlocking.passphrase == "correct horse"
    assert admin.post("/archive-key/passphrase", {"passphrase": "battery staple", "again": "battery staple"}).status == 303
    assert unlocking.passphrase == "battery staple"
    assert "The new passphrase is in force." in admin.get("/archive-key").text
    archive.locked = True
    assert (
        "the archive is locked"
        in admin.post("/archive-key/passphrase", {"passphrase": "a third one", "again": "a third one"}).text
    )

    house, archive, _ = locked_house(typed=False)
    archive.locked = False
    assert "Change the passphrase" not in house.browser("admin@example.test").get("/archive-key").text
