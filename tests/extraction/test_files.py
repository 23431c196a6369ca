"""Files as words, whatever kind they are, and what is said of those that have none. In this process: how they are confined is in ``test_readers.py``."""

from __future__ import annotations

import pytest

from hornetmail.extraction.bounds import MEMBERS, UNPACKED, Bounds, Gathered
from hornetmail.extraction.files import Reader
from hornetmail.extraction.formats import rtf
from hornetmail.mime.reading.mail import FileWords, read_mail
from hornetmail.testing.archives import mail
from tests.extraction import samples
from tests.findable import attached, mixed, text


def read(name: str, data: bytes, skip: dict[int, str] | None = None) -> FileWords:
    return Reader(Bounds(lambda: False), lambda number, name: None, skip or {}).read(name, data)


@pytest.mark.parametrize("name", samples.MADE)
def test_made_by_office(name: str) -> None:
    """Would catch a kind of file whose words are lost, run into one another, or come with a complaint."""
    found = read(name, samples.made(name))
    assert not found.unsearched
    words = found.text.replace(".", " ").split()
    for word in samples.MADE[name]:
        assert word in words or (not word.isascii() and word in found.text), (word, found.text)


@pytest.mark.parametrize("name", samples.MADE)
def test_by_its_bytes(name: str) -> None:
    """Rule 8e: would catch a kind that is told by the name."""
    assert samples.MADE[name][0] in read("file.bin", samples.made(name)).text


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("report.xls", b"<html><body><table><tr><td>Murmeltier</td><td>17</td></tr></table></body></html>"),
        ("report.xls", "Artikel\tMurmeltier\r\n17".encode("utf-16")),
        ("report.xls", b'<?xml version="1.0"?><Workbook><Row><Cell><Data>Murmeltier</Data></Cell></Row></Workbook>'),
        ("letter.doc", b"{\\rtf1 Murmeltier}"),
        ("letter.doc", b"\xef\xbb\xbfMurmeltier"),
        ("letter.docx", samples.document("<w:p><w:r><w:t>Mur</w:t></w:r><w:r><w:t>meltier</w:t></w:r></w:p>")),
        ("scan.pdf", b"junk before\r\n" + samples.made("text.pdf") + b"junk behind"),
    ],
)
def test_under_other_names(name: str, data: bytes) -> None:
    """Would catch what programs write under names of Office: pages as tables, text, RTF as Word; a word in two runs; a PDF with junk around it."""
    found = read(name, data)
    assert not found.unsearched
    assert ("Murmeltier" in found.text.split()) or ("Schnabeltier" in found.text), found.text
    assert "<" not in found.text


def test_what_outlook_packs() -> None:
    """Would catch winmail.dat whose text or files nobody finds, and MAPI properties with names that end the reading."""
    letter = rb"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0\fcharset0 Arial;}{\f1\fcharset204 Arial;}}Stra\'dfe {\b Ma}rder\par{\f1 \'c4\'e0}\u8364 ?20{\*\x y}}"
    data = samples.tnef("Rechnung für März", letter, ("plan.docx", samples.made("text.docx")), ("b.txt", b"Ameise"))
    found = read("winmail.dat", data)
    assert not found.unsearched
    for word in ("Rechnung für März", "Straße Marder\n", "Да", "€20", "plan.docx", "Hobelbank", "b.txt", "Ameise"):
        assert word in found.text, (word, found.text)
    assert "x y" not in found.text
    assert rtf.unpacked(samples.LZFU, Gathered(Bounds(lambda: False))).startswith(
        b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}"
    )


def test_outlooks_own_mail() -> None:
    """Would catch a .msg whose text, people, inner mail or attachments nobody finds."""

    def said(text: str) -> bytes:
        return text.encode("utf-16-le")

    attachment = "__attach_version1.0_#00000000"
    inner = "__attach_version1.0_#00000001/__substg1.0_3701000D"
    data = samples.compound(
        {
            "__properties_version1.0": b"",
            "__substg1.0_0037001F": said("Angebot Kaninchen"),
            "__substg1.0_1000001F": said("Die Möhren sind bestellt"),
            "__recip_version1.0_#00000000/__substg1.0_39FE001F": said("zoe@inner.test"),
            f"{attachment}/__substg1.0_3707001F": said("liste.rtf"),
            f"{attachment}/__substg1.0_37010102": b"{\\rtf1 Hobelbank}",
            f"{inner}/__substg1.0_0037001F": said("Gepard"),
            f"{inner}/__substg1.0_10130102": b"<p>Ma<b>r</b>der</p>",
        }
    )
    found = read("old.msg", data)
    assert not found.unsearched
    for word in ("Angebot Kaninchen", "Möhren", "zoe@inner.test", "liste.rtf", "Hobelbank", "Gepard", "Marder"):
        assert word in found.text, word


