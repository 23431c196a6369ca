"""Who may go home over IMAP, and as whom: the domains' servers and people's own passwords, in ``control.db``, passwords sealed under the server key."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from hornetmail.core.delivery.filing import Form, HomeServer, WayRefused
from hornetmail.core.served import Mailbox
from hornetmail.db.pool import Database
from hornetmail.disk.seal import BrokenSeal, Seal
from hornetmail.interfaces.directory import IDirectory
from hornetmail.wire.sasl_client import Account

_NAME = re.compile(r"[^\0-\x1f\x7f]{1,320}")
_PASSWORD_BYTES = 8192


class Way(msgspec.Struct, frozen=True):
    """One mailbox's way. ``service``: the account is the domain's, for all of its mailboxes."""

    server: HomeServer
    account: Account
    service: bool


class Ways:
    """``database`` is ``control.db``. All of it is in memory: a domain or a person that has one is a few hundred bytes."""

    def __init__(self, database: Database, seal: Seal, directory: IDirectory) -> None:
        self._database = database
        self._seal = seal
        self._directory = directory
        self._servers: dict[str, tuple[HomeServer, bytes]] = {}
        self._logins: dict[int, tuple[str, bytes]] = {}
        self.version = 0
        """Grows with every change: what was refused before may be tried again."""

    async def open(self) -> None:
        """Read what there is. Raises DatabaseError."""
        self._servers, self._logins = await self._database.read(_everything)

    def domains(self) -> list[str]:
        """Those that have a server, whether or not anybody can log in there."""
        return [name for name in self._servers if self._directory.domain(name) is not None]

    def server(self, domain: str) -> HomeServer | None:
        """That of a domain."""
        found = self._servers.get(domain)
        return found[0] if found is not None else None

    def login(self, mailbox: int) -> str:
        """As whom somebody logs in with a password of his own, or ``""``."""
        found = self._logins.get(mailbox)
        return found[0] if found is not None else ""

    def way(self, mailbox: Mailbox) -> Way | None:
        """A person's own password comes before the service account. None: there is no way, or its password was sealed under another server key."""
        found = self._servers.get(mailbox.domain)
        domain = self._directory.domain(mailbox.domain)
        if found is None or domain is None or not domain.primaries:
            return None
        server, secret = found
        own = self._logins.get(mailbox.id)
        try:
            if own is not None and server.own:
                return Way(server, Account(own[0], self._opened(own[1], _login(mailbox.id, server))), False)
            if server.service:
                password = self._opened(secret, f"server {mailbox.domain}")
                if server.form is Form.STAR:
                    return Way(server, Account(f"{mailbox.address}*{server.service}", password), True)
                return Way(server, Account(server.service, password, mailbox.address), True)
        except BrokenSeal:
            return None
        return None

    def _opened(self, secret: bytes, what: str) -> str:
        return self._seal.open(secret, b"hornetmail home 1:" + what.encode()).decode()

    def _sealed(self, password: str, what: str) -> bytes:
        return self._seal.close(password.encode(), b"hornetmail home 1:" + what.encode())

    async def set_server(self, domain: str, tenant: int, server: HomeServer, password: str | None) -> None:
        """``password`` None: the one from before. Raises WayRefused."""
        before = self._servers.get(domain)
        if server.service:
            _check(server.service, password)
        same = before is not None and (before[0].service, before[0].host, before[0].tls) == (
            server.service,
            server.host,
            server.tls,
        )
        if server.service and password is None and not same:
            raise WayRefused("the password of the service account is needed, for another account, host or encryption too")
        secret = b""
        if server.service:
            secret = before[1] if password is None and before is not None else self._sealed(password or "", f"server {domain}")
        value = msgspec.json.encode(server).decode()
        sql = "INSERT INTO home_servers (domain, tenant, value, secret) VALUES (?, ?, ?, ?) ON CONFLICT (domain) DO UPDATE SET value = excluded.value, secret = excluded.secret"
        await self._database.run(_execute, sql, (domain, tenant, value, secret))
        self._servers[domain] = (server, secret)
        self.version += 1

    async def remove_server(self, domain: str) -> None:
        """The drain is as without it."""
        await self._database.run(_execute, "DELETE FROM home_servers WHERE domain = ?", (domain,))
        self._servers.pop(domain, None)
        self.version += 1

    def offered(self, mailbox: Mailbox, user: str, password: str) -> Way:
        """The way that somebody's own password would be. Raises WayRefused where the domain does not want that."""
        server = self.server(mailbox.domain)
        if server is None or not server.own:
            raise WayRefused(f"{mailbox.domain} takes no passwords of people's own for its mail server")
        _check(user, password)
        return Way(server, Account(user, password), False)

    async def set_login(self, mailbox: Mailbox, user: str, password: str) -> None:
        """Somebody's own. Raises WayRefused where the domain does not want that."""
        server = self.offered(mailbox, user, password).server
        secret = self._sealed(password, _login(mailbox.id, server))
        sql = "INSERT INTO home_logins (mailbox, tenant, login, secret) VALUES (?, ?, ?, ?) ON CONFLICT (mailbox) DO UPDATE SET login = excluded.login, secret = excluded.secret"
        await self._database.run(_execute, sql, (mailbox.id, mailbox.tenant, user, secret))
        self._logins[mailbox.id] = (user, secret)
        self.version += 1

    async def remove_login(self, mailbox: int) -> None:
        """It is deleted, not only switched off."""
        await self._database.run(_execute, "DELETE FROM home_logins WHERE mailbox = ?", (mailbox,))
        self._logins.pop(mailbox, None)
        self.version += 1


def _login(mailbox: int, server: HomeServer) -> str:
    """A password is for the host that it was given for: whoever names another one to the domain does not get it sent there."""
    return f"login {mailbox} {server.host} {server.tls.value}"


def _check(user: str, password: str | None) -> None:
    if not _NAME.fullmatch(user):
        raise WayRefused("a log-in name has 1 to 320 characters and no control characters")
    if password is not None and not (
        0 < len(password.encode()) <= _PASSWORD_BYTES and "\0" not in password and "\1" not in password
    ):
        raise WayRefused(f"a password has 1 to {_PASSWORD_BYTES} bytes and no NUL")


def _execute(cursor: Any, sql: str, values: tuple[Any, ...]) -> None:
    cursor.execute(sql, values)


def _everything(cursor: Any) -> tuple[dict[str, tuple[HomeServer, bytes]], dict[int, tuple[str, bytes]]]:
    cursor.execute("SELECT domain, value, secret FROM home_servers", ())
    servers = {
        str(name): (msgspec.json.decode(value, type=HomeServer), bytes(secret)) for name, value, secret in cursor.fetchall()
    }
    cursor.execute("SELECT mailbox, login, secret FROM home_logins", ())
    return servers, {int(number): (str(login), bytes(secret)) for number, login, secret in cursor.fetchall()}
