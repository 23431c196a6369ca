"""XML as it comes in office files: read piece by piece, without entities of its own or of others, which is what XML bombs are made of."""

from __future__ import annotations

from collections.abc import Iterable
from xml.parsers import expat

from hornetmail.extraction.bounds import Gathered, Unreadable

_DEEP = 1_000


class Shape:
    """Which text of a document counts, by local names of elements. ``texts``: what stands directly in these counts (None: what stands anywhere); ``breaks``: a line ends with them; ``gaps``: they are
    a blank; ``silent``: nothing within counts."""

    def __init__(
        self,
        texts: Iterable[str] | None,
        breaks: Iterable[str] = (),
        gaps: Iterable[str] = (),
        silent: Iterable[str] = (),
        said: Iterable[tuple[str, str]] = (),
    ) -> None:
        self.texts = None if texts is None else frozenset(texts)
        self.breaks = frozenset(breaks)
        self.gaps = frozenset(gaps)
        self.silent = frozenset(silent)
        self.said = frozenset(said)


def words(pieces: Iterable[bytes], shape: Shape, into: Gathered) -> None:
    """The text of a document that comes in pieces. Raises Unreadable, Enough."""
    document = _Document(shape, into)
    try:
        for piece in pieces:
            document.parser.Parse(piece, False)
        document.parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise Unreadable(f"its XML is damaged: {error}") from None


class _Document:
    def __init__(self, shape: Shape, into: Gathered) -> None:
        self._shape = shape
        self._into = into
        self._open: list[bool] = []
        self._silent = 0
        self._listed = False
        self.parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.EntityDeclHandler = self._entity
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        shape = self._shape
        if len(self._open) >= _DEEP:
            raise Unreadable("its XML nests too deep")
        counts = shape.texts is None or name in shape.texts
        if name == "c":
            # A cell of a table; one of kind "s" holds a place in the list of strings, which is read by itself.
            self._listed = attributes.get("t") == "s"
        if name == "v" and self._listed:
            counts = False
        self._open.append(counts)
        if name in shape.silent:
            self._silent += 1
        if name in shape.gaps:
            self._into.add(" ")
        for element, attribute in shape.said:
            if element == name and attribute in attributes:
                self._into.add(attributes[attribute] + "\n")

    def _end(self, tag: str) -> None:
        name = tag.rpartition(":")[2]
        self._open.pop()
        if name in self._shape.silent:
            self._silent -= 1
        if name in self._shape.breaks:
            self._into.add("\n")

    def _characters(self, text: str) -> None:
        if self._open and self._open[-1] and not self._silent:
            self._into.add(text)

    def _entity(self, *_: object) -> None:
        raise Unreadable("its XML declares entities, which no office program does")
