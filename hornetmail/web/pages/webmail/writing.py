"""Webmail, writing: new mail, answers, forwarding, drafts, attachments (C21, C26)."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from twisted.logger import Logger

from hornetmail.access.rights import Right
from hornetmail.core.folder import FolderError
from hornetmail.core.mail.address import AddressError, domain_of
from hornetmail.web import mailview
from hornetmail.web.api.operations import ApiError
from hornetmail.web.compose_mail import Draft, DraftError, File, answer, compose, forward, recipients, resume
from hornetmail.web.mailview import Attachment, Named
from hornetmail.web.pages.webmail.own_folders import OwnFolders
from hornetmail.web.render import Clock, Renderer, redirect, zone_of
from hornetmail.web.site_tools import Offload, Submit
from hornetmail.web.visit import Answer, Route, Visit

MAX_FILES_BYTES = 25_000_000
"""Attachments of one mail together; base64 makes a third more of it."""


class Kept(msgspec.Struct, frozen=True):
    """Attachments that are taken over from another message, by its folder and UID."""

    folder: str
    uid: int
    attachments: tuple[Attachment, ...]


class MailWritePages:
    """The writing page. ``submit`` queues what is sent; None: this process cannot send. ``now`` gives Unix seconds."""

    log = Logger()

    def __init__(
        self, folders: OwnFolders, renderer: Renderer, offload: Offload, submit: Submit | None, now: Callable[[], float]
    ) -> None:
        self._folders = folders
        self._renderer = renderer
        self._offload = offload
        self._submit = submit
        self._now = now

    def routes(self) -> Sequence[Route]:
        """Write, and send or keep."""
        return (
            Route("GET", "/mail/write", Right.PERSON, self.write),
            Route("POST", "/mail/write", Right.PERSON, self.send),
        )

    async def write(self, visit: Visit) -> Answer:
        """An empty mail, or one that answers, passes on or takes up another."""
        uid, how = visit.query.number("uid"), visit.query.get("how")
        if not uid:
            return self._page(visit, Draft(to=visit.query.get("to")[:2000], subject=visit.query.get("subject")[:500]))
        name = visit.query.get("folder")
        _, shown = await self._folders.opened(await self._folders.folder(visit, name), uid)
        at = Clock(zone_of(visit.asked.cookies.get("zone", "").replace("%2F", "/")), self._now()).full(
            shown.head.date or self._now()
        )
        if how == "forward":
            return self._page(visit, forward(shown, at), Kept(name, uid, shown.attachments), about=(name, uid, how))
        if how == "draft":
            draft = resume(shown.head, shown.text, (), shown.references)
            return self._page(visit, draft, Kept(name, uid, shown.attachments), about=(name, uid, how))
        who = shown.head.sender[0].short if shown.head.sender else "somebody"
        draft = answer(shown, visit.person.addresses, everybody=how == "all", said=f"On {at}, {who} wrote:")
        return self._page(visit, draft, about=(name, uid, how))

    def _page(
        self,
        visit: Visit,
        draft: Draft,
        kept: Kept | None = None,
        *,
        about: tuple[str, int, str] = ("", 0, ""),
        problem: DraftError | None = None,
        status: int = 200,
    ) -> Answer:
        return self._renderer.page(
            visit,
            "write.html",
            status=status,
            section="/mail",
            draft=draft,
            kept=kept,
            about=about,
            problem=problem,
            largest=MAX_FILES_BYTES,
            can_send=self._submit is not None,
        )

    async def send(self, visit: Visit) -> Answer:
        """Send it, or keep it as a draft, or forget it. What was typed is never lost: on any problem the page comes back with it."""
        form = visit.form
        about = (form.get("about_folder"), form.number("about_uid"), form.get("how"))
        if form.get("do") == "discard":
            await self._forget_draft(visit, about)
            return redirect(visit, "/mail", say="Discarded.")
        kept, files = await self._attachments(visit)
        draft = Draft(
            to=form.text("to"),
            cc=form.text("cc"),
            bcc=form.text("bcc"),
            subject=form.text("subject"),
            text=form.get("text"),
            in_reply_to=form.text("in_reply_to"),
            references=form.text("references"),
            files=files,
        )
        try:
            if form.get("do") == "draft":
                return await self._keep(visit, draft, about)
            return await self._deliver(visit, draft, about)
        except DraftError as problem:
            return self._page(visit, draft, kept, about=about, problem=problem, status=400)
        except ApiError as error:
            return self._page(visit, draft, kept, about=about, problem=DraftError("", error.text), status=error.status)
        except FolderError as error:
            return self._page(
                visit, draft, kept, about=about, problem=DraftError("", f"The draft could not be kept: {error.text}"), status=409
            )

    async def _attachments(self, visit: Visit) -> tuple[Kept | None, tuple[File, ...]]:
        form = visit.form
        files: list[File] = []
        kept = None
        name, uid = form.get("kept_folder"), form.number("kept_uid")
        if uid:
            data, shown = await self._folders.opened(await self._folders.folder(visit, name), uid)
            wanted = {int(number) for number in form.all("keep") if number.isascii() and number.isdigit() and len(number) < 6}
            kept = Kept(name, uid, tuple(one for one in shown.attachments if one.number in wanted))
            for attachment in kept.attachments:
                part_name, kind, content = await self._offload(mailview.part_of, data, attachment.number)
                files.append(File(part_name, kind, content))
        files += [File(upload.name, upload.content_type, upload.data) for upload in form.files("files")]
        return kept, tuple(files)

    async def _made(self, visit: Visit, draft: Draft, *, with_bcc: bool, message_id: str, lenient: bool = False) -> bytes:
        if sum(len(file.data) for file in draft.files) > MAX_FILES_BYTES:
            raise DraftError(
                "files",
                f"The attachments are larger than {MAX_FILES_BYTES // 1_000_000} MB together. Send them in several mails.",
            )
        sender = Named(visit.person.name, visit.person.address)
        made: bytes = await self._offload(_compose, draft, sender, message_id, self._now(), with_bcc, lenient)
        return made

    async def _keep(self, visit: Visit, draft: Draft, about: tuple[str, int, str]) -> Answer:
        data = await self._made(visit, draft, with_bcc=True, message_id=_new_id(visit), lenient=True)
        uid = await self._folders.keep(visit, "\\Drafts", data, ("\\Draft", "\\Seen"), self._now())
        await self._forget_draft(visit, about)
        drafts = await self._folders.special(visit, "\\Drafts")
        return redirect(visit, "/mail/write", say="Draft kept.", folder=drafts, uid=uid, how="draft")

    async def _deliver(self, visit: Visit, draft: Draft, about: tuple[str, int, str]) -> Answer:
        if self._submit is None:
            raise ApiError(503, "role_off", "This server does not send mail.")
        wanted = recipients(draft)
        message_id = _new_id(visit)
        data = await self._made(visit, draft, with_bcc=False, message_id=message_id)
        try:
            await self._submit(visit.person, data, wanted)
        except (AddressError, OSError) as error:
            raise DraftError("", f"It was not sent: {error}. Nothing is lost; try again, or keep it as a draft.") from error
        say, tone = f"Sent to {wanted[0]}" + (f" and {len(wanted) - 1} more." if len(wanted) > 1 else "."), "ok"
        try:
            copy = data if not draft.bcc else await self._made(visit, draft, with_bcc=True, message_id=message_id)
            await self._folders.keep(visit, "\\Sent", copy, ("\\Seen",), self._now())
            await self._mark(visit, about)
        except (FolderError, OSError, ApiError) as error:
            self.log.warn("copy of sent mail not kept for {address}: {error}", address=visit.person.address, error=str(error))
            say, tone = f"{say} The copy for “Sent” could not be kept; the archive has it.", "warn"
        return redirect(visit, "/mail", tone=tone, say=say, folder=about[0] if about[2] in ("reply", "all", "forward") else "")

    async def _mark(self, visit: Visit, about: tuple[str, int, str]) -> None:
        """The message that was answered or passed on is marked so; a draft that was sent is removed."""
        name, uid, how = about
        if how == "draft":
            await self._forget_draft(visit, about)
        elif uid and how in ("reply", "all", "forward"):
            folder: Any = await self._folders.folder(visit, name)
            if not folder.info.readonly:
                await folder.store([uid], add=["\\Answered"] if how != "forward" else ["$Forwarded"])

    async def _forget_draft(self, visit: Visit, about: tuple[str, int, str]) -> None:
        name, uid, how = about
        if how == "draft" and uid and name == await self._folders.special(visit, "\\Drafts"):
            folder = await self._folders.folder(visit, name)
            await folder.store([uid], add=["\\Deleted"])
            await folder.expunge([uid])


def _new_id(visit: Visit) -> str:
    return f"<{secrets.token_hex(16)}@{domain_of(visit.person.address) or 'localhost'}>"


def _compose(draft: Draft, sender: Named, message_id: str, date: float, with_bcc: bool, lenient: bool) -> bytes:
    return compose(draft, sender, message_id=message_id, date=date, with_bcc=with_bcc, lenient=lenient)
