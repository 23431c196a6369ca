"""What is in the way of people's mail on its way home by IMAP: told where it is looked at, and, if it lasts, to administrators."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.core.events import Alarm
from hornetmail.core.served import Mailbox
from hornetmail.interfaces.bus import IBus

ALARM = "filing"

UNTOLD_SECONDS = 4 * 3600.0
"""Trouble that was there for so long is an alarm, whatever it is: it may be a wrong host."""

INBOX_SECONDS = 2 * 3600.0
"""So long after a copy of INBOX met trouble its mailbox is not called well: it is tried again once an hour at least."""


class Troubles:
    """``barred``: nobody is let in, or the server cannot be reached; ``met``: a message met trouble, there or here. Neither takes the other's place."""

    log = Logger()

    def __init__(self, clock: IReactorTime, bus: IBus) -> None:
        self._clock = clock
        self._bus = bus
        self._bars: dict[int, str] = {}
        self._met: dict[int, str] = {}
        self._since: dict[int, float] = {}
        self._inbox: dict[int, float] = {}
        self._well: set[int] = set()

    def text(self, mailbox: int) -> str:
        """What is in the way now, or ``""``."""
        return self._bars.get(mailbox, "") or self._met.get(mailbox, "")

    def is_well(self, mailbox: int) -> bool:
        """Whether it is known that nothing is."""
        return mailbox in self._well

    def barred(self, mailbox: Mailbox, text: str, lasting: bool) -> None:
        """``""``: one was let in, which says nothing of the mail."""
        self._bars.pop(mailbox.id, None)
        if text:
            self._bars[mailbox.id] = text
            self._told(mailbox, text, lasting)

    def met(self, mailbox: Mailbox, text: str, lasting: bool) -> None:
        """By a message of a folder."""
        self._met[mailbox.id] = text
        self._told(mailbox, text, lasting)

    def met_in_inbox(self, mailbox: Mailbox, text: str, lasting: bool) -> None:
        """By a copy of INBOX."""
        self._inbox[mailbox.id] = self._clock.seconds()
        self.met(mailbox, text, lasting)

    def gone_from_inbox(self, mailbox: Mailbox) -> None:
        """A copy of INBOX went home."""
        self._inbox.pop(mailbox.id, None)

    def well(self, mailbox: Mailbox) -> None:
        """A pass met none, or nothing is left to go."""
        if self._clock.seconds() - self._inbox.get(mailbox.id, -INBOX_SECONDS) < INBOX_SECONDS:
            return
        for each in (self._bars, self._met, self._since, self._inbox):
            each.pop(mailbox.id, None)
        self._well.add(mailbox.id)

    def _told(self, mailbox: Mailbox, text: str, lasting: bool) -> None:
        """What lasts is an alarm."""
        now = self._clock.seconds()
        self._well.discard(mailbox.id)
        since = self._since.setdefault(mailbox.id, now)
        self.log.warn("{address}: no way home by IMAP now: {text}", address=mailbox.address, text=text)
        if lasting or now - since >= UNTOLD_SECONDS:
            told = f"<{mailbox.address}>: mail of the portal's folders does not go home: {text}"
            self._bus.publish(Alarm(ALARM, told, mailbox.domain, mailbox.address))
