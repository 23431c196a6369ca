"""Domains and mailboxes: list, add, change, remove, passwords, roles (C11, C12, C23, A39-A42)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hornetmail.access.rights import Right
from hornetmail.core.delivery.filing import Form as HomeForm
from hornetmail.core.served import Coverage, Failover, OverQuota, PortalOn, Role, TLSPolicy
from hornetmail.web.api.door.api import Api
from hornetmail.web.api.mail.domains import DomainAdd, DomainChange, DomainName
from hornetmail.web.api.mail.homeward import HomeSet, HomeTest, HomeView
from hornetmail.web.api.operations import ApiError
from hornetmail.web.api.people.mailboxes import MailboxAdd, MailboxChange, MailboxFilter, MailboxName, MailboxPassword
from hornetmail.web.pages.people.approvals import waits_text
from hornetmail.web.render import Renderer, redirect
from hornetmail.web.visit import Answer, Form, Route, Visit

PAGE = 100

SHOWN = 12
"""Decisions about the mode, on a domain's page."""


class DirectoryPages:
    """Forms over the domain and mailbox operations."""

    def __init__(self, api: Api, renderer: Renderer) -> None:
        self._api = api
        self._renderer = renderer

    def routes(self) -> Sequence[Route]:
        """Everything under ``/domains`` and ``/mailboxes`` but the mode."""
        right = Right.ADMINISTER
        return (
            Route("GET", "/domains", right, self.domains),
            Route("GET", "/domains/new", right, self.new_domain),
            Route("POST", "/domains/new", right, self.add_domain),
            Route("GET", "/domains/<name>", right, self.domain),
            Route("POST", "/domains/<name>", right, self.change_domain),
            Route("POST", "/domains/<name>/remove", right, self.remove_domain),
            Route("POST", "/domains/<name>/home", right, self.change_home),
            Route("GET", "/mailboxes", right, self.mailboxes),
            Route("GET", "/mailboxes/new", right, self.new_mailbox),
            Route("POST", "/mailboxes/new", right, self.add_mailbox),
            Route("GET", "/mailboxes/<address>", right, self.mailbox),
            Route("POST", "/mailboxes/<address>", right, self.change_mailbox),
            Route("POST", "/mailboxes/<address>/password", right, self.password),
            Route("POST", "/mailboxes/<address>/remove", right, self.remove_mailbox),
        )

    # --- domains

    async def domains(self, visit: Visit) -> Answer:
        """The list."""
        found = await self._api.call(visit.caller, "domain.list")
        return self._renderer.page(visit, "domains.html", section="/domains", domains=found.domains)

    async def new_domain(self, visit: Visit) -> Answer:
        """An empty form."""
        return self._domain_form(visit, None, visit.form)

    def _domain_form(
        self, visit: Visit, domain: Any, form: Form, *, problem: str = "", status: int = 200, boxes: int = 0, home: Any = None
    ) -> Answer:
        typed = form if "csrf" in form else None
        return self._renderer.page(
            visit,
            "domain.html",
            status=status,
            section="/domains",
            domain=domain,
            typed=typed,
            problem=friendly(problem),
            boxes=boxes,
            home=home,
            decisions=domain.explanation.get("decisions", ())[: -SHOWN - 1 : -1] if domain is not None else [],
        )

    async def add_domain(self, visit: Visit) -> Answer:
        """In force at once."""
        form = visit.form
        try:
            added = await self._api.call(visit.caller, "domain.add", DomainAdd(name=form.text("name"), **_domain_fields(form)))
        except ApiError as error:
            return self._domain_form(visit, None, form, problem=error.text, status=400)
        return redirect(visit, f"/domains/{added.name}", say=f"{added.name} is served now. Point its MX record here.")

    async def domain(self, visit: Visit, name: str) -> Answer:
        """One, with its settings."""
        domain = await self._api.call(visit.caller, "domain.show", DomainName(name))
        return self._domain_form(visit, domain, visit.form, home=await self._home(visit, domain))

    async def _home(self, visit: Visit, domain: Any) -> HomeView | None:
        """How mail goes home by IMAP; None where there is nothing to set: no primary, or nothing is delivered here."""
        if not domain.primaries:
            return None
        try:
            home: HomeView = await self._api.call(visit.caller, "home.show", DomainName(domain.name))
        except ApiError:
            return None
        return home

    async def change_home(self, visit: Visit, name: str) -> Answer:
        """The primary's IMAP (L13), and the button that tries it."""
        form, page = visit.form, f"/domains/{name}"
        try:
            if not form.text("host"):
                await self._api.call(visit.caller, "home.remove", DomainName(name))
                return redirect(visit, page, say="Saved. All mail goes home by SMTP.")
            wanted = HomeSet(
                name=name,
                host=form.text("host"),
                tls=TLSPolicy(form.get("tls") or "verify"),
                service=form.text("service"),
                password=form.get("password"),
                form=HomeForm(form.get("form") or "authzid"),
                own="own" in form,
            )
            await self._api.call(visit.caller, "home.set", wanted)
            if not form.get("test"):
                return redirect(visit, page, say="Saved. The new settings are in force.")
            found = await self._api.call(visit.caller, "home.test", HomeTest(address=form.text("address")))
        except ValueError:
            return redirect(visit, page, tone="bad", say="That cannot be chosen.")
        except ApiError as error:
            return redirect(visit, page, tone="bad", say=error.text)
        return redirect(visit, page, say=f"Saved, and it works: {len(found.folders)} folders were found.")

    async def change_domain(self, visit: Visit, name: str) -> Answer:
        """Settings, in force at once."""
        try:
            changed = await self._api.call(visit.caller, "domain.change", DomainChange(name=name, **_domain_fields(visit.form)))
        except ApiError as error:
            domain = await self._api.call(visit.caller, "domain.show", DomainName(name))
            return self._domain_form(visit, domain, visit.form, problem=error.text, status=400)
        if changed.waits:
            return redirect(visit, f"/domains/{name}", tone="info", say=f"Saved. {waits_text(changed.waits)}")
        return redirect(visit, f"/domains/{name}", say="Saved. The new settings are in force.")

    async def remove_domain(self, visit: Visit, name: str) -> Answer:
        """Refused while it has mailboxes."""
        try:
            await self._api.call(visit.caller, "domain.remove", DomainName(name))
        except ApiError as error:
            return redirect(visit, f"/domains/{name}", tone="bad", say=error.text)
        return redirect(visit, "/domains", say=f"{name} is no longer served.")

    # --- mailboxes

    async def mailboxes(self, visit: Visit) -> Answer:
        """The list, by domain and by a part of the name."""
        domain, query = visit.query.text("domain"), visit.query.text("q").casefold()
        found = (await self._api.call(visit.caller, "mailbox.list", MailboxFilter(domain))).mailboxes
        if query:
            found = [box for box in found if query in f"{box.name} {box.address} {' '.join(box.aliases)}".casefold()]
        pages = max(-(-len(found) // PAGE), 1)
        page = min(max(visit.query.number("page", 1), 1), pages)
        domains = await self._api.call(visit.caller, "domain.list")
        return self._renderer.page(
            visit,
            "mailboxes.html",
            section="/mailboxes",
            mailboxes=found[(page - 1) * PAGE : page * PAGE],
            total=len(found),
            page=page,
            pages=pages,
            domains=[one.name for one in domains.domains],
            domain=domain,
            query=visit.query.text("q"),
        )

    async def new_mailbox(self, visit: Visit) -> Answer:
        """An empty form."""
        return await self._mailbox_form(visit, None)

    async def _mailbox_form(self, visit: Visit, mailbox: Any, *, problem: str = "", status: int = 200, shown: str = "") -> Answer:
        domains = await self._api.call(visit.caller, "domain.list")
        return self._renderer.page(
            visit,
            "mailbox.html",
            status=status,
            section="/mailboxes",
            mailbox=mailbox,
            typed=visit.form if problem and "csrf" in visit.form else None,
            problem=friendly(problem),
            one_time=shown,
            roles=list(Role),
            domains=[one.name for one in domains.domains],
            preset=visit.query.text("domain"),
        )

    async def add_mailbox(self, visit: Visit) -> Answer:
        """With a password, or with a one-time password that is shown once."""
        form = visit.form
        wanted = MailboxAdd(
            address=form.text("address"),
            password=form.get("password"),
            name=form.text("name")[:200],
            roles=_roles(form),
            aliases=form.lines("aliases"),
            picked=form.ticked("picked"),
            archive=form.ticked("archive"),
            second=form.text("second"),
            quota_bytes=_megabytes(form.text("quota_mb")),
            quota_messages=form.number("quota_messages", 0) if form.text("quota_messages") else None,
        )
        try:
            added = await self._api.call(visit.caller, "mailbox.add", wanted)
        except ApiError as error:
            return await self._mailbox_form(visit, None, problem=error.text, status=400)
        if added.password:
            return await self._mailbox_form(visit, added.mailbox, shown=added.password)
        said = f"{added.mailbox.address} can log in and receive mail now."
        return redirect(visit, f"/mailboxes/{added.mailbox.address}", say=f"{said} {waits_text(added.waits)}".rstrip())

    async def mailbox(self, visit: Visit, address: str) -> Answer:
        """One, with its settings."""
        return await self._mailbox_form(visit, await self._api.call(visit.caller, "mailbox.show", MailboxName(address)))

    async def change_mailbox(self, visit: Visit, address: str) -> Answer:
        """Name, roles, aliases, coverage."""
        form = visit.form
        wanted = MailboxChange(
            address=address,
            name=form.text("name")[:200],
            roles=_roles(form),
            aliases=form.lines("aliases"),
            enabled=form.ticked("enabled"),
            picked=form.ticked("picked"),
            archive=form.ticked("archive"),
            second=form.text("second"),
            quota_bytes=_megabytes(form.text("quota_mb")),
            quota_messages=form.number("quota_messages", 0) if form.text("quota_messages") else None,
        )
        try:
            changed = await self._api.call(visit.caller, "mailbox.change", wanted)
        except ApiError as error:
            mailbox = await self._api.call(visit.caller, "mailbox.show", MailboxName(address))
            return await self._mailbox_form(visit, mailbox, problem=error.text, status=400)
        if changed.waits:
            return redirect(visit, f"/mailboxes/{address}", tone="info", say="Saved, except for what waits for a second person.")
        return redirect(visit, f"/mailboxes/{address}", say="Saved.")

    async def password(self, visit: Visit, address: str) -> Answer:
        """A new password, or a one-time password that is shown once (C23)."""
        mailbox = await self._api.call(visit.caller, "mailbox.show", MailboxName(address))
        try:
            made = await self._api.call(visit.caller, "mailbox.password", MailboxPassword(address, visit.form.get("password")))
        except ApiError as error:
            return await self._mailbox_form(visit, mailbox, problem=error.text, status=400)
        if made.password:
            mailbox = await self._api.call(visit.caller, "mailbox.show", MailboxName(address))
            return await self._mailbox_form(visit, mailbox, shown=made.password)
        return redirect(visit, f"/mailboxes/{address}", say="The new password is in force; web sessions of that person ended.")

    async def remove_mailbox(self, visit: Visit, address: str) -> Answer:
        """Its log-in and addresses."""
        try:
            await self._api.call(visit.caller, "mailbox.remove", MailboxName(address))
        except ApiError as error:
            return redirect(visit, f"/mailboxes/{address}", tone="bad", say=error.text)
        return redirect(visit, "/mailboxes", say=f"{address} is removed. Archived mail stays until it expires.")


def _domain_fields(form: Form) -> dict[str, Any]:
    return {
        "primaries": form.lines("primaries"),
        "failover": Failover.MANUAL if form.get("failover") == "manual" else Failover.AUTO,
        "portal_on": PortalOn.OUTAGE if form.get("portal_on") == "outage" else PortalOn.ANY,
        "scope": Coverage.PICKED if form.get("scope") == "picked" else Coverage.ALL,
        "tls": TLSPolicy(form.get("tls")) if form.get("tls") in list(TLSPolicy) else TLSPolicy.MAY,
        "active": form.ticked("active"),
        "archive": form.ticked("archive"),
        "retention_days": form.number("retention_days", 90),
        "portal_days": _days(form.text("portal_days")),
        "tell_people": form.ticked("tell_people"),
        "quota_bytes": _megabytes(form.text("quota_mb")) or 0,
        "quota_messages": form.number("quota_messages", 0),
        "over_quota": OverQuota.REFUSE if form.get("over_quota") == "refuse" else OverQuota.DEFER,
        "relay_from": form.lines("relay_from"),
        "smarthost": form.text("smarthost"),
        "aliases": form.lines("aliases"),
    }


def _days(text: str) -> float:
    """As typed, or 90."""
    try:
        return float(text)
    except ValueError:
        return 90.0


def _megabytes(text: str) -> int | None:
    """Bytes of MB as typed; None if nothing was, or no number."""
    try:
        return round(float(text) * 1e6)
    except (ValueError, OverflowError):
        return None


def _roles(form: Form) -> list[Role]:
    return [role for role in Role if role.value in form.all("role")]


_FIELDS = {
    "$.primaries": "Primary mail servers",
    "$.relay_from": "Networks that may send",
    "$.smarthost": "Smarthost",
    "$.aliases": "Aliases",
    "$.name": "Name",
    "$.address": "Address",
    "$.retention_days": "Days in the archive",
    "$.portal_days": "Days in portal folders",
    "$.password": "Password",
    "$.second": "Second address",
}


def friendly(problem: str) -> str:
    """An API error's path as the name that the form shows."""
    for path, label in _FIELDS.items():
        if problem.startswith(path):
            return f"{label}: {problem.partition(': ')[2] or problem}"
    return problem
