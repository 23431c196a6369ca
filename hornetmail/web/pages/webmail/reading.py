"""Webmail, reading: folders, list, message, attachments, and what is done with messages (C4, C21)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

from hornetmail.access.rights import Right
from hornetmail.core.folder import FolderError
from hornetmail.web import mailview, security
from hornetmail.web.api.operations import ApiError
from hornetmail.web.pages.webmail.own_folders import FolderLine, OwnFolders, uids_of
from hornetmail.web.render import Renderer, redirect
from hornetmail.web.site_tools import Offload
from hornetmail.web.visit import Answer, Route, Visit

_STORES: dict[str, tuple[Collection[str], Collection[str]]] = {
    "seen": (("\\Seen",), ()),
    "unseen": ((), ("\\Seen",)),
    "flag": (("\\Flagged",), ()),
    "unflag": ((), ("\\Flagged",)),
}


class MailReadPages:
    """The three panes and what hangs on them."""

    def __init__(
        self,
        folders: OwnFolders,
        renderer: Renderer,
        offload: Offload,
        stray: Callable[[Visit, Any, int], Awaitable[Any]] | None = None,
    ) -> None:
        """``stray`` says whether a message has no envelope and stays (rule 10): a ``StrayView``, or None."""
        self._folders = folders
        self._stray = stray
        self._renderer = renderer
        self._offload = offload

    def routes(self) -> Sequence[Route]:
        """Everything under ``/mail`` that does not write mail."""
        return (
            Route("GET", "/mail", Right.PERSON, self.show),
            Route("GET", "/mail/html", Right.PERSON, self.html),
            Route("GET", "/mail/part", Right.PERSON, self.part),
            Route("GET", "/mail/raw", Right.PERSON, self.raw),
            Route("POST", "/mail/act", Right.PERSON, self.act),
            Route("POST", "/mail/folders", Right.PERSON, self.add_folder),
        )

    async def show(self, visit: Visit) -> Answer:
        """A folder, and with ``uid`` a message of it, which is then read."""
        name = visit.query.get("folder") or "INBOX"
        folder = await self._folders.folder(visit, name)
        uid, query = visit.query.number("uid"), visit.query.text("q")[:200]
        opened: dict[str, Any] | None = None
        if uid:
            opened = await self._open(visit, folder, uid)
            opened["stray"] = await self._stray(visit, folder, uid) if self._stray is not None else None
        lines = await self._folders.lines(visit)
        listing = await self._folders.listing(folder, visit.query.number("page", 1), query)
        return self._renderer.page(
            visit,
            "mail.html",
            section="/mail",
            folders=lines,
            folder=next((line for line in lines if line.name == folder.info.name), _unlisted(folder)),
            listing=listing,
            query=query,
            opened=opened,
            uid=uid,
            targets=[line for line in lines if line.name != folder.info.name and line.selectable and not line.readonly],
        )

    async def _open(self, visit: Visit, folder: Any, uid: int) -> dict[str, Any]:
        data, shown = await self._folders.opened(folder, uid)
        entry = (await folder.entries([uid]))[0]
        if "\\Seen" not in entry.flags and not folder.info.readonly:
            try:
                entry = (await folder.store([uid], add=["\\Seen"]))[0]
            except FolderError:
                pass
        as_text = "text" in visit.query or not shown.html
        remote = visit.query.get("images") == "1"
        document = None if as_text else await self._document(data, remote)
        return {
            "shown": shown,
            "entry": entry,
            "date": shown.head.date if shown.head.date is not None else entry.date,
            "html": not as_text,
            "text": "" if not as_text else mailview.text_html(shown.text),
            "blocked": document.blocked if document is not None else 0,
            "remote": remote,
            "header": mailview.header_text(data) if "header" in visit.query else "",
            "flagged": "\\Flagged" in entry.flags,
        }

    async def _document(self, data: bytes, remote: bool) -> mailview.Document:
        made: mailview.Document = await self._offload(_document, data, remote)
        return made

    async def html(self, visit: Visit) -> Answer:
        """The mail's own document for the sandboxed frame, under its own policy."""
        folder = await self._folders.folder(visit, visit.query.get("folder"))
        data = await self._folders.data(folder, visit.query.number("uid"))
        remote = visit.query.get("images") == "1"
        return self._mail_document(visit, await self._document(data, remote), remote)

    def _mail_document(self, visit: Visit, document: mailview.Document, remote: bool) -> Answer:
        return mail_answer(self._renderer, visit, document, remote)

    async def part(self, visit: Visit) -> Answer:
        """An attachment, always as a download."""
        folder = await self._folders.folder(visit, visit.query.get("folder"))
        data = await self._folders.data(folder, visit.query.number("uid"))
        return await part_answer(self._offload, data, visit.query.number("n"))

    async def raw(self, visit: Visit) -> Answer:
        """The message as a file."""
        folder = await self._folders.folder(visit, visit.query.get("folder"))
        data = await self._folders.data(folder, visit.query.number("uid"))
        shown = await self._offload(mailview.show, data)
        return eml_answer(data, shown.head.subject)

    async def act(self, visit: Visit) -> Answer:
        """What a button does with the messages ticked, or with the one that is open."""
        form = visit.form
        name, action = form.get("folder"), form.get("action")
        folder = await self._folders.folder(visit, name)
        uids = uids_of(form.all("uid"))
        if not uids:
            return redirect(visit, "/mail", folder=name, tone="info", say="Tick the messages first.")
        try:
            said = await self._do(visit, folder, uids, action)
        except FolderError as error:
            text = "It is being delivered to your mail server right now." if error.code == "INUSE" else error.text
            return redirect(visit, "/mail", folder=name, tone="bad", say=f"That was not possible: {text}")
        stay = form.number("stay") if action in ("flag", "unflag") else 0
        return redirect(visit, "/mail", say=said, folder=name, page=form.get("page"), q=form.get("q"), uid=stay or "")

    async def _do(self, visit: Visit, folder: Any, uids: Sequence[int], action: str) -> str:
        many = f"{len(uids)} messages" if len(uids) > 1 else "The message"
        if action in _STORES:
            add, remove = _STORES[action]
            await folder.store(uids, add=add, remove=remove)
            return ""
        if action == "delete":
            trash = await self._folders.special(visit, "\\Trash")
            if folder.info.name == trash:
                await folder.store(uids, add=["\\Deleted"])
                await folder.expunge(uids)
                return f"{many} deleted for good."
            await folder.move(uids, trash)
            return f"{many} moved to {trash}."
        verb, _, target = action.partition(":")
        if verb == "move" and target:
            await folder.move(uids, target)
            return f"{many} moved to {target}."
        raise ApiError(400, "invalid", "Choose what to do with the messages.")

    async def add_folder(self, visit: Visit) -> Answer:
        """A new folder; levels are separated by ``/``."""
        name = "/".join(part.strip() for part in visit.form.text("name")[:200].split("/") if part.strip())
        if not name:
            return redirect(visit, "/mail", tone="bad", say="Give the folder a name.")
        try:
            tree = self._folders.tree(visit)
            await tree.create(name)
            await tree.subscribe(name, True)
        except FolderError as error:
            return redirect(visit, "/mail", tone="bad", say=f"The folder was not made: {error.text}")
        return redirect(visit, "/mail", folder=name)


