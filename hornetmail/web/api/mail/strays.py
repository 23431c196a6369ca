"""Mail in INBOXes that has no envelope: who has some, and the choice to have it delivered all the same (rule 10).

People see and choose their own; administrators everybody's of their tenant, the subject as in the archive's search (rule 15), never content.
"""

from __future__ import annotations

import msgspec

from hornetmail.access.rights import LOCAL_ADMINISTRATOR, Right
from hornetmail.core.delivery.stray import Stray
from hornetmail.core.folder import FolderError
from hornetmail.core.served import Mailbox
from hornetmail.web.api.operations import ApiError, Caller, Operation, missing, need, number
from hornetmail.web.api.rooms import Rooms
from hornetmail.web.mailview import head_of

PAGE = 500
WHY = (
    "it has no envelope: it was put here by a mail program or by hand, not delivered, and stays unless somebody chooses otherwise"
)

COPY = "its delivery was taken off the queue by hand: it stays, with its envelope, unless somebody chooses otherwise"


class StrayView(msgspec.Struct, frozen=True, kw_only=True, rename={"sender": "from"}):
    """A message that stays. ``date``: its INTERNALDATE, ``since``: when it was put here, Unix seconds; ``size``: bytes. ``name`` is POP's
    UIDL. ``to``: the address at the primary that it would be delivered to. ``state`` and ``reason``: of its row in the queue, once it is
    ``chosen``. What the caller may not see is empty."""

    id: str
    mailbox: str
    uid: int
    name: str
    sender: str
    subject: str
    date: float
    since: float
    size: int
    to: str
    why: str
    chosen: bool
    state: str
    reason: str


class StrayList(msgspec.Struct, frozen=True):
    """By mailbox and UID; ``after`` continues behind these or is ``""``. ``note``: why nothing can be listed, or ``""``."""

    messages: list[StrayView]
    after: str = ""
    note: str = ""


class StrayFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of a mailbox (with ``uid`` that message only), of a domain, or of all: an administrator's tenant, other people's own. ``limit`` 1-500."""

    address: str = ""
    uid: int = 0
    domain: str = ""
    limit: int = PAGE
    after: str = ""


class StrayChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What shall be delivered: messages of a mailbox by ID, or with ``all`` everything there."""

    address: str
    ids: list[str] = []
    all: bool = False


class StraysChosen(msgspec.Struct, frozen=True, kw_only=True):
    """``chosen`` now, ``already`` chosen before, chosen before and refused since and tried ``again``, ``gone`` meanwhile. ``to``: where
    they go; ``waits``: only once the emergency is over."""

    chosen: int
    already: int
    again: int
    gone: int
    to: str
    waits: bool


def view(rooms: Rooms, caller: Caller, mailbox: Mailbox, stray: Stray, uidvalidity: int, head: tuple[str, str]) -> StrayView:
    """One of them; ``head``: sender and subject."""
    sender, subject = _shown(rooms, caller, mailbox, head)
    row, entry = stray.row, stray.entry
    return StrayView(
        id=f"{uidvalidity}.{entry.uid}",
        mailbox=mailbox.address,
        uid=entry.uid,
        name=entry.name,
        sender=sender,
        subject=subject,
        date=entry.date,
        since=stray.since,
        size=entry.size,
        to=rooms.strays.goal(mailbox.id),
        why="" if row is not None else COPY if stray.addressed else WHY,
        chosen=row is not None,
        state=row.state.value if row is not None else "",
        reason=(row.reason or (str(row.last.reply) if row.last is not None else "")) if row is not None else "",
    )


def _shown(rooms: Rooms, caller: Caller, mailbox: Mailbox, head: tuple[str, str]) -> tuple[str, str]:
    person = caller.acting or LOCAL_ADMINISTRATOR
    if person.mailbox == mailbox.id:
        return head
    if rooms.access.suspension(person):
        return "", ""
    scope = rooms.access.scope(person)
    sender, subject = head if scope.addresses is None else ("", "")
    return sender, subject if scope.subjects else ""


def _own(caller: Caller, mailbox: Mailbox | None) -> bool:
    return caller.person is not None and mailbox is not None and caller.person.mailbox == mailbox.id


def _mailbox(rooms: Rooms, caller: Caller, address: str) -> Mailbox:
    """The mailbox, if it is the caller's business. Others learn nothing of who is registered."""
    mailbox = rooms.directory.mailbox(address.strip())
    if not caller.may(Right.ADMINISTER) and not _own(caller, mailbox):
        raise ApiError(403, "refused", f"{caller.label} may see and choose mail of their own mailbox only")
    if mailbox is None or not (caller.reaches(mailbox.tenant) or _own(caller, mailbox)):
        raise missing(f'mailbox "{address}" is not registered')
    return mailbox


