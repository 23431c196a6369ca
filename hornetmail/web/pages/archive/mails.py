"""The archive: search, result list, one mail, redelivery, export (C10, C15-C18, A39-A43)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from hornetmail.access.rights import Right
from hornetmail.core.served import Role
from hornetmail.web import mailview
from hornetmail.web.api.archive.guidance import GuidanceRequest, SuggestRequest
from hornetmail.web.api.archive.mails import MailName, MailView, RedeliverRequest, SearchRequest
from hornetmail.web.api.door.api import Api
from hornetmail.web.api.operations import ApiError
from hornetmail.web.mailview import disposition
from hornetmail.web.pages.webmail.reading import eml_answer, mail_answer, part_answer
from hornetmail.web.render import Renderer, redirect
from hornetmail.web.security import DOWNLOAD_POLICY
from hornetmail.web.site_tools import Offload
from hornetmail.web.visit import Answer, Route, Visit

PAGE = 50


class ArchivePages:
    """What each visitor sees follows from the operations; nothing is decided here."""

    def __init__(self, api: Api, renderer: Renderer, offload: Offload) -> None:
        self._api = api
        self._renderer = renderer
        self._offload = offload

    def routes(self) -> Sequence[Route]:
        """Everything under ``/archive``."""
        return (
            Route("GET", "/archive", Right.SEARCH, self.search),
            Route("GET", "/archive/suggest", Right.SEARCH, self.suggest),
            Route("GET", "/archive/<number>", Right.SEARCH, self.show),
            Route("GET", "/archive/<number>/html", Right.OPEN, self.html),
            Route("GET", "/archive/<number>/part", Right.OPEN, self.part),
            Route("GET", "/archive/<number>/raw", Right.OPEN, self.raw),
            Route("GET", "/archive/<number>/evidence", Right.OPEN, self.evidence),
            Route("POST", "/archive/redeliver", Right.REDELIVER, self.redeliver),
        )

    async def search(self, visit: Visit) -> Answer:
        """The newest mails, or those that a query and the filters find."""
        query = whole_query(visit)
        own = visit.query.get("own") == "1"
        problem, found, guide = "", None, None
        try:
            found = await self._api.call(
                visit.caller,
                "archive.search",
                SearchRequest(query=query, limit=PAGE, after=visit.query.get("after")[:100], own=own),
            )
            if query:
                guide = await self._api.call(visit.caller, "archive.guidance", GuidanceRequest(query=query, own=own))
        except ApiError as error:
            if error.status not in (400, 503) and error.code != "suspended":
                raise
            problem = error.text
        return self._renderer.page(
            visit,
            "archive.html",
            section="/archive",
            found=found,
            guide=guide,
            problem=problem,
            query=visit.query.text("q"),
            filters={name: visit.query.text(name) for name in ("from", "to", "after_day", "before_day", "files")},
            own=own,
            wide=sees_others(visit),
            chooses=chooses_whom(visit),
            only_headers=only_headers(visit) and not own,
            more=found.after if found is not None else "",
            paged=bool(visit.query.get("after")),
        )

    async def suggest(self, visit: Visit) -> Answer:
        """People, as JSON, while their name is typed."""
        asked = SuggestRequest(text=visit.query.text("text")[:100], own=visit.query.get("own") == "1")
        found = await self._api.call(visit.caller, "archive.suggest", asked)
        return Answer(msgspec.json.encode(found.people), content_type="application/json")

    async def _mail(self, visit: Visit, number: str) -> MailView:
        mail: MailView = await self._api.call(visit.caller, "archive.show", MailName(number))
        return mail

    async def _data(self, visit: Visit, number: str) -> bytes:
        return bytes((await self._api.call(visit.caller, "archive.export", MailName(number))).data)

    async def show(self, visit: Visit, number: str) -> Answer:
        """One mail, as far as the visitor may see it."""
        mail = await self._mail(visit, number)
        shown, problem, blocked = None, "", 0
        data = b""
        remote = visit.query.get("images") == "1"
        if mail.content:
            try:
                data = await self._data(visit, number)
                shown = await self._offload(mailview.show, data)
            except ApiError as error:
                if error.status not in (403, 503):
                    raise
                problem = error.text
        html = shown is not None and shown.html and "text" not in visit.query
        if html:
            blocked = (await self._offload(_document, data, remote)).blocked
        return self._renderer.page(
            visit,
            "archived.html",
            section="/archive",
            view=mail,
            mail=mail.mail,
            shown=shown,
            problem=problem,
            html=html,
            blocked=blocked,
            remote=remote,
            text=mailview.text_html(shown.text) if shown is not None and not html else "",
            header=mailview.header_text(data) if "header" in visit.query and data else "",
            chooses=chooses_whom(visit),
            back={name: visit.query.get(name) for name in ("q", "own")},
        )

    async def html(self, visit: Visit, number: str) -> Answer:
        """The mail's own document for the sandboxed frame."""
        data = await self._data(visit, number)
        remote = visit.query.get("images") == "1"
        return mail_answer(self._renderer, visit, await self._offload(_document, data, remote), remote)

    async def part(self, visit: Visit, number: str) -> Answer:
        """An attachment."""
        return await part_answer(self._offload, await self._data(visit, number), visit.query.number("n"))

    async def raw(self, visit: Visit, number: str) -> Answer:
        """The exact bytes as received."""
        data = await self._data(visit, number)
        shown = await self._offload(mailview.show, data)
        return eml_answer(data, shown.head.subject)

    async def evidence(self, visit: Visit, number: str) -> Answer:
        """What proves it, as a zip; who may not have it, or has to wait, is told on the mail's page."""
        try:
            made = await self._api.call(visit.caller, "archive.evidence", MailName(number))
        except ApiError as error:
            if error.status not in (403, 503):
                raise
            return redirect(visit, f"/archive/{number}", tone="info", say=error.text)
        return Answer(
            made.data,
            content_type=made.content_type,
            headers=(("Content-Disposition", disposition(made.filename)),),
            policy=DOWNLOAD_POLICY,
        )

    async def redeliver(self, visit: Visit) -> Answer:
        """One or many, to whoever they belong to or, for administrators, to whom they say. A form sent twice is done once."""
        form = visit.form
        where: dict[str, Any] = {"q": form.get("q"), "own": "1" if form.get("own") == "1" else ""}
        back = f"/archive/{form.get('back')}" if re.fullmatch(r"[0-9]{1,19}", form.get("back")) else "/archive"
        wanted = form.all("id")[:500]
        if not wanted:
            return redirect(visit, back, tone="info", say="Tick the mails first.", **where)
        try:
            done = await self._api.call(
                visit.caller,
                "archive.redeliver",
                RedeliverRequest(
                    ids=wanted,
                    to=form.text("to")[:320],
                    request=f"web-{form.get('once')[:40] or secrets.token_hex(8)}",
                    as_attachment=form.get("attached") == "1",
                ),
            )
        except ApiError as error:
            return redirect(visit, back, tone="bad", say=error.text, **where)
        went = len(wanted) - len(done.unfit)
        say = f"{f'{went} mails are' if went > 1 else 'The mail is'} on the way to {', '.join(done.to)}."
        if done.unfit:
            say += f" {len(done.unfit)} cannot travel as an attachment; mail {done.unfit[0].id}: {done.unfit[0].why}."
        return redirect(visit, back, tone="warn" if done.unfit else "ok", say=say, **where)