def _unlisted(folder: Any) -> FolderLine:
    return FolderLine(folder.info.name, folder.info.name, "folder", folder.info.use, 0, 0, 0, folder.info.readonly, True)


def _document(data: bytes, remote: bool) -> mailview.Document:
    return mailview.document(data, remote=remote)


def mail_answer(renderer: Renderer, visit: Visit, document: mailview.Document, remote: bool) -> Answer:
    """A mail's document: its own policy on it, whoever opens the address."""
    page = renderer.page(visit, "mail_document.html", html=document.html, policy=security.mail_policy(remote))
    return Answer(page.body, policy=page.policy, headers=(("Referrer-Policy", "no-referrer"),))


async def part_answer(offload: Callable[..., Any], data: bytes, number: int) -> Answer:
    """A leaf as a download, never shown by the browser."""
    try:
        name, kind, content = await offload(mailview.part_of, data, number)
    except KeyError:
        raise ApiError(404, "not_found", "This attachment is not there.") from None
    safe = (
        kind
        if kind.startswith(("image/", "application/pdf", "audio/", "video/")) and kind != "image/svg+xml"
        else "application/octet-stream"
    )
    return Answer(
        content,
        content_type=safe,
        headers=(("Content-Disposition", mailview.disposition(name)),),
        policy=security.DOWNLOAD_POLICY,
    )


def eml_answer(data: bytes, subject: str) -> Answer:
    """A message as a file named after its subject."""
    name = "".join(c if c.isalnum() or c in " -_" else "_" for c in subject).strip()[:80] or "message"
    return Answer(
        data,
        content_type="message/rfc822",
        headers=(("Content-Disposition", mailview.disposition(f"{name}.eml")),),
        policy=security.DOWNLOAD_POLICY,
    )
