"""Office Open XML (ISO/IEC 29500): .docx, .xlsx, .pptx and their kin."""

from __future__ import annotations

import re

from hornetmail.extraction.bounds import Gathered
from hornetmail.extraction.formats.markup import Shape, words
from hornetmail.extraction.formats.zipped import Zip

_WORDS = Shape(("t",), ("p", "si", "c", "row"), ("tab", "br", "cr", "noBreakHyphen"), ("rPh", "delText", "instrText"))
_TABLE = Shape(("t", "v"), ("row",), ("c",), ("rPh",))
_BOOK = Shape((), said=(("sheet", "name"),))
_ABOUT = Shape(
    ("title", "subject", "creator", "keywords", "description"), ("title", "subject", "creator", "keywords", "description")
)

_PARTS: tuple[tuple[re.Pattern[str], Shape], ...] = (
    (re.compile(r"docProps/core\.xml"), _ABOUT),
    (re.compile(r"word/(?:document\w*|footnotes\w*|endnotes\w*|comments\w*|header\d*|footer\d*|glossary/document)\.xml"), _WORDS),
    (re.compile(r"xl/workbook\.xml"), _BOOK),
    (re.compile(r"xl/(?:sharedStrings\d*|comments\d*|threadedComments/\w+|drawings/\w+|charts/\w+)\.xml"), _WORDS),
    (re.compile(r"xl/worksheets/\w+\.xml"), _TABLE),
    (re.compile(r"ppt/(?:slides|notesSlides|comments|diagrams|charts)/\w+\.xml"), _WORDS),
)


def is_office(package: Zip) -> bool:
    """Whether it is one of these."""
    return "[Content_Types].xml" in package.members


def read(package: Zip, into: Gathered) -> None:
    """Its words. Raises Unreadable, Enough."""
    for name in sorted(package.names, key=_in_order):
        for pattern, shape in _PARTS:
            if pattern.fullmatch(name):
                words(package.pieces(name), shape, into)
                into.add("\n")
                break


def _in_order(name: str) -> tuple[str, int, str]:
    """slide10 comes behind slide9."""
    number = re.search(r"(\d+)\.xml$", name)
    return name.rpartition("/")[0], int(number[1][:9]) if number else 0, name
