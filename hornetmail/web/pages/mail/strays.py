"""Mail without an envelope (rule 10): the list, for administrators of a domain and for everybody of the own inbox, and the choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hornetmail.access.rights import Right
from hornetmail.web.api.door.api import Api
from hornetmail.web.api.mail.strays import StrayChoice, StrayFilter, StraysChosen, StrayView
from hornetmail.web.api.operations import ApiError
from hornetmail.web.render import Renderer, redirect
from hornetmail.web.visit import Answer, Route, Visit

PAGE = 100


class StrayPages:
    """Forms over ``stray.list`` and ``stray.drain``."""

    def __init__(self, api: Api, renderer: Renderer) -> None:
        self._api = api
        self._renderer = renderer

    def routes(self) -> Sequence[Route]:
        """Both are everybody's; the operations know who may see and choose what."""
        return (
            Route("GET", "/strays", Right.PERSON, self.overview),
            Route("POST", "/strays", Right.PERSON, self.choose),
        )

    async def of_message(self, visit: Visit, folder: Any, uid: int) -> StrayView | None:
        """What the reader is told of an open message: None if it was delivered like all mail, or has nowhere to go."""
        if folder.info.name != "INBOX" or self._api.rooms.strays is None:
            return None
        wanted = StrayFilter(address=visit.person.address, uid=uid)
        try:
            found = await self._api.call(visit.caller, "stray.list", wanted)
        except ApiError:
            return None  # the message itself can be read all the same
        return found.messages[0] if found.messages else None

    async def overview(self, visit: Visit) -> Answer:
        """A page of the list."""
        query = visit.query
        administers = visit.caller.may(Right.ADMINISTER)
        address, domain = query.text("address"), query.text("domain") if administers else ""
        wanted = StrayFilter(address=address, domain="" if address else domain, limit=PAGE, after=query.get("after"))
        found = await self._api.call(visit.caller, "stray.list", wanted)
        domains = (await self._api.call(visit.caller, "domain.list")).domains if administers else []
        own = not administers or address == visit.person.address
        return self._renderer.page(
            visit,
            "strays.html",
            section="/mail" if own else "/queue",
            messages=found.messages,
            after=found.after,
            note=found.note,
            address=address or (visit.person.address if not administers else ""),
            domain=domain,
            domains=[one.name for one in domains],
            own=own,
            administers=administers,
            paged="after" in query,
        )

    async def choose(self, visit: Visit) -> Answer:
        """Those ticked, whosever they are, or all of one mailbox."""
        form = visit.form
        address, uid = form.text("address"), form.number("back")
        back: tuple[str, dict[str, Any]] = (
            ("/mail", {"uid": uid}) if uid else ("/strays", {"address": address, "domain": form.text("domain")})
        )
        wanted: dict[str, list[str]] = {}
        for value in form.all("message")[:500]:
            identifier, _, mailbox = value.partition(" ")
            wanted.setdefault(mailbox, []).append(identifier)
        everything = form.get("action") == "all" and address
        if not wanted and not everything:
            return redirect(visit, back[0], tone="info", say="Tick the messages first.", **back[1])
        choices = (
            [StrayChoice(address=address, all=True)]
            if everything
            else [StrayChoice(address=mailbox, ids=ids) for mailbox, ids in wanted.items()]
        )
        done: list[StraysChosen] = []
        try:
            for choice in choices:
                done.append(await self._api.call(visit.caller, "stray.drain", choice))
        except ApiError as error:
            return redirect(visit, back[0], tone="bad", say=error.text, **back[1])
        if uid and not any(each.waits for each in done):
            return redirect(visit, "/mail", say=said(done))  # it may have left INBOX already
        return redirect(visit, back[0], say=said(done), **back[1])


def said(done: Sequence[StraysChosen]) -> str:
    """What became of it, in a sentence."""
    count = sum(each.chosen + each.again for each in done)
    if not count:
        return "Nothing is left to choose there."
    many = "The message is" if count == 1 else f"{count} messages are"
    goals = ", ".join(each.to for each in done[:3]) + (" and others" if len(done) > 3 else "")
    if any(each.waits for each in done):
        return f"{many} chosen, to be delivered to {goals} once the mail server is back."
    return f"{many} on the way to {goals}."
