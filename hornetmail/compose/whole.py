"""All rooms of a process, opened in the order in which they stand on one another.

Order matters (rules 3 and 10): the queue and the portal settle what a crash left claimed before anybody can log in over IMAP, POP3 or the
web; doors open last and shut first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from hornetmail.compose.doors import mail, mailboxes, site
from hornetmail.compose.doors.certificate import Certificate
from hornetmail.compose.doors.doors import Doors
from hornetmail.compose.ground.foundations import Foundations
from hornetmail.compose.ground.zone import local_zone
from hornetmail.compose.rooms.alarms import Alarms
from hornetmail.compose.rooms.people import People
from hornetmail.compose.rooms.rooms import MailRooms
from hornetmail.compose.rooms.stores import BrokenStores
from hornetmail.compose.setting_up.restoring import Restoring
from hornetmail.net.tls import ServerTLS
from hornetmail.runtime.jobs import Jobs
from hornetmail.runtime.timetable import Timetable
from hornetmail.runtime.turns import Turns

STOP_SECONDS = 1.5
"""What deliveries under way get once the doors are shut; cut off ones are made anew at the next start."""


class Whole:
    """``roles`` choose which doors open; behind them every room works, since one process owns the data directory."""

    def __init__(
        self, base: Foundations, tls: ServerTLS, roles: frozenset[str], playground: Any = None, restoring: Restoring | None = None
    ) -> None:
        self.base = base
        self.restoring = restoring
        self.playground = playground
        self.tls = tls
        self.roles = roles
        self.doors = Doors(base)
        self.certificate = Certificate(base.reactor, base.bus, tls)
        self.people: People | None = None
        self.rooms: MailRooms | None = None
        self.timetable: Timetable | None = None
        self.stores = BrokenStores(base)

    async def start(self) -> None:
        """Everything, or an exception that says what could not start."""
        base = self.base
        base.start_pool(base.threads)
        turns = Turns(base.reactor, base.meters)
        turns.start()
        base.at_close(turns.stop)
        self.people = people = await People.open(base)
        self.rooms = rooms = await MailRooms.open(base, people)
        alarms = Alarms(base, people, rooms)
        self.stores.tell = alarms.tell
        await rooms.delivery.start()
        base.at_close(lambda: rooms.delivery.stop(STOP_SECONDS))
        alarms.start()
        base.at_close(alarms.stop)
        jobs = Jobs(base.reactor, people.directory, base.bus, local_zone(os.environ), base.planned)
        pages = site.Pages(base, people, rooms, jobs, self.health, alarms, self.playground, self.restoring)
        await pages.listen_locally(self.doors)
        if "smtp" in self.roles:
            await mail.listen(base, people, rooms, self.tls, self.doors)
        if "portal" in self.roles:
            await mailboxes.listen(base, people, rooms, self.tls, self.doors)
        if "web" in self.roles:
            await pages.listen(self.tls, self.doors)
        base.at_close(self.doors.shut)
        base.jobs += self.certificate.jobs()
        self.timetable = Timetable(base.reactor, base.jobs)
        self.timetable.startService()
        base.at_close(self._stop_timetable)
        await jobs.start()
        base.at_close(jobs.stop)
        if self.restoring is not None and self.playground is None:
            self.restoring.offer(base, lambda: self._empty(people, rooms), self.still_empty, pages.restore_page)

    def _empty(self, people: People, rooms: MailRooms) -> bool:
        """Whether nobody has set anything up here, and no mail came: what is known at once."""
        return not people.directory.domains() and len(people.directory.mailboxes()) <= 1 and not rooms.queue.backlog().messages

    async def still_empty(self) -> bool:
        """The same, looked up."""
        people, rooms = self.people, self.rooms
        if people is None or rooms is None:
            return False
        figures = await rooms.archive.figures()
        return self._empty(people, rooms) and not (figures.mails or figures.staged or figures.packs or figures.locked)

    async def _stop_timetable(self) -> None:
        if self.timetable is not None:
            await self.timetable.stopService()

    async def stop(self) -> None:
        """Nothing of its own: ``Foundations.close`` closes everything in reverse order."""

    def health(self) -> Mapping[str, str]:
        """Each role that should run, with ``""`` or why it does not work; what ``/healthz`` says."""
        troubles = self.rooms.troubles() if self.rooms is not None else {"delivery": "starting"}
        troubles |= self.stores.troubles()
        return {role: troubles.get(role, "") for role in sorted(self.roles)}
