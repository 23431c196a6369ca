"""What waits for a second person, and the setting that makes it wait (rule 15)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from hornetmail.access.rights import Right
from hornetmail.web.api.door.api import Api
from hornetmail.web.api.operations import ApiError, Waiting
from hornetmail.web.api.people.approvals import ArchiveAccessFor, Refusal, RequestFilter, RequestName, SecondPersonChange
from hornetmail.web.render import Renderer, redirect
from hornetmail.web.visit import Answer, Route, Visit


def waits_text(waits: Iterable[Waiting]) -> str:
    """For the message after a form; ``""`` if nothing waits."""
    texts = "; ".join(one.text for one in waits)
    return f"This waits for a second person: {texts}." if texts else ""


class ApprovalPages:
    """Requests with their buttons, and the setting below them."""

    def __init__(self, api: Api, renderer: Renderer) -> None:
        self._api = api
        self._renderer = renderer

    def routes(self) -> Sequence[Route]:
        """Everything under ``/approvals``, and asking for somebody's archive access."""
        return (
            Route("GET", "/approvals", Right.APPROVE, self.show),
            Route("POST", "/approvals/setting", Right.ADMINISTER, self.setting),
            Route("POST", "/approvals/<number>/approve", Right.APPROVE, self.approve),
            Route("POST", "/approvals/<number>/refuse", Right.APPROVE, self.refuse),
            Route("POST", "/mailboxes/<address>/archive-access", Right.ADMINISTER, self.ask_archive),
        )

    async def show(self, visit: Visit) -> Answer:
        """What waits, and what was decided."""
        waiting = (await self._api.call(visit.caller, "approval.list")).requests
        newest = (await self._api.call(visit.caller, "approval.list", RequestFilter(all=True))).requests
        setting = await self._api.call(visit.caller, "second_person.show")
        return self._renderer.page(
            visit,
            "approvals.html",
            section="/approvals",
            waiting=waiting,
            decided=[one for one in newest if one.state != "waiting"],
            setting=setting,
        )

    async def approve(self, visit: Visit, number: str) -> Answer:
        """Done when the page answers."""
        try:
            done = await self._api.call(visit.caller, "approval.approve", RequestName(_number(number)))
        except ApiError as error:
            return redirect(visit, "/approvals", tone="bad", say=error.text)
        return redirect(visit, "/approvals", say=f"Approved and done: {done.text}.")

    async def refuse(self, visit: Visit, number: str) -> Answer:
        """Ended undone."""
        try:
            done = await self._api.call(
                visit.caller, "approval.refuse", Refusal(_number(number), visit.form.text("reason")[:500])
            )
        except ApiError as error:
            return redirect(visit, "/approvals", tone="bad", say=error.text)
        said = "Withdrawn" if done.state == "withdrawn" else "Refused"
        return redirect(visit, "/approvals", tone="info", say=f"{said}: {done.text}.")

    async def setting(self, visit: Visit) -> Answer:
        """On at once; off by a second person."""
        form = visit.form
        on: bool | msgspec.UnsetType = {"on": True, "off": False}.get(form.get("second"), msgspec.UNSET)
        days: int | msgspec.UnsetType = form.number("days") if form.text("days") else msgspec.UNSET
        try:
            now = await self._api.call(visit.caller, "second_person.change", SecondPersonChange(on=on, days=days))
        except ApiError as error:
            return redirect(visit, "/approvals", tone="bad", say=error.text)
        if on is False and now.on:
            return redirect(visit, "/approvals", tone="info", say=waits_text(now.waits))
        said = "A second person is required from now on." if on is True else "Saved."
        return redirect(visit, "/approvals", say=said)

    async def ask_archive(self, visit: Visit, address: str) -> Answer:
        """Ask that somebody's archive be opened again."""
        try:
            asked = await self._api.call(visit.caller, "approval.archive", ArchiveAccessFor(address))
        except ApiError as error:
            return redirect(visit, f"/mailboxes/{address}", tone="bad", say=error.text)
        said = waits_text(asked.waits)
        return redirect(visit, f"/mailboxes/{address}", tone="info" if said else "ok", say=said or "The archive is open again.")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ApiError(404, "not_found", "there is no such request")
    return int(text)
