"""Texts in the reader's language: English in the source, others as gettext catalogues (``locale/LANGUAGE/messages.po``)."""

from __future__ import annotations

import gettext
import io
from importlib import resources
from typing import Any

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po


class Language:
    """One language: ``code`` like ``de``."""

    def __init__(self, code: str, translations: gettext.NullTranslations) -> None:
        self.code = code
        self._translations = translations

    def gettext(self, text: str, /, **values: Any) -> str:
        """The text in this language; ``%(name)s`` in it is filled in from ``values``. Templates escape the whole."""
        told = self._translations.gettext(text) if text else ""
        return told % values if values else told

    def ngettext(self, one: str, many: str, num: int, /, **values: Any) -> str:
        """The form that fits a number, which ``%(num)s`` shows."""
        return self._translations.ngettext(one, many, num) % {"num": num, **values}


class Languages:
    """All languages that the site speaks."""

    def __init__(self) -> None:
        self.english = Language("en", gettext.NullTranslations())
        self._known = {"en": self.english}
        translated = resources.files("hornetmail.web").joinpath("locale")
        for folder in translated.iterdir() if translated.is_dir() else ():
            source = folder.joinpath("messages.po")
            if source.is_file():
                compiled = io.BytesIO()
                write_mo(compiled, read_po(io.BytesIO(source.read_bytes()), locale=folder.name))
                compiled.seek(0)
                self._known[folder.name] = Language(folder.name, gettext.GNUTranslations(compiled))

    @property
    def codes(self) -> list[str]:
        """Those known, English first."""
        return list(self._known)

    def choose(self, wanted: str, accepted: str) -> Language:
        """The language that somebody picked, else the first known one of an Accept-Language header, else English."""
        for name in (wanted, *(part.split(";")[0] for part in accepted[:200].split(","))):
            found = self._known.get(name.strip().partition("-")[0].lower())
            if found is not None:
                return found
        return self.english
