"""How long mail is kept, what would go, and legal holds (A57, A58)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hornetmail.access.rights import Right
from hornetmail.web.api.archive.retention import HoldName, HoldRequest, PreviewView, RulesRequest, RuleView
from hornetmail.web.api.door.api import Api
from hornetmail.web.api.operations import ApiError
from hornetmail.web.render import Renderer, redirect
from hornetmail.web.visit import Answer, Route, Visit

BLANK = 2
"""Empty rows behind the rules."""

_MARK = {"spam": True, "ham": False}


class RetentionPages:
    """Forms over the operations of retention."""

    def __init__(self, api: Api, renderer: Renderer) -> None:
        self._api = api
        self._renderer = renderer

    def routes(self) -> Sequence[Route]:
        """Everything under ``/retention``."""
        return (
            Route("GET", "/retention", Right.AUDIT, self.show),
            Route("POST", "/retention", Right.ADMINISTER, self.change),
            Route("POST", "/retention/preview", Right.ADMINISTER, self.preview),
            Route("POST", "/retention/hold", Right.AUDIT, self.hold),
            Route("POST", "/retention/release", Right.AUDIT, self.release),
        )

    async def show(self, visit: Visit) -> Answer:
        """Rules and holds."""
        return await self._page(visit)

    async def _page(
        self,
        visit: Visit,
        *,
        typed: list[dict[str, str]] | None = None,
        seen: PreviewView | None = None,
        problem: str = "",
        status: int = 200,
    ) -> Answer:
        administers = visit.caller.may(Right.ADMINISTER)
        state, domains = None, []
        if administers:
            state = await self._api.call(visit.caller, "archive.retention")
            domains = [one.name for one in (await self._api.call(visit.caller, "domain.list")).domains]
        rows = typed if typed is not None else [_row(rule) for rule in state.rules] if state is not None else []
        blank = {"days": "", "domain": "", "direction": "", "spam": ""}
        return self._renderer.page(
            visit,
            "retention.html",
            status=status,
            section="/retention",
            administers=administers,
            state=state,
            domains=domains,
            rows=[*rows, *[blank] * BLANK],
            seen=seen,
            holds=(await self._api.call(visit.caller, "archive.holds")).holds,
            problem=problem,
        )

    async def preview(self, visit: Visit) -> Answer:
        """The rules as typed, and what they would do; nothing changes."""
        typed = _typed(visit)
        try:
            seen = await self._api.call(visit.caller, "archive.preview_retention", _request(typed))
        except ApiError as error:
            return await self._page(visit, typed=typed, problem=_plain(error.text), status=400)
        return await self._page(visit, typed=typed, seen=seen)

    async def change(self, visit: Visit) -> Answer:
        """In force from now on."""
        typed = _typed(visit)
        try:
            await self._api.call(visit.caller, "archive.change_retention", _request(typed))
        except ApiError as error:
            return await self._page(visit, typed=typed, problem=_plain(error.text), status=400)
        say = "The rules are in force. What is due is marked tonight at 02:30, and goes a day after that."
        return redirect(visit, "/retention", say=say)

    async def hold(self, visit: Visit) -> Answer:
        """A new one, or more under the name of one."""
        form = visit.form
        ids = form.text("ids").replace(",", " ").split()
        request = HoldRequest(name=form.text("name"), query=form.text("query"), ids=ids, reason=form.text("reason"))
        try:
            done = await self._api.call(visit.caller, "archive.hold", request)
        except ApiError as error:
            return redirect(visit, "/retention", tone="bad", say=error.text)
        say = f"{done.mails} {'mail is' if done.mails == 1 else 'mails are'} new in the hold {request.name}."
        if request.query and not done.content:
            say += " Its query looks among people, dates and sizes, not at what mail says: for that an auditor holds."
        return redirect(visit, "/retention", say=say)

    async def release(self, visit: Visit) -> Answer:
        """End one."""
        try:
            await self._api.call(visit.caller, "archive.release", HoldName(visit.form.get("name")))
        except ApiError as error:
            return redirect(visit, "/retention", tone="bad", say=error.text)
        return redirect(visit, "/retention", say="The hold is released. What is due goes with the next nights.")


def _row(rule: RuleView) -> dict[str, str]:
    mark = "" if rule.spam is None else "spam" if rule.spam else "ham"
    return {"days": str(rule.days), "domain": rule.domain, "direction": rule.direction, "spam": mark}


def _typed(visit: Visit) -> list[dict[str, str]]:
    """Rows with anything in days; a row without is taken away."""
    columns = [visit.form.all(name)[:500] for name in ("days", "domain", "direction", "spam")]
    rows = zip(*columns, strict=False)
    return [
        {"days": days.strip(), "domain": domain, "direction": direction, "spam": spam}
        for days, domain, direction, spam in rows
        if days.strip()
    ]


def _request(typed: list[dict[str, str]]) -> RulesRequest:
    rules = []
    for place, row in enumerate(typed):
        if not (row["days"].isascii() and row["days"].isdigit() and len(row["days"]) < 9):
            raise ApiError(400, "invalid", f"Row {place + 1}: the days are a number.")
        spam: Any = _MARK.get(row["spam"])
        rules.append(RuleView(days=int(row["days"]), domain=row["domain"], direction=row["direction"], spam=spam))
    return RulesRequest(rules=rules)


def _plain(text: str) -> str:
    return text.removeprefix("$.rules: ")
