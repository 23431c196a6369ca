"""``control.db``, and what lives in it: the directory, log-in, web sessions, the audit log."""

from __future__ import annotations

from hornetmail.access.login import Access
from hornetmail.access.passwords import Passwords
from hornetmail.access.scram import ScramSecrets
from hornetmail.access.second import SecondPerson
from hornetmail.access.sessions import Sessions
from hornetmail.compose.ground.foundations import Foundations
from hornetmail.db.pool import Database
from hornetmail.directory.schema import CONTROL
from hornetmail.directory.store import DirectoryStore
from hornetmail.runtime.audit import Audit
from hornetmail.runtime.timetable import Job


async def control_database(base: Foundations) -> Database:
    """``control.db``, keyed under the server key if it is a file."""
    return await base.database("control", CONTROL)


class People:
    """Who there is and what they may do."""

    def __init__(
        self,
        control: Database,
        directory: DirectoryStore,
        sessions: Sessions,
        access: Access,
        audit: Audit,
        second: SecondPerson,
    ) -> None:
        self.control = control
        self.directory = directory
        self.sessions = sessions
        self.access = access
        self.audit = audit
        self.second = second

    @classmethod
    async def open(cls, base: Foundations) -> People:
        """Open ``control.db``."""
        database = await control_database(base)
        hashing = base.pool("argon2", 1)
        base.start_pool(hashing)
        directory = await DirectoryStore.open(database, base.bus, base.ids)
        sessions = await Sessions.open(database, base.reactor)
        passwords = Passwords(base.reactor, hashing, ScramSecrets(base.key.derive("SCRAM")))
        access = Access(directory, passwords, sessions, base.reactor)
        base.jobs.append(Job("expired sessions", 600, sessions.expire, first=600))
        await base.alarms.open(database, lambda name: served.tenant if (served := directory.domain(name)) is not None else 1)
        base.at_close(base.alarms.write)
        audit = Audit(database, base.reactor)
        second = SecondPerson(directory, audit, base.reactor)
        base.jobs.append(Job("expired requests", 600, second.expire, first=60))
        return cls(database, directory, sessions, access, audit, second)