def _asked(rooms: Rooms, caller: Caller, request: StrayFilter) -> tuple[list[Mailbox], str]:
    """Mailboxes to look into, by address: those whose mail has somewhere to go; and why there are none, if one was named."""
    directory, goal = rooms.directory, rooms.strays.goal
    if request.address:
        found = [_mailbox(rooms, caller, request.address)]
        name = found[0].domain
    elif not caller.may(Right.ADMINISTER):
        if request.domain:
            raise ApiError(403, "refused", f"{caller.label} may see and choose mail of their own mailbox only")
        own = directory.mailbox_by_id(caller.person.mailbox) if caller.person is not None else None
        found, name = [own] if own is not None else [], own.domain if own is not None else ""
    elif request.domain:
        domain = directory.domain(request.domain.strip().rstrip(".").lower())
        if domain is None or not caller.reaches(domain.tenant):
            raise missing(f'domain "{request.domain}" is not served here')
        found, name = list(directory.mailboxes(domain.name)), domain.name
    else:
        found, name = [one for one in directory.mailboxes() if caller.reaches(one.tenant)], ""
    with_goal = [mailbox for mailbox in found if goal(mailbox.id)]
    note = f"{name} has no primary: the portal is its mail server, and all mail in it is where it belongs"
    return with_goal, note if name and found and not with_goal else ""


def _from(mailboxes: list[Mailbox], after: str) -> tuple[list[Mailbox], int]:
    """What is behind ``after``: the mailboxes, and the UID in the first of them."""
    if not after:
        return mailboxes, 0
    head, _, tail = after.partition(".")
    identifier, uid = number(head, "$.after"), number(tail, "$.after")
    for place, mailbox in enumerate(mailboxes):
        if mailbox.id == identifier:
            return mailboxes[place:], uid
    raise ApiError(400, "invalid", "$.after: that mailbox has gone; begin anew")


async def list_all(rooms: Rooms, caller: Caller, request: StrayFilter) -> StrayList:
    """A page of them."""
    if not 1 <= request.limit <= PAGE:
        raise ApiError(400, "invalid", f"$.limit: 1 to {PAGE}")
    strays = need(rooms.strays, "delivery")
    mailboxes, note = _asked(rooms, caller, request)
    left, uid = _from(mailboxes, request.after)
    try:
        if request.address and request.uid:
            found, more = [one for box in left for one in await strays.of(box.id, {request.uid})], False
        else:
            found, more = await strays.page([mailbox.id for mailbox in left], request.limit, uid)
        shown = await _views(rooms, caller, left, found)
    except FolderError as error:
        raise ApiError(503, "portal", error.text) from None
    last = found[-1] if more and found else None
    return StrayList(shown, f"{last.mailbox}.{last.entry.uid}" if last is not None else "", note)


async def _views(rooms: Rooms, caller: Caller, mailboxes: list[Mailbox], found: list[Stray]) -> list[StrayView]:
    """Each mailbox is opened once; what went meanwhile is left out."""
    by_id = {mailbox.id: mailbox for mailbox in mailboxes}
    groups: dict[int, list[Stray]] = {}
    for stray in found:
        groups.setdefault(stray.mailbox, []).append(stray)
    made: list[StrayView] = []
    for identifier, group in groups.items():
        folder = await rooms.portal.tree(identifier).open("INBOX")
        trees = await folder.structures([stray.entry.uid for stray in group])
        for stray in group:
            if stray.entry.uid in trees:
                head = head_of(trees[stray.entry.uid].summary)
                sender = ", ".join(str(one) for one in head.sender)
                made.append(view(rooms, caller, by_id[identifier], stray, folder.info.uidvalidity, (sender, head.subject)))
    return made


async def drain(rooms: Rooms, caller: Caller, request: StrayChoice) -> StraysChosen:
    """Into the queue, durably; what is claimed, delivered or deleted meanwhile is left alone."""
    strays = need(rooms.strays, "delivery")
    if bool(request.ids) is request.all:
        raise ApiError(400, "invalid", "$: name ids, or say all")
    mailbox = _mailbox(rooms, caller, request.address)
    try:
        folder = await rooms.portal.tree(mailbox.id).open("INBOX")
        uids = None if request.all else _uids(request.ids, folder.info.uidvalidity)
        choice = await strays.choose(mailbox.id, uids)
    except ValueError as error:
        raise ApiError(409, "conflict", str(error)) from None
    except KeyError:
        raise missing(f'mailbox "{request.address}" is not registered') from None
    except FolderError as error:
        raise ApiError(503, "portal", error.text) from None
    there = choice.chosen + choice.already + choice.again
    if not there and request.ids:
        raise missing(f"none of these messages waits in INBOX of {mailbox.address}: moved, deleted or delivered meanwhile")
    return StraysChosen(
        chosen=choice.chosen,
        already=choice.already,
        again=choice.again,
        gone=len(set(request.ids)) - there if request.ids else 0,
        to=strays.goal(mailbox.id),
        waits=choice.waits,
    )


def _uids(ids: list[str], uidvalidity: int) -> set[int]:
    """UIDs of IDs; those of an earlier INBOX mean nothing any more."""
    found = set()
    for place, text in enumerate(ids):
        head, _, tail = text.partition(".")
        validity, uid = number(head, f"$.ids[{place}]"), number(tail, f"$.ids[{place}]")
        if validity == uidvalidity:
            found.add(uid)
    return found


OPERATIONS = (
    Operation("stray.list", "GET", "/strays", StrayFilter, StrayList, Right.PERSON, "List mail without an envelope", list_all),
    Operation(
        "stray.drain",
        "POST",
        "/strays/drain",
        StrayChoice,
        StraysChosen,
        Right.PERSON,
        "Have mail without an envelope delivered",
        drain,
    ),
)
