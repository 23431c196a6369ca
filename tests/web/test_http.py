"""The HTTP face on a real socket: who is asking, what comes back, and what is refused."""

import base64
import json
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python import log as legacy
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, FileBodyProducer
from twisted.web.http_headers import Headers

from hornetmail.access.sessions import csrf_token
from hornetmail.core.events import FolderChanged, MessageAccepted, ModeChanged
from hornetmail.core.failover.mode import Mode
from hornetmail.core.served import Domain, Role
from hornetmail.testing.control import Control
from hornetmail.testing.site import ApiOnControl
from hornetmail.web.api.door.events import BEAT, THIN
from hornetmail.web.api.door.http import HttpFace, site
from hornetmail.web.api.door.visitors import Visitors

Answer = tuple[int, Any, dict[str, str]]


class _Stream(Protocol):
    """Collects what comes and tells when a text is in it."""

    def __init__(self) -> None:
        self.data = b""
        self.ended: Deferred[None] = Deferred()
        self._waiting: list[tuple[bytes, Deferred[bytes]]] = []

    def until(self, text: bytes) -> Deferred[bytes]:
        waiter: Deferred[bytes] = Deferred()
        self._waiting.append((text, waiter))
        self.dataReceived(b"")
        return waiter

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        for text, waiter in list(self._waiting):
            if text in self.data:
                self._waiting.remove((text, waiter))
                waiter.callback(self.data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)


