"""The site: one Klein application, and one gate that every request passes: session, origin, right, headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from klein import Klein
from twisted.logger import Logger
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from werkzeug.exceptions import HTTPException
from zope.interface import implementer

from hornetmail.access.rights import Right
from hornetmail.access.sessions import csrf_token
from hornetmail.core.failover.mode import Mode
from hornetmail.core.mail.address import domain_of
from hornetmail.web import security
from hornetmail.web.api.archive.keys import key_backed_up, key_view
from hornetmail.web.api.door.api import Api
from hornetmail.web.api.door.visitors import Visitors
from hornetmail.web.api.operations import ApiError
from hornetmail.web.api.rooms import Rooms
from hornetmail.web.languages import Languages
from hornetmail.web.pages.archive.backups import BackupPages
from hornetmail.web.pages.archive.mails import ArchivePages
from hornetmail.web.pages.archive.media import MediaPages
from hornetmail.web.pages.archive.retention import RetentionPages
from hornetmail.web.pages.archive.stamps import StampPages
from hornetmail.web.pages.archive.statistics import StatisticsPages
from hornetmail.web.pages.mail.queue import QueuePages
from hornetmail.web.pages.mail.strays import StrayPages
from hornetmail.web.pages.people.account import AccountPages
from hornetmail.web.pages.people.approvals import ApprovalPages
from hornetmail.web.pages.people.directory import DirectoryPages
from hornetmail.web.pages.service.alarms import AlarmPages
from hornetmail.web.pages.service.dashboard import DashboardPages
from hornetmail.web.pages.service.jobs import JobPages
from hornetmail.web.pages.service.playground import PlaygroundPages
from hornetmail.web.pages.webmail.own_folders import OwnFolders
from hornetmail.web.pages.webmail.reading import MailReadPages
from hornetmail.web.pages.webmail.writing import MailWritePages
from hornetmail.web.pulse import Pulse
from hornetmail.web.render import Asset, Renderer, load_assets
from hornetmail.web.signin import SignIn
from hornetmail.web.site_tools import Offload, Submit
from hornetmail.web.visit import Answer, Asked, Form, Route, Visit, Way, read_form, read_query

SLICE = 256 * 1024
"""Forms beyond that are read in a thread."""


@implementer(IResource)
class Mounted(Resource):
    """The site at the root and, for reverse proxies that keep it, under its path prefix too (A45). ``below`` are resources by first segment."""

    isLeaf = True

    def __init__(self, prefix: str, inner: IResource, below: dict[bytes, IResource]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._prefix = [part.encode() for part in prefix.split("/") if part]
        self._inner = inner
        self._below = below

    def render(self, request: Any) -> Any:
        """Takes the prefix off and hands on."""
        length = len(self._prefix)
        if length and request.postpath[:length] == self._prefix:
            request.prepath, request.postpath = request.prepath + request.postpath[:length], request.postpath[length:]
            request.path = b"/" + b"/".join(request.path.split(b"/")[length + 1 :])
        for key, resource in self._below.items():
            segments = key.split(b"/")
            if request.postpath[: len(segments)] == segments:
                return resource.render(request)
        return self._inner.render(request)


class Gate:
    """What every request passes. ``prefix`` like ``/archive`` or ``""``; ``largest`` bytes a form may have."""

    log = Logger()

    def __init__(
        self,
        signin: SignIn,
        visitors: Visitors,
        renderer: Renderer,
        assets: dict[str, Asset],
        offload: Offload,
        *,
        prefix: str = "",
        largest: int = 48 << 20,
    ) -> None:
        self._signin = signin
        self._visitors = visitors
        self._renderer = renderer
        self._assets = assets
        self._offload = offload
        self._prefix = prefix
        self._largest = largest

    def klein(self, routes: Sequence[Route]) -> Klein:
        """A Klein application that serves these routes and the static files; whatever is not there gets a page that says so."""
        app = Klein()
        for number, route in enumerate(routes):
            methods = ["GET", "HEAD"] if route.method == "GET" else [route.method]
            app.route(route.path, methods=methods, endpoint=f"page{number}")(self._serve(route))
        app.route("/static/<name>", methods=["GET", "HEAD"], endpoint="static")(self._static)
        app.handle_errors(HTTPException)(self._unrouted)
        return app

    def _serve(self, route: Route) -> Callable[..., Awaitable[bytes]]:
        async def serve(request: IRequest, **keywords: Any) -> bytes:
            visit = await self._visit(request)
            try:
                answer = await self._answer(request, visit, route, keywords)
            except ApiError as error:
                answer = self._refuse(visit, error)
            except Exception:  # noqa: BLE001 - the visitor gets a page, the log the reason
                self.log.failure("page {path} failed", path=visit.path)
                answer = self._refuse(visit, ApiError(500, "failed", "Something went wrong on our side. The log has the reason."))
            return self._write(request, visit, answer)

        return serve

    async def _visit(self, request: Any) -> Visit:
        cookies = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.received_cookies.items()}
        headers = {
            name: (request.getHeader(name.encode()) or b"").decode("latin-1")
            for name in ("accept-language", "user-agent", "origin", "sec-fetch-site", "host", "content-type")
        }
        caller, must_change, secret = await self._signin.recognise(cookies, self._visitors.peer(request))
        asked = Asked(unquote(request.path.decode("latin-1")), cookies, headers)
        way = Way(self._prefix, self._visitors.secure(request), self._visitors.may_send_password(request))
        return Visit(asked, way, caller, csrf_token(secret) if secret else "", must_change)

    async def _answer(self, request: Any, visit: Visit, route: Route, keywords: dict[str, Any]) -> Answer:
        visit.query = read_query(request.uri.decode("latin-1").partition("?")[2])
        if route.method == "POST":
            visit.form = await self._read(request, visit)
        if not visit.caller.may(route.right):
            if visit.caller.person is None:
                return self._signin.ask(visit, route.method == "GET")
            raise ApiError(403, "refused", "This page belongs to another role. Ask your administrator if you need it.")
        if visit.must_change and not visit.path.endswith(("/account", "/account/password", "/logout", "/theme")):
            return self._signin.make_change(visit)
        return await route.run(visit, **keywords)

    async def _read(self, request: Any, visit: Visit) -> Form:
        request.content.seek(0, 2)
        size = request.content.tell()
        request.content.seek(0)
        if size > self._largest:
            raise ApiError(413, "too_large", f"That is too large: at most {self._largest >> 20} MiB at once.")
        body = request.content.read()
        kind = visit.asked.headers["content-type"]
        form: Form = read_form(kind, body) if size <= SLICE else await self._offload(read_form, kind, body)
        secret = self._signin.secret(visit.asked.cookies)
        origin, fetch_site = visit.asked.headers["origin"], visit.asked.headers["sec-fetch-site"]
        if not security.is_ours(form.get("csrf"), secret, origin=origin, fetch_site=fetch_site, host=visit.asked.headers["host"]):
            text = "This form is no longer valid: the session ended or the page is old. Go back, reload it, and try again."
            raise ApiError(403, "form", text)
        return form

    def _refuse(self, visit: Visit, error: ApiError) -> Answer:
        if error.status == 401:
            return self._signin.ask(visit, True)
        return self._renderer.page(visit, "error.html", status=error.status, error=error)

    def _write(self, request: Any, visit: Visit, answer: Answer) -> bytes:
        request.setResponseCode(answer.status)
        for name, value in security.safe_headers(answer.policy, secure=visit.way.secure, cache=answer.cache):
            request.setHeader(name.encode(), value.encode())
        request.setHeader(b"Content-Type", answer.content_type.encode())
        for name, value in answer.headers:
            request.setHeader(name.encode(), value.encode())
        for cookie in answer.cookies:
            request.responseHeaders.addRawHeader(
                b"Set-Cookie", security.cookie_header(cookie, f"{self._prefix}/", visit.way.secure).encode()
            )
        request.setHeader(b"Content-Length", b"%d" % len(answer.body))
        return b"" if request.method == b"HEAD" else answer.body

    async def _static(self, request: Any, name: str) -> bytes:
        asset = self._assets.get(name)
        if asset is None:
            request.setResponseCode(404)
            request.setHeader(b"Content-Type", b"text/plain")
            return b"no such file\n"
        versioned = asset.version.encode() in request.args.get(b"v", ())
        cache = "public, max-age=31536000, immutable" if versioned else "no-cache"
        for header, value in security.safe_headers(security.DOWNLOAD_POLICY, secure=False, cache=cache):
            request.setHeader(header.encode(), value.encode())
        request.setHeader(b"Content-Type", asset.content_type.encode())
        request.setHeader(b"Content-Length", b"%d" % len(asset.body))
        return b"" if request.method == b"HEAD" else asset.body

    async def _unrouted(self, request: Any, failure: Any) -> bytes:
        status = failure.value.code or 500
        visit = await self._visit(request)
        text = {
            404: "There is no such page. It may have been moved, or the address was cut off.",
            405: "That cannot be done here.",
        }.get(status, "That cannot be done.")
        where = failure.value.get_headers() if status in (301, 302, 307, 308) else []
        answer = self._refuse(visit, ApiError(status, "not_found", text))
        for name, value in where:
            if name == "Location":
                answer = Answer(status=status, headers=(("Location", value),))
        return self._write(request, visit, answer)


def Site(
    api: Api,
    visitors: Visitors,
    *,
    now: Callable[[], float],
    offload: Offload,
    submit: Submit | None = None,
    playground: Any = None,
    prefix: str = "",
    below: Mapping[str, IResource] | None = None,
    restorable: Callable[[], bool] = bool,
) -> IResource:
    """The whole site as a resource. ``now`` gives Unix seconds; ``offload(function, *args)`` runs pure functions in a thread; ``submit`` takes
    what webmail sends; ``playground`` provides ``IPlayground`` where there is one; ``prefix`` is the path that a reverse proxy shows it under
    (A45). ``below`` are other resources, whole, by first path segments: ``{"api": …, "healthz": …}`` with ``HttpFace.resource()``. ``restorable``: whether
    the log-in page offers to restore a backup."""
    rooms = api.rooms
    assets = load_assets()
    prefix = "/" + prefix.strip("/") if prefix.strip("/") else ""
    renderer = Renderer(now, assets, Languages())
    renderer.hostname = rooms.hostname
    renderer.common = lambda visit: common(rooms, visit, playground is not None)
    pulse = Pulse(now)
    if rooms.bus is not None:
        pulse.listen(rooms.bus)
    signin = SignIn(rooms, renderer, restorable)
    folders = OwnFolders(rooms, offload)
    strays = StrayPages(api, renderer)
    pages: list[Any] = [
        signin,
        DashboardPages(api, renderer, pulse, now),
        AlarmPages(api, renderer),
        RetentionPages(api, renderer),
        MailReadPages(folders, renderer, offload, strays.of_message),
        MailWritePages(folders, renderer, offload, submit, now),
        ArchivePages(api, renderer, offload),
        DirectoryPages(api, renderer),
        QueuePages(api, renderer),
        strays,
        MediaPages(api, renderer),
        AccountPages(api, renderer, now),
        StampPages(api, renderer),
        ApprovalPages(api, renderer),
        BackupPages(api, renderer),
        JobPages(api, renderer),
        StatisticsPages(api, renderer),
    ]
    if playground is not None:
        pages.append(PlaygroundPages(playground, renderer))
    gate = Gate(signin, visitors, renderer, assets, offload, prefix=prefix)
    app = gate.klein([route for page in pages for route in page.routes()])
    return Mounted(prefix, app.resource(), {path.encode(): resource for path, resource in (below or {}).items()})


def _to_approve(rooms: Rooms, visit: Visit) -> int:
    """How many requests wait for just this visitor's approval (rule 15)."""
    if rooms.second is None or not visit.caller.may(Right.APPROVE):
        return 0
    found = rooms.second.open_requests(visit.person.tenant)
    return sum(not rooms.second.obstacle(visit.person, one) for one in found)