def _document(data: bytes, remote: bool) -> mailview.Document:
    return mailview.document(data, remote=remote)


def sees_others(visit: Visit) -> bool:
    """Whether the visitor's scope is wider than the own mail."""
    return any(visit.person.has(role) for role in (Role.ADMIN, Role.AUDITOR, Role.REVISOR))


def chooses_whom(visit: Visit) -> bool:
    """Whether the visitor may have mail of others redelivered, to whom it belongs (C16); all others get mail themselves, auditors too."""
    return visit.person.has(Role.ADMIN)


def only_headers(visit: Visit) -> bool:
    """Whether the visitor sees others' mail by its headers only (A39)."""
    return visit.person.has(Role.ADMIN) and not any(visit.person.has(role) for role in (Role.AUDITOR, Role.REVISOR))


def whole_query(visit: Visit) -> str:
    """The words typed and the filters as one query."""
    query: Any = visit.query
    terms = [query.text("q")[:1000]]
    for field, term in (("from", "from"), ("to", "to"), ("after_day", "after"), ("before_day", "before")):
        value = query.text(field)[:200].replace('"', "")
        if value:
            terms.append(f'{term}:"{value}"' if " " in value else f"{term}:{value}")
    if query.text("files"):
        terms.append("has:attachment")
    return " ".join(term for term in terms if term)
