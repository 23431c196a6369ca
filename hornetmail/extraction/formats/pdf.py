"""PDF (ISO 32000), by PDFium."""

from __future__ import annotations

import re

import pypdfium2

from hornetmail.extraction.bounds import Gathered, Unreadable

_BROKEN_WORD = re.compile("[\x02\ufffe](?:\r?\n)?")
"""Where PDFium sees that a word goes on in the next line."""


def read(data: bytes, into: Gathered) -> None:
    """Its words, page by page. Raises Unreadable, Enough."""
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        why = "it is encrypted" if "password" in str(error).lower() else f"it is damaged: {error}"
        raise Unreadable(why) from None
    about = document.get_metadata_dict(skip_empty=True)
    for name in ("Title", "Subject", "Author", "Keywords"):
        if name in about:
            into.add(about[name] + "\n")
    seen = False
    for number in range(len(document)):
        try:
            page = document[number]
            text = page.get_textpage()
        except pypdfium2.PdfiumError:
            continue
        said = _BROKEN_WORD.sub("", text.get_text_bounded())
        text.close()
        page.close()
        seen = seen or bool(said.strip())
        into.add(said + "\n")
    if not seen:
        raise Unreadable("there is no text in it, only pictures")
