"""Plain text exists in the portal's Maildirs and nowhere else (rule 24): every file that a real service wrote is searched for words of its mail and for its keys."""

from __future__ import annotations

import base64
import gzip
import imaplib
import io
import random
import smtplib
import ssl
import time
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
import zstandard

from hornetmail.archive.keys.keyring import KEYRING_NAME, Keyring, RootFile
from hornetmail.compose.ground.foundations import SERVER_KEY
from hornetmail.compose.ground.keys import ServerKey
from hornetmail.disk.files import Disk
from tests.peers.installation import Installation
from tests.peers.scripted import ScriptedServer
from tests.peers.waiting import until
from tests.scenarios.plaintext import Found, Search
from tests.scenarios.test_retention import DAY, in_index
from tests.scenarios.world import AUDITOR, World

ALICE, BOB = "alice@home.test", "bob@away.test"
PASSWORDS = {ALICE: "alice-secret-1", BOB: "bob-secret-12"}
PLACES = {
    "subject": "quasten", "body": "flossen", "quoted": "zwetschgen", "html": "schnabel", "attached": "nebel", "zipped": "kraehen", "filename": "moor",
    "name": "leuchter", "sender": "wirbel", "copied": "distel", "hidden": "kork", "msgid": "enzian", "encoded": "störrüben", "umlaut": "krähenköpfe",
}  # fmt: skip
"""Where a mail has a word, and with what it begins."""

TAILS = {
    "home": "kater", "normal": "wimpel", "outage": "giebel", "queued": "mispel", "sent": "zunder", "purged": "pendel", "exported": "trommel",
}  # fmt: skip


def words_of(mail: str) -> dict[str, str]:
    """A word for each place of a mail, as no other mail and no program has them."""
    return {f"{mail} {place}": f"{stem}{TAILS[mail]}{place[::-1]}" for place, stem in PLACES.items()}


def mail_of(mail: str, to: str, filler: bytes = b"") -> tuple[str, bytes]:
    """The sender's address and the mail: each word in its place."""
    word = {place: words_of(mail)[f"{mail} {place}"] for place in PLACES}
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("inner.txt", f"in a zip: {word['zipped']}\r\n" * 5)
        archive.writestr("filler", filler)
    sender = f"{word['sender']}@outside.test"
    lines = [
        f'From: "{word["name"]}" <{sender}>',
        f"To: <{to}>",
        f"Cc: <{word['copied']}@outside.test>",
        f"Subject: {word['subject']} =?utf-8?b?{base64.b64encode(word['encoded'].encode()).decode()}?=",
        f"Message-ID: <{word['msgid']}@outside.test>",
        "Date: Mon, 25 May 2026 10:00:00 +0000",
        "MIME-Version: 1.0",
        "Content-Type: multipart/mixed; boundary=edge",
        "",
        "--edge",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        f"We spoke of {word['body']} and of {word['umlaut']}.",
        "--edge",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: quoted-printable",
        "",
        f"{word['quoted']}=20and so on",
        "--edge",
        "Content-Type: text/html; charset=utf-8",
        "Content-Transfer-Encoding: base64",
        "",
        base64.encodebytes(f"<p>Also <b>{word['html']}</b></p>".encode()).decode().strip().replace("\n", "\r\n"),
        "--edge",
        f'Content-Type: text/plain; name="{word["filename"]}.txt"',
        f'Content-Disposition: attachment; filename="{word["filename"]}.txt"',
        "Content-Transfer-Encoding: base64",
        "",
        base64.encodebytes(f"attached: {word['attached']}\r\n".encode() * 9).decode().strip().replace("\n", "\r\n"),
        "--edge",
        "Content-Type: application/zip",
        "Content-Disposition: attachment; filename=all.zip",
        "Content-Transfer-Encoding: base64",
        "",
        base64.encodebytes(zipped.getvalue()).decode().strip().replace("\n", "\r\n"),
        "--edge--",
        "",
    ]
    return sender, "\r\n".join(lines).encode()


def keys_of(hornet: Installation) -> dict[str, bytes]:
    """All that opens something: the server key and what it is derived to, the root key, and every key that it wraps."""
    root = RootFile(hornet.dir / "keys" / "archive-root.key", Disk()).read()
    assert root is not None
    ring = Keyring.from_bytes((hornet.dir / "archive" / KEYRING_NAME).read_bytes(), root)
    found = {f"archive key {entry.number}": ring._unwrap(entry) for entry in ring._body.entries}
    assert len(found) >= 3
    server = hornet.dir / SERVER_KEY
    return {
        **found,
        "root key": root,
        "server key": server.read_bytes(),
        "key of control.db": ServerKey.load(server).derive("control.db", 48),
    }


