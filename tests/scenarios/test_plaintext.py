"""Plain text exists in the portal's Maildirs and nowhere else (rule 24): every file that a real service wrote is searched for words of its mail and for its keys."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Iterator

import pytest

from hornetmail.archive.keys.keyring import KEYRING_NAME, Keyring, RootFile
from hornetmail.compose.ground.foundations import SERVER_KEY
from hornetmail.compose.ground.keys import ServerKey
from hornetmail.disk.files import Disk
from tests.peers.installation import Installation
from tests.peers.scripted import ScriptedServer
from tests.peers.waiting import until
from tests.scenarios.plaintext import Found, Search
from tests.scenarios.world import AUDITOR, World

ALICE, BOB = "alice@home.test", "bob@away.test"
PLACES = (
    "subject",
    "encoded",
    "body",
    "umlaut",
    "quoted",
    "html",
    "attached",
    "zipped",
    "filename",
    "name",
    "sender",
    "copied",
    "hidden",
    "msgid",
)
_STEMS = [
    "quasten",
    "flossen",
    "zwetschgen",
    "schnabel",
    "nebel",
    "kraehen",
    "moor",
    "leuchter",
    "wirbel",
    "distel",
    "kork",
    "enzian",
    "hummel",
    "birken",
]


def words_of(mail: str) -> dict[str, str]:
    """A word for each place of a mail, as no other mail and no program has them."""
    tail = {"home": "kater", "normal": "wimpel", "outage": "giebel", "queued": "mispel", "purged": "zunder", "shared": "pendel"}[
        mail
    ]
    found = {f"{mail} {place}": f"{stem}{tail}{place[::-1]}" for place, stem in zip(PLACES, _STEMS, strict=True)}
    found[f"{mail} umlaut"] = f"{tail}krähenköpfe"
    found[f"{mail} encoded"] = f"{tail}störrüben"
    return found


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
        "=".join((f"{word['quoted'][0]}", "", "")) and f"{word['quoted']}=20and so on",
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
        self.world = World(hornet, None)  # type: ignore[arg-type]

    def send(self, mail: str, to: str, filler: bytes = b"", offset: int = 25) -> None:
        sender, raw = mail_of(mail, to, filler)
        self.hornet.send(sender, [to], raw, offset)
        self.sent.append(mail)

    def archived(self, idle: bool = True) -> None:
        if idle:
            self.hornet.until_idle()
        until(lambda: self.hornet.status()["archive"]["staged"] == 0, "it is on the medium", seconds=60)

    def search(self) -> set[Found]:
        """What is found anywhere, but for what must be readable."""
        words = {name: word.encode() for mail in self.sent for name, word in words_of(mail).items()}
        search = Search({**words, **keys_of(self.hornet)})
        found = search.in_files(self.hornet.root)
        if self.hornet.process is not None:
            found |= search.in_open_files(self.hornet.process.pid)
        return {one for one in found if not readable(one)}


ADDRESSES = (" sender", " copied", " hidden", " msgid")


def readable(one: Found) -> bool:
    """The exceptions, all of them."""
    # The portal's Maildirs: mail of people whose mail server it is, and copies of an outage until they are home.
    if one.file.startswith("data/portal/"):
        return True
    # The two key files, each with its own key. docs/operations.rst says what they are for.
    if (one.file, one.what) in (("data/keys/archive-root.key", "root key"), ("data/keys/server.key", "server key")):
        return True
    # The log: who sends to whom, and nothing of any mail's header or text.
    return one.file in ("data/hornetmail.log", "twistd.log") and one.what.endswith(" sender")


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
        hornet.add_mailbox(ALICE, "alice-secret-1")
        hornet.add_mailbox(BOB, "bob-secret-12")
        hornet.add_mailbox(AUDITOR[0].replace("example", "home"), AUDITOR[1], "--role", "auditor")
        yield House(hornet, primary)
    finally:
        hornet.close()
        primary.stop()


def test_no_file_holds_a_word_of_any_mail(house: House) -> None:
    found = house.search()
    assert not found
    house.send("home", ALICE)
    house.send("normal", BOB)
    house.archived()
    print(sorted({(f.file, f.what, f.form) for f in house.search()}))