def _fresh_alarms(rooms: Rooms, visit: Visit) -> int:
    """Open alarms that nobody has acknowledged, if they are the visitor's business."""
    if rooms.alarms is None or not visit.caller.may(Right.ADMINISTER):
        return 0
    return sum(not record.acknowledged for record in rooms.alarms.standing(visit.caller.tenant))


def common(rooms: Rooms, visit: Visit, playground: bool) -> dict[str, Any]:
    """What the frame of every page shows: emergencies that concern the visitor, mail that is held, a key without a backup or in change,
    what waits for the visitor's approval, alarms, when what an emergency left in the visitor's folders goes."""
    person = visit.caller.person
    if person is None:
        return {
            "emergencies": [],
            "held": 0,
            "key_unsaved": False,
            "key": None,
            "approvals": 0,
            "alarms": 0,
            "folders_expire": 0.0,
            "playground": False,
            "here": "/",
            "section": "",
        }
    if rooms.modes is None:
        concerned = []
    elif visit.caller.may(Right.ADMINISTER):
        concerned = [domain.name for domain in rooms.directory.domains() if visit.caller.reaches(domain.tenant)]
    else:
        own = rooms.directory.domain(domain_of(person.address))
        concerned = [own.name] if own is not None else []
    keys = rooms.root_keys if visit.caller.may(Right.OPERATE) else None
    return {
        "emergencies": [name for name in concerned if rooms.modes.mode(name) is Mode.EMERGENCY],
        "held": rooms.queue.backlog(visit.caller.tenant).held if rooms.queue is not None else 0,
        "key_unsaved": keys is not None and not key_backed_up(rooms),
        "key": key_view(keys.state) if keys is not None else None,
        "approvals": _to_approve(rooms, visit),
        "alarms": _fresh_alarms(rooms, visit),
        "folders_expire": rooms.expiry.due(person.mailbox) if rooms.expiry is not None else 0.0,
        "playground": playground,
        "here": visit.path if visit.path.startswith("/") else "/",
        "section": "",
    }