class House:
    """The service, its primary, and what has been sent."""

    def __init__(self, hornet: Installation, primary: ScriptedServer) -> None:
        self.hornet = hornet
        self.primary = primary
        self.sent: list[str] = []
        self.home = {"home", "outage"}
        self.world = World(hornet, None)  # type: ignore[arg-type]

    def send(self, mail: str, to: str, filler: bytes = b"", offset: int = 25) -> None:
        sender, raw = mail_of(mail, to, filler)
        self.hornet.send(sender, [to], raw, offset)
        self.sent.append(mail)

    def archived(self, idle: bool = True) -> None:
        if idle:
            self.hornet.until_idle()
        until(lambda: self.hornet.status()["archive"]["staged"] == 0, "it is on the medium")

    def submit(self, mail: str, to: str) -> None:
        """As Alice, with her mail program."""
        _, raw = mail_of(mail, to)
        with smtplib.SMTP("127.0.0.1", self.hornet.port(587), local_hostname="client.test", timeout=60) as smtp:
            smtp.starttls(context=ssl._create_unverified_context())
            smtp.login(ALICE, PASSWORDS[ALICE])
            smtp.sendmail(ALICE, [to], raw, ["BODY=8BITMIME"])
        self.sent.append(mail)

    def finds(self, *mails: str) -> None:
        """The archive has all of it, and finds each by the words of header, text and attachment."""
        for mail in mails:
            words = words_of(mail)
            for place in ("subject", "encoded", "body", "umlaut", "quoted", "html", "filename", "name"):
                hits = self.world.archived(query=words[f"{mail} {place}"])
                assert len(hits) == 1, (mail, place)
            assert words[f"{mail} body"].encode() in self.world.archived_bytes(hits[0]["id"])

    def in_portal(self, mail: str) -> bool:
        """Whether a Maildir of the portal has it."""
        word = words_of(mail)[f"{mail} body"].encode()
        return any(word in path.read_bytes() for path in (self.hornet.dir / "portal").rglob("*") if path.is_file())

    def went_home(self, mail: str) -> None:
        """From now on it must not be in the portal either."""
        word = words_of(mail)[f"{mail} body"].encode()
        assert any(word in one.data for one in self.primary.accepted)
        self.home.discard(mail)

    def look_around(self, mail: str) -> None:
        """People read and search: what they ask for are words of mail too."""
        words = words_of(mail)
        with imaplib.IMAP4("127.0.0.1", self.hornet.port(143), timeout=60) as imap:
            imap.login(BOB, PASSWORDS[BOB])
            imap.select("INBOX")
            for criterion in ("SUBJECT", "TEXT", "FROM"):
                imap.search("UTF-8", criterion, f'"{words[f"{mail} subject"]}"')
            imap.fetch("1:*", "(ENVELOPE BODYSTRUCTURE BODY.PEEK[])")
        for place in PLACES:
            self.world.archived((BOB, PASSWORDS[BOB]), query=words[f"{mail} {place}"])
            self.world.archived(query=f"subject:{words[f'{mail} {place}']} from:{words[f'{mail} sender']}")
        identifier = self.world.archived(query=words[f"{mail} subject"])[0]["id"]
        self.world.api("GET", f"/archive/{identifier}", AUDITOR)

    def purge(self, mail: str) -> None:
        """Its time is over: marked, and gone a day later."""
        hornet, word = self.hornet, words_of(mail)[f"{mail} subject"]
        (hit,) = self.world.archived(query=word)
        before = hornet.status()["archive"]["mails"]
        hornet.command("archive", "confirm-purge")
        assert hornet.stop() == 0
        in_index(hornet, "UPDATE mail SET expires = ? WHERE id = ?", time.time() - 5 * DAY, int(hit["id"]))
        hornet.start()
        hornet.command("jobs", "run", "mark")
        assert hornet.stop() == 0
        in_index(hornet, "UPDATE mail SET marked = marked - ? WHERE marked IS NOT NULL", 1.1 * DAY)
        hornet.start()
        hornet.command("jobs", "run", "purge")
        assert hornet.status()["archive"]["mails"] == before - 1

    def nothing(self, after: str) -> None:
        """Nothing is found in any file, but for what must be readable."""
        words = {name: word.encode() for mail in self.sent for name, word in words_of(mail).items()}
        search = Search({**words, **keys_of(self.hornet)})
        found = search.in_files(self.hornet.root)
        if self.hornet.process is not None:
            found |= search.in_open_files(self.hornet.process.pid)
        left = sorted(one for one in found if not readable(one, self.home))
        assert not left, (after, left)


def readable(one: Found, home: Collection[str]) -> bool:
    """The exceptions, all of them; ``docs/operations.rst`` names them too."""
    mail, _, place = one.what.partition(" ")
    # The portal's Maildirs: mail of people whose mail server it is, and copies of an outage until they are home.
    if one.file.startswith("data/portal/") and mail in home:
        return True
    # Each key file its own key. They are what the machine opens its files with.
    if (one.file, one.what) in (("data/keys/archive-root.key", "root key"), ("data/keys/server.key", "server key")):
        return True
    # The log: who sends to whom by the envelope, and nothing of a header or a text.
    return (
        one.file in ("data/hornetmail.log", "twistd.log") and place in ("sender", "hidden") and one.form in ("plain", "latin-1")
    )


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    hornet, primary = Installation(), ScriptedServer()
    temporary = hornet.root / "tmp"
    temporary.mkdir()
    for name in ("TMPDIR", "SQLITE_TMPDIR"):
        monkeypatch.setenv(name, str(temporary))
    try:
        hornet.set(seal_seconds=1)
        hornet.names.trouble.add("nowhere.test")
        hornet.start()
        hornet.add_domain("home.test", None)
        hornet.add_domain("away.test", primary.port, "--failover", "auto")
        hornet.add_mailbox(ALICE, PASSWORDS[ALICE])
        hornet.add_mailbox(BOB, PASSWORDS[BOB])
        hornet.add_mailbox(AUDITOR[0], AUDITOR[1], "--role", "auditor")
        yield House(hornet, primary)
    finally:
        hornet.close()
        primary.stop()


