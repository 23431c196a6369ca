"""Log-in and log-out, and who stands behind a request's cookie (C22)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

from hornetmail.access.login import AccessRefused
from hornetmail.access.rights import Right
from hornetmail.access.sessions import csrf_token
from hornetmail.web import security
from hornetmail.web.api.door.visitors import COOKIE
from hornetmail.web.api.operations import Caller
from hornetmail.web.api.rooms import Rooms
from hornetmail.web.render import Renderer, redirect
from hornetmail.web.security import Cookie
from hornetmail.web.visit import Answer, Route, Visit

VISITOR = "hornetmail_visitor"


class SignIn:
    """The log-in page and the session cookie. Before log-in, forms are bound to a random cookie of their own."""

    def __init__(self, rooms: Rooms, renderer: Renderer, restorable: Callable[[], bool] = bool) -> None:
        self._restorable = restorable
        self._rooms = rooms
        self._renderer = renderer

    def routes(self) -> Sequence[Route]:
        """Log-in, log-out, and light or dark."""
        return (
            Route("GET", "/login", Right.ANYBODY, self.show),
            Route("POST", "/login", Right.ANYBODY, self.login),
            Route("POST", "/logout", Right.PERSON, self.logout),
            Route("POST", "/theme", Right.ANYBODY, self.theme),
            Route("GET", "/", Right.PERSON, self.home),
        )

    def secret(self, cookies: Mapping[str, str]) -> str:
        """What this browser's forms are bound to: the session, else the visitor's cookie."""
        return cookies.get(COOKIE, "") or cookies.get(VISITOR, "")

    async def recognise(self, cookies: Mapping[str, str], peer: str) -> tuple[Caller, bool, str]:
        """The caller, whether the password must be changed first, and the secret that forms are bound to."""
        token = cookies.get(COOKIE, "")
        found = await self._rooms.sessions.find(token) if token else None
        person = self._rooms.access.person(found.mailbox) if found is not None else None
        if found is None or person is None:
            return Caller(peer=peer), False, self.secret(cookies)
        return Caller(person=person, peer=peer, session=found.id), self._rooms.access.must_change(person), token

    def ask(self, visit: Visit, come_back: bool) -> Answer:
        """To the log-in page, and back here afterwards."""
        return redirect(visit, "/login", next=visit.path if come_back and visit.path not in ("/", "/login") else "")

    def make_change(self, visit: Visit) -> Answer:
        """To the account page: the password was given by an administrator."""
        return redirect(visit, "/account", tone="warn", say="Choose a password of your own before you go on.")

    async def show(self, visit: Visit) -> Answer:
        """The log-in page."""
        if visit.caller.person is not None:
            return redirect(visit, "/")
        return self._page(visit)

    def _page(self, visit: Visit, *, status: int = 200, problem: str = "", user: str = "", wait: bool = False) -> Answer:
        cookies: tuple[Cookie, ...] = ()
        if not visit.token:
            secret = secrets.token_urlsafe(24)
            visit.token = csrf_token(secret)
            cookies = (Cookie(VISITOR, secret),)
        after = security.local_target(visit.query.get("next") or visit.form.get("next") or "/")
        restorable = self._restorable()
        page = self._renderer.page(
            visit,
            "login.html",
            status=status,
            problem=problem,
            user=user,
            wait=wait,
            after=after,
            restorable=restorable,
            encrypted=security.encrypted_address(visit.asked.headers["host"], f"{visit.way.prefix}/login"),
        )
        return Answer(page.body, page.status, cookies=(*page.cookies, *cookies))

    async def login(self, visit: Visit) -> Answer:
        """Full address and password. The same answer for an unknown address and a wrong password."""
        if not visit.way.may_send_password:
            return self._page(visit, status=403)
        user = visit.form.text("user")[:320]
        password = visit.form.get("password")
        if not user or not password:
            return self._page(visit, status=400, problem="Enter your full mail address and your password.", user=user)
        if "@" not in user:
            return self._page(
                visit, status=400, problem="The log-in is your full mail address, like name@example.com.", user=user
            )
        try:
            person = await self._rooms.access.login(user, password, "web", visit.caller.peer)
        except AccessRefused as error:
            return self._refused(visit, error.reason, user)
        token, _ = await self._rooms.sessions.create(person, visit.caller.peer, visit.asked.headers["user-agent"])
        answer = redirect(visit, "/", cookies=(Cookie(COOKIE, token), Cookie(VISITOR, "")))
        after = security.local_target(visit.form.get("next"))
        return Answer(status=303, headers=(("Location", visit.way.prefix + after),), cookies=answer.cookies)

    def _refused(self, visit: Visit, reason: str, user: str) -> Answer:
        if reason == "throttled":
            text = "Too many attempts. Wait a few minutes, then try again. Nothing is lost: mail keeps arriving meanwhile."
            return self._page(visit, status=429, problem=text, user=user, wait=True)
        if reason == "disabled":
            return self._page(visit, status=403, problem="This account is switched off. Ask your administrator.", user=user)
        return self._page(visit, status=401, problem="Address or password is wrong.", user=user)

    async def logout(self, visit: Visit) -> Answer:
        """End this session."""
        await self._rooms.sessions.revoke(visit.caller.session, visit.person.mailbox)
        return redirect(visit, "/login", say="You are logged out.", cookies=(Cookie(COOKIE, ""),))

    async def theme(self, visit: Visit) -> Answer:
        """Light, dark, or as the system has it: the next of the three (without scripts; with them it happens in the browser)."""
        following = {"": "dark", "dark": "light", "light": ""}[
            visit.asked.cookies.get("theme", "") if visit.asked.cookies.get("theme") in ("dark", "light") else ""
        ]
        back = security.local_target(visit.form.get("back") or "/")
        return Answer(
            status=303,
            headers=(("Location", visit.way.prefix + back),),
            cookies=(Cookie("theme", following, seconds=31536000, script=True),),
        )

    async def home(self, visit: Visit) -> Answer:
        """Where somebody starts: administrators at the dashboard, auditors in the archive, everybody else in the mail."""
        if visit.caller.may(Right.ADMINISTER):
            return redirect(visit, "/dashboard")
        return redirect(visit, "/archive" if visit.caller.may(Right.AUDIT) else "/mail")
