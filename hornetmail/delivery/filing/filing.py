"""Home with flags and folders (L13): passes over the folders of everybody who has a way, and read mail of INBOX on its way out of the drain.

A pass goes over a domain's mailboxes, one after the other, newest mail first, one message at a time: the primary's own pace, and half of it once an answer took longer than ``SLOW_SECONDS``. It
begins when a domain is not in emergency any more, when its primary is seen, when a way is set, and every ``EVERY_SECONDS``. Copies in folders stay here until they expire (rule 24): the ledger knows them.
What INBOX holds goes by SMTP if nobody did anything with it, so that the primary's filters and notifications run as for any new mail; what was read, flagged or answered is APPENDed as it
stands (``take``). Trash stays: what is there was taken out (C6).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from functools import partial
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.core.delivery.filing import STAYS, Closed, Filed, Progress, Standing, marked, newest_first, stays
from hornetmail.core.delivery.queued import Portal
from hornetmail.core.events import Alarm, ModeChanged, PrimarySeen
from hornetmail.core.failover.mode import Mode
from hornetmail.core.folder import Entry, FolderError
from hornetmail.core.served import Mailbox
from hornetmail.delivery.filing.connections import Connect, Connections
from hornetmail.delivery.filing.conversation import AtPrimary, letter_of
from hornetmail.delivery.filing.filer import Filer, Later, Place
from hornetmail.delivery.filing.ledger import Ledger
from hornetmail.delivery.filing.troubles import Troubles
from hornetmail.delivery.filing.ways import Ways
from hornetmail.delivery.tasks import Tasks, pause
from hornetmail.interfaces.body import IBody
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.filing import IFiling
from hornetmail.interfaces.modes import IModes
from hornetmail.interfaces.portal import IPortal
from hornetmail.net.clients.imap import Broken, IMAPClient, Refused, Timeouts, Trouble

EVERY_SECONDS = 900.0
"""Between two passes over a domain, if nothing calls for one."""

SLOW_SECONDS = 1.0

GONE = ("EXPUNGEISSUED", "NONEXISTENT")
"""Codes of a message that went on this very moment."""

SLICE = 10
"""Messages of a pass that follow one another: then others who want that mailbox, a read copy of its INBOX above all, get their turn. A slice of which the primary takes none now ends the pass over the
mailbox."""

PATIENCE_SECONDS = 3600.0
"""So long read mail of INBOX waits for a primary whose IMAP cannot be reached; then it goes by SMTP, unread."""

FORGET_SECONDS = 3 * 86_400.0
"""A row goes when its file was missing for so long: a disk that was away for some passes, or a backup that was put in its place, brings nothing twice."""

INBOX = Place("INBOX", "")


class Surroundings(msgspec.Struct, frozen=True):
    """What it needs of the house. ``clock`` is the reactor."""

    clock: IReactorTime
    dialer: Any
    directory: IDirectory
    modes: IModes
    portal: IPortal
    bus: IBus


@implementer(IFiling)
class Filing:
    """See the module."""

    log = Logger()

    def __init__(
        self,
        house: Surroundings,
        ways: Ways,
        ledger: Ledger,
        connect: Connect = IMAPClient.connect,
        timeouts: Timeouts = Timeouts(),
    ) -> None:
        self._clock = house.clock
        self._house = house
        self.ways = ways
        self.ledger = ledger
        self._troubles = Troubles(house.clock, house.bus)
        self._connections = Connections(house.clock, house.dialer, ways, self._troubles.barred, connect, timeouts)
        self._filer = Filer(house.clock, ledger)
        self._tasks = Tasks(house.clock)
        self._passes: set[str] = set()
        self._wanted: set[str] = set()
        self._running = False
        self._ends: list[Callable[[], None]] = []
        self._since: dict[str, float] = {}
        self._missing: dict[int, dict[str, float]] = {}
        """Rows without a file, and since when."""
        self._unread: set[int] = set()
        """Mailboxes of which the last pass could not read all folders."""
        self._last: dict[int, set[str]] = {}
        """Messages that met trouble: in the next pass they come behind all others, so that one which a server, or we, stumble over holds up nobody."""

    # -- life

    def start(self) -> None:
        """Passes may run from now on."""
        self._running = True
        bus = self._house.bus
        self._ends = [bus.subscribe(ModeChanged, self._changed), bus.subscribe(PrimarySeen, self._seen)]
        for domain in self.ways.domains():
            self.kick(domain)

    async def stop(self, grace: float) -> None:
        """Begin nothing new; what is under way is cut off after ``grace`` s and looked for next time."""
        self.end()
        await self._tasks.stop(grace)
        await self._connections.stop()

    def end(self) -> None:
        """Begin nothing new: passes end behind the message that is under way."""
        self._running = False
        for end in self._ends:
            end()
        self._ends = []

    @property
    def busy(self) -> bool:
        """Whether a pass is under way."""
        return bool(self._passes)

    async def sweep(self) -> None:
        """A pass over every domain that has a way."""
        for domain in self.ways.domains():
            self.kick(domain)

    def kick(self, domain: str) -> None:
        """A pass over a domain, now if none is under way, else once more after it."""
        if not self._running or self.ways.server(domain) is None:
            return
        if domain in self._passes:
            self._wanted.add(domain)
        else:
            self._passes.add(domain)
            self._tasks.start(self._domain(domain), f"filing of {domain}")

    def _changed(self, event: ModeChanged) -> None:
        if event.mode is Mode.EMERGENCY:
            self._since.pop(event.domain, None)  # its mail has an hour of its own
        else:
            self.kick(event.domain)

    def _seen(self, event: PrimarySeen) -> None:
        for domain in event.domains:
            self._connections.again(domain)
            self.kick(domain)

    # -- passes over folders

    async def _domain(self, domain: str) -> None:
        try:
            while self._running:
                self._wanted.discard(domain)
                for mailbox in self._house.directory.mailboxes(domain):
                    if not self._running or self._emergency(domain):
                        return
                    await self._mailbox(mailbox)
                if domain not in self._wanted:
                    return
        finally:
            self._passes.discard(domain)

    def _emergency(self, domain: str) -> bool:
        return self._house.modes.mode(domain) is Mode.EMERGENCY

    async def _mailbox(self, mailbox: Mailbox) -> None:
        """One mailbox's folders. Whatever goes wrong, the next ones go on."""
        way = self.ways.way(mailbox)
        if way is None:
            return
        try:
            todo = await self._todo(mailbox)
            for start in range(0, len(todo), SLICE):
                some = todo[start : start + SLICE]
                if not await self._connections.use(mailbox, way, partial(self._slice, mailbox, some)):
                    return
            troubled = self._last.get(mailbox.id) or mailbox.id in self._unread
            if not troubled and (todo or self._connections.closed(mailbox) is None):
                self._troubles.well(mailbox)
        except CancelledError:
            raise
        except Closed:
            pass  # told by the connections
        except (Broken, Refused) as error:
            self._troubles.met(mailbox, str(error), False)
        except Exception as error:  # noqa: BLE001 - a fault of ours: the others go on, and this one is tried again with the next pass
            self.log.failure("filing of mailbox {mailbox} failed", mailbox=mailbox.id)
            self._troubles.met(mailbox, f"trouble of our own: {type(error).__name__}", False)
        await pause(self._clock, 0)

    async def _todo(self, mailbox: Mailbox) -> list[tuple[Place, Entry]]:
        """What of which folder the primary does not have, newest first; rows of the ledger whose files are gone go with them."""
        tree = self._house.portal.tree(mailbox.id)
        known = await self.ledger.of(mailbox.id)
        late = self._last.get(mailbox.id, set()) | {name for name, filed in known.items() if filed.standing is Standing.GOING}
        smooth: list[tuple[Place, list[Entry]]] = []
        rough: list[tuple[Place, Entry]] = []
        seen: set[str] = set()
        self._unread.discard(mailbox.id)
        infos = await tree.folders()
        staying = {info.name for info in infos if info.use in STAYS}
        for info in infos:
            if not info.selectable:
                continue
            entries = await self._entries(mailbox, info.name)
            await pause(self._clock, 0)  # a turn for each look at all of a large folder (rule 8d)
            seen.update(entry.name for entry in entries)
            if info.name == "INBOX" or stays(info.name, staying):
                continue
            await pause(self._clock, 0)
            left = [entry for entry in entries if self._goes(entry, known.get(entry.name))]
            place = Place(info.name, info.use)
            if left:
                await pause(self._clock, 0)
                left = newest_first(left)
                await pause(self._clock, 0)
                smooth.append((place, [entry for entry in left if entry.name not in late]))
                rough += [(place, entry) for entry in left if entry.name in late]
        await self._forget(mailbox, known.keys() - seen)
        self._last[mailbox.id] = self._last.get(mailbox.id, set()) & seen
        smooth.sort(key=lambda each: -each[1][0].date if each[1] else 0.0)
        return [*((place, entry) for place, left in smooth for entry in left), *rough]

    async def _entries(self, mailbox: Mailbox, name: str) -> Sequence[Entry]:
        """Of one of its folders; one that cannot be read keeps no other one waiting."""
        try:
            return await (await self._house.portal.tree(mailbox.id).open(name)).entries()
        except FolderError as error:
            if error.code not in GONE:
                self._unread.add(mailbox.id)
                self._troubles.met(mailbox, f"the portal's folder {name!r} cannot be read: {error.text}", True)
            return ()

    async def _forget(self, mailbox: Mailbox, missing: Collection[str]) -> None:
        """Rows whose files are gone, and not only for now."""
        now = self._clock.seconds()
        before = self._missing.pop(mailbox.id, {})
        since = {name: before.get(name, now) for name in missing}
        gone = [name for name, first in since.items() if now - first >= FORGET_SECONDS]
        if gone:
            await self.ledger.forget(mailbox.id, gone)
        self._missing[mailbox.id] = {name: first for name, first in since.items() if now - first < FORGET_SECONDS}

    def _goes(self, entry: Entry, known: Filed | None) -> bool:
        return "\\Deleted" not in entry.flags and (known is None or known.standing is Standing.GOING)

    async def _slice(self, mailbox: Mailbox, some: Sequence[tuple[Place, Entry]], at: AtPrimary) -> bool:
        """Some messages; false: the primary takes none of them now."""
        tree = self._house.portal.tree(mailbox.id)
        last = self._last.setdefault(mailbox.id, set())
        refused = 0
        for place, entry in some:
            if not self._running or self._emergency(mailbox.domain):
                return False
            began = self._clock.seconds()
            try:
                folder = await tree.open(place.name)
                # As it stands now: its owner may have read, moved or removed it since.
                current = await folder.entries([entry.uid])
                if not current or "\\Deleted" in current[0].flags:
                    continue
                last.add(entry.name)
                body: IBody = await folder.body(entry.uid)
                letter = await letter_of(current[0], body.size, body.chunks)
            except FolderError as error:
                if error.code not in GONE:
                    self._troubles.met(mailbox, f"{entry.name} in {place.name} cannot be read: {error.text}", True)
                continue
            try:
                filed = await self._filer.file(at, mailbox, place, letter)
            except Later as later:
                self._troubles.met(mailbox, later.text, later.full)
                refused += 1
                continue
            last.discard(entry.name)
            self._since.pop(mailbox.domain, None)
            if filed.standing is Standing.STUCK:
                self._stuck(mailbox, filed)
            took = self._clock.seconds() - began
            await pause(self._clock, took if took > SLOW_SECONDS else 0)
        return refused < len(some)

    # -- INBOX

    async def take(
        self,
        copy: Portal,
        size: int,
        chunks: Callable[[], AsyncIterator[bytes]],
        *,
        untouched: bool = False,
        trial: bool = False,
    ) -> Filed | None:
        """A claimed copy of INBOX, if it goes by IMAP: what the ledger says of it then. None: it goes by SMTP; so does, whatever was done with it, what counts as ``untouched``, and on ``trial`` all
        of which the ledger knows nothing. Raises Later: it waits; Broken, with ``certain`` false if the primary may have it."""
        mailbox = self._house.directory.mailbox_by_id(copy.mailbox)
        way = self.ways.way(mailbox) if mailbox is not None else None
        if mailbox is None or way is None:
            return None
        entry = await self._house.portal.standing(copy)
        if entry is None:
            return None
        known = await self.ledger.one(mailbox.id, entry.name)
        if known is not None and trial:
            raise Later("whether the primary takes mail cannot be tried with this one")
        if known is not None and known.standing is Standing.HOME:
            return known  # it was in a folder, and went home from there
        if known is None and (untouched or trial or not marked(entry)):
            return None
        letter = await letter_of(entry, size, chunks)
        try:
            filed = await self._connections.use(mailbox, way, lambda at: self._filer.file(at, mailbox, INBOX, letter))
        except Closed as closed:
            self._wait_for(mailbox, closed.text, closed.lasting)
            return None
        except Broken as error:
            if not error.certain:
                raise
            self._wait_for(mailbox, error.text, False)  # of our own disk too: it goes by SMTP at once only where nobody is let in
            return None
        except Refused as refused:
            self._wait_for(mailbox, str(refused), True)
            return None
        except Later as later:
            self._troubles.met_in_inbox(mailbox, later.text, later.full)
            raise
        self._troubles.gone_from_inbox(mailbox)
        self._since.pop(mailbox.domain, None)
        return filed if filed.standing is Standing.HOME else None

    def _wait_for(self, mailbox: Mailbox, text: str, lasting: bool) -> None:
        """Raises Later, as long as waiting for its IMAP may be of use; then it goes by SMTP."""
        now = self._clock.seconds()
        since = self._since.setdefault(mailbox.domain, now)
        if not lasting and now - since < PATIENCE_SECONDS:
            raise Later(text)
        self.log.warn("{address}: read mail goes home by SMTP: {text}", address=mailbox.address, text=text)

    # -- being told

    def _stuck(self, mailbox: Mailbox, filed: Filed) -> None:
        text = f"<{mailbox.address}>: mail in the portal's folder for {filed.folder or 'the primary'} stays: {filed.reason}"
        self._house.bus.publish(Alarm("filing-refused", text, mailbox.domain, mailbox.address))

    def over(self, address: str) -> str:
        """Why nothing is in the way of somebody's mail any more; ``""``: that is not known."""
        mailbox = self._house.directory.mailbox(address)
        if mailbox is None or self.ways.way(mailbox) is None:
            return "there is no way home by IMAP any more"
        return "nothing is in the way of its mail any more" if self._troubles.is_well(mailbox.id) else ""

    async def progress(self, mailbox: int) -> Progress:
        """For people."""
        known = await self.ledger.of(mailbox)
        stuck = tuple((name, each.reason) for name, each in known.items() if each.standing is Standing.STUCK)
        home = sum(each.standing is Standing.HOME for each in known.values())
        return Progress(home, len(known) - home - len(stuck), stuck, self._troubles.text(mailbox))

    async def retry(self, mailbox: Mailbox) -> int:
        """What was refused is tried anew; how many."""
        count = await self.ledger.retry(mailbox.id)
        self.kick(mailbox.domain)
        return count

    async def test(self, mailbox: Mailbox, user: str = "", password: str = "") -> tuple[str, ...]:
        """See IFiling."""
        way = self.ways.offered(mailbox, user, password) if user else self.ways.way(mailbox)
        if way is None:
            raise Closed("there is no way: neither a service account nor a password of one's own")
        try:
            return await self._connections.tried(way)
        except (Broken, Refused) as error:
            raise Closed(str(error), lasting=isinstance(error, Broken) and error.trouble is Trouble.REFUSED) from None