def test_no_file_holds_a_word_of_any_mail(house: House) -> None:
    """Catches words of mail and keys in databases, their logs, staging, packs, backups, mirror, temporary files and the log, while it runs, after ``kill -9``, after a
    purge and at the end; and mail that is not found, so that nothing would be there to find."""
    hornet, primary = house.hornet, house.primary
    house.nothing("a new installation")

    house.send("home", ALICE)
    house.send("normal", BOB)
    house.archived()
    house.finds("home", "normal")
    house.nothing("mail was delivered and archived")

    house.submit("sent", BOB)
    house.submit("queued", "someone@nowhere.test")
    primary.stop()
    house.send("outage", BOB)
    until(lambda: house.in_portal("outage"), "it is in the portal")
    house.archived(idle=False)
    house.look_around("outage")
    house.nothing("an outage, mail that waits, people who read and search")
    assert hornet.stop(kill=True) != 0
    house.nothing("kill -9")

    primary.start()
    primary.well()
    hornet.start()
    until(lambda: not house.in_portal("outage"), "it went home", seconds=90)
    house.went_home("outage")
    house.nothing("the outage is over")

    house.send("purged", BOB)
    house.send("exported", BOB)
    house.archived(idle=False)
    second, mirror, paper = hornet.root / "second", hornet.root / "mirror", hornet.root / "paper.txt"
    hornet.command("archive", "medium", "add", "directory", str(second), "--name", "two")
    hornet.command("archive", "key", "backup", str(paper), "--password-stdin", stdin="paper-secret-1\n")
    hornet.command("archive", "mirror", "set", str(mirror))
    for job in ("index", "backup-full", "merge", "backup", "mirror", "restore-drill", "statistics"):
        hornet.command("jobs", "run", job)
    assert len(list(mirror.rglob("*.pack"))) >= 1
    assert len(list(mirror.rglob("manifest"))) == 2
    hornet.command("archive", "verify", "--full")
    house.finds(*(mail for mail in house.sent if mail != "queued"))
    house.nothing("backups, a mirror, a drill")

    house.purge("purged")
    hornet.command("archive", "medium", "activate", "2")
    hornet.command("archive", "medium", "retire", "1", "--into", "2")
    until(lambda: list(second.rglob("*.pack")), "it is moved")
    hornet.command("jobs", "run", "merge")
    house.finds(*(mail for mail in house.sent if mail not in ("queued", "purged")))
    house.nothing("a purge and a merge")
    assert hornet.stop() == 0
    hornet.command("archive", "rebuild")
    house.nothing("a rebuild")


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    """Catches a search that finds nothing whatever is there: each word and a key, planted in each form, at any offset, and compressed."""
    key = bytes(range(200, 232))
    search = Search({"word": "Krähenköpfe".encode(), "key": key})
    noise = random.Random(1).randbytes(4000)
    assert search.in_bytes(noise * 20) == set()
    for what, secret in (("word", "Krähenköpfe".encode()), ("key", key)):
        planted = [secret, secret.hex().encode(), secret.hex().upper().encode()]
        if what == "word":
            planted += [
                text.encode(code)
                for text in ("Krähenköpfe", "krähenköpfe")
                for code in ("utf-8", "utf-16-le", "utf-16-be", "latin-1")
            ]
            planted += ["KRÄHENKÖPFE".encode()]
        for offset in range(3):
            for before in (b"a", b"\xff"):
                planted += [
                    base64.b64encode(before * offset + secret + b"zz"),
                    base64.urlsafe_b64encode(before * offset + secret),
                ]
        lines = base64.encodebytes(b"x" * 50 + secret + b"y" * 50)
        planted += [lines, lines.replace(b"\n", b"\r\n")]
        for one in planted:
            for data in (one, noise + one + noise, *(pack(b"{" + one + b"}" + noise) for pack in PACKERS)):
                assert {found for found, _ in search.in_bytes(noise[:77] + data)} == {what}, one
    cut = zstandard.ZstdCompressor(level=3).compress(noise + key + noise * 90)[:-3]
    assert ("key", "plain, compressed") in search.in_bytes(noise + cut), "what is cut off is read as far as it goes"
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x-krähenköpfe.eml").write_bytes(b"nothing")
    assert {(one.file, one.what) for one in search.in_files(tmp_path)} == {("a/x-krähenköpfe.eml", "word")}


PACKERS = (
    zlib.compress,
    gzip.compress,
    lambda data: zstandard.ZstdCompressor(level=3).compress(data),
    lambda data: zlib.compress(data, 1)[:-9],
)