class HttpCase(TestCase):
    """A server on loopback with alice, a user, and admin."""

    plain_ok = True
    proxies: tuple[str, ...] = ()

    async def open(self) -> ApiOnControl:
        control = await Control.open(self)
        self.rooms = ApiOnControl(control)
        await control.directory.add_domain(Domain("example.test"))
        self.alice = control.access.person_of(await control.person("alice@example.test"))
        self.admin = control.access.person_of(await control.person("admin@example.test", roles=(Role.ADMIN,)))
        visitors = Visitors(control.access, control.sessions, proxies=self.proxies, plain_ok=lambda peer: self.plain_ok)
        self.face = HttpFace(self.rooms.api, visitors, figures=lambda: b"hornetmail_up 1\n")
        port = reactor.listenTCP(0, site(self.face.resource(), reactor, most_bytes=100_000), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port
        self.agent = Agent(reactor)
        return self.rooms

    async def ask(
        self, method: str, path: str, body: Any = None, *, login: str = "", password: str = "correct horse", **headers: str
    ) -> Answer:
        answer = await self.request(method, path, body, login=login, password=password, **headers)
        stream = _Stream()
        answer.deliverBody(stream)
        await stream.ended
        data = stream.data
        found = {name.decode().lower(): values[0].decode() for name, values in answer.headers.getAllRawHeaders()}
        return answer.code, json.loads(data) if found.get("content-type") == "application/json" else data, found

    async def request(self, method: str, path: str, body: Any, *, login: str, password: str, **headers: str) -> Any:
        from io import BytesIO

        sent = Headers({name.replace("_", "-").encode(): [value.encode()] for name, value in headers.items()})
        if login:
            sent.addRawHeader(b"Authorization", b"Basic " + base64.b64encode(f"{login}:{password}".encode()))
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        producer = None if data is None else FileBodyProducer(BytesIO(data))
        return await self.agent.request(method.encode(), f"http://127.0.0.1:{self.port}{path}".encode(), sent, producer)


class TestHttp(HttpCase):
    """Requests and answers."""

    async def test_what_people_search_for_is_not_logged(self) -> None:
        """Rule 24: catches words of mail in the access log, from the address of a search or of the page before."""
        await self.open()
        lines: list[str] = []
        observer = lines.append
        legacy.addObserver(observer)
        self.addCleanup(legacy.removeObserver, observer)
        await self.ask("GET", "/api/v1/archive?query=zwetschgenmus", referer="http://127.0.0.1/archive?q=pflaumenmus&x")
        await self.ask("GET", "/healthz", user_agent="a browser?yes")
        text = "\n".join(str(line) for line in lines)
        assert '"GET /api/v1/archive? HTTP/1.1" 401' in text
        assert '"http://127.0.0.1/archive?"' in text
        assert '"a browser?yes"' in text
        assert "zwetschgenmus" not in text
        assert "pflaumenmus" not in text

    async def test_operations(self) -> None:
        """Path, query and body must each reach their fields; IDs and addresses with odd characters too."""
        await self.open()
        status, answer, headers = await self.ask(
            "POST", "/api/v1/domains", {"name": "new.test", "tls": "verify"}, login="admin@example.test"
        )
        assert (status, answer["name"], answer["tls"]) == (200, "new.test", "verify")
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        status, answer, _ = await self.ask(
            "POST", "/api/v1/mailboxes", {"address": "a/b?c%d@new.test"}, login="admin@example.test"
        )
        assert (status, answer["mailbox"]["address"]) == (200, "a/b?c%d@new.test")
        status, answer, _ = await self.ask("GET", "/api/v1/mailboxes/a%2Fb%3Fc%25d@new.test", login="admin@example.test")
        assert (status, answer["address"]) == (200, "a/b?c%d@new.test")
        status, answer, _ = await self.ask("GET", "/api/v1/mailboxes?domain=new.test", login="admin@example.test")
        assert [one["address"] for one in answer["mailboxes"]] == ["a/b?c%d@new.test"]
        status, answer, _ = await self.ask("DELETE", "/api/v1/mailboxes/a%2Fb%3Fc%25d@new.test", login="admin@example.test")
        assert (status, answer) == (200, {"changed": 1})
        self.rooms.archive.add(9_007_199_254_740_993, "x@elsewhere.test", "alice@example.test")
        status, answer, _ = await self.ask("GET", "/api/v1/archive?query=&limit=5&own=true", login="alice@example.test")
        assert (answer["total"], answer["results"][0]["id"], answer["results"][0]["from"]) == (
            1,
            "9007199254740993",
            "x@elsewhere.test",
        )
        status, data, headers = await self.ask("GET", "/api/v1/archive/9007199254740993/raw", login="alice@example.test")
        assert (status, headers["content-type"], data[:5]) == (200, "message/rfc822", b"From:")

    async def test_refusals(self) -> None:
        """Every refusal is JSON with a stable code and one line, whatever was wrong with the request."""
        await self.open()
        admin = {"login": "admin@example.test"}
        for method, path, body, headers, status, code in (
            ("GET", "/api/v1/status", None, {}, 401, "login_needed"),
            ("GET", "/api/v1/status", None, {"login": "alice@example.test"}, 403, "refused"),
            ("GET", "/api/v1/status", None, {"login": "alice@example.test", "password": "wrong"}, 401, "credentials"),
            ("GET", "/api/v1/status", None, {"Authorization": "Bearer x"}, 400, "invalid"),
            ("GET", "/api/v1/status", None, {"Authorization": "Basic !!!"}, 400, "invalid"),
            ("GET", "/api/v1/status?x=1", None, admin, 400, "invalid"),
            ("GET", "/api/v1/archive?limit=many", None, admin, 400, "invalid"),
            ("GET", "/api/v1/archive?query=%ff", None, admin, 400, "invalid"),
            ("POST", "/api/v1/domains", b"{", admin, 400, "invalid"),
            ("POST", "/api/v1/domains", b"[]", admin, 400, "invalid"),
            ("POST", "/api/v1/domains", b"\xff", admin, 400, "invalid"),
            ("PATCH", "/api/v1/domains/example.test", {"name": "other.test"}, admin, 400, "invalid"),
            ("GET", "/api/v1/domains/nowhere.test", None, admin, 404, "not_found"),
            ("GET", "/api/v1/nothing", None, admin, 404, "not_found"),
            ("GET", "/api/v1/domains/a/b/c", None, admin, 404, "not_found"),
            ("POST", "/api/v1/status", {}, admin, 405, "method"),
        ):
            got, answer, _ = await self.ask(method, path, body, **headers)  # type: ignore[arg-type]
            assert (got, answer["error"]["code"]) == (status, code), (method, path, answer)
            assert "\n" not in answer["error"]["text"]
        status, _, found = await self.ask("DELETE", "/api/v1/status", **admin)  # type: ignore[arg-type]
        assert (status, found["allow"]) == (405, "GET")

    async def test_throttled(self) -> None:
        """Guessing over HTTP is slowed down like everywhere, with a Retry-After."""
        await self.open()
        codes = [
            (await self.ask("GET", "/api/v1/account", login="alice@example.test", password=f"guess {n}"))[0] for n in range(8)
        ]
        assert codes[:5] == [401] * 5
        status, answer, headers = await self.ask("GET", "/api/v1/account", login="alice@example.test", password="guess 9")
        assert (status, answer["error"]["code"], int(headers["retry-after"]) >= 1) == (429, "throttled", True)

    async def test_sessions_need_csrf_for_writes(self) -> None:
        """A foreign page must not make a logged-in browser change anything; reading by our own scripts works with the cookie alone."""
        rooms = await self.open()
        token, _ = await rooms.rooms.sessions.create(self.admin)
        cookie = f"hornetmail={token}"
        assert (await self.ask("GET", "/api/v1/status", Cookie=cookie))[0] == 200
        status, answer, _ = await self.ask("PUT", "/api/v1/domains/example.test/mode", {"mode": "emergency"}, Cookie=cookie)
        assert (status, answer["error"]["code"], rooms.modes.asked) == (403, "csrf", [])
        wrong = csrf_token("other")
        assert (
            await self.ask("PUT", "/api/v1/domains/example.test/mode", {"mode": "emergency"}, Cookie=cookie, X_CSRF_Token=wrong)
        )[0] == 403
        status, answer, _ = await self.ask(
            "PUT", "/api/v1/domains/example.test/mode", {"mode": "emergency"}, Cookie=cookie, X_CSRF_Token=csrf_token(token)
        )
        assert (status, answer["mode"]) == (200, "emergency")
        assert (await self.ask("GET", "/api/v1/status", Cookie="hornetmail=made-up"))[0] == 401
        await rooms.rooms.directory.change_mailbox(self.admin.mailbox, enabled=False)
        assert (await self.ask("GET", "/api/v1/status", Cookie=cookie))[0] == 401

    async def test_passwords_need_tls(self) -> None:
        """Where plaintext log-in is not allowed, a password over plain HTTP must be refused before it is even checked."""
        await self.open()
        self.plain_ok = False
        status, answer, _ = await self.ask("GET", "/api/v1/account", login="alice@example.test")
        assert (status, answer["error"]["code"]) == (403, "tls_needed")

    async def test_large_bodies(self) -> None:
        """Endless requests must be cut off, announced or not."""
        await self.open()
        answer = await self.request(
            "POST", "/api/v1/domains", b"x" * 200_000, login="admin@example.test", password="correct horse"
        )
        assert answer.code == 413
        assert (await self.ask("GET", "/healthz"))[0] == 200

    async def test_health(self) -> None:
        """200 when all roles work, 503 with the reasons otherwise; no log-in needed."""
        rooms = await self.open()
        assert (await self.ask("GET", "/healthz"))[:2] == (200, {"ok": True, "reasons": {}})
        rooms.health["smtp"] = "cannot listen on tcp:25"
        assert (await self.ask("GET", "/healthz"))[:2] == (503, {"ok": False, "reasons": {"smtp": "cannot listen on tcp:25"}})

    async def test_description_and_figures(self) -> None:
        """Open to whoever writes a script, and to a Prometheus on the same machine."""
        await self.open()
        status, answer, _ = await self.ask("GET", "/api/v1/openapi.json")
        assert (status, answer["openapi"]) == (200, "3.1.0")
        status, data, headers = await self.ask("GET", "/metrics")
        assert (status, data, headers["content-type"]) == (200, b"hornetmail_up 1\n", "text/plain; version=0.0.4; charset=utf-8")


class TestProxied(HttpCase):
    """Behind a reverse proxy on loopback."""

    plain_ok = False
    proxies = ("127.0.0.0/8",)

    async def test_proxy_is_believed(self) -> None:
        """TLS and the client's address come from the proxy; what the client itself put in front of that is not believed."""
        await self.open()
        headers = {"X_Forwarded_For": "10.9.9.9, 198.51.100.7", "X_Forwarded_Proto": "https"}
        assert (await self.ask("GET", "/api/v1/account", login="alice@example.test", **headers))[0] == 200
        assert (await self.ask("GET", "/api/v1/account", login="alice@example.test", X_Forwarded_Proto="http"))[0] == 403
        for number in range(25):
            headers["X_Forwarded_For"] = f"10.9.9.{number}, 198.51.100.7"
            await self.ask("GET", "/api/v1/account", login=f"user{number}@example.test", **headers)
        status, _, _ = await self.ask("GET", "/api/v1/account", login="user99@example.test", **headers)
        assert status == 429, "all of them count for 198.51.100.7"
        assert (await self.ask("GET", "/metrics", X_Forwarded_For="198.51.100.8"))[0] == 401


class TestEvents(HttpCase):
    """Server-sent events."""

    def setUp(self) -> None:
        self.addCleanup(self.flush)

    def flush(self) -> None:
        """Under ``-b``, Twisted's cache of header names compares its own text with bytes for every chunked answer."""
        assert {warning["message"] for warning in self.flushWarnings()} <= {"Comparison between bytes and string"}

    async def stream(self, login: str) -> _Stream:
        answer = await self.request("GET", "/api/v1/events", None, login=login, password="correct horse")
        assert answer.code == 200
        assert answer.headers.getRawHeaders(b"content-type") == [b"text/event-stream"]
        stream = _Stream()
        answer.deliverBody(stream)
        self.addCleanup(lambda: stream.ended)
        self.addCleanup(lambda: stream.transport.loseConnection())
        await stream.until(b"retry: 3000\n\n")
        return stream

    async def test_events(self) -> None:
        """Administrators hear of modes and the queue, thinned out; people only of their own folders."""
        rooms = await self.open()
        admin, alice = await self.stream("admin@example.test"), await self.stream("alice@example.test")
        bus, clock = rooms.control.bus, rooms.control.clock
        for number in range(1000):
            bus.publish(MessageAccepted(number, "example.test"))
        bus.publish(ModeChanged("example.test", Mode.EMERGENCY, "health", "refused"))
        bus.publish(FolderChanged(self.alice.mailbox, "INBOX"))
        clock.advance(THIN)
        data = await admin.until(b"event: queue\ndata: {}\n\n")
        assert data.count(b"event: queue") == 1
        assert b'event: mode\ndata: {"domain":"example.test","mode":"emergency"' in data
        data = await alice.until(b'event: folder\ndata: {"folder":"INBOX"}\n\n')
        assert (b"event: mode" in data, b"event: queue" in data, b"folder" in admin.data) == (False, False, False)

    async def test_ends_with_the_log_in(self) -> None:
        """Whoever was switched off must not go on listening."""
        rooms = await self.open()
        stream = await self.stream("admin@example.test")
        rooms.control.clock.advance(BEAT)
        await stream.until(b": alive\n\n")
        await rooms.rooms.directory.change_mailbox(self.admin.mailbox, enabled=False)
        rooms.control.clock.advance(BEAT)
        await stream.ended
        assert [delayed for delayed in rooms.control.clock.getDelayedCalls() if delayed.active()] == []
