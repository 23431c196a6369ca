"""A directory, log-ins and sessions in memory, and the site on them, for tests of the pages."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from treq.testing import StubTreq
from twisted.internet.task import Clock

from hornetmail.access import rights
from hornetmail.access.login import AccessRefused
from hornetmail.access.sessions import Session, csrf_token
from hornetmail.core.archive.stamps import AUTHORITIES
from hornetmail.core.served import Domain, Host, Mailbox, MailServer, Person, Role, Scope
from hornetmail.directory.store import Credential
from hornetmail.testing.folders import MemoryBus
from hornetmail.testing.memory_directory import MemoryDirectory
from hornetmail.testing.retention import MemoryRetention
from hornetmail.testing.rooms import (
    MemoryArchive,
    MemoryExpiry,
    MemoryMedia,
    MemoryModes,
    MemoryPortal,
    MemoryQueue,
    MemoryRedelivery,
    MemoryRootKeys,
    MemoryStamps,
    MemoryStrays,
)
from hornetmail.web.api.door.api import Api
from hornetmail.web.api.door.visitors import COOKIE, Visitors
from hornetmail.web.api.rooms import Rooms
from hornetmail.web.site import Site

PASSWORD = "correct horse"
NOW = 1_790_000_000.0
ORIGIN = "http://mail.example.test"


class Directory(MemoryDirectory):
    """Fixed people, all with a password."""

    def __init__(self, domains: Sequence[Domain], mailboxes: Sequence[Mailbox]) -> None:
        super().__init__(domains, mailboxes)
        self._settings: dict[str, str] = {}

    def domain_change(self, name: str, **changes: Any) -> tuple[Domain, list[Any]]:
        (domain,) = (domain for domain in self.served if domain.name == name)
        return msgspec.structs.replace(domain, **changes), []

    async def change_domain(self, name: str, **changes: Any) -> Domain:
        changed, _ = self.domain_change(name, **changes)
        self.served = [changed if domain.name == name else domain for domain in self.served]
        return changed

    def credential(self, identifier: int) -> Credential:
        return Credential("hash", changed=NOW)

    def setting(self, name: str, default: str, tenant: int = 0) -> str:
        return self._settings.get(name, default)

    async def set_setting(self, name: str, value: str, tenant: int = 0) -> None:
        self._settings[name] = value

    async def change_setting(self, name: str, change: Callable[[str], str], tenant: int = 0) -> None:
        self._settings[name] = change(self._settings.get(name, ""))


class Access:
    """One password for all; ``strangers`` and ``throttled`` are turned away."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.throttled = False
        self.to_change: set[str] = set()

    async def login(self, user: str, password: str, door: str, peer: str) -> Person:
        if self.throttled:
            raise AccessRefused("throttled", "too many attempts", 60.0)
        box = self._directory.mailbox(user)
        if box is None or password != PASSWORD:
            raise AccessRefused("credentials", "wrong address or password")
        return self.person_of(box)

    def person_of(self, box: Mailbox) -> Person:
        return Person(box.id, box.address, box.tenant, box.roles, (box.address,), box.name)

    def person(self, identifier: int) -> Person | None:
        box = self._directory.mailbox_by_id(identifier)
        return self.person_of(box) if box is not None else None

    def must_change(self, person: Person) -> bool:
        return person.address in self.to_change

    async def change_password(self, person: Person, old: str, new: str, *, door: str, peer: str, keep: str = "") -> None:
        await self.login(person.address, old, door, peer)
        self.to_change.discard(person.address)

    def scope(self, person: Person) -> Scope:
        return rights.scope(person)

    def own_scope(self, person: Person) -> Scope:
        return rights.own_scope(person)

    def suspension(self, person: Person) -> str:
        return ""


class Sessions:
    """Tokens in a dictionary."""

    def __init__(self) -> None:
        self.open: dict[str, Session] = {}
        self._numbers = itertools.count(1)

    async def create(self, person: Person, peer: str = "", agent: str = "") -> tuple[str, Session]:
        token = f"token-{next(self._numbers)}"
        session = Session(f"s{token}", person.tenant, person.mailbox, NOW, NOW, NOW + 100, peer, agent, b"")
        self.open[token] = session
        return token, session

    async def find(self, token: str) -> Session | None:
        return self.open.get(token)

    async def of(self, mailbox: int) -> Sequence[Session]:
        return [session for session in self.open.values() if session.mailbox == mailbox]

    async def revoke(self, identifier: str, mailbox: int) -> bool:
        found = [token for token, session in self.open.items() if session.id == identifier and session.mailbox == mailbox]
        for token in found:
            del self.open[token]
        return bool(found)


class Play:
    """A playground that only remembers."""

    running = True

    async def stop_primary(self) -> None:
        self.running = False

    async def start_primary(self) -> None:
        self.running = True

    async def send_samples(self, count: int) -> None:
        self.sent = count

    def last_results(self) -> Sequence[dict[str, str]]:
        return [{"to": "alice@example.test", "subject": "<b>x</b>", "reply": "250 2.0.0 ok"}]


