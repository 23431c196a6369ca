"""The HTTP face of the API: JSON below ``/api/v1/``, its description, health, figures and live events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any, Literal
from urllib.parse import unquote

import msgspec
from klein import Klein
from twisted.logger import Logger
from twisted.web.http import combinedLogFormatter
from twisted.web.iweb import IAccessLogFormatter
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import provider

from hornetmail.access.login import AccessRefused
from hornetmail.access.rights import Right
from hornetmail.web.api.door.api import REFUSALS, Api
from hornetmail.web.api.door.events import LiveEvents
from hornetmail.web.api.door.openapi import PREFIX, ErrorBody, Problem, describe
from hornetmail.web.api.door.visitors import Visitors
from hornetmail.web.api.operations import ApiError, Caller, Operation, Raw
from hornetmail.web.api.service.status import health

MOST_JSON = 4 << 20
"""Bytes of a JSON request."""


class HttpFace:
    """All of it as one Klein application in ``app``. ``door``: ``http``, or ``socket`` for the one in the data directory, where the caller is
    the local administrator. ``/metrics`` is open to loopback, the socket and those who administer; ``figures`` renders it (``Meters.render``)."""

    log = Logger()

    def __init__(
        self,
        api: Api,
        visitors: Visitors,
        *,
        door: Literal["http", "socket"] = "http",
        figures: Callable[[], bytes] | None = None,
    ) -> None:
        self._api = api
        self._visitors = visitors
        self._door = door
        self._figures = figures
        self._live = LiveEvents(api.rooms)
        self._document: bytes = b""
        self._routes: dict[int, list[tuple[tuple[str, ...], Operation[Any, Any]]]] = {}
        for operation in api.operations.values():
            parts = tuple(operation.path.strip("/").split("/"))
            self._routes.setdefault(len(parts), []).append((parts, operation))
        self.app = Klein()
        self.app.route("/healthz", methods=["GET", "HEAD"])(self._healthz)
        self.app.route("/metrics", methods=["GET"])(self._metrics)
        self.app.route(f"{PREFIX}/openapi.json", methods=["GET"])(self._openapi)
        self.app.route(f"{PREFIX}/events", methods=["GET"])(self._events)
        self.app.route(f"{PREFIX}/", branch=True)(self._serve)

    def resource(self) -> Resource:
        """For a ``Site``, or below another resource at any place: it goes by the request's whole path."""
        return _ByPath(self.app.resource())

    async def _healthz(self, request: Any) -> bytes:
        """200 when all roles work, 503 with reasons otherwise."""
        state = health(self._api.rooms)
        return self._json(request, state, 200 if state.ok else 503)

    async def _metrics(self, request: Any) -> bytes:
        """Prometheus text."""
        if self._figures is None:
            return self._problem(request, ApiError(404, "not_found", "no figures here"))
        if self._door == "http" and self._visitors.peer(request) not in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
            try:
                caller = await self._visitors.caller(request)
            except (ApiError, AccessRefused) as error:
                return self._problem(request, error)
            if caller.person is None or not caller.may(Right.OPERATE):
                return self._problem(request, ApiError(401, "login_needed", "an administrator's log-in, or loopback"))
        return self._whole(request, b"text/plain; version=0.0.4; charset=utf-8", self._figures())

    async def _openapi(self, request: Any) -> bytes:
        """The description of everything below ``/api/v1``."""
        if not self._document:
            self._document = msgspec.json.encode(describe(self._api.operations.values(), self._api.rooms.version))
        return self._whole(request, b"application/json", self._document)

    async def _events(self, request: Any) -> bytes | None:
        """Server-sent events: hints that something changed; the page reads anew."""
        try:
            caller = await self._caller(request)
            if caller.acting is None:
                raise ApiError(401, "login_needed", "log in first")
        except (ApiError, AccessRefused) as error:
            return self._problem(request, error)
        await self._live.serve(request, caller, lambda: self._still(request))
        return None

    async def _still(self, request: Any) -> bool:
        try:
            return (await self._caller(request)).acting is not None
        except (ApiError, AccessRefused):
            return False

    def _caller(self, request: Any) -> Awaitable[Caller]:
        return self._visitors.local_caller(request) if self._door == "socket" else self._visitors.caller(request)

    async def _serve(self, request: Any) -> bytes:
        """An operation."""
        try:
            operation, values = self._find(request)
            caller = await self._caller(request)
            answer = await self._api.call(caller, operation.name, values | self._values(request, operation))
        except (ApiError, AccessRefused) as error:
            return self._problem(request, error)
        if isinstance(answer, Raw):
            request.setHeader(b"Content-Disposition", f'attachment; filename="{answer.filename}"'.encode("ascii"))
            return self._whole(request, answer.content_type.encode("ascii"), answer.data)
        return self._json(request, answer)

    def _find(self, request: Any) -> tuple[Operation[Any, Any], dict[str, str]]:
        """The operation by method and path, with the fields in the path. Segments are decoded one by one, so that ``%2F`` stays inside."""
        raw = request.path.decode("ascii", "replace").removeprefix(PREFIX).strip("/").split("/")
        given = tuple(unquote(part) for part in raw)
        allowed: set[str] = set()
        for parts, operation in self._routes.get(len(given), ()):
            if all(part == said or part.startswith("{") for part, said in zip(parts, given, strict=True)):
                if operation.method.encode() == request.method:
                    return operation, {part[1:-1]: said for part, said in zip(parts, given, strict=True) if part.startswith("{")}
                allowed.add(operation.method)
        if allowed:
            request.setHeader(b"Allow", ", ".join(sorted(allowed)).encode())
            raise ApiError(405, "method", f"{' or '.join(sorted(allowed))} is understood here")
        raise ApiError(404, "not_found", "there is nothing here; /api/v1/openapi.json lists what there is")

    def _values(self, request: Any, operation: Operation[Any, Any]) -> dict[str, Any]:
        """The fields in query or body. A field in the path cannot be given again."""
        found: dict[str, Any]
        if operation.method in ("GET", "DELETE"):
            found = {}
            for name, values in request.args.items():
                try:
                    found[name.decode()] = values[-1].decode()
                except UnicodeDecodeError:
                    raise ApiError(400, "invalid", "the query is not UTF-8") from None
        else:
            content = request.content.read(MOST_JSON + 1)
            if len(content) > MOST_JSON:
                raise ApiError(413, "too_large", f"more than {MOST_JSON} bytes")
            try:
                decoded = msgspec.json.decode(content or b"{}")
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ApiError(400, "invalid", f"the body is not JSON: {error}") from None
            if not isinstance(decoded, dict):
                raise ApiError(400, "invalid", "$: Expected `object`")
            found = decoded
        for name in operation.in_path:
            if name in found:
                raise ApiError(400, "invalid", f"$.{name}: stands in the path already")
        return found

    def _whole(self, request: Any, content_type: bytes, data: bytes) -> bytes:
        request.setHeader(b"Content-Type", content_type)
        request.setHeader(b"Content-Length", str(len(data)).encode())
        request.setHeader(b"Cache-Control", b"no-store")
        request.setHeader(b"X-Content-Type-Options", b"nosniff")
        request.setHeader(b"Content-Security-Policy", b"default-src 'none'; frame-ancestors 'none'; sandbox")
        return data

    def _json(self, request: Any, answer: Any, status: int = 200) -> bytes:
        request.setResponseCode(status)
        return self._whole(request, b"application/json", msgspec.json.encode(answer, enc_hook=str))

    def _problem(self, request: Any, error: ApiError | AccessRefused) -> bytes:
        if isinstance(error, AccessRefused):
            if error.wait:
                request.setHeader(b"Retry-After", str(int(error.wait) + 1).encode())
            error = ApiError(REFUSALS.get(error.reason, 403), error.reason, str(error))
        if error.status == 401 and self._door == "http" and not self._visitors.token(request):
            request.setHeader(b"WWW-Authenticate", b'Basic realm="HornetMail", charset="UTF-8"')
        return self._json(request, ErrorBody(Problem(error.code, error.text)), error.status)


