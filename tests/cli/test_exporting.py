"""``archive export --all``: everything as files, with a manifest, resumable (no lock-in)."""

from __future__ import annotations

import errno
import hashlib
import json
import mailbox
import zipfile
from pathlib import Path
from typing import Any

import pytest

from hornetmail.cli.archive import exporting
from hornetmail.cli.archive.exporting import FORMATS, MANIFEST, export_all
from hornetmail.cli.client import Failure


class Service:
    """What the socket answers: pages of two, and mails; ``broken`` are IDs that do not open; ``left`` calls until the process is killed."""

    def __init__(self, mails: dict[str, bytes]) -> None:
        self.mails = mails
        self.broken: set[str] = set()
        self.left = 10**9
        self.opened: list[str] = []

    def call(self, method: str, *path: str, after: str = "", **values: Any) -> Any:
        names = sorted(self.mails)
        at = int(after or 0)
        more = str(at + 2) if at + 2 < len(names) else ""
        return {"results": [{"id": name, "received": 1_790_000_000.5} for name in names[at : at + 2]], "after": more}

    def raw(self, method: str, *path: str) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        name = path[1]
        if name in self.broken:
            raise Failure("medium 2 is out of reach")
        self.opened.append(name)
        return self.mails[name]


def mails(count: int = 5) -> dict[str, bytes]:
    return {
        f"10{number}": f"Subject: {number}\r\n\r\nFrom here on\r\n>From there\r\n{number}\0\xff\r\n".encode("latin-1")
        for number in range(count)
    }


def exported(service: Service, top: Path, form: str) -> tuple[int, int]:
    client: Any = service
    return export_all(client, top, form, lambda line: None)


def entries(top: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in (top / MANIFEST).read_text().splitlines()][1:]
    found = {one["id"]: one for one in lines}
    assert len(found) == len(lines), "each once"
    return found


def laid(top: Path, form: str) -> dict[str, bytes]:
    """The bytes of each mail, read from where the manifest has it."""
    found = {}
    for name, one in entries(top).items():
        data = (top / one["file"]).read_bytes() if form != "zip" else zipfile.ZipFile(top / one["file"]).read(f"{name}.eml")
        if form == "mbox":
            lines = data[one["offset"] : one["offset"] + one["length"]].split(b"\n", 1)
            assert lines[0].startswith(b"From MAILER-DAEMON ")
            data = lines[1].replace(b">From ", b"From ")[: one["bytes"]]
        assert hashlib.sha256(data).hexdigest() == one["sha256"], name
        found[name] = data
    return found


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_holds_each_mail(tmp_path: Path, form: str) -> None:
    """Catches a format that changes bytes, and a second run that does it all again."""
    service = Service(mails())
    top = tmp_path / "out"
    assert exported(service, top, form) == (5, 5)
    if form == "mbox":
        read = mailbox.mbox(top / "mail.mbox")
        assert [message["Subject"] for message in read] == ["0", "1", "2", "3", "4"]
        read.close()
    else:
        assert laid(top, form) == service.mails
    service.mails["200"] = b"Subject: new\r\n\r\nnew\r\n"
    service.opened.clear()
    assert exported(service, top, form) == (6, 1)
    assert service.opened == ["200"]


