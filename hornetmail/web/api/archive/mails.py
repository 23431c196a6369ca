"""The archive: search, open, export, redeliver, verify; what each shows follows from the caller's scope (rules 14 and 15)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hornetmail.access.rights import LOCAL_ADMINISTRATOR, Right
from hornetmail.core.archive.archived import ArchivedMail, Finding, Hit, Refused
from hornetmail.core.mail.envelope import Direction
from hornetmail.core.served import Person, Role, Scope
from hornetmail.web.api.operations import ApiError, Caller, Done, Nothing, Operation, Raw, missing, need, number
from hornetmail.web.api.rooms import Rooms

PAGE = 500


class HitView(msgspec.Struct, frozen=True, kw_only=True, rename={"sender": "from"}):
    """One line of a result list. ``date``, ``received``: Unix seconds; ``size``: bytes. What the scope hides is empty. ``renditions``: how many mails with other headers or bytes
    are this one mail; ``namesake``: another mail has its Message-ID and other content."""

    id: str
    date: float
    sender: str
    to: list[str]
    subject: str
    size: int
    direction: Direction
    received: float
    spam: bool
    attachments: int
    renditions: int = 1
    namesake: bool = False


class CameView(msgspec.Struct, frozen=True, kw_only=True):
    """One time that a mail came: the ID of the rendition, its bytes, the feed, when (Unix seconds), and to whom, as far as the caller may see it."""

    id: str
    feed: str
    received: float
    to: list[str]
    size: int


class StretchView(msgspec.Struct, frozen=True):
    """A stretch of time, Unix seconds."""

    since: float
    until: float


class SearchResult(msgspec.Struct, frozen=True):
    """``total`` counts all hits within the scope, up to 10,000; if ``exact`` is false there are more than ``total``. ``after`` continues behind these or
    is ``""``, however many there are. ``partly``: mail received then may match and not be found, because an earlier version indexed it (the job ``renewal`` is at it).
    ``closed``: where words of the query were not looked for, since the caller has no right to it: ``subject``, ``content`` (what mail and its files say)."""

    total: int
    results: list[HitView]
    after: str = ""
    exact: bool = True
    partly: list[StretchView] = []
    closed: list[str] = []


class SearchRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A query as ``IArchive.search`` understands it; ``own``: only the own mail, with content, whatever else the caller may see."""

    query: str = ""
    limit: int = 50
    after: str = ""
    own: bool = False


class MailName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names an archived mail."""

    id: str


class MailView(msgspec.Struct, frozen=True, kw_only=True):
    """An archived mail, as far as the caller may see it. ``content``: it can be exported. ``away``: why that is not possible now (A15). ``unsearched``: what of it no search looks into. ``came``: its
    arrivals, of all renditions; ``namesakes``: IDs of mails with its Message-ID and other content; ``conversation``: the newest mails of it, the oldest first. ``sha256``: of the exact bytes, in hex."""

    mail: HitView
    feed: str
    login: str
    message_id: str
    sha256: str
    medium: int
    expires: float
    recipients: list[str]
    header_recipients: list[str]
    text: str
    content: bool
    away: str = ""
    unsearched: tuple[str, ...] = ()
    came: list[CameView] = []
    namesakes: list[str] = []
    conversation: list[HitView] = []


class RedeliverRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which mails, and to whom: without ``to``, users get them themselves; for an administrator they go to their owners (C10, C16, C17).
    ``as_attachment``: each inside a new message with a Message-ID of its own, since some servers drop one that they have seen (rule 16).
    The same ``request`` twice is done once."""

    ids: list[str]
    to: str = ""
    request: str = ""
    as_attachment: bool = False


class UnfitView(msgspec.Struct, frozen=True):
    """A mail that cannot travel as an attachment, and why."""

    id: str
    why: str


class Redelivered(msgspec.Struct, frozen=True):
    """The queue's message IDs and who gets them; ``unfit``: what was left out of an attachment."""

    messages: list[str]
    to: list[str]
    unfit: list[UnfitView] = []


class VerifyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``full``: everything; otherwise what is new, and a sample. ``repair``: put packs that are missing, with ``full`` also damaged, back from the mirror first."""

    full: bool = False
    repair: bool = False


class FindingView(msgspec.Struct, frozen=True):
    """Something that is wrong, and where."""

    where: str
    what: str


class Verified(msgspec.Struct, frozen=True):
    """``ok``: nothing is wrong. ``repaired``: what a repair met, mended or not, before it was looked at."""

    ok: bool
    findings: list[FindingView]
    repaired: list[FindingView] = []


class ImportRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A source and whose mail it is."""

    source: str
    owner: str = ""


class FeedRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A feed of a kind, under a name."""

    kind: str
    name: str


def hit_view(hit: Hit) -> HitView:
    """A line of the list."""
    return HitView(
        id=str(hit.id),
        date=hit.date,
        sender=hit.sender,
        to=list(hit.recipients),
        subject=hit.subject,
        size=hit.size,
        direction=hit.direction,
        received=hit.received,
        spam=hit.spam,
        attachments=hit.attachments,
        renditions=hit.renditions,
        namesake=hit.namesake,
    )


def scopes(rooms: Rooms, caller: Caller) -> list[Scope]:
    """The caller's views, the one that shows more of a mail first: own mail is opened by its owner even if that is an administrator."""
    person = caller.acting
    if person is None:
        raise ApiError(401, "login_needed", "log in first")
    widest = rooms.access.scope(person)
    return [widest] if widest.content or person.mailbox == 0 else [rooms.access.own_scope(person), widest]


async def find(rooms: Rooms, caller: Caller, identifier: int) -> tuple[ArchivedMail, Scope]:
    """A mail and the scope it is seen through. Raises ApiError 404."""
    archive = need(rooms.archive, "archive")
    for scope in scopes(rooms, caller):
        try:
            return await archive.mail(scope, identifier), scope
        except KeyError:
            continue
    raise missing(f"no mail {identifier} in your archive")


async def search(rooms: Rooms, caller: Caller, request: SearchRequest) -> SearchResult:
    """Newest first."""
    if not 1 <= request.limit <= PAGE:
        raise ApiError(400, "invalid", f"$.limit: 1 to {PAGE}")
    person = caller.acting or LOCAL_ADMINISTRATOR
    scope = rooms.access.own_scope(person) if request.own else rooms.access.scope(person)
    page = await need(rooms.archive, "archive").search(scope, request.query, limit=request.limit, after=request.after)
    return SearchResult(
        page.total,
        [hit_view(hit) for hit in page.results],
        page.after,
        page.exact,
        [StretchView(one.since, one.until) for one in page.partly],
        list(page.closed),
    )


async def show(rooms: Rooms, caller: Caller, request: MailName) -> MailView:
    """One mail; text only for those who may read it."""
    mail, scope = await find(rooms, caller, number(request.id, "$.id"))
    return MailView(
        mail=hit_view(mail.hit),
        feed=mail.feed,
        login=mail.login,
        message_id=mail.message_id,
        sha256=mail.sha256.hex(),
        medium=mail.medium,
        expires=mail.expires,
        recipients=list(mail.recipients),
        header_recipients=list(mail.header_recipients),
        text=mail.text if scope.content else "",
        content=scope.content,
        away=mail.away,
        unsearched=mail.unsearched,
        came=[
            CameView(id=str(one.id), feed=one.feed, received=one.received, to=list(one.recipients), size=one.size)
            for one in mail.came
        ],
        namesakes=[str(one) for one in mail.namesakes],
        conversation=[hit_view(one) for one in mail.conversation],
    )


async def export(rooms: Rooms, caller: Caller, request: MailName) -> Raw:
    """The exact bytes as received. Everybody who opens mail of others stands in the audit log."""
    identifier = number(request.id, "$.id")
    _, scope = await find(rooms, caller, identifier)
    if not scope.content:
        raise Refused("the content of this mail needs a person with the right to it")
    try:
        data = await need(rooms.archive, "archive").read(scope, identifier)
    except KeyError:
        raise missing(f"no mail {identifier} in your archive") from None
    return Raw("message/rfc822", f"{identifier}.eml", data)


async def evidence(rooms: Rooms, caller: Caller, request: MailName) -> Raw:
    """What proves that a mail was here, unchanged, with this envelope: for whoever may see all of it (rule 14)."""
    identifier = number(request.id, "$.id")
    _, scope = await find(rooms, caller, identifier)
    try:
        data = await need(rooms.archive, "archive").evidence(scope, identifier)
    except KeyError:
        raise missing(f"no mail {identifier} in your archive") from None
    return Raw("application/zip", f"{identifier}-evidence.zip", data)


def owners(rooms: Rooms, mail: ArchivedMail) -> list[str]:
    """Whose mail it is, for an administrator's redelivery: the recipients with a mailbox here, or the sender of outgoing mail (C17). Who got it says the envelope alone, as far as
    it may be seen: a name in the header is no right to a mail (rule 14)."""
    directory = rooms.directory
    sender = [mail.login or mail.hit.sender]
    candidates = sender if mail.hit.direction is Direction.OUT else mail.recipients
    found = (directory.mailbox(address) for address in candidates)
    own = {mailbox.id: mailbox.address for mailbox in found if mailbox is not None and mailbox.tenant == mail.tenant}
    return list(own.values())


