"""``etc/read_archive.py``: an archive is read from media and key alone, by a program that knows nothing but the documented formats."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zlib
from pathlib import Path

from hornetmail.archive.keys import paper
from hornetmail.archive.proof.leaves import audit_input, leaf_hash
from hornetmail.archive.store.records import EventMeta, What
from hornetmail.testing.archives import NOW, ROOT, item, mail
from tests.archive.cases import ArchiveCase

READER = Path(__file__).parents[2] / "etc" / "read_archive.py"
EARLIER = Path(__file__).parent / "earlier"


def read(*words: str | Path, password: str = "") -> subprocess.CompletedProcess[str]:
    """The reader, in an interpreter that finds no module of this project."""
    return subprocess.run(
        [sys.executable, "-I", READER, *words],
        capture_output=True, text=True, cwd="/", timeout=60, env={**os.environ, "HORNETMAIL_KEY_PASSWORD": password},
    )  # fmt: skip


class Reading(ArchiveCase):
    def root(self) -> Path:
        path = self.top / "archive-root.key"
        path.write_text(f"hornetmail-root-1 {ROOT.hex()} {zlib.crc32(ROOT):08x}\n")
        return path

    async def test_every_mail_comes_out_byte_for_byte(self) -> None:
        """Catches a format that the documents describe otherwise than it is, and a key paper that only we can read."""
        archive = await self.fresh()
        mails = [mail(f"Number{n}", "wörd " * n) for n in range(20)]
        for raw in mails:
            await self.put(archive, raw)
        await self.put(archive, mails[3], item(77, recipients=("carol@example.test",)))
        await archive.flush(seal=True)
        (self.top / "key.txt").write_text(paper.backup(ROOT, "Schlüssel zum Safe", 0.0))
        media = (self.medium, "--paper", self.top / "key.txt")
        done = read("extract", *media, "--into", self.top / "out", password="Schlu\u0308ssel zum Safe")
        assert done.returncode == 0, done.stderr
        out = {hashlib.sha256(path.read_bytes()).digest() for path in (self.top / "out").rglob("*.eml")}
        assert out == {hashlib.sha256(raw).digest() for raw in mails}
        assert read("check", *media, password="Schlüssel zum Safe").returncode == 0
        assert "wrong" in read("check", *media, password="other").stderr

    async def test_leaves_of_the_audit_log(self) -> None:
        """Catches leaves that are no mail's (L14) and that are told of as lost mail."""
        archive = await self.fresh()
        await self.put(archive, mail("One"))
        leaf = leaf_hash(audit_input(5, bytes(32), NOW))
        await archive.holdings.staging.add_event(0, EventMeta(What.AUDIT, NOW, text=f"5 {bytes(32).hex()}"), leaf)
        await archive.flush(seal=True)
        assert await archive.verify(full=True) == ()
        done = read("check", self.medium, "--root", self.root())
        assert done.returncode == 0, done.stderr

    async def test_locked_and_shared(self) -> None:
        """Catches mail that was sealed while the key was locked, and attachments that mails share."""
        archive = await self.fresh()
        await archive.stop()
        locked = await self.reopened(root=None)
        await self.put(locked, mail("Sealed"))
        await locked.unlock(ROOT)
        await locked.flush(seal=True)
        done = read("check", self.medium, EARLIER / "medium", "--root", self.root())
        assert "1 mails" in done.stderr or "33 mails" in done.stderr, done.stderr
        whole = read("check", EARLIER / "medium", "--root", self.root())
        assert whole.returncode == 0, whole.stderr
        assert "32 mails, 0 problems" in whole.stderr

    async def test_damage_is_named(self) -> None:
        """Catches a reader that stops at damage, or says nothing of it."""
        archive = await self.fresh()
        for n in range(5):
            await self.put(archive, mail(f"Number{n}"))
        await archive.flush(seal=True)
        (pack,) = self.packs()
        data = bytearray(pack.read_bytes())
        data[200] ^= 1
        pack.write_bytes(data)
        done = read("check", self.medium, "--root", self.root())
        assert done.returncode == 1
        assert "it was changed" in done.stderr
        assert "4 mails" in done.stderr
        assert "1 arrivals have no record" in done.stderr


def test_it_stays_short() -> None:
    """Catches a reader that grows until nobody reads it: 300 lines, and nothing but two libraries besides Python's own."""
    text = READER.read_text()
    assert len(text.splitlines()) <= 300
    assert "hornetmail." not in text.replace("docs/formats", "")