@pytest.mark.parametrize("form", FORMATS)
def test_cut_off_at_each_mail(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a mail that is lost, or there twice, after a kill at any point and a torn last line of the manifest."""
    monkeypatch.setattr(exporting, "VOLUME_MAILS", 2)
    for cut in range(6):
        top = tmp_path / f"out{cut}"
        service = Service(mails())
        service.left = cut
        try:
            exported(service, top, form)
        except KeyboardInterrupt:
            with (top / MANIFEST).open("ab") as manifest:
                manifest.write(b'{"id": "torn')
            if form == "mbox":
                with (top / "mail.mbox").open("ab") as torn:
                    torn.write(b"From half a mail")
        service.left = 100
        exported(service, top, form)
        assert entries(top).keys() == service.mails.keys()
        if form == "mbox":
            read = mailbox.mbox(top / "mail.mbox")
            assert len(read) == 5
            read.close()
        else:
            assert laid(top, form) == service.mails
        assert not list(top.rglob("*.tmp"))


@pytest.mark.parametrize("form", FORMATS)
def test_cut_off_before_the_manifest(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches mails that are in the directory twice, because what holds them was on disk and their lines were not: a whole volume of a thousand, where zip files are made."""
    monkeypatch.setattr(exporting, "VOLUME_MAILS", 2)
    service, top, put = Service(mails()), tmp_path / "out", exporting._put
    left = 3

    def killed(manifest: Any, lines: list[dict[str, Any]]) -> None:
        nonlocal left
        left -= bool(lines)
        if not left:
            raise KeyboardInterrupt
        put(manifest, lines)

    monkeypatch.setattr(exporting, "_put", killed)
    with pytest.raises(KeyboardInterrupt):
        exported(service, top, form)
    monkeypatch.setattr(exporting, "_put", put)
    exported(service, top, form)
    assert entries(top).keys() == service.mails.keys()
    if form == "zip":
        held = [name for path in top.glob("*.zip") for name in zipfile.ZipFile(path).namelist()]
        assert sorted(held) == sorted(f"{name}.eml" for name in service.mails)
    elif form == "mbox":
        read = mailbox.mbox(top / "mail.mbox")
        assert len(read) == 5
        read.close()
    else:
        assert len([path for path in top.rglob("*") if path.is_file()]) == 6


def test_what_cannot_be_opened_is_named_and_comes_later(tmp_path: Path) -> None:
    """Catches silent skips: an export that calls itself done without a mail on a medium that is away."""
    service = Service(mails())
    service.broken = {"101"}
    with pytest.raises(Failure, match=r"1 mails could not be exported.*mail 101: medium 2"):
        exported(service, tmp_path / "out", "eml")
    service.broken.clear()
    assert exported(service, tmp_path / "out", "eml") == (5, 1)


def test_another_directory_is_refused(tmp_path: Path) -> None:
    """Catches files of two exports, or of somebody else, mixed up in one directory."""
    service = Service(mails())
    (tmp_path / "other").write_text("x")
    with pytest.raises(Failure, match="not empty"):
        exported(service, tmp_path, "eml")
    exported(service, tmp_path / "out", "eml")
    with pytest.raises(Failure, match="as eml"):
        exported(service, tmp_path / "out", "mbox")


@pytest.mark.parametrize("form", FORMATS)
def test_what_was_taken_away_meanwhile_comes_again(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an export that counts mails which are not there any more, or pads what was cut off with zeros."""
    monkeypatch.setattr(exporting, "VOLUME_MAILS", 2)
    service = Service(mails())
    top = tmp_path / "out"
    exported(service, top, form)
    if form == "mbox":
        with (top / "mail.mbox").open("rb+") as file:
            file.truncate((top / "mail.mbox").stat().st_size - 3)
    else:
        (top / entries(top)["102"]["file"]).unlink()
        cut = top / entries(top)["104"]["file"]
        cut.write_bytes(cut.read_bytes()[:-3])
    total, added = exported(service, top, form)
    assert (total, added) == (5, 1 if form == "mbox" else 2 if form in ("eml", "maildir") else 3)
    assert entries(top).keys() == service.mails.keys()
    assert laid(top, form) == service.mails
    assert exported(service, top, form) == (5, 0)


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a traceback in place of a reason when the disk is full or the target is a file, and two exports that write one file at once."""
    service = Service(mails())
    (tmp_path / "file").write_text("x")
    with pytest.raises(Failure, match="file: File exists"):
        exported(service, tmp_path / "file", "eml")

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(exporting, "_write", full)
        with pytest.raises(Failure, match="No space left on device; once that is mended"):
            exported(service, tmp_path / "out", "eml")
    raw = service.raw

    def another(method: str, *path: str) -> bytes:
        with pytest.raises(Failure, match="another export"):
            exported(service, tmp_path / "out", "eml")
        return raw(method, *path)

    monkeypatch.setattr(service, "raw", another)
    assert exported(service, tmp_path / "out", "eml") == (5, 5)


def test_a_manifest_of_something_else(tmp_path: Path) -> None:
    """Catches a traceback at a line that is JSON and no entry."""
    service = Service(mails())
    exported(service, tmp_path, "eml")
    whole = (tmp_path / MANIFEST).read_text()
    for line in ("[1]", "5", '{"id": "1"}', "null"):
        (tmp_path / MANIFEST).write_text(whole + line + "\n")
        with pytest.raises(Failure, match="line 7 cannot be read"):
            exported(service, tmp_path, "eml")