async def redeliver(rooms: Rooms, caller: Caller, request: RedeliverRequest) -> Redelivered:
    """To whichever server is active now (C10). If nothing of it can travel as an attachment, that is an error."""
    courier = need(rooms.redelivery, "delivery")
    if not request.ids:
        raise ApiError(400, "invalid", "$.ids: name at least one mail")
    identifiers = [number(text, f"$.ids[{place}]") for place, text in enumerate(request.ids)]
    person = caller.acting or LOCAL_ADMINISTRATOR
    mails = [(await find(rooms, caller, identifier))[0] for identifier in identifiers]
    targets = _targets(rooms, person, request.to, mails)
    messages: list[str] = []
    unfit: dict[int, str] = {}
    for target, wanted in targets.items():
        token = f"{request.request}/{target}" if request.request else ""
        try:
            handed = await courier.redeliver(person, wanted, target, token, attached=request.as_attachment)
        except KeyError as error:
            gone = f"; on the way to {', '.join(done)} already" if (done := list(targets)[: list(targets).index(target)]) else ""
            raise missing(f"no mail {error.args[0] if error.args else ''} in the archive of {target}{gone}") from None
        except ValueError as error:
            raise ApiError(400, "invalid", str(error)) from None
        messages += [str(message) for message in handed.queued]
        unfit.update(handed.unfit)
    if unfit and not messages:
        identifier, why = next(iter(unfit.items()))
        raise ApiError(
            409, "unfit", f"mail {identifier} cannot travel as an attachment: {why}. Without that it can, or export it"
        )
    return Redelivered(messages, list(targets), [UnfitView(str(identifier), why) for identifier, why in unfit.items()])


def _targets(rooms: Rooms, person: Person, to: str, mails: list[ArchivedMail]) -> dict[str, list[int]]:
    """Mail IDs by the address that they go to."""
    if to:
        return {to: [mail.hit.id for mail in mails]}
    if not person.has(Role.ADMIN):
        return {person.address: [mail.hit.id for mail in mails]}
    targets: dict[str, list[int]] = {}
    for mail in mails:
        found = owners(rooms, mail)
        if not found:
            raise ApiError(
                409,
                "conflict",
                f"mail {mail.hit.id}: nobody with a mailbox here is known to have sent or received it; say to whom it shall go",
            )
        for address in found:
            targets.setdefault(address, []).append(mail.hit.id)
    return targets


async def verify(rooms: Rooms, caller: Caller, request: VerifyRequest) -> Verified:
    """Seals, order, references and SHA-256."""
    repaired = await need(rooms.safety, "archive").repair(request.full) if request.repair else ()
    found = await need(rooms.archive, "archive").verify(request.full)
    return Verified(not found, _views(found), _views(repaired))


def _views(found: Iterable[Finding]) -> list[FindingView]:
    return [FindingView(one.where, one.what) for one in found]


async def confirm_purge(rooms: Rooms, caller: Caller, _: Nothing) -> Done:
    """Somebody looked at the clock and at what would go: retention may do what it refused (rules 18, 19)."""
    await need(rooms.archive, "archive").confirm_purge()
    return Done()


async def flush(rooms: Rooms, caller: Caller, _: Nothing) -> Done:
    """Make what is staged searchable now (A50)."""
    await need(rooms.archive, "archive").flush()
    return Done()


async def take_in(rooms: Rooms, caller: Caller, request: ImportRequest) -> Done:
    """Refused until feeds exist."""
    raise ApiError(501, "not_available", f'cannot import from "{request.source}": this version takes mail in by delivery only')


async def feed(rooms: Rooms, caller: Caller, request: FeedRequest) -> Done:
    """Refused until feeds exist."""
    raise ApiError(
        501,
        "not_available",
        f'cannot set up the {request.kind} feed "{request.name}": this version takes mail in by delivery only',
    )


OPERATIONS = (
    Operation("archive.search", "GET", "/archive", SearchRequest, SearchResult, Right.SEARCH, "Search the archive", search),
    Operation(
        "archive.show", "GET", "/archive/{id}", MailName, MailView, Right.SEARCH, "View an archived mail", show, audited=True
    ),
    Operation(
        "archive.export", "GET", "/archive/{id}/raw", MailName, Raw, Right.OPEN, "Export an archived mail", export, audited=True
    ),
    Operation(
        "archive.evidence",
        "GET",
        "/archive/{id}/evidence",
        MailName,
        Raw,
        Right.OPEN,
        "Export the evidence for an archived mail",
        evidence,
        audited=True,
    ),
    Operation(
        "archive.redeliver",
        "POST",
        "/archive/redeliver",
        RedeliverRequest,
        Redelivered,
        Right.REDELIVER,
        "Redeliver archived mail",
        redeliver,
    ),
    Operation(
        "archive.confirm_purge",
        "POST",
        "/archive/purge/confirm",
        Nothing,
        Done,
        Right.OPERATE,
        "Let retention do what it refused",
        confirm_purge,
    ),
    Operation("archive.verify", "POST", "/archive/verify", VerifyRequest, Verified, Right.OPERATE, "Verify the archive", verify),
    Operation(
        "archive.flush", "POST", "/archive/flush", Nothing, Done, Right.PERSON, "Update the archive's index", flush, audited=False
    ),
    Operation(
        "archive.import",
        "POST",
        "/archive/import",
        ImportRequest,
        Done,
        Right.ADMINISTER,
        "Import mail into the archive",
        take_in,
    ),
    Operation("archive.feed", "POST", "/archive/feeds", FeedRequest, Done, Right.ADMINISTER, "Set up a feed", feed),
)
