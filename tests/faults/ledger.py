"""What the world knows of a run: who was told what. The judge holds the service to it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable
from typing import Any

from twisted.internet.defer import CancelledError

from tests.faults.house import House

MARK = re.compile(rb"^Subject: (\S+)\r?$", re.MULTILINE)
MAILBOXES = {1: "alice@example.test", 2: "bob@example.test", 3: "admin@example.test"}
MARKS = re.compile(r"^[a-z]+\d+(-again\d*)?$")
"""Subjects of the scenarios' own mail; notices have others."""


class Ledger:
    """``accepted``: mark to recipients, of what got its 250; ``tried`` were offered. ``removed``: by people, and they were told so;
    ``doubtful``: people wanted to remove or move it and were told of an error, so that it may be either way. ``placed``: moved, and told so."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.accepted: dict[str, tuple[str, ...]] = {}
        self.tried: dict[str, tuple[str, ...]] = {}
        self.removed: dict[tuple[str, str], int] = {}
        self.doubtful: set[tuple[str, str]] = set()
        self.placed: dict[tuple[str, str], str] = {}
        self.expired: set[str] = set()
        self.archived: set[str] = set()
        self.never: list[str] = []

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
        if await self.house.until(true, seconds, what):
            return True
        if self.healthy():
            self.never.append(what)
        return False

    def healthy(self) -> bool:
        """Whether it claims to work; if not, it was told so and is to be restarted."""
        house = self.house
        if house.archive._log_records.broken:
            return False
        return not (house.queue.broken or any(database.broken for database in house.reactor.databases))

    async def attempt(self, action: Awaitable[object]) -> bool:
        """Something that a person does; whether it was said to have worked."""
        try:
            await action
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001  the person sees an error
            return False
        return True

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
        """Delete and expunge."""
        key = (mark, MAILBOXES[mailbox])

        async def gone() -> None:
            folder = await self.house.portal.tree(mailbox).open("INBOX")
            uid = (await self.uids(mailbox))[mark]
            await folder.store([uid], add=["\\Deleted"])
            assert uid in await folder.expunge([uid])

        if mark not in self.accepted:
            return
        self.doubtful.add(key)
        if await self.attempt(gone()):
            self.doubtful.discard(key)
            self.removed[key] = self.home()[key]

    async def move(self, mailbox: int, mark: str, source: str, target: str) -> None:
        """Move it."""
        key = (mark, MAILBOXES[mailbox])

        async def moved() -> None:
            folder = await self.house.portal.tree(mailbox).open(source)
            uid = (await self.uids(mailbox, source))[mark]
            await folder.move([uid], target)

        if mark not in self.accepted:
            return
        self.placed.pop(key, None)
        self.doubtful.add(key)
        if await self.attempt(moved()):
            self.doubtful.discard(key)
            self.placed[key] = target

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
        from hornetmail.testing.archives import AUDITOR

        page = await self.house.archive.search(AUDITOR, "", limit=500)
        return Counter(hit.subject for hit in page.results if MARKS.match(hit.subject))
