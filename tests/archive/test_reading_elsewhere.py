"""``etc/read_archive.py``: an archive is read from media and key alone, by a program that knows nothing but the documented formats."""

from __future__ import annotations

import hashlib
import os
import re
import runpy
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from hornetmail.archive.keys import paper
from hornetmail.archive.keys.keyring import Keyring
from hornetmail.archive.proof.leaves import audit_input, leaf_hash
from hornetmail.archive.store.packs import Group, PackHead, build_pack, name_of_records, open_pack
from hornetmail.archive.store.records import EventMeta, MailMeta, RecordCodec, What
from hornetmail.testing.archives import NOW, ROOT, item, mail
from tests.archive.cases import ArchiveCase
from tests.archive.test_keys import TYPED

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
        done = read("check", self.medium, "--root", self.root())
        assert "1 mails, 0 problems" in done.stderr, done.stderr
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

    async def test_odd_things_on_a_medium(self) -> None:
        """Catches a reader that ends at the first thing that is not as it should be, in a traceback: the day on which it is needed has many of them."""
        shutil.copytree(EARLIER / "medium", self.medium)
        (pack, *_), (run, *_) = sorted(self.medium.glob("packs/**/*.pack")), sorted(self.medium.glob("leaves/**/*.run"))
        (pack.parent / "folder.pack").mkdir()
        (pack.parent / "link.pack").symlink_to("nowhere")
        (pack.parent / "empty.pack").touch()
        (self.medium / "leaves" / "other").mkdir()
        shutil.copy(run, self.medium / "leaves" / "other")
        (self.medium / "leaves" / "n0" / "99999999999999999999.run").write_bytes(b"abc")
        aside = self.medium / "packs" / "found"
        aside.mkdir()
        pack.rename(aside / pack.name)
        done = read("check", self.medium, "--root", self.root())
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        for name in ("folder.pack", "link.pack", "empty.pack", "99999999999999999999.run"):
            assert f"{name}: " in done.stderr, name
        assert "32 mails, 4 problems" in done.stderr
        (self.top / "file").touch()
        done = read("extract", self.medium, "--root", self.root(), "--into", self.top / "file")
        assert "PROBLEM mail" in done.stderr
        assert "Traceback" not in done.stderr

    async def test_hostile_media(self) -> None:
        """Catches a medium made by somebody without the key that makes the reader wait for ever, fill the memory, or end with a traceback, before it has read the mails."""
        archive = await self.fresh()
        await self.put(archive, mail("One"))
        await archive.flush(seal=True)
        (pack,) = self.packs()
        os.mkfifo(pack.with_name(f"{'ab' * 16}.pack"))
        run = b"HMLEAF1\n" + struct.pack(">QQ", 1 << 63, 1 << 60)
        for folder in ("n0", "n1 (copy)", "n9" * 50, "n\u0663"):
            place = self.medium / "leaves" / folder / "00000000000000000007.run"
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(run + hashlib.sha256(run).digest())
        os.mkfifo(self.medium / "leaves" / "n0" / "00000000000000000008.run")
        for command in ("list", "check", "extract"):
            done = read(command, self.medium, "--root", self.root(), "--into", self.top / "out")
            assert done.returncode == 1
            assert "Traceback" not in done.stderr
            assert "it is no file" in done.stderr
            assert done.stderr.count("a run of leaves is damaged") >= 2
        assert [path.read_bytes() for path in (self.top / "out").rglob("*.eml")] == [mail("One")]

    async def test_odd_papers(self) -> None:
        """Catches a paper that lacks its last line and is called a wrong password, one of another encoding, no paper at all, and a machine without the libraries."""
        text = paper.backup(ROOT, "secret", 0.0, memory_kib=64, time=1)
        lines = text.splitlines()
        end = next(number for number, line in enumerate(lines) if line.startswith("-----END"))
        wanted = {
            "cut": ("\n".join((*lines[: end - 1], *lines[end:])).encode(), "lines are missing at its end"),
            "doubled": (text.replace(lines[5], f"{lines[5]}\n{lines[5]}").encode(), "line 3 is missing or mistyped"),
            "other": (text.encode("utf-16"), "there is no key in this text"),
            "latin": ("Schlüssel\n".encode("latin-1") + text.encode(), "32 mails, 0 problems"),
        }
        for name, (data, said) in wanted.items():
            (self.top / name).write_bytes(data)
            done = read("check", EARLIER / "medium", "--paper", self.top / name, password="secret")
            assert said in done.stderr, (name, done.stderr)
        for option in ("--paper", "--root"):
            done = read("check", EARLIER / "medium", option, self.top / "none")
            assert "No such file" in done.stderr
            assert "Traceback" not in done.stderr
        assert "there is no key" in read("check", EARLIER / "medium", "--root", self.top / "latin").stderr
        bare = [sys.executable, "-I", "-S", READER, "check", self.medium, "--root", self.root()]
        done = subprocess.run(bare, capture_output=True, text=True, timeout=60, check=False)
        assert "zstandard is missing" in done.stderr

    async def test_papers_typed_in_anyhow(self) -> None:
        """L12: catches a paper that the service reads, and the program for the day on which nothing else is left does not."""
        text = paper.backup(ROOT, "secret", 0.0, memory_kib=64, time=1)
        namespace = runpy.run_path(str(READER))
        for change in TYPED:
            os.environ["HORNETMAIL_KEY_PASSWORD"] = "secret"
            try:
                assert namespace["root_from_paper"](change(text)) == ROOT
                parts = paper.backup(ROOT, "secret", 0.0, parts=3, need=2, memory_kib=64, time=1).split(paper.PAGE)
                assert namespace["root_from_paper"](change(parts[2] + parts[0])) == ROOT
            finally:
                del os.environ["HORNETMAIL_KEY_PASSWORD"]

    async def test_keys_of_several_nodes_and_a_key_in_parts(self) -> None:
        """Catches mail that another node sealed, whose keys lie in a keyring of its own, and parts of the paper that only we can join."""
        archive = await self.fresh()
        await self.put(archive, mail("Of the first"))
        await archive.flush(seal=True)
        await archive.stop()
        ring = Keyring.from_bytes((self.medium / "keyring").read_bytes(), ROOT)
        other = ring.with_data([(2, 2026)], 3)
        (self.medium / "keyrings").mkdir()
        (self.medium / "keyrings" / "n3").write_bytes(other.to_bytes())
        number = other.data_number(2, 2026)
        assert number == (3 << 22) + 1
        raw = mail("Of the third")
        meta = MailMeta(
            9, 0, 3, 0, bytes(32), hashlib.sha256(raw).digest(), len(raw), NOW, NOW, 202605, "inline", "in", "a@b.test", ("c@d.test",)
        )  # fmt: skip
        record = RecordCodec(lambda: other).close_mail(2, bytes(16), meta, raw, 2026)
        head = PackHead(1, Group(2, 202605), name_of_records([bytes(16)]), NOW, 3)
        (self.medium / head.name).parent.mkdir(parents=True)
        (self.medium / head.name).write_bytes(build_pack(head, [record], other, number).data)
        parts = paper.backup(ROOT, "words enough", 0.0, parts=4, need=3, memory_kib=64, time=1).split(paper.PAGE)
        files = [self.top / f"part{n}.txt" for n in range(4)]
        for file, part in zip(files, parts, strict=True):
            file.write_text(part)
        chosen = [word for file in (files[3], files[0], files[2]) for word in ("--paper", file)]
        done = read("check", self.medium, *chosen, password="words enough")
        assert "2 mails, 0 problems" in done.stderr, done.stderr
        assert done.returncode == 0
        (self.top / "all.txt").write_text("".join(parts))
        assert read("check", self.medium, "--paper", self.top / "all.txt", password="words enough").returncode == 0
        short = read("check", self.medium, *chosen[:4], password="words enough")
        assert "3 parts of one key and one printing are needed; here are parts [1, 4]" in short.stderr
        mixed = paper.backup(ROOT, "words enough", 0.0, parts=4, need=3, memory_kib=64, time=1).split(paper.PAGE)
        files[0].write_text(mixed[0])
        assert "of one key and one printing" in read("check", self.medium, *chosen, password="words enough").stderr
        (self.medium / "keyrings" / "n3").unlink()
        lost = read("check", self.medium, "--paper", self.top / "all.txt", password="words enough")
        assert f"under key {number}" in lost.stderr

    async def test_mistakes_get_a_line(self) -> None:
        """Catches a traceback for whoever has nothing left but this file: slips in the paper, wrong files, a library that is not installed."""
        archive = await self.fresh()
        await archive.stop()
        text = paper.backup(ROOT, "words enough", 0.0, memory_kib=64, time=1)
        lines = text.splitlines()
        damaged = {
            "line 2 is missing or mistyped": "\n".join((*lines[:5], *lines[6:])),
            "line 3 is missing or mistyped": text.replace(lines[6][4:8], "7777"),
            "lines are missing at its end": "\n".join((*lines[:8], lines[-1])),
            "there is no key in this text": "hello",
            "line 4 is missing or mistyped": "\n".join((*lines[:7], " 4  ÄÖÜ?", *lines[8:])),
        }
        for told, bad in damaged.items():
            (self.top / "key.txt").write_text(bad)
            done = read("check", self.medium, "--paper", self.top / "key.txt", password="words enough")
            assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
            assert told in done.stderr
        away = read("check", self.medium, "--paper", self.top / "nowhere.txt")
        assert f"{self.top}/nowhere.txt: No such file or directory" in away.stderr
        (self.top / "key.txt").write_bytes(b"\xff\xfe\x00")
        assert "there is no key" in read("check", self.medium, "--paper", self.top / "key.txt").stderr
        (self.top / "key.txt").write_text(text)
        nothing = read("check", self.top / "empty", "--paper", self.top / "key.txt", password="words enough")
        assert "no medium has a keyring" in nothing.stderr
        bare = subprocess.run(
            [sys.executable, "-I", "-S", READER, "check", self.medium, "--paper", "x"], capture_output=True, text=True, timeout=60
        )
        assert bare.stderr == "zstandard is missing: python3 -m pip install 'cryptography>=44' zstandard\n"


