"""``control.db`` with directory, log-in, sessions and audit log for tests, on a fresh database of either engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from twisted.internet.task import Clock
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from hornetmail.access.login import Access
from hornetmail.access.passwords import Passwords
from hornetmail.access.scram import ScramSecrets
from hornetmail.access.second import SecondPerson
from hornetmail.access.sessions import Sessions
from hornetmail.core.ids import IdSource
from hornetmail.core.served import Mailbox, Role
from hornetmail.db.pool import Database
from hornetmail.directory.schema import CONTROL
from hornetmail.directory.store import DirectoryStore
from hornetmail.interfaces.bus import IBus
from hornetmail.runtime.audit import Audit
from hornetmail.testing.databases import fresh_url

NOW = 1_800_000_000.0


@implementer(IBus)
class ListeningBus:
    """Calls subscribers at once and keeps what was published."""

    def __init__(self) -> None:
        self.published: list[Any] = []
        self._listeners: list[tuple[type, Callable[[Any], Any]]] = []

    def publish(self, event: Any) -> None:
        """Call and keep."""
        self.published.append(event)
        for kind, listener in list(self._listeners):
            if isinstance(event, kind):
                listener(event)

    def subscribe(self, kind: type, listener: Callable[[Any], Any]) -> Callable[[], None]:
        """Until the answer is called."""
        entry = (kind, listener)
        self._listeners.append(entry)
        return lambda: self._listeners.remove(entry)


class Control:
    """Everything on ``control.db``. ``reactor`` is the real one, since SQL and argon2 run in threads; ``clock`` is turned by the test."""

    reactor: Any
    url: str
    database: Database
    directory: DirectoryStore
    passwords: Passwords
    sessions: Sessions
    access: Access
    audit: Audit
    second: SecondPerson

    def __init__(self, now: float = NOW) -> None:
        self.clock = Clock()
        self.clock.advance(now)
        self.bus = ListeningBus()

    @classmethod
    async def open(cls, test: TestCase, engine: str = "sqlite", *, queue: int = 64, now: float = NOW) -> Control:
        """A fresh one, closed when the test ends. Passwords are hashed with cheap parameters."""
        from twisted.internet import reactor  # noqa: TID251 - SQL and argon2 need the real one

        self = cls(now)
        self.reactor = reactor
        stack = ExitStack()
        test.addCleanup(stack.close)
        self.url = stack.enter_context(fresh_url(engine))
        pool = ThreadPool(1, 1, name="passwords")
        pool.start()
        test.addCleanup(pool.stop)
        self.passwords = Passwords(reactor, pool, ScramSecrets(bytes(32), 4096), memory_kib=16, time_cost=1, queue=queue)
        await self.reopen(test)
        return self

    async def reopen(self, test: TestCase) -> None:
        """As after a restart of the process: everything in memory is gone."""
        self.database = await Database.open(self.reactor, self.url, CONTROL)
        test.addCleanup(self.database.close)
        self.directory = await DirectoryStore.open(self.database, self.bus, IdSource(self.clock.seconds))
        self.sessions = await Sessions.open(self.database, self.clock)
        self.access = Access(self.directory, self.passwords, self.sessions, self.clock)
        self.audit = Audit(self.database, self.clock)
        self.second = SecondPerson(self.directory, self.audit, self.clock)

    async def person(self, address: str, password: str = "correct horse", roles: tuple[Role, ...] = ()) -> Mailbox:
        """Register a mailbox with a password."""
        secret = await self.access.new_secret(password)
        return await self.directory.add_mailbox(address, credential=secret.credential, roles=roles)
