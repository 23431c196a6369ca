"""The own account, the archive key with its backup and change, and the audit log."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable, Sequence

from hornetmail.access.rights import Right
from hornetmail.web import mailview, security
from hornetmail.web.api.archive.keys import KeyBackupRequest, KeyPaper, KeyText, NewPassphrase, Unlock
from hornetmail.web.api.door.api import Api
from hornetmail.web.api.mail.homeward import HomeProgress, OwnLogin
from hornetmail.web.api.operations import ApiError
from hornetmail.web.api.people.account import PasswordChange, SessionName
from hornetmail.web.api.service.status import AuditFilter
from hornetmail.web.pages.people.directory import friendly
from hornetmail.web.render import Renderer, redirect
from hornetmail.web.visit import Answer, Form, Route, Visit

AUDIT_PAGE = 100


class AccountPages:
    """``now`` gives Unix seconds."""

    def __init__(self, api: Api, renderer: Renderer, now: Callable[[], float]) -> None:
        self._api = api
        self._renderer = renderer
        self._now = now

    def routes(self) -> Sequence[Route]:
        """Account, archive key, audit log."""
        return (
            Route("GET", "/account", Right.PERSON, self.show),
            Route("POST", "/account/password", Right.PERSON, self.password),
            Route("POST", "/account/sessions", Right.PERSON, self.end_session),
            Route("POST", "/account/home", Right.PERSON, self.home),
            Route("POST", "/account/home/forget", Right.PERSON, self.forget_home),
            Route("GET", "/archive-key", Right.OPERATE, self.key),
            Route("POST", "/archive-key", Right.OPERATE, self.backup),
            Route("POST", "/archive-key/unlock", Right.OPERATE, self.unlock),
            Route("POST", "/archive-key/passphrase", Right.OPERATE, self.passphrase),
            Route("POST", "/archive-key/page", Right.OPERATE, self.print_key),
            Route("POST", "/archive-key/new", Right.OPERATE, self.new_key),
            Route("POST", "/archive-key/confirm", Right.OPERATE, self.confirm_key),
            Route("POST", "/archive-key/cancel", Right.OPERATE, self.cancel_key),
            Route("GET", "/audit", Right.AUDIT, self.audit),
        )

    async def show(self, visit: Visit) -> Answer:
        """Who is logged in, and where."""
        return await self._account(visit)

    async def _account(self, visit: Visit, *, problem: str = "", status: int = 200) -> Answer:
        account = await self._api.call(visit.caller, "account.me")
        sessions = await self._api.call(visit.caller, "account.sessions")
        home = await self._home(visit)
        return self._renderer.page(
            visit,
            "account.html",
            status=status,
            section="/account",
            account=account,
            sessions=sessions.sessions,
            home=home,
            problem=friendly(problem),
        )

    async def password(self, visit: Visit) -> Answer:
        """Change the own password (C23)."""
        form = visit.form
        if form.get("new") != form.get("again"):
            return await self._account(visit, problem="The two new passwords differ.", status=400)
        try:
            await self._api.call(visit.caller, "account.password", PasswordChange(form.get("old"), form.get("new")))
        except ApiError as error:
            text = "The present password is wrong." if error.code == "credentials" else error.text
            return await self._account(visit, problem=text, status=400)
        text = "Your new password is in force, for mail programs too. Other browsers are logged out."
        return redirect(visit, "/" if visit.must_change else "/account", say=text)

    async def _home(self, visit: Visit) -> HomeProgress | None:
        """None for who has no mailbox, and where nothing is delivered."""
        try:
            progress: HomeProgress = await self._api.call(visit.caller, "account.home")
        except ApiError:
            return None
        return progress

    async def home(self, visit: Visit) -> Answer:
        """A password of one's own for the primary (L13)."""
        form = visit.form
        try:
            kept = await self._api.call(visit.caller, "account.home_login", OwnLogin(form.get("user"), form.get("password")))
        except ApiError as error:
            return await self._account(visit, problem=error.text, status=400)
        if kept.note:
            return redirect(visit, "/account", tone="info", say=f"It is kept, and could not be tried just now: {kept.note}")
        return redirect(visit, "/account", say="It works, and is kept. Your folders go home from now on.")

    async def forget_home(self, visit: Visit) -> Answer:
        """Deleted."""
        await self._api.call(visit.caller, "account.home_forget")
        return redirect(visit, "/account", say="That password is deleted.")

    async def end_session(self, visit: Visit) -> Answer:
        """Log out another browser."""
        try:
            await self._api.call(visit.caller, "account.revoke", SessionName(visit.form.get("id")))
        except ApiError as error:
            return redirect(visit, "/account", tone="info", say=error.text)
        return redirect(visit, "/account", say="That browser is logged out.")

    async def key(self, visit: Visit) -> Answer:
        """Says what the key is, and offers its backup (A3, A4)."""
        return await self._key(visit)

    async def _key(self, visit: Visit, *, problem: str = "", status: int = 200, paper: str = "", changed: str = "") -> Answer:
        state = await self._api.call(visit.caller, "status")
        return self._renderer.page(
            visit,
            "archive_key.html",
            status=status,
            section="/archive-key",
            archive=state.archive,
            problem=friendly(problem),
            paper=paper,
            paper_data=base64.b64encode(paper.encode()).decode(),
            changed=changed,
        )

    async def backup(self, visit: Visit) -> Answer:
        """The key as a text file under a password (A5, A6), or as a page to print (L12)."""
        form = visit.form
        if form.get("password") != form.get("again"):
            return await self._key(visit, problem="The two passwords differ.", status=400)
        try:
            made = await self._api.call(visit.caller, "key.backup", _wanted(form))
        except ApiError as error:
            return await self._key(visit, problem=error.text, status=error.status)
        if form.get("as") == "page":
            return _page(made.page)
        day = datetime.datetime.fromtimestamp(self._now(), datetime.UTC).strftime("%Y-%m-%d")
        name = f"hornetmail-archive-key-{day}.txt"
        return Answer(
            made.text.encode(),
            content_type="text/plain; charset=utf-8",
            headers=(("Content-Disposition", mailview.disposition(name)),),
            policy=security.DOWNLOAD_POLICY,
        )

    async def unlock(self, visit: Visit) -> Answer:
        """By passphrase or paper (rule 22)."""
        form = visit.form
        try:
            await self._api.call(
                visit.caller, "key.unlock", Unlock(form.get("passphrase"), form.get("text").strip(), form.get("password"))
            )
        except ApiError as error:
            return await self._key(visit, problem=error.text, status=error.status)
        return redirect(visit, "/archive-key", say="The archive is unlocked. What came meanwhile can be found within moments.")

    async def passphrase(self, visit: Visit) -> Answer:
        """Another passphrase."""
        form = visit.form
        if form.get("passphrase") != form.get("again"):
            return await self._key(visit, problem="The two passphrases differ.", status=400)
        try:
            await self._api.call(visit.caller, "key.passphrase", NewPassphrase(form.get("passphrase")))
        except ApiError as error:
            return await self._key(visit, problem=error.text, status=error.status)
        return redirect(visit, "/archive-key", say="The new passphrase is in force.")

    async def print_key(self, visit: Visit) -> Answer:
        """The page to print for a paper that was just made."""
        try:
            made = await self._api.call(visit.caller, "key.page", KeyText(visit.form.get("text")))
        except ApiError as error:
            return await self._key(visit, problem=error.text, status=error.status)
        return _page(made.page)

    async def new_key(self, visit: Visit) -> Answer:
        """A new key's paper, shown once (rule 22)."""
        form = visit.form
        if form.get("password") != form.get("again"):
            return await self._key(visit, problem="The two passwords differ.", status=400)
        try:
            made = await self._api.call(visit.caller, "key.new", _wanted(form))
        except ApiError as error:
            return await self._key(visit, problem=error.text, status=error.status)
        return await self._key(visit, paper=made.text)

    async def confirm_key(self, visit: Visit) -> Answer:
        """The paper was read back: its key comes into force."""
        try:
            done = await self._api.call(visit.caller, "key.confirm", KeyPaper(visit.form.get("text"), visit.form.get("password")))
        except ApiError as error:
            return await self._key(visit, problem=error.text, status=error.status)
        return await self._key(visit, changed=f"Key {done.key.id} is in force. {done.notice}")

    async def cancel_key(self, visit: Visit) -> Answer:
        """Drop the new key."""
        try:
            await self._api.call(visit.caller, "key.cancel")
        except ApiError as error:
            return redirect(visit, "/archive-key", tone="info", say=error.text)
        return redirect(visit, "/archive-key", say="The new key is dropped; its paper opens nothing.")

    async def audit(self, visit: Visit) -> Answer:
        """Who did what, newest first."""
        found = await self._api.call(
            visit.caller, "audit.list", AuditFilter(before=visit.query.number("before"), limit=AUDIT_PAGE)
        )
        return self._renderer.page(
            visit, "audit.html", section="/audit", entries=found.entries, full=len(found.entries) == AUDIT_PAGE
        )


def _wanted(form: Form) -> KeyBackupRequest:
    parts = max(1, form.number("parts", 1))
    return KeyBackupRequest(form.get("password"), parts, form.number("need", 1) if parts > 1 else 1)


def _page(document: str) -> Answer:
    return Answer(document.encode(), policy=security.PRINT_POLICY)
