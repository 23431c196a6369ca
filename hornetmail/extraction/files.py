"""A file that hangs on a mail, as words: its kind is seen by its bytes, whatever its name and label say (rule 8e). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hornetmail.extraction.bounds import DEPTH, Bounds, Enough, Gathered, Unreadable
from hornetmail.extraction.formats import compound, office, opendocument, outlook, packed, pdf, rtf
from hornetmail.extraction.formats.markup import Shape, words
from hornetmail.extraction.formats.zipped import Zip
from hornetmail.mime.charset import decode, html_label
from hornetmail.mime.reading.files import extension, is_held_name, is_text_name
from hornetmail.mime.reading.html import html_to_text
from hornetmail.mime.reading.mail import FileWords, read_mail

UNKNOWN = "this kind of file is not read"


class Reader:
    """Reads the files of one mail. ``begins`` is told the number and the name of each file before it is looked at, files in files
    included; those in ``skip``, by number, are not looked at, for the reason that stands there."""

    def __init__(self, bounds: Bounds, begins: Callable[[int, str], None], skip: dict[int, str]) -> None:
        self._bounds = bounds
        self._begins = begins
        self._skip = skip
        self._number = 0

    def read(self, name: str, data: bytes) -> FileWords:
        """Its words, with the names of files in it, and what of it was not read. Raises MemoryError only if even saying so fails."""
        into = Gathered(self._bounds)
        unread: list[str] = []
        self._read(name, data, into, unread, 0)
        return FileWords(into.text(), tuple(unread))

    def _read(self, name: str, data: bytes, into: Gathered, unread: list[str], depth: int) -> None:
        number = self._number
        self._number += 1
        if number in self._skip:
            unread.append(f"{name}: {self._skip[number]}")
            return
        self._begins(number, name)
        try:
            self._words(name, data, into, unread, depth)
        except (Unreadable, Enough) as error:
            unread.append(f"{name}: {error}")
        except MemoryError:
            unread.append(f"{name}: it needs too much memory")
        except RecursionError:
            unread.append(f"{name}: it nests too deep")
        except Exception as error:  # noqa: BLE001  a fault of a reader costs the words of this file, not those of the others
            unread.append(f"{name}: its reader failed: {type(error).__name__}")

    def _words(self, name: str, data: bytes, into: Gathered, unread: list[str], depth: int) -> None:
        if depth > DEPTH:
            raise Unreadable("too deep in other files")
        start = data[:1024].lstrip()
        if start.startswith(b"{\\rtf"):
            rtf.read(data, into)
        elif data.startswith(compound.MAGIC):
            self._members(name, compound.read(data, into), into, unread, depth)
        elif data.startswith(outlook.TNEF):
            self._members(name, outlook.read_tnef(data, into), into, unread, depth)
        elif data.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK00PK")):
            self._zip(name, data, into, unread, depth)
        elif data.startswith(packed.PACKED):
            inner = name.rpartition(".")[0] if extension(name) in ("gz", "bz2", "xz") else name.removesuffix(".tgz") + ".tar"
            self._members(name, [(inner, packed.unpacked(data, self._bounds))], into, unread, depth)
        elif packed.is_tar(data):
            self._members(name, packed.tar_members(data, self._bounds), into, unread, depth)
        elif b"%PDF-" in data[:1024]:
            pdf.read(data, into)
        else:
            self._plain(name, data, into, unread, depth)

    def _zip(self, name: str, data: bytes, into: Gathered, unread: list[str], depth: int) -> None:
        package = Zip(data, self._bounds)
        if office.is_office(package):
            office.read(package, into)
        elif opendocument.is_opendocument(package):
            opendocument.read(package, into)
        elif opendocument.is_epub(package):
            opendocument.read_epub(package, into)
        else:
            self._members(name, packed.zip_members(package, self._bounds), into, unread, depth)

    def _members(
        self, name: str, members: Iterable[tuple[str, bytes | Unreadable]], into: Gathered, unread: list[str], depth: int
    ) -> None:
        for inner, data in members:
            into.add(f"\n{inner}\n")
            where = f"{name}/{inner}"
            if isinstance(data, Unreadable):
                unread.append(f"{where}: {data}")
            elif data:
                self._read(where, data, into, unread, depth + 1)

    def _plain(self, name: str, data: bytes, into: Gathered, unread: list[str], depth: int) -> None:
        kind = extension(name)
        expected = depth == 0 or is_held_name(name)
        if kind == "eml":
            said = read_mail(data, files=self.read)
            unread += said.unsearched
            people = [said.sender, *said.senders, *said.to, *said.cc]
            into.add(
                "\n".join([said.subject, *(str(one) for one in people if one), said.headers, said.text, said.attached]) + "\n"
            )
        elif is_text_name(name):
            text = decode(data, html_label(data, "") if kind in ("htm", "html", "xhtml") else "")
            into.add((html_to_text(text) if kind in ("htm", "html", "xhtml") else text) + "\n")
        elif expected and (text := _as_text(data)):
            # Programs write pages, tables of XML and plain text under names of Office.
            if "<html" in text[:4096].lower():
                into.add(html_to_text(text) + "\n")
            elif text.startswith("<?xml"):
                words([data], _FLAT, into)
            else:
                into.add(text + "\n")
        elif expected:
            raise Unreadable(UNKNOWN)


_FLAT = Shape(
    None, ("p", "h", "Row", "table-row", "list-item"), ("Cell", "table-cell", "s", "tab", "line-break"), ("binary-data", "Styles")
)


def _as_text(data: bytes) -> str:
    """The text that a file is, ``""`` if it is none."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    return "" if b"\0" in data[:4096] else decode(data).removeprefix("\ufeff")
