"""The archive's media (A7-A16): the list, and forms over the operations of ``web.api.archive.media``."""

from __future__ import annotations

from collections.abc import Sequence

from hornetmail.access.rights import Right
from hornetmail.web.api.archive.media import MediumNumber, Merge, NewMedium
from hornetmail.web.api.door.api import Api
from hornetmail.web.api.operations import ApiError
from hornetmail.web.render import Renderer, redirect
from hornetmail.web.visit import Answer, Route, Visit

_SAID = {
    "activate": "New mail goes there from now on.",
    "deactivate": "It is out of use; its mail says so when opened.",
    "use": "It is in use again.",
    "take": "This installation writes there now.",
    "test": "It could be written, read, listed and deleted from.",
}


_TYPED = ("kind", "name", "place", "user", "region", "style")


class MediaPages:
    """For administrators."""

    def __init__(self, api: Api, renderer: Renderer) -> None:
        self._api = api
        self._renderer = renderer

    def routes(self) -> Sequence[Route]:
        """One page, and what can be done on it."""
        return (
            Route("GET", "/archive/media", Right.OPERATE, self.overview),
            Route("POST", "/archive/media", Right.OPERATE, self.change),
        )

    async def overview(self, visit: Visit) -> Answer:
        """All media."""
        return await self._page(visit)

    async def _page(self, visit: Visit, problem: str = "", status: int = 200) -> Answer:
        """With a ``problem`` the form holds what was typed, but for the secret."""
        found = await self._api.call(visit.caller, "media.list")
        typed = {name: visit.form.text(name) for name in _TYPED} if problem else dict.fromkeys(_TYPED, "")
        return self._renderer.page(
            visit, "media.html", status=status, section="/archive/media", media=found.media, problem=problem, typed=typed
        )

    async def change(self, visit: Visit) -> Answer:
        """Whatever button was pressed."""
        form = visit.form
        action = form.get("action")
        try:
            if action == "add":
                added = await self._api.call(visit.caller, "media.add", self._new(visit))
                say = f"Medium {added.id} is added. New mail goes there once you activate it."
            elif action == "merge":
                wanted = Merge(ids=[form.number("id")], into=form.number("into"))
                await self._api.call(visit.caller, "media.merge", wanted)
                say = "Its mail is being moved; this page shows how far it is."
            elif action in _SAID:
                await self._api.call(visit.caller, f"media.{action}", MediumNumber(form.number("id")))
                say = _SAID[action]
            else:
                return redirect(visit, "/archive/media", tone="info", say="Nothing was chosen.")
        except ApiError as error:
            text = error.text.removeprefix("$.place: ")
            if action == "add":
                return await self._page(visit, text, error.status)
            return redirect(visit, "/archive/media", tone="bad", say=text)
        return redirect(visit, "/archive/media", say=say)

    def _new(self, visit: Visit) -> NewMedium:
        form = visit.form
        kind, user = form.get("kind"), form.text("user")
        if kind not in ("directory", "smb", "s3"):
            raise ApiError(400, "invalid", "choose the kind of medium")
        return NewMedium(
            kind=kind,  # type: ignore[arg-type]
            place=form.text("place"),
            name=form.text("name"),
            secret=form.get("secret") if kind != "directory" else "",
            user=user if kind == "smb" else "",
            key_id=user if kind == "s3" else "",
            region=form.text("region") if kind == "s3" else "",
            style="virtual" if kind == "s3" and form.get("style") == "virtual" else "",
        )