class _ByPath(Resource):
    """Gives Klein the whole path of a request, whatever resources it came through."""

    isLeaf = True

    def __init__(self, inner: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._inner = inner

    def render(self, request: Any) -> Any:
        """As if Klein stood at the root."""
        request.prepath, request.postpath = [], request.path.split(b"/")[1:]
        return self._inner.render(request)


class BoundedRequest(Request):
    """A request whose body stays in memory (Twisted would spool large ones to plain temporary files, against rule 24) and is bounded."""

    most_bytes = 80 << 20

    def gotLength(self, length: int | None) -> None:
        """Refuse what says that it is too large."""
        self.content = self._body = BytesIO()
        self._too_large = length is not None and length > self.most_bytes
        if self._too_large:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """Refuse what turns out to be too large."""
        if self._too_large:
            return
        if self._body.tell() + len(data) > self.most_bytes:
            self._too_large = True
            self.content = self._body = BytesIO()
            self._refuse()
            return
        self._body.write(data)

    def _refuse(self) -> None:
        transport: Any = self.channel.transport
        transport.write(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        transport.loseConnection()


class _WithoutQuery:
    """A request as the access log may show it: what people search for are words of mail (rule 24)."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.uri = _cut(request.uri)

    def getHeader(self, name: bytes) -> bytes | None:
        value: bytes | None = self._request.getHeader(name)
        return _cut(value) if value is not None and name == b"referer" else value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)


def _cut(uri: bytes) -> bytes:
    path, mark, _ = uri.partition(b"?")
    return path + mark


@provider(IAccessLogFormatter)
def access_line(timestamp: str, request: Request) -> str:
    """A line of the access log in the combined form, without the query of any address."""
    line: str = combinedLogFormatter(timestamp, _WithoutQuery(request))
    return line


def site(resource: Any, reactor: Any, *, most_bytes: int = 80 << 20, timeout: float = 60.0) -> Site:
    """A ``Site`` that bounds requests and shows no tracebacks. ``timeout``: seconds that a silent connection lasts."""
    kind = type("BoundedRequest", (BoundedRequest,), {"most_bytes": most_bytes})
    made = Site(
        resource, requestFactory=kind, timeout=timeout, reactor=reactor, parsePOSTFormSubmission=False, logFormatter=access_line
    )
    made.displayTracebacks = False
    return made
