"""What the world knows of a run: who was told what. The judge holds the service to it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError

from hornetmail.core.served import Person, Role
from hornetmail.testing.archives import AUDITOR, BytesBody, item, mail
from tests.faults.house import House

MARK = re.compile(rb"^Subject: (\S+)\r?$", re.MULTILINE)
MAILBOXES = {1: "alice@example.test", 2: "bob@example.test", 3: "admin@example.test"}
MARKS = re.compile(r"^[a-z]+\d+(-again\d*)?$")
"""Subjects of the scenarios' own mail; notices have others."""


class Ledger:
    """``accepted``: mark to recipients, of what got its 250; ``tried`` were offered. ``removed``: by people, and they were told so; how often it
    was at home then. ``places``: the folders in which what people moved must be now, one of them ("": removed); more than one after an error.
    ``feeds`` were offered to the archive itself, ``archived`` were taken; ``expired`` was purged. ``never``: what did not come about.
    ``told``: there was an alarm."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.accepted: dict[str, tuple[str, ...]] = {}
        self.tried: dict[str, tuple[str, ...]] = {}
        self.removed: dict[tuple[str, str], int] = {}
        self.places: dict[tuple[str, str], set[str]] = {}
        self.expired: set[str] = set()
        self.perhaps_expired: set[str] = set()
        self.feeds: set[str] = set()
        self.archived: set[str] = set()
        self.copied: set[tuple[str, str]] = set()
        self.never: list[str] = []
        self.told = False

    # In the scenario

    async def sent(self, mark: str, *recipients: str, size: int = 0) -> None:
        """A peer sends, and comes again after a refusal, as peers do."""
        for attempt in range(4):
            name = mark if not attempt else f"{mark}-again{attempt}"
            self.tried[name] = recipients
            try:
                await self.house.send(name, *recipients, size=size)
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001  any 4xx
                await self.house.pause(90.0)
            else:
                self.accepted[name] = recipients
                return

    async def until(self, true: Any, what: str, seconds: float = 4 * 3600.0) -> bool:
        """What the service has to bring about by itself."""
        if await self.house.until(lambda: true() or not self.healthy(), seconds, what) and true():
            return True
        if self.healthy():
            self.never.append(what)
        return False

    def healthy(self) -> bool:
        """Whether it claims to work; if not, it was told so and is to be restarted."""
        house = self.house
        if house.archive.holdings.staging.records.broken:
            return False
        return not (house.queue.broken or any(database.broken for database in house.reactor.databases))

    async def attempt(self, action: Callable[[], Awaitable[object]]) -> bool:
        """Something that a person does, three times if it is said to have failed; whether it was said to have worked."""
        for _ in range(3):
            try:
                await action()
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001  the person sees an error
                await self.house.pause(100.0)
            else:
                return True
        return False

    async def uids(self, mailbox: int, folder: str = "INBOX") -> dict[str, int]:
        """A person's messages in a folder, by mark."""
        opened = await self.house.portal.tree(mailbox).open(folder)
        found: dict[str, int] = {}
        for entry in await opened.entries():
            match = MARK.search(await (await opened.body(entry.uid)).read())
            if match:
                found[match.group(1).decode()] = entry.uid
        return found

    async def remove(self, mailbox: int, mark: str) -> None:
        """Delete and expunge, if it is there."""
        key = (mark, MAILBOXES[mailbox])

        async def gone() -> None:
            folder = await self.house.portal.tree(mailbox).open("INBOX")
            uid = (await self.uids(mailbox)).get(mark)
            if uid is not None:
                await folder.store([uid], add=["\\Deleted"])
                assert uid in await folder.expunge([uid])

        if not await self.there(mailbox, mark, "INBOX"):
            return
        self.places[key] = {"INBOX", ""}
        if await self.attempt(gone):
            self.taken_away(key)

    async def move(self, mailbox: int, mark: str, source: str, target: str) -> None:
        """Move it, if it is there."""
        key = (mark, MAILBOXES[mailbox])

        async def moved() -> None:
            uid = (await self.uids(mailbox, source)).get(mark)
            if uid is not None:
                await (await self.house.portal.tree(mailbox).open(source)).move([uid], target)
            elif mark not in await self.uids(mailbox, target):
                raise LookupError(mark)

        if not await self.there(mailbox, mark, source):
            return
        self.places[key] = {source, target}
        if await self.attempt(moved):
            self.places[key] = {target}

    async def there(self, mailbox: int, mark: str, folder: str) -> bool:
        """Whether somebody sees it there."""
        seen: list[bool] = []

        async def look() -> None:
            seen.append(mark in await self.uids(mailbox, folder))

        await self.attempt(look)
        return any(seen)

    def taken_away(self, key: tuple[str, str]) -> None:
        """It was removed, and whoever did it was told so."""
        self.places[key] = {""}
        self.removed[key] = self.home()[key]

    async def copy(self, mailbox: int, mark: str, source: str, target: str) -> None:
        """A second copy that is wanted."""

        async def copied() -> None:
            folder = await self.house.portal.tree(mailbox).open(source)
            uid = (await self.uids(mailbox, source)).get(mark)
            if uid is not None and mark not in await self.uids(mailbox, target):
                await folder.copy([uid], target)

        self.copied.add((mark, MAILBOXES[mailbox]))
        await self.attempt(copied)

    async def appended(self, mailbox: int, mark: str, target: str) -> None:
        """Somebody files a message."""
        key = (mark, MAILBOXES[mailbox])

        async def put() -> None:
            folder = await self.house.portal.tree(mailbox).open(target)
            deposit = folder.append((), None)
            await deposit.write(f"From: me\r\nSubject: {mark}\r\n\r\nA draft.\r\n".encode())
            await deposit.commit()

        self.places[key] = {target, ""}
        if await self.attempt(put):
            self.places[key] = {target}

    async def folder(self, address: str, old: str, new: str, change: Callable[[], Awaitable[object]]) -> bool:
        """Rename a folder, or remove it (``new`` is "")."""
        there = [key for key, folders in self.places.items() if key[1] == address and old in folders]
        for key in there:
            self.places[key] = self.places[key] | {new}
        done = await self.attempt(change)
        for key in there if done else ():
            self.places[key] = self.places[key] - {old}
            if self.places[key] == {""}:
                self.taken_away(key)
        return done

    # The archive

    async def staged(self, mark: str, *, retention_days: int) -> None:
        """A feed brings a mail, until it is taken; each time the same one."""
        archives = self.house.archive
        number = 1000 + len(self.feeds)
        what = item(number, received=self.house.reactor.seconds(), retention_days=retention_days)
        self.feeds.add(mark)

        async def put() -> None:
            await archives.stage(what, BytesBody(mail(mark)))

        if await self.attempt(put):
            self.archived.add(mark)

    async def redelivered(self, mark: str, address: str) -> None:
        """The administrator has it delivered once more."""
        person = Person(3, "admin@example.test", 1, (Role.ADMIN,))

        async def asked() -> None:
            found = await self.house.archive.search(AUDITOR, "", limit=500)
            [number] = [hit.id for hit in found.results if hit.subject == mark]
            handed = await self.house.delivery.redelivery.redeliver(person, [number], address, "request")
            assert handed.went

        self.tried[mark] = (address,)
        if await self.attempt(asked):
            self.accepted[mark] = (address,)

    async def purged(self, mark: str, now: float) -> None:
        """Its time is over."""
        gone: list[int] = []

        async def go() -> None:
            gone.append(await self.house.archive.purge(now))

        if await self.attempt(go) and sum(gone):
            self.expired.add(mark)

    # What there is

    def home(self) -> Counter[tuple[str, str]]:
        """Copies at the primary by mark and recipient."""
        found: Counter[tuple[str, str]] = Counter()
        for each in self.house.primary.accepted:
            match = MARK.search(each.data)
            if match:
                for recipient in each.recipients:
                    found[match.group(1).decode(), recipient] += 1
        return found

    async def portal(self) -> Counter[tuple[str, str, str]]:
        """Copies in the portal by mark, address and folder."""
        found: Counter[tuple[str, str, str]] = Counter()
        for mailbox, address in MAILBOXES.items():
            tree = self.house.portal.tree(mailbox)
            for info in await tree.folders():
                folder = await tree.open(info.name)
                for entry in await folder.entries():
                    match = MARK.search(await (await folder.body(entry.uid)).read())
                    if match:
                        found[match.group(1).decode(), address, info.name] += 1
        return found

    async def archive(self) -> Counter[str]:
        """Archived mails by mark."""
        page = await self.house.archive.search(AUDITOR, "", limit=500)
        return Counter(hit.subject for hit in page.results if MARKS.match(hit.subject))
