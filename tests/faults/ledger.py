"""What the world knows of a run: who was told what. The judge holds the service to it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import CancelledError

from hornetmail.core.served import Person, Role
from hornetmail.runtime.jobs import Result
from hornetmail.testing.archives import AUDITOR, BytesBody, item, mail
from hornetmail.testing.faults.reading import IMAP, POP
from tests.faults.house import IMAP_PORT, OTHERS, POP_PORT, House

MARK = re.compile(rb"^Subject: (\S+)\r?$", re.MULTILINE)
MAILBOXES = {1: "alice@example.test", 2: "bob@example.test", 3: "admin@example.test"}
MARKS = re.compile(r"^[a-z]+\d+(-again\d*)?$")
"""Subjects of the scenarios' own mail; notices have others."""


class Ledger:
    """``accepted``: mark to recipients, of what got its 250; ``tried`` were offered. ``removed``: by people, and they were told so; how often it
    was at home then. ``stays``: marked as deleted, and how often it was at home then. ``places``: the folders in which what people moved must be now, one of them ("": removed); more than one after an error.
    ``feeds`` were offered to the archive itself, ``archived`` were taken; ``on_medium`` are there, wherever the data directory may be; ``expired`` was purged. ``gone_from_medium``: its deletion is there as well. ``values``: those that a
    setting had, one after the other, ``safe``: the one that is in a backup. ``never``: what did not come about.
    ``told``: there was an alarm. ``alarms``: code and subject of those that were written down. ``stand``: codes of alarms whose cause lasts. ``flagged``: flags that people gave, and were told so.
    ``carried``: messages that were on their way from one mailbox into another."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.accepted: dict[str, tuple[str, ...]] = {}
        self.tried: dict[str, tuple[str, ...]] = {}
        self.removed: dict[tuple[str, str], int] = {}
        self.stays: dict[tuple[str, str], int] = {}
        self.places: dict[tuple[str, str], set[str]] = {}
        self.expired: set[str] = set()
        self.perhaps_expired: set[str] = set()
        self.feeds: set[str] = set()
        self.archived: set[str] = set()
        self.on_medium: set[str] = set()
        self.values: list[str] = [""]
        self.safe = ""
        self.gone_from_medium: set[str] = set()
        self.copied: set[tuple[str, str]] = set()
        self.never: list[str] = []
        self.told = False
        self.alarms: set[tuple[str, str]] = set()
        self.stand: set[str] = set()
        self.flagged: dict[str, set[str]] = {}
        self.carried: set[str] = set()
        self._sessions: dict[int, IMAP] = {}

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
        if house.broken:
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

    # People, who read their mail over IMAP and POP

    async def session(self, mailbox: int) -> IMAP:
        """A person's, logged in; a new one if the last is over. Raises what keeps it from being made."""
        session = self._sessions.get(mailbox)
        if session is None or session.over:
            session = await self.house.dial(IMAP_PORT, IMAP())
            await session.greeted(MAILBOXES[mailbox])
            self._sessions[mailbox] = session
        return session

    def others(self, owner: int, folder: str) -> str:
        """Somebody's folder, as others see it."""
        return f"{OTHERS}{MAILBOXES[owner]}/{folder}"

    def _whose(self, mailbox: int, name: str) -> tuple[str, str]:
        """Whose folder it is that somebody calls so, and what that one calls it."""
        if not name.startswith(OTHERS):
            return MAILBOXES[mailbox], name
        address, _, folder = name.removeprefix(OTHERS).partition("/")
        return address, folder

    async def given(self, mailbox: int, folder: str, address: str, rights: str) -> bool:
        """Rights on a folder of one's own."""

        async def give() -> None:
            await (await self.session(mailbox)).command(f'SETACL "{folder}" {address} {rights}')

        return await self.attempt(give)

    async def remove(self, mailbox: int, mark: str, folder: str = "INBOX") -> None:
        """Delete and expunge, if it is there. What is marked as deleted counts as removed (rule 10)."""
        address, inner = self._whose(mailbox, folder)
        key = (mark, address)
        marked: list[int] = []

        async def gone() -> None:
            session = await self.session(mailbox)
            uid = (await session.subjects(folder)).get(mark)
            if uid is not None and not marked:
                if not await session.mark_deleted(uid):
                    raise LookupError(mark)
                marked.append(uid)
                self.stays[key] = self.home()[key]
            if marked:
                await session.expunge(marked[0])

        if not await self.there(mailbox, mark, folder):
            return
        self.places[key] = {inner, ""}
        if await self.attempt(gone) and marked:
            self.taken_away(key)

    async def popped(self, mailbox: int, mark: str) -> None:
        """Fetched and deleted by a POP client, if it is there."""
        key = (mark, MAILBOXES[mailbox])
        gone: list[bool] = []

        async def fetched() -> None:
            session = await self.house.dial(POP_PORT, POP())
            try:
                await session.greeted(MAILBOXES[mailbox])
                number = (await session.subjects()).get(mark)
                if number is not None:
                    self.places[key] = {"INBOX", ""}
                    await session.command(f"DELE {number}")
                await session.command("QUIT")
                gone.append(number is not None)
            finally:
                session.close()

        if await self.attempt(fetched) and any(gone):
            self.taken_away(key)

    async def move(self, mailbox: int, mark: str, source: str, target: str) -> None:
        """Move it, if it is there; into another's folder as well, where both may have it unless it was said that it went."""
        whose, there = self._whose(mailbox, source)
        target_whose, goal = self._whose(mailbox, target)
        key, new = (mark, whose), (mark, target_whose)

        async def moved() -> None:
            session = await self.session(mailbox)
            uid = (await session.subjects(source)).get(mark)
            if uid is not None:
                if not await session.put(uid, target, away=True):
                    raise LookupError(mark)
            elif mark not in await session.subjects(target):
                raise LookupError(mark)

        if not await self.there(mailbox, mark, source):
            return
        if whose == target_whose:
            self.places[key] = {there, goal}
            if await self.attempt(moved):
                self.places[key] = {goal}
            return
        self.places[key] = {there, ""}
        self.carried.add(mark)
        if await self.attempt(moved):
            self.places[new] = {goal}
            self.taken_away(key)

    async def flag(self, mailbox: int, mark: str, *flags: str) -> None:
        """Somebody reads it in INBOX, say."""
        done: list[bool] = []

        async def store() -> None:
            session = await self.session(mailbox)
            uid = (await session.subjects("INBOX")).get(mark)
            if uid is not None:
                await session.command(f"UID STORE {uid} +FLAGS ({' '.join(flags)})")
                done.append(True)

        if await self.attempt(store) and done:
            self.flagged[mark] = set(flags)

    async def there(self, mailbox: int, mark: str, folder: str) -> bool:
        """Whether somebody sees it there."""
        seen: list[bool] = []

        async def look() -> None:
            seen.append(mark in await (await self.session(mailbox)).subjects(folder))

        await self.attempt(look)
        return any(seen)

    def taken_away(self, key: tuple[str, str]) -> None:
        """It was removed, and whoever did it was told so."""
        self.places[key] = {""}
        self.removed[key] = self.stays.get(key, self.home()[key])

    async def copy(self, mailbox: int, mark: str, source: str, target: str) -> None:
        """A second copy that is wanted."""

        async def copied() -> None:
            session = await self.session(mailbox)
            if mark not in await session.subjects(target):
                uid = (await session.subjects(source)).get(mark)
                if uid is not None and not await session.put(uid, target, away=False):
                    raise LookupError(mark)

        self.copied.add((mark, self._whose(mailbox, target)[0]))
        if self._whose(mailbox, source)[0] != self._whose(mailbox, target)[0]:
            self.carried.add(mark)
        await self.attempt(copied)

    async def appended(self, mailbox: int, mark: str, target: str) -> None:
        """Somebody files a message."""
        key = (mark, MAILBOXES[mailbox])

        async def put() -> None:
            await (await self.session(mailbox)).append(target, f"From: me\r\nSubject: {mark}\r\n\r\nA draft.\r\n".encode())

        self.places[key] = {target, ""}
        if await self.attempt(put):
            self.places[key] = {target}

    async def made(self, mailbox: int, name: str) -> bool:
        """A folder, if there is none of that name."""

        async def make() -> None:
            session = await self.session(mailbox)
            if name not in await session.folders():
                await session.command(f'CREATE "{name}"')

        return await self.attempt(make)

    async def renamed(self, mailbox: int, old: str, new: str) -> bool:
        """All in it has moved."""

        async def rename() -> None:
            session = await self.session(mailbox)
            names = await session.folders()
            if old in names and new not in names:
                await session.command(f'RENAME "{old}" "{new}"')

        return await self._folder(MAILBOXES[mailbox], old, new, rename)

    async def dropped(self, mailbox: int, name: str) -> bool:
        """A folder, and all in it."""

        async def drop() -> None:
            session = await self.session(mailbox)
            if name in await session.folders():
                await session.command(f'DELETE "{name}"')

        return await self._folder(MAILBOXES[mailbox], name, "", drop)

    async def _folder(self, address: str, old: str, new: str, change: Callable[[], Awaitable[object]]) -> bool:
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

    async def staged(self, mark: str, *, retention_days: int, age: float = 0.0) -> None:
        """A feed brings a mail, ``age`` seconds old, until it is taken; each time the same one."""
        archives = self.house.archive
        number = 1000 + len(self.feeds)
        what = item(number, received=self.house.reactor.seconds() - age, retention_days=retention_days)
        self.feeds.add(mark)

        async def put() -> None:
            await archives.stage(what, BytesBody(mail(mark)))

        if await self.attempt(put):
            self.archived.add(mark)

    async def sealed(self) -> bool:
        """What was taken is on the medium."""
        taken, gone = set(self.archived), set(self.expired)
        done = await self.attempt(lambda: self.house.archive.flush(seal=True))
        if done:
            self.on_medium |= taken
            self.gone_from_medium |= gone
        return done

    async def deleted(self, mark: str) -> None:
        """Somebody who may has it deleted, if it is found."""
        gone: list[int] = []

        async def go() -> None:
            found = await self.house.archive.search(AUDITOR, "", limit=500)
            numbers = [hit.id for hit in found.results if hit.subject == mark]
            if numbers:
                gone.extend((await self.house.archive.keeping.delete(1, numbers, "admin@example.test", "asked for")).removed)

        self.perhaps_expired.add(mark)
        if await self.attempt(go) and gone:
            self.expired.add(mark)

    async def backed_up(self, name: str, value: str) -> None:
        """A backup by the job of that name. ``value``: a setting that it holds if it went through."""
        house = self.house
        self.values.append(value)
        if not await self.attempt(lambda: house.settings.set_setting("story", value)):
            return
        taken, gone = set(self.archived), set(self.expired)

        if await self.attempt(lambda: self.ran(name)):
            self.safe = value
            self.on_medium |= taken
            self.gone_from_medium |= gone

    async def ran(self, name: str) -> None:
        """A job, now, to its end. Raises what it failed with."""
        house = self.house
        house.jobs.run(name)
        await house.pause(1.0)

        def over() -> bool:
            """Not of the run before, while this one waits for another job."""
            return not house.jobs.waits(name) and house.jobs.view(name).result in (Result.OK, Result.FAILED)

        if not await house.until(over, 7200.0, name):
            self.never.append(f"the job {name} ends")
        if house.jobs.view(name).result is not Result.OK:
            raise RuntimeError(house.jobs.view(name).detail)

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
        """Copies at the primary by mark and recipient, those that came into INBOX by IMAP among them."""
        found: Counter[tuple[str, str]] = Counter()
        if self.house.offered is not None:
            for (mark, address, folder), count in self.house.offered.copies().items():
                if folder == "INBOX":
                    found[mark, address] += count
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
