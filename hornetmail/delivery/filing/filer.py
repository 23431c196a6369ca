"""One message to its folder at the primary, once:

    ledger: going → APPEND → ledger: home

An APPEND that was cut off stays ``going``; before it is tried again the folder is searched for it. What the primary refuses stays here, ``stuck`` with the reason, until somebody wants it tried
anew. What it cannot do just now (no room, a server busy) is ``later``'s. Flags that the folder does not keep are left out, and that is noted.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.core.delivery.filing import Filed, Standing, flags_for
from hornetmail.core.served import Mailbox
from hornetmail.delivery.filing.conversation import AtPrimary, Here, Letter
from hornetmail.delivery.filing.ledger import Ledger
from hornetmail.net.clients.imap import Refused

TRIES = 5
"""So often an APPEND of a message is begun that the primary never ends: each may be one more copy in somebody's mailbox (rule 11), and others wait behind it."""

FOR_NOW = ("OVERQUOTA", "UNAVAILABLE", "INUSE", "LIMIT", "SERVERBUG", "EXPIRED")
"""Codes of a refusal that is not the message's own (RFC 5530): it is tried again later."""

NO_FOLDER = ("NONEXISTENT", "TRYCREATE")
"""Codes of a folder that somebody removed or renamed there meanwhile: the next look makes it anew."""

_FULL = re.compile(r"quota|(?:mailbox|disk|storage) (?:is )?full", re.IGNORECASE)
"""How servers that are older than RFC 5530 say OVERQUOTA: Courier, Cyrus, hMailServer, GroupWise."""


class Later(Exception):
    """The primary cannot take it now; the message says why. ``full``: there is no room in the mailbox."""

    def __init__(self, text: str, *, full: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.full = full


class Place(NamedTuple):
    """A folder of ours: its name, and special use or ``""``."""

    name: str
    use: str


class Filer:
    """See the module."""

    log = Logger()

    def __init__(self, clock: IReactorTime, ledger: Ledger) -> None:
        self._clock = clock
        self.ledger = ledger

    async def file(self, at: AtPrimary, mailbox: Mailbox, place: Place, letter: Letter) -> Filed:
        """What the ledger says of it in the end: ``home`` or ``stuck``. Raises Later; Broken, with ``certain`` false if the primary may have it; DatabaseError: what the ledger does not have,
        the next look finds out."""
        name = letter.entry.name
        known = await self.ledger.one(mailbox.id, name)
        if known is not None and known.standing is not Standing.GOING:
            return known
        if known is not None:
            found = await self._found(at, mailbox, known, letter)
            if found is not None:
                return found
            if known.tries >= TRIES:
                folder = known.folder.encode("ascii", "replace")
                return await self._stuck(mailbox, name, folder, f"the primary broke off {known.tries} times when it was brought")
        tries = known.tries + 1 if known is not None else 1
        try:
            here = await at.folder(*place)
        except Refused as refused:
            return await self._refused(at, mailbox, name, "", refused, f"its folder {place.name!r} cannot be had")
        if letter.nul and "BINARY" not in at.client.capabilities:
            return await self._stuck(mailbox, name, here.name, "it holds NUL bytes, which that server cannot take over IMAP")
        flags, lost = flags_for(letter.entry, here.permanent)
        try:
            return await self._append(at, mailbox, here, letter, flags, lost, tries)
        except Refused as refused:
            system = tuple(flag for flag in flags if flag.startswith("\\"))
            if system == flags or _passes(refused):
                return await self._refused(at, mailbox, name, here.name.decode("ascii", "replace"), refused, "it is refused")
        # Some servers refuse a message for a keyword that they would not keep.
        try:
            return await self._append(at, mailbox, here, letter, system, tuple(sorted({*lost, *flags} - {*system})), tries)
        except Refused as refused:
            return await self._refused(at, mailbox, name, here.name.decode("ascii", "replace"), refused, "it is refused")

    async def _append(
        self,
        at: AtPrimary,
        mailbox: Mailbox,
        here: Here,
        letter: Letter,
        flags: tuple[str, ...],
        lost: Collection[str],
        tries: int,
    ) -> Filed:
        name, now = letter.entry.name, self._clock.seconds()
        folder = here.name.decode("ascii", "surrogateescape")
        going = Filed(Standing.GOING, folder, here.uidvalidity, here.uidnext, lost=tuple(lost), at=now, tries=tries)
        await self.ledger.put(mailbox.id, mailbox.tenant, name, going)
        uidvalidity, uid = await at.append(here, letter, flags)
        return await self._home(mailbox, name, going, uidvalidity or here.uidvalidity, uid)

    async def _home(self, mailbox: Mailbox, name: str, going: Filed, uidvalidity: int, uid: int) -> Filed:
        home = msgspec.structs.replace(going, standing=Standing.HOME, uidvalidity=uidvalidity, uid=uid, at=self._clock.seconds())
        await self.ledger.put(mailbox.id, mailbox.tenant, name, home)
        return home

    async def _found(self, at: AtPrimary, mailbox: Mailbox, known: Filed, letter: Letter) -> Filed | None:
        """What was cut off, if it came through."""
        others = await self.ledger.of(mailbox.id)
        taken = {each.uid for each in others.values() if (each.folder, each.uidvalidity) == (known.folder, known.uidvalidity)}
        try:
            here = await at.select(known.folder.encode("ascii", "surrogateescape"))
        except Refused as refused:
            at.forget()
            if refused.code not in NO_FOLDER and _passes(refused):
                raise Later(f"whether it is there already cannot be seen: {refused}") from None
            return None  # its folder is not there any more, and nothing of ours with it
        try:
            uid = await at.find(here, known, letter, taken)
        except Refused as refused:
            raise Later(f"whether it is there already cannot be found out: {refused}") from None
        return await self._home(mailbox, letter.entry.name, known, known.uidvalidity, uid) if uid else None

    async def _refused(self, at: AtPrimary, mailbox: Mailbox, name: str, folder: str, refused: Refused, what: str) -> Filed:
        if _passes(refused):
            at.forget()
            await self.ledger.forget(mailbox.id, [name])
            raise Later(f"{what}: {refused}", full=_full(refused))
        return await self._stuck(mailbox, name, folder.encode("ascii", "replace"), f"{what}: {refused}")

    async def _stuck(self, mailbox: Mailbox, name: str, folder: bytes, reason: str) -> Filed:
        filed = Filed(Standing.STUCK, folder.decode("ascii", "replace"), reason=reason, at=self._clock.seconds())
        await self.ledger.put(mailbox.id, mailbox.tenant, name, filed)
        self.log.warn("{address}: {name} does not go home: {reason}", address=mailbox.address, name=name, reason=reason)
        return filed


def _full(refused: Refused) -> bool:
    """Whether there is no room in the mailbox."""
    return refused.code == "OVERQUOTA" or (refused.code in ("", "ALERT") and _FULL.search(refused.text) is not None)


def _passes(refused: Refused) -> bool:
    """Whether it is not the message's own."""
    return refused.code in FOR_NOW or refused.code in NO_FOLDER or _full(refused)
