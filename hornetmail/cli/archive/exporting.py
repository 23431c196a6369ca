"""``archive export --all``: everything that the caller may open, as files that any program reads, with a manifest (no lock-in).

``manifest.jsonl`` in the directory has a line a mail: ID, SHA-256 of its bytes as received, file, and place in it. A run that was cut off goes on behind it; a later run adds what came since, and what is
missing or cut off by now. What a mail's line says is on disk before the line is. One export at a time writes into a directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from hornetmail.cli.client import Client, Failure

MANIFEST = "manifest.jsonl"
FORMATS = ("eml", "mbox", "maildir", "zip")
VOLUME_MAILS = 1000
VOLUME_BYTES = 256 << 20
"""A zip file is closed at either; one that was cut off is made anew."""

MOST_FAILURES = 20
"""Mails in a row that cannot be opened, after which it ends: the service, or a medium, is away."""

_FROM = re.compile(rb"^(>*From )", re.MULTILINE)


class Form(Protocol):
    """How mails are laid down. ``add`` returns manifest entries that are durable now, this one's or those of several."""

    def add(self, mail: Any, data: bytes) -> list[dict[str, Any]]: ...

    def close(self) -> list[dict[str, Any]]: ...

    def release(self) -> None:
        """Let go of files, after ``close`` or without it."""


def _entry(mail: Any, data: bytes, file: str, **place: int) -> dict[str, Any]:
    return {"id": mail["id"], "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "file": file, **place}


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


class _Files:
    """A file a mail, by year and month of receipt: ``eml``."""

    def __init__(self, top: Path) -> None:
        self._top = top

    def _name(self, mail: Any) -> str:
        return time.strftime("%Y/%m/", time.gmtime(mail["received"])) + f"{mail['id']}.eml"

    def add(self, mail: Any, data: bytes) -> list[dict[str, Any]]:
        name = self._name(mail)
        _write(self._top / name, data)
        return [_entry(mail, data, name)]

    def close(self) -> list[dict[str, Any]]:
        return []

    def release(self) -> None:
        """Nothing is held."""


class _Maildir(_Files):
    """One Maildir, all of it seen."""

    def __init__(self, top: Path) -> None:
        super().__init__(top)
        for name in ("tmp", "new", "cur"):
            (top / name).mkdir(mode=0o700, exist_ok=True)

    def _name(self, mail: Any) -> str:
        return f"cur/{int(mail['received'])}.{mail['id']}.hornetmail:2,S"


class _Mbox:
    """One file in the form mboxrd; ``known`` are the entries so far, behind which it goes on."""

    def __init__(self, top: Path, known: list[dict[str, Any]]) -> None:
        path = top / "mail.mbox"
        self._file = path.open("ab")
        os.fchmod(self._file.fileno(), 0o600)
        self._file.truncate(max((one["offset"] + one["length"] for one in known), default=0))
        self._file.seek(0, os.SEEK_END)

    def add(self, mail: Any, data: bytes) -> list[dict[str, Any]]:
        offset = self._file.tell()
        stamp = time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime(mail["received"])).encode()
        body = _FROM.sub(rb">\1", data)
        self._file.write(b"From MAILER-DAEMON " + stamp + b"\n" + body + (b"\n" if body.endswith(b"\n") else b"\n\n"))
        self._file.flush()
        os.fsync(self._file.fileno())
        return [_entry(mail, data, "mail.mbox", offset=offset, length=self._file.tell() - offset)]

    def close(self) -> list[dict[str, Any]]:
        return []

    def release(self) -> None:
        self._file.close()


class _Zip:
    """Zip files of some size each, ``mail-00001.zip`` and on. One that no entry of ``known`` names was closed by a run that ended before its entries were on disk: its mails are exported
    again, so it goes."""

    def __init__(self, top: Path, known: list[dict[str, Any]]) -> None:
        self._top = top
        named = {one["file"] for one in known}
        for path in top.glob("mail-*.zip"):
            if path.stem[5:].isdigit() and path.name not in named:
                path.unlink()
        self._number = max((int(path.stem[5:]) for path in top.glob("mail-*.zip") if path.stem[5:].isdigit()), default=0)
        self._entries: list[dict[str, Any]] = []
        self._bytes = 0
        self._zip: zipfile.ZipFile | None = None
        for left in top.glob("*.zip.tmp"):
            left.unlink()

    @property
    def _path(self) -> Path:
        return self._top / f"mail-{self._number:05d}.zip"

    def add(self, mail: Any, data: bytes) -> list[dict[str, Any]]:
        if self._zip is None:
            self._number += 1
            self._zip = zipfile.ZipFile(f"{self._path}.tmp", "w", zipfile.ZIP_DEFLATED)
        self._zip.writestr(f"{mail['id']}.eml", data)
        self._entries.append(_entry(mail, data, self._path.name))
        self._bytes += len(data)
        return self.close() if len(self._entries) >= VOLUME_MAILS or self._bytes >= VOLUME_BYTES else []

    def close(self) -> list[dict[str, Any]]:
        if self._zip is None:
            return []
        self._zip.close()
        temporary = Path(f"{self._path}.tmp")
        with temporary.open("rb+") as file:
            os.fchmod(file.fileno(), 0o600)
            os.fsync(file.fileno())
        temporary.rename(self._path)
        done, self._entries, self._bytes, self._zip = self._entries, [], 0, None
        return done

    def release(self) -> None:
        if self._zip is not None:
            self._zip.close()