def test_files_in_files() -> None:
    """Would catch a zip, tar or mail in a file that is not looked into, and one damaged member that costs the others."""
    inner = samples.zipped(("deep/text.docx", samples.made("text.docx")), ("notes.txt", "Größe".encode("cp1252")))
    letter = mail("Kaninchen", "Möhren", extra="X: y").replace(
        b"Content-Transfer-Encoding: 8bit", b"Content-Transfer-Encoding: 8bit"
    )
    outer = samples.tarred(
        ("bad.pdf", b"%PDF-1.4 nothing"), ("inner.zip", inner), ("old.eml", letter), ("x.jpg", b"\xff\xd8"), packed=True
    )
    found = read("all.tgz", outer)
    for word in ("inner.zip", "deep/text.docx", "Hobelbank", "Größe", "Kaninchen", "Möhren", "x.jpg"):
        assert word in found.text, word
    assert len(found.unsearched) == 1, found.unsearched
    assert found.unsearched[0].startswith("all.tgz/all.tar/bad.pdf: it is damaged")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("sealed.pdf", samples.made("sealed.pdf"), "encrypted"),
        ("sealed.zip", samples.sealed_zip(), "encrypted"),
        ("sealed.xlsx", samples.compound({"EncryptedPackage": b"x", "EncryptionInfo": b"y"}), "encrypted"),
        ("other.doc", samples.compound({"Something": b"x"}), "not read"),
        ("cut.docx", samples.made("text.docx")[:3000], "damaged"),
        ("cut.xls", samples.made("table.xls")[:3000], "damaged"),
        ("cut.doc", samples.made("text.doc")[:2000], "damaged"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c\0\0" + bytes(100), "not read"),
        ("a.rar", b"Rar!\x1a\x07\0" + bytes(100), "not read"),
        ("empty.pdf", b"%PDF-1.7\n", "damaged"),
        ("laughs.docx", samples.document("<w:p><w:r><w:t>&b;</w:t></w:r></w:p>", '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'), "entities"),
        ("outside.docx", samples.document("<w:t>&a;</w:t>", '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'), "entities"),
        ("deep.docx", samples.document("<w:p>" * 100_000), "too deep"),
        ("deep.rtf", b"{\\rtf1" + b"{" * 100_000, "too deep"),
        ("many.zip", samples.zipped(*((f"{n}.txt", b"") for n in range(MEMBERS + 10))), "only the first 2,000 files"),
        ("long.docx", samples.document("<w:p><w:t>word</w:t></w:p>" * 500_000), "only the first 2,000,000 characters"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)  # fmt: skip
def test_what_cannot_be_read(name: str, data: bytes, said: str) -> None:
    """Would catch a file that is left out in silence, a bomb that goes off, and an entity that brings in a file of ours."""
    found = read(name, data)
    assert len(found.unsearched) == 1, found.unsearched
    assert said in found.unsearched[0]
    assert found.unsearched[0].startswith((f"{name}: ", f"{name}/"))
    assert "root:" not in found.text


def test_bombs() -> None:
    """Would catch what unpacks without end: a zip of zeros, zips in zips, and a packed file in packed files."""
    zeros = samples.zipped(("zeros.bin", bytes(1 << 20)), level=9)
    many = samples.zipped(*((f"{n}.zip", zeros) for n in range((UNPACKED >> 20) + 20)))
    assert any("only the first 256 MB" in why for why in read("bomb.zip", many).unsearched)
    nested = samples.made("table.xlsx")
    for n in range(8):
        nested = samples.zipped((f"{n}.zip", nested))
    assert any("too deep" in why for why in read("nested.zip", nested).unsearched)


def test_late() -> None:
    """Would catch a document without end that takes all the time there is, and loses what was read of it."""
    ticks = iter(range(100_000))
    bounds = Bounds(lambda: next(ticks) > 3)
    found = Reader(bounds, lambda number, name: None, {}).read("a.docx", samples.document("<w:p><w:t>word</w:t></w:p>" * 1_000))
    assert found.unsearched == ("a.docx: only its beginning: it takes too long",)
    assert "word" in found.text


def test_skipped() -> None:
    """Would catch a file that ended its reader, and is looked at again; and others that are left out with it."""
    begun: list[tuple[int, str]] = []
    data = samples.zipped(("a.pdf", samples.made("text.pdf")), ("b.rtf", samples.made("text.rtf")))
    reader = Reader(Bounds(lambda: False), lambda number, name: begun.append((number, name)), {1: "it takes too long"})
    found = reader.read("c.zip", data)
    assert begun == [(0, "c.zip"), (2, "c.zip/b.rtf")]
    assert found.unsearched == ("c.zip/a.pdf: it takes too long",)
    assert "Schnabeltier" in found.text


def test_in_a_mail() -> None:
    """Would catch files that are searched though their label says that they are bytes, or are not though it says what they are; and mail that does not say what waits."""
    docx, pdf = samples.made("text.docx"), samples.made("text.pdf")
    raw = b"Subject: s\r\n" + mixed(
        text(b"see below"),
        attached(docx, "application/octet-stream", "unnamed"),
        attached(pdf, "application/pdf", "p.pdf"),
        attached(b"plain", "text/plain", "p.txt"),
        attached(b"\xff\xd8\xff", "image/jpeg", "p.jpg"),
    )
    before = read_mail(raw)
    assert before.waiting
    assert before.unsearched == ("unnamed: not read yet", "p.pdf: not read yet")
    reader = Reader(Bounds(lambda: False), lambda number, name: None, {})
    after = read_mail(raw, files=reader.read)
    assert not after.waiting
    assert after.unsearched == ()
    assert after.attached.count("Hobelbank") == 2
    assert not read_mail(mail()).waiting
