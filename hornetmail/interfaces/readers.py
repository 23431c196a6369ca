"""Who reads the files that hang on mail."""

from __future__ import annotations

from zope.interface import Interface

from hornetmail.mime.reading.mail import MailText


class ReadingFailed(Exception):
    """Nothing of a mail could be read, and why; trying again would end alike."""


class ReadersAway(Exception):
    """Nobody reads just now, and why: later it may be otherwise."""


class IReaders(Interface):
    """Processes of their own, in which what strangers send is read."""

    processes: int
    """How many mails are read side by side at most."""

    async def read(raw: bytes) -> MailText:
        """A mail with the words of its files. What could not be read of them is in ``unsearched``. Raises ReadingFailed, ReadersAway."""
