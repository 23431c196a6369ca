"""The page of a restore (A11): where from, with which key, which backup, how far it is. It stands beside the site and needs none of its rooms."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

import jinja2
from klein import Klein
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from werkzeug.exceptions import HTTPException

from hornetmail.interfaces.restoring import Found, IRestoring, RestoreRefused, RestoreSource, RestoreState
from hornetmail.web import security
from hornetmail.web.api.operations import ApiError
from hornetmail.web.render import Asset, load_assets
from hornetmail.web.visit import Form, read_form

_COOKIE = "hornetmail-restore"

LARGEST = 1 << 20
"""Bytes of a form."""


class RestorePages:
    """``secure``: whether a request came over TLS; ``may_send``: whether it may carry passwords."""

    def __init__(self, restoring: IRestoring, secure: Callable[[Any], bool], may_send: Callable[[Any], bool]) -> None:
        self._restoring: Any = restoring
        self._secure = secure
        self._may_send = may_send
        self._assets: dict[str, Asset] = load_assets()
        templates = resources.files("hornetmail.web").joinpath("templates")
        environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
        self._page = environment.from_string(templates.joinpath("restore.html").read_text())

    def resource(self, alone: bool = False) -> IResource:
        """For ``/restore``; ``alone``: all that there is, while nothing else runs."""
        app = Klein()
        app.route("/restore", methods=["GET", "HEAD"], endpoint="show")(self._show)
        app.route("/restore", methods=["POST"], endpoint="take")(self._take)
        app.route("/restore/state", methods=["GET"], endpoint="state")(self._state)
        if alone:
            app.route("/static/<name>", methods=["GET"], endpoint="static")(self._static)
            app.route("/healthz", methods=["GET"], endpoint="healthz")(self._unwell)
            app.handle_errors(HTTPException)(self._elsewhere)
        made: IResource = app.resource()
        return made

    def _show(self, request: IRequest) -> bytes:
        return self._shown(request)

    def _knows(self, request: Any) -> bool:
        """Whether this browser brought the token before: what is restored is nobody else's business."""
        given = (request.getCookie(_COOKIE.encode()) or b"").decode("ascii", "replace")
        return bool(given) and bool(self._restoring.trusts(given))

    async def _take(self, request: Any) -> bytes:
        if not self._may_send(request):
            return self._shown(request, status=403)
        body = request.content.read(LARGEST + 1)
        try:
            if len(body) > LARGEST:
                raise ApiError(413, "invalid", "that is too much for a form")
            form = read_form((request.getHeader(b"content-type") or b"").decode("latin-1"), body)
        except ApiError as error:
            return self._shown(request, error.text, status=error.status)
        if not self._restoring.trusts(form.get("token")):
            return self._shown(request, "That is not the token that stands in the log.", form, status=403)
        cookie = security.cookie_header(security.Cookie(_COOKIE, form.text("token")), "/", self._secure(request))
        request.responseHeaders.addRawHeader(b"Set-Cookie", cookie.encode())
        try:
            if form.get("action") == "begin":
                await self._restoring.begin(form.text("backup"))
                return self._shown(request, form=form)
            return self._shown(request, form=form, found=await self._restoring.look(_source(form)))
        except RestoreRefused as error:
            return self._shown(request, str(error), form, status=409)

    def _shown(
        self, request: Any, problem: str = "", form: Form | None = None, found: Found | None = None, status: int = 200
    ) -> bytes:
        state = self._restoring.state
        if form is None and not self._knows(request):
            state = RestoreState(state.phase)
        host = (request.getHeader(b"host") or b"").decode("latin-1")
        text = self._page.render(
            open=self._may_send(request),
            encrypted=security.encrypted_address(host, "/restore"),
            state=state,
            problem=problem or state.problem,
            given=form or Form(),
            found=found,
            static={name: f"static/{name}?v={asset.version}" for name, asset in self._assets.items()},
        )
        return self._answer(request, text.encode(), "text/html; charset=utf-8", status)

    def _state(self, request: IRequest) -> bytes:
        state = self._restoring.state
        if not self._knows(request):
            state = RestoreState(state.phase)
        said = {"phase": state.phase, "lines": state.lines, "problem": state.problem}
        return self._answer(request, json.dumps(said).encode(), "application/json")

    def _static(self, request: IRequest, name: str) -> bytes:
        asset = self._assets.get(name)
        if asset is None:
            return self._answer(request, b"no such file\n", "text/plain", 404)
        return self._answer(request, asset.body, asset.content_type)

    def _unwell(self, request: IRequest) -> bytes:
        return self._answer(request, b"a backup is being restored\n", "text/plain", 503)

    def _elsewhere(self, request: Any, failure: Any) -> bytes:
        request.setHeader(b"Location", b"/restore")
        return self._answer(request, b"", "text/plain", 303)

    def _answer(self, request: Any, body: bytes, content_type: str, status: int = 200) -> bytes:
        request.setResponseCode(status)
        for name, value in security.safe_headers(security.PAGE_POLICY, secure=self._secure(request)):
            request.setHeader(name.encode(), value.encode())
        request.setHeader(b"Content-Type", content_type.encode())
        request.setHeader(b"Content-Length", b"%d" % len(body))
        return b"" if request.method == b"HEAD" else body


def _source(form: Form) -> RestoreSource:
    kind, user = form.get("kind"), form.text("user")
    options: Mapping[str, object] = {}
    if kind == "smb":
        options = {"user": user, "domain": form.text("domain")}
    elif kind == "s3":
        options = {"key_id": user, "region": form.text("region"), "style": "virtual" if form.get("style") == "virtual" else ""}
    given = {name: value for name, value in options.items() if value}
    secret = form.get("secret") if kind != "directory" else ""
    numbers = form.text("without").replace(",", " ").split()
    if not all(number.isascii() and number.isdigit() for number in numbers):
        raise RestoreRefused("media to leave out are told by their numbers, as in 1, 3")
    without = tuple(int(number) for number in numbers)
    return RestoreSource(
        kind, form.text("place"), given, secret, form.get("text"), form.get("password"), without, bool(form.get("lost"))
    )