class House:
    """The whole site with people in it; ``browser(address)`` is somebody logged in."""

    def __init__(self, *, prefix: str = "", playground: bool = False, send: bool = True, plain: bool = True) -> None:
        self.bus = MemoryBus()
        self.clock = Clock()
        self.clock.advance(NOW)
        mailboxes = [
            Mailbox(1, "admin@example.test", "example.test", roles=(Role.ADMIN,), name="Ada"),
            Mailbox(2, "alice@example.test", "example.test", name="Alice Archer"),
            Mailbox(3, "bob@example.test", "example.test", name="Bob"),
            Mailbox(4, "auditor@example.test", "example.test", roles=(Role.AUDITOR,)),
        ]
        self.directory = Directory([Domain("example.test", primaries=(Host("primary.example.test"),))], mailboxes)
        self.access = Access(self.directory)
        self.sessions = Sessions()
        self.modes = MemoryModes(self.bus, self.clock.seconds)
        self.queue = MemoryQueue()
        self.archive = MemoryArchive()
        self.redelivery = MemoryRedelivery()
        self.retention = MemoryRetention(self.clock.seconds)
        self.expiry = MemoryExpiry()
        self.root_keys = MemoryRootKeys()
        self.stamps = MemoryStamps(lambda: self.directory.setting(AUTHORITIES, ""))
        self.media = MemoryMedia()
        self.portal = MemoryPortal(self.bus)
        self.strays = MemoryStrays(self.portal, self._goal)
        self.sent: list[tuple[str, bytes, tuple[str, ...]]] = []
        parts: Any = {"directory": self.directory, "access": self.access, "sessions": self.sessions}
        rooms = Rooms(
            **parts,
            clock=self.clock,
            bus=self.bus,
            queue=self.queue,
            modes=self.modes,
            archive=self.archive,
            media=self.media,
            redelivery=self.redelivery,
            retention=self.retention,
            expiry=self.expiry,
            strays=self.strays,
            portal=self.portal,
            mail_servers=[
                MailServer("IMAP", "mx.example.test", 993, "TLS"),
                MailServer("SMTP", "mx.example.test", 587, "STARTTLS"),
            ],
            hostname="mx.example.test",
            version="1",
            root_keys=self.root_keys,
            stamps=self.stamps,
        )
        people: Any = (self.access, self.sessions)
        self.api = Api(rooms)
        self.resource = Site(
            self.api,
            Visitors(*people, plain_ok=lambda peer: plain),
            now=self.clock.seconds,
            offload=self._offload,
            submit=self._submit if send else None,
            playground=Play() if playground else None,
            prefix=prefix,
        )
        self.prefix = prefix

    def rooms_with(self, **rooms: Any) -> None:
        """Further rooms."""
        self.api.rooms = msgspec.structs.replace(self.api.rooms, **rooms)

    def _goal(self, mailbox: int) -> str:
        box = self.directory.mailbox_by_id(mailbox)
        domain = self.directory.domain(box.domain) if box is not None else None
        return box.address if box is not None and domain is not None and domain.primaries else ""

    async def _offload(self, function: Any, *args: Any) -> Any:
        return function(*args)

    async def _submit(self, person: Person, data: bytes, recipients: Sequence[str]) -> int:
        self.sent.append((person.address, data, tuple(recipients)))
        return 77

    def browser(self, address: str = "") -> Browser:
        """Somebody's browser, logged in if an address is given."""
        browser = Browser(self)
        if address:
            page = browser.get("/login")
            answer = browser.post("/login", {"user": address, "password": PASSWORD, "csrf": page.token})
            assert answer.status == 303, answer.text
        return browser


class Page:
    """An answer: ``status``, ``headers`` (lower case), ``text``, ``body``."""

    def __init__(self, status: int, headers: dict[str, list[str]], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.text = body.decode("utf-8", "replace")

    def header(self, name: str) -> str:
        return ", ".join(self.headers.get(name.lower(), []))

    @property
    def token(self) -> str:
        """The first form's CSRF token."""
        return self.text.partition('name="csrf" value="')[2].partition('"')[0]


class Browser:
    """Keeps cookies; follows nothing by itself."""

    def __init__(self, house: House) -> None:
        self._resource = house.resource
        self.cookies: dict[str, str] = {}
        self.prefix = house.prefix

    @property
    def token(self) -> str:
        """The CSRF token of the session."""
        return csrf_token(self.cookies.get(COOKIE, ""))

    def ask(self, method: str, path: str, *, data: Any = None, files: Any = None, headers: dict[str, str] | None = None) -> Page:
        """One request, answered at once."""
        sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()), **(headers or {})}
        if files is not None:
            kind, data = multipart(data, files)
            sent["Content-Type"] = kind
        treq = StubTreq(self._resource)  # a new one each time: it keeps cookies of its own
        made = treq.request(
            method,
            ORIGIN + path,
            data=data,
            headers={name.encode(): value.encode() for name, value in sent.items()},
            allow_redirects=False,
        )
        treq.flush()
        response = _now(made)
        body = _now(treq.content(response))
        found = {name.decode().lower(): [v.decode() for v in values] for name, values in response.headers.getAllRawHeaders()}
        for line in found.get("set-cookie", []):
            name, _, rest = line.partition("=")
            value = rest.partition(";")[0]
            if "Max-Age=0" in line:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return Page(response.code, found, body)

    def get(self, path: str, **headers: str) -> Page:
        """GET."""
        return self.ask("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path: str, fields: dict[str, Any], *, files: Any = None, headers: dict[str, str] | None = None) -> Page:
        """POST of a form; the session's token is added unless one is given."""
        data = {"csrf": self.token, **fields}
        return self.ask("POST", path, data=data, files=files, headers=headers)


def multipart(fields: dict[str, Any], files: Sequence[tuple[str, str, str, bytes]]) -> tuple[str, bytes]:
    """A form with files (field, name, type, bytes) as a browser sends it (RFC 7578)."""
    parts = [f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    parts += [
        f'Content-Disposition: form-data; name="{field}"; filename="{name}"\r\nContent-Type: {kind}\r\n\r\n'.encode() + content
        for field, name, kind, content in files
    ]
    body = b"".join(b"--Zq7x\r\n" + part + b"\r\n" for part in parts) + b"--Zq7x--\r\n"
    return "multipart/form-data; boundary=Zq7x", body


def _now(deferred: Any) -> Any:
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "no answer yet"
    result = results[0]
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result
