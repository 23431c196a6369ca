"""Home with flags and folders (L13) against the real service, a real Postfix and a real Dovecot: what people did with mail during an outage is there afterwards, once.

The tests of this module are one story in order, told against one installation.
"""

from __future__ import annotations

import imaplib
import re
from collections.abc import Iterator

import pytest

from tests.peers.dovecot import Dovecot
from tests.peers.installation import Failed, Installation
from tests.peers.postfix import PostfixPrimary
from tests.peers.waiting import until
from tests.scenarios.world import USERS, World

ALICE, BOB = "alice@example.test", "bob@example.test"


def mail(name: str) -> bytes:
    return f"From: sender@outside.test\r\nMessage-ID: <{name}@outside.test>\r\nSubject: {name}\r\n\r\ntext of {name}\r\n".encode()


class House(World):
    """``dovecot`` is where the primary's people read their mail; in front of it stands ``primary``."""

    def __init__(self, hornet: Installation, primary: PostfixPrimary, dovecot: Dovecot) -> None:
        super().__init__(hornet, primary)
        self.dovecot = dovecot

    def home(self, address: str, folder: str) -> list[tuple[str, set[str]]]:
        """Subject and flags of what Dovecot has."""
        client = imaplib.IMAP4("127.0.0.1", self.dovecot.port, timeout=60)
        try:
            client.login(address, self.dovecot.password)
            if client.select(folder, readonly=True)[0] != "OK":
                return []
            found = []
            for number in client.search(None, "ALL")[1][0].split():
                _, data = client.fetch(number.decode(), "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
                assert isinstance(data[0], tuple)
                said = b"".join(part for piece in data for part in (piece if isinstance(piece, tuple) else (piece,)))
                flags = {flag.decode() for flag in imaplib.ParseFlags(said)} - {"\\Recent"}
                subject = re.search(rb"Subject: (\S+)", said)
                assert subject is not None
                found.append((subject[1].decode(), flags))
            return found
        finally:
            client.logout()

    def everything(self) -> dict[str, list[tuple[str, set[str]]]]:
        """Alice's."""
        return {folder: self.home(ALICE, folder) for folder in ("INBOX", "Projekte", "Sent", "Trash")}


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    primary = PostfixPrimary([*USERS])
    dovecot = Dovecot(master="master-key")
    hornet = Installation()
    try:
        primary.start()
        hornet.start()
        hornet.add_domain("example.test", primary.port, "--failover", "manual")
        for address, password in USERS.items():
            hornet.add_mailbox(address, password)
        yield House(hornet, primary, dovecot)
    finally:
        hornet.close()
        dovecot.close()
        primary.close()


def test_set_up(house: House) -> None:
    """A wrong password says so at once, and a right one shows the folders; neither is told by anything."""
    words = ("home", "set", "example.test", "--host", f"127.0.0.1:{house.dovecot.port}", "--tls", "none", "--service", "hornet")
    house.hornet.command(*words, "--password-stdin", stdin="wrong-key\n")
    with pytest.raises(Failed, match="log-in is refused"):
        house.hornet.command("home", "test", ALICE)
    house.hornet.command(*words, "--password-stdin", stdin="master-key\n")
    assert "INBOX" in house.hornet.command("home", "test", ALICE)
    assert "master-key" not in house.hornet.command("home", "show", "example.test", "--json")
    assert "master-key" not in house.hornet.log()


def test_there_and_back(house: House) -> None:
    """New mail by SMTP, read mail with its flag, filed mail in its folder, sent mail in Sent; what was thrown away is nowhere."""
    house.hornet.command("domain", "mode", "example.test", "emergency")
    for name in ("new", "read", "filed", "gone"):
        house.hornet.send("sender@outside.test", [ALICE], mail(name))
    until(lambda: len(house.inbox(ALICE)) == 4, "all is in the portal")
    box = house.imap(ALICE)
    box.select()
    box.create("Projekte")
    numbers = {name: box.search(None, "SUBJECT", name)[1][0].decode() for name in ("new", "read", "filed", "gone")}
    box.store(numbers["read"], "+FLAGS", "(\\Seen \\Flagged)")
    box.store(numbers["filed"], "+FLAGS", "(\\Seen)")
    for name, folder in (("filed", "Projekte"), ("gone", "Trash")):
        assert box.copy(numbers[name], folder)[0] == "OK"
        box.store(numbers[name], "+FLAGS", "(\\Deleted)")
    box.expunge()
    assert box.append("Sent", "(\\Seen)", imaplib.Time2Internaldate(1e9), mail("sent"))[0] == "OK"
    box.logout()
    house.hornet.command("domain", "mode", "example.test", "normal")
    wanted = {
        "INBOX": [("read", {"\\Seen", "\\Flagged"})],
        "Projekte": [("filed", {"\\Seen"})],
        "Sent": [("sent", {"\\Seen"})],
        "Trash": [],
    }
    until(lambda: house.everything() == wanted, "all is home")
    until(lambda: len(house.primary.messages(ALICE)) == 1, "new mail went by SMTP")
    assert b"Subject: new" in house.primary.messages(ALICE)[0]
    assert "Went home" in house.hornet.command("home", "mailbox", ALICE)


def test_once(house: House) -> None:
    """Killed in the middle of a hundred messages and started again, twice: each is there once."""
    house.hornet.command("domain", "mode", "example.test", "emergency")
    box = house.imap(BOB)
    for number in range(100):
        assert box.append("Sent", "(\\Seen)", imaplib.Time2Internaldate(1e9 + number), mail(f"s{number}"))[0] == "OK"
    box.logout()
    house.hornet.command("domain", "mode", "example.test", "normal")
    for some in (5, 40):
        until(lambda some=some: len(house.home(BOB, "Sent")) >= some, f"{some} are home", every=0.01)  # type: ignore[misc]
        house.hornet.stop(kill=True)
        house.hornet.start()
    until(lambda: len(house.home(BOB, "Sent")) >= 100, "all is home", seconds=120)
    until(lambda: house.hornet.json("home", "mailbox", BOB)["home"] == 100, "the ledger has it", seconds=120)
    assert sorted(subject for subject, _ in house.home(BOB, "Sent")) == sorted(f"s{number}" for number in range(100))
    assert len(house.everything()["Sent"]) == 1
