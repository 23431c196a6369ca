"""The queue: list, one message, flush, hold, release, delete, bounce."""

from __future__ import annotations

from collections.abc import Sequence

from hornetmail.access.rights import Right
from hornetmail.core.delivery.queued import DONE, RowKind, RowState
from hornetmail.web.api.door.api import Api
from hornetmail.web.api.mail.queue import QueueChange, QueueFilter, QueueMessage
from hornetmail.web.api.operations import ApiError
from hornetmail.web.render import Renderer, redirect
from hornetmail.web.visit import Answer, Route, Visit

PAGE = 100
_DONE = {
    "flush": "tried now",
    "hold": "held",
    "release": "released",
    "delete": "deleted",
    "bounce": "returned to the sender",
}


class QueuePages:
    """Forms over the queue operations."""

    def __init__(self, api: Api, renderer: Renderer) -> None:
        self._api = api
        self._renderer = renderer

    def routes(self) -> Sequence[Route]:
        """Everything under ``/queue``."""
        return (
            Route("GET", "/queue", Right.ADMINISTER, self.overview),
            Route("GET", "/queue/<number>", Right.ADMINISTER, self.show),
            Route("POST", "/queue", Right.ADMINISTER, self.change),
        )

    async def overview(self, visit: Visit) -> Answer:
        """A page of it, oldest first."""
        query = visit.query
        state = RowState(query.get("state")) if query.get("state") in list(RowState) else None
        kind = RowKind(query.get("kind")) if query.get("kind") in list(RowKind) else None
        wanted = QueueFilter(
            domain=query.text("domain"),
            state=state,
            kind=kind,
            limit=PAGE,
            after=query.get("after") if query.number("after") else "",
        )
        found = await self._api.call(visit.caller, "queue.list", wanted)
        status = await self._api.call(visit.caller, "status")
        return self._renderer.page(
            visit,
            "queue.html",
            section="/queue",
            messages=found.messages,
            after=found.after,
            figures=status.queue,
            state=state.value if state else "",
            kind=kind.value if kind else "",
            domain=query.text("domain"),
            domains=[domain.name for domain in status.domains],
            states=[one for one in RowState if one not in DONE and one is not RowState.WAITING],
        )

    async def show(self, visit: Visit, number: str) -> Answer:
        """One message with all of its recipients."""
        message = await self._api.call(visit.caller, "queue.show", QueueMessage(number))
        return self._renderer.page(visit, "queued.html", section="/queue", message=message, done={state.value for state in DONE})

    async def change(self, visit: Visit) -> Answer:
        """What a button says, to the messages ticked."""
        form = visit.form
        action, wanted = form.get("action"), form.all("message")[:500]
        if action not in _DONE:
            raise ApiError(400, "invalid", "Choose what to do with the messages.")
        if not wanted:
            return redirect(visit, "/queue", tone="info", say="Tick the messages first.")
        try:
            done = await self._api.call(visit.caller, f"queue.{action}", QueueChange(messages=wanted))
        except ApiError as error:
            return redirect(visit, "/queue", tone="bad", say=error.text)
        if not done.changed:
            return redirect(
                visit,
                "/queue",
                tone="info",
                say="Nothing was in a state for that; what is being delivered just now is left alone.",
            )
        return redirect(
            visit, "/queue", say=f"{done.changed} {'recipient' if done.changed == 1 else 'recipients'}: {_DONE[action]}."
        )
