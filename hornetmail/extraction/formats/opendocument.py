"""OpenDocument (ISO/IEC 26300): .odt, .ods, .odp; and EPUB, which is packed alike."""

from __future__ import annotations

from hornetmail.extraction.bounds import Gathered, Unreadable
from hornetmail.extraction.formats.markup import Shape, words
from hornetmail.extraction.formats.zipped import Zip
from hornetmail.mime.charset import decode, html_label
from hornetmail.mime.reading.html import html_to_text

_CONTENT = Shape(
    None, ("p", "h", "table-row", "list-item", "annotation"), ("s", "tab", "line-break", "table-cell"), ("script", "binary-data", "page-number", "sheet-name", "date", "time"),
    (("table", "table:name"),),
)  # fmt: skip
_ABOUT = Shape(
    ("title", "subject", "creator", "initial-creator", "keyword", "description"),
    ("title", "subject", "creator", "initial-creator", "keyword", "description"),
)
_SEALED = Shape(("nothing",), said=(("encryption-data", "manifest:checksum"),))


def is_opendocument(package: Zip) -> bool:
    """Whether it is one of these."""
    return "content.xml" in package.members and ("mimetype" in package.members or "META-INF/manifest.xml" in package.members)


def read(package: Zip, into: Gathered) -> None:
    """Its words. Raises Unreadable, Enough."""
    if "META-INF/manifest.xml" in package.members:
        sealed = Gathered(into.bounds)
        words(package.pieces("META-INF/manifest.xml"), _SEALED, sealed)
        if sealed.text():
            raise Unreadable("it is encrypted")
    for name, shape in (("meta.xml", _ABOUT), ("content.xml", _CONTENT), ("styles.xml", _CONTENT)):
        if name in package.members:
            words(package.pieces(name), shape, into)
            into.add("\n")


def is_epub(package: Zip) -> bool:
    """Whether it is a book."""
    return "META-INF/container.xml" in package.members


def read_epub(package: Zip, into: Gathered) -> None:
    """The words of a book, page by page in the order in which they are packed. Raises Unreadable, Enough."""
    if "META-INF/encryption.xml" in package.members and "META-INF/rights.xml" in package.members:
        raise Unreadable("it is encrypted")
    for name in package.names:
        if name.lower().endswith((".opf",)):
            words(package.pieces(name), _ABOUT, into)
        elif name.lower().endswith((".xhtml", ".html", ".htm")):
            page = package.read(name)
            into.add(html_to_text(decode(page, html_label(page, "utf-8"))) + "\n")