def test_the_example_of_the_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a document whose example is no archive any more: its bytes are taken from the text and read by the program that was written from it."""
    text = (READER.parents[1] / "docs" / "formats" / "archive.rst").read_text()
    section = text[text.index("A small archive, byte by byte\n---") : text.index("What a rebuild does with each fact\n---")]
    blocks = re.findall(r"^(\S[^\n]*)::\n\n((?:    [^\n]*\n|\n)+)", section, re.MULTILINE)
    found = {
        intro: bytes.fromhex("".join(re.findall(r"^    ([0-9a-f]{2,64})(?=  |$)", block, re.MULTILINE)))
        for intro, block in blocks
    }
    papers = next(block for intro, block in blocks if intro.startswith("Its key paper"))
    record = found["The record of the mail"]
    (before,) = (data for intro, data in found.items() if intro.endswith("before the record"))
    name = re.search(r"``(packs/t1/[^`]+)``", section)
    assert name
    pack = before + record + found["and after it"]
    place = tmp_path / name[1]
    place.parent.mkdir(parents=True)
    place.write_bytes(pack)
    (tmp_path / "keyring").write_bytes(found["Its keyring, ``keyring``"])

    reader = runpy.run_path(str(READER))
    monkeypatch.setenv("HORNETMAIL_KEY_PASSWORD", "they build")
    root = reader["root_from_paper"](papers)
    assert root.hex() in section
    keys = reader["Keys"]([tmp_path], root)
    kind, tenant, facts, body = keys.open(record)
    assert (kind, tenant, body.count(b"\r\n"), facts["recipients"]) == (1, 1, 5, ["bob@example.test"])
    assert hashlib.sha256(body).hexdigest() in section
    archive = reader["Archive"]([tmp_path], keys)
    ((identity, _, same),) = archive.mails
    assert (archive.bytes_of(identity), same) == (body, facts)
    leaf = re.search(r"Its leaf is ``([0-9a-f]{64})``", section)
    assert leaf
    archive.leaves[facts["node"], facts["leaf"]] = bytes.fromhex(leaf[1])
    archive.check_leaf(facts)
    assert archive.leaves == {}
    assert reader["problems"] == []
    opened = open_pack(pack, Keyring.from_bytes((tmp_path / "keyring").read_bytes(), root))
    assert opened.head.name == name[1]
    assert [member.record for member in opened.members] == [identity]


def test_the_table_of_facts_is_complete() -> None:
    """Catches a kind of fact of which nobody says what a rebuild does with it."""
    text = (READER.parents[1] / "docs" / "formats" / "archive.rst").read_text()
    table = text[text.index("What a rebuild does with each fact\n---") :]
    assert {what for what in What if f"``{what}``" not in table} == set()


def test_it_stays_short() -> None:
    """Catches a reader that grows until nobody reads it: 300 lines, and nothing but two libraries besides Python's own."""
    text = READER.read_text()
    assert len(text.splitlines()) <= 300
    assert "hornetmail." not in text.replace("docs/formats", "")
