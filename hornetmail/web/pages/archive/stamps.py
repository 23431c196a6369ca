"""Time stamps (A33, A34): how they stand, authorities, CA certificates; forms over the operations of ``web.api.archive.stamps``."""

from __future__ import annotations

from collections.abc import Sequence

from hornetmail.access.rights import Right
from hornetmail.web.api.archive.stamps import AuthorityName, AuthorityRequest, CertificateName, CertificateRequest
from hornetmail.web.api.door.api import Api
from hornetmail.web.api.operations import ApiError
from hornetmail.web.render import Renderer, redirect
from hornetmail.web.visit import Answer, Form, Route, Visit

PLACE = "/archive-stamps"


class StampPages:
    """For administrators."""

    def __init__(self, api: Api, renderer: Renderer) -> None:
        self._api = api
        self._renderer = renderer

    def routes(self) -> Sequence[Route]:
        """One page, and what can be done on it."""
        return (
            Route("GET", PLACE, Right.OPERATE, self.overview),
            Route("POST", PLACE, Right.OPERATE, self.change),
        )

    async def overview(self, visit: Visit) -> Answer:
        """The state, and both lists."""
        return await self._page(visit, visit.form)

    async def _page(self, visit: Visit, typed: Form, problem: str = "", status: int = 200) -> Answer:
        found = await self._api.call(visit.caller, "stamps.show")
        return self._renderer.page(
            visit,
            "stamps.html",
            status=status,
            section=PLACE,
            stamps=found.state,
            authorities=found.authorities,
            certificates=found.certificates,
            typed=typed,
            problem=problem,
        )

    async def change(self, visit: Visit) -> Answer:
        """Whatever button was pressed. What was typed stays if it cannot be taken."""
        form = visit.form
        try:
            say = await self._done(visit, form)
        except ApiError as error:
            if form.get("action") in ("authority", "certificate"):
                return await self._page(visit, form, error.text, 400)
            return redirect(visit, PLACE, tone="bad", say=error.text)
        return redirect(visit, PLACE, say=say)

    async def _done(self, visit: Visit, form: Form) -> str:
        action, name = form.get("action"), form.text("name")
        call = self._api.call
        if action == "stamp":
            await call(visit.caller, "archive.timestamp")
            return "Everything archived so far is stamped."
        if action == "authority":
            wanted = AuthorityRequest(
                name=name,
                url=form.text("url"),
                certificates=form.all("certificate"),
                user=form.text("user"),
                password=form.get("password") or None,
                first=form.ticked("first"),
            )
            await call(visit.caller, "authority.set", wanted)
            return f"{name} is set up. Test it."
        if action == "test":
            await call(visit.caller, "authority.test", AuthorityName(name))
            return f"{name} gave a stamp that counts."
        if action == "remove":
            await call(visit.caller, "authority.remove", AuthorityName(name))
            return f"{name} is asked no more. Its stamps stay good."
        if action == "certificate":
            files = form.files("file")
            pem = files[0].data.decode("utf-8", "replace") if files else form.get("pem")
            added = await call(visit.caller, "certificate.add", CertificateRequest(pem))
            count = len(added.fingerprints)
            return "The certificate is installed." if count == 1 else f"{count} certificates are installed."
        if action == "forget":
            await call(visit.caller, "certificate.remove", CertificateName(name))
            return "The certificate is taken out."
        raise ApiError(400, "invalid", "Nothing was chosen.")