def _form(top: Path, form: str, known: list[dict[str, Any]]) -> Form:
    if form == "mbox":
        return _Mbox(top, known)
    if form == "zip":
        return _Zip(top, known)
    return _Maildir(top) if form == "maildir" else _Files(top)


def export_all(client: Client, top: Path, form: str, say: Callable[[str], None]) -> tuple[int, int]:
    """How many mails the directory holds, and how many of them are new. Raises Failure: the directory is another export's, it cannot be written, or mails
    could not be opened."""
    try:
        top.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return _export(client, top, form, say)
        except BlockingIOError:
            raise Failure(f"another export into {top} is running") from None
        finally:
            os.close(lock)
    except OSError as error:
        raise Failure(
            f"{error.filename or top}: {error.strerror or error}; once that is mended, run it again: it goes on"
        ) from None


def _export(client: Client, top: Path, form: str, say: Callable[[str], None]) -> tuple[int, int]:
    known = _there(top, form, list(_known(top, form)), say)
    have = {one["id"] for one in known}
    laid = _form(top, form, known)
    failures: list[str] = []
    added = in_a_row = 0
    try:
        with (top / MANIFEST).open("a", encoding="ascii") as manifest:
            if manifest.tell() == 0:
                _put(manifest, [{"format": form, "version": 1}])
            for mail in _mails(client):
                if mail["id"] in have:
                    continue
                try:
                    data = client.raw("GET", "archive", mail["id"], "raw")
                except Failure as error:
                    failures.append(f"mail {mail['id']}: {error.message}")
                    in_a_row += 1
                    if in_a_row >= MOST_FAILURES:
                        break
                    continue
                in_a_row = 0
                have.add(mail["id"])
                added += 1
                _put(manifest, laid.add(mail, data))
                if added % 1000 == 0:
                    say(f"{added} mails")
            _put(manifest, laid.close())
    finally:
        laid.release()
    if failures:
        raise Failure(f"{len(failures)} mails could not be exported, the first: {failures[0]}; run it again to get them")
    return len(have), added


def _there(top: Path, form: str, known: list[dict[str, Any]], say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Those that still lie where the manifest has them, as long as they were; it is written anew without the others, which are exported again."""
    holds = _looker(top, form)
    kept = [one for one in known if holds(one)]
    if len(kept) < len(known):
        say(f"{len(known) - len(kept)} mails are missing in {top}, or cut off: they are exported again")
        lines = [{"format": form, "version": 1}, *kept]
        _write(top / MANIFEST, "".join(json.dumps(one, sort_keys=True) + "\n" for one in lines).encode())
    return kept


def _looker(top: Path, form: str) -> Callable[[dict[str, Any]], bool]:
    volumes: dict[str, dict[str, int]] = {}

    def zipped(name: str) -> dict[str, int]:
        try:
            with zipfile.ZipFile(top / name) as archive:
                return {info.filename: info.file_size for info in archive.infolist()}
        except (OSError, zipfile.BadZipFile):
            return {}

    def holds(one: dict[str, Any]) -> bool:
        if form == "zip":
            name = one["file"]
            if name not in volumes:
                volumes[name] = zipped(name)
            return bool(volumes[name].get(f"{one['id']}.eml") == one["bytes"])
        try:
            size = (top / one["file"]).stat().st_size
        except FileNotFoundError:
            return False
        return bool(size >= one["offset"] + one["length"] if form == "mbox" else size == one["bytes"])

    return holds


def _put(manifest: Any, entries: list[dict[str, Any]]) -> None:
    if entries:
        manifest.write("".join(json.dumps(one, sort_keys=True) + "\n" for one in entries))
        manifest.flush()
        os.fsync(manifest.fileno())


def _known(top: Path, form: str) -> Iterator[dict[str, Any]]:
    """Entries so far; a last line that a crash cut off is taken away. Raises Failure."""
    path = top / MANIFEST
    if not path.exists():
        if any(top.iterdir()):
            raise Failure(f"{top} is not empty, and holds no {MANIFEST}")
        return
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:
        _write(path, whole)
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            entry = json.loads(line)
            wanted = {"format"} if number == 1 else {"id", "file", "bytes", *(("offset", "length") if form == "mbox" else ())}
            if number == 1 and entry["format"] != form:
                raise Failure(f"{top} holds an export as {entry['format']}: choose that format, or another directory")
            if wanted - set(entry):
                raise ValueError(line)
        except (ValueError, TypeError, KeyError):
            raise Failure(f"{path}: line {number} cannot be read") from None
        if number > 1:
            yield entry


def _mails(client: Client) -> Iterator[Any]:
    """All that the caller's scope finds, newest first."""
    after = ""
    while True:
        page = client.call("GET", "archive", query="", limit=500, after=after)
        yield from page["results"]
        after = page["after"]
        if not after:
            return
