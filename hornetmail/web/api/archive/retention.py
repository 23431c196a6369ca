"""How long archived mail is kept: rules with a preview, and legal holds (A57, A58)."""

from __future__ import annotations

import msgspec

from hornetmail.access.rights import LOCAL_ADMINISTRATOR, Right
from hornetmail.core.archive.retention import RetentionPreview, RetentionState, Rule
from hornetmail.web.api.operations import ApiError, Caller, Done, Nothing, Operation, missing, need, number
from hornetmail.web.api.rooms import Rooms


class RuleView(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Mail is kept ``days`` from its receipt: of a ``domain`` (``""``: of any), a ``direction`` (``in``, ``out``, ``internal``; ``""``: any), marked as spam
    or not (null: both). The rule that says more counts; of a mail's several domains the longest."""

    days: int
    domain: str = ""
    direction: str = ""
    spam: bool | None = None


class RetentionView(msgspec.Struct, frozen=True, kw_only=True):
    """The rules in force, since when (Unix seconds) and by whom; what no rule speaks of is kept as its domain says (``retention_days``). ``walking``: not yet
    applied to all. ``marked``: mails that go with the next purges. ``waiting``: packs on media that still hold something which went; ``gone_by``: when the
    last of it will have left media, backups and mirror, 0: it has. ``waits``: what may keep it for longer."""

    rules: list[RuleView]
    at: float
    by: str
    walking: bool
    marked: int
    waiting: int
    gone_by: float
    waits: list[str]


class RulesRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All rules, in place of those before."""

    rules: list[RuleView]


class PreviewView(msgspec.Struct, frozen=True, kw_only=True):
    """What rules would do now, of ``mails``: ``going`` would be marked tonight (``bytes``), ``more`` of them not under the rules in force; ``held`` besides would
    go but for a hold; ``spared`` are due now and would stay. ``oldest``, ``newest``: receipt of what goes, Unix seconds; ``sample``: IDs of some."""

    mails: int
    going: int
    bytes: int
    more: int
    held: int
    spared: int
    oldest: float
    newest: float
    sample: list[str]


class HoldView(msgspec.Struct, frozen=True, kw_only=True):
    """A legal hold: what it holds does not go, whatever rules and requests say. ``query``: it also takes what comes later and matches; ``content``: the query
    looks into texts. ``released``: Unix seconds, 0: it holds ``mails``."""

    name: str
    at: float
    by: str
    query: str
    content: bool
    reason: str
    released: float
    mails: int


class HoldList(msgspec.Struct, frozen=True):
    """The newest first, released ones too."""

    holds: list[HoldView]


class HoldRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold under a name what a query finds, or mails by ID. A query by somebody who may not read others' mail looks at addresses, dates and sizes only."""

    name: str
    query: str = ""
    ids: list[str] = []
    reason: str = ""


class HoldBegun(msgspec.Struct, frozen=True):
    """How many mails are new in it; whether its query looked into subjects and texts, too (``content``), or among people, dates and sizes only."""

    mails: int
    content: bool = True


class KeepRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Mails that do not go before ``until`` (Unix seconds), whatever rules say."""

    ids: list[str]
    until: float
    reason: str = ""


class HoldName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a hold."""

    name: str


def _tenant(caller: Caller) -> int:
    """The local administrator operates the installation, which is tenant 1's."""
    return caller.tenant or 1


def _rules(request: RulesRequest) -> list[Rule]:
    return [Rule(one.days, one.domain, one.direction, one.spam) for one in request.rules]


def _view(state: RetentionState) -> RetentionView:
    rules = [RuleView(days=one.days, domain=one.domain, direction=one.direction, spam=one.spam) for one in state.rules]
    return RetentionView(
        rules=rules,
        at=state.at,
        by=state.by,
        walking=state.walking,
        marked=state.marked,
        waiting=state.waiting,
        gone_by=state.gone_by,
        waits=list(state.waits),
    )


def _seen(found: RetentionPreview) -> PreviewView:
    return PreviewView(
        mails=found.mails,
        going=found.going,
        bytes=found.bytes,
        more=found.more,
        held=found.held,
        spared=found.spared,
        oldest=found.oldest,
        newest=found.newest,
        sample=[str(identifier) for identifier in found.sample],
    )


async def show(rooms: Rooms, caller: Caller, _: Nothing) -> RetentionView:
    """Of the caller's tenant."""
    return _view(await need(rooms.retention, "archive").state(_tenant(caller)))


async def preview(rooms: Rooms, caller: Caller, request: RulesRequest) -> PreviewView:
    """Nothing changes."""
    _check_domains(rooms, caller, request)
    try:
        return _seen(await need(rooms.retention, "archive").preview(_tenant(caller), _rules(request)))
    except ValueError as error:
        raise ApiError(400, "invalid", f"$.rules: {error}") from None


async def change(rooms: Rooms, caller: Caller, request: RulesRequest) -> RetentionView:
    """For mail that is there, and that comes."""
    _check_domains(rooms, caller, request)
    retention = need(rooms.retention, "archive")
    try:
        await retention.set_rules(_tenant(caller), _rules(request), caller.label)
    except ValueError as error:
        raise ApiError(400, "invalid", f"$.rules: {error}") from None
    return _view(await retention.state(_tenant(caller)))


def _check_domains(rooms: Rooms, caller: Caller, request: RulesRequest) -> None:
    """A slip of the pen in a domain's name would keep nothing, and say nothing."""
    for place, rule in enumerate(request.rules):
        if rule.domain:
            domain = rooms.directory.domain(rule.domain.strip().lower())
            if domain is None or domain.tenant != _tenant(caller):
                raise ApiError(400, "invalid", f"$.rules[{place}].domain: no domain {rule.domain} is served here")


async def holds(rooms: Rooms, caller: Caller, _: Nothing) -> HoldList:
    """Of the caller's tenant."""
    found = await need(rooms.retention, "archive").holds(_tenant(caller))
    return HoldList(
        [
            HoldView(
                name=one.name,
                at=one.at,
                by=one.by,
                query=one.query,
                content=one.content,
                reason=one.reason,
                released=one.released,
                mails=one.mails,
            )
            for one in found
        ]
    )


async def hold(rooms: Rooms, caller: Caller, request: HoldRequest) -> HoldBegun:
    """Auditors hold by words; others by what they may search."""
    scope = rooms.access.scope(caller.acting or LOCAL_ADMINISTRATOR)
    content = scope.content and scope.addresses is None
    identifiers = [number(text, f"$.ids[{place}]") for place, text in enumerate(request.ids)]
    try:
        mails = await need(rooms.retention, "archive").hold(
            _tenant(caller),
            request.name,
            caller.label,
            query=request.query,
            content=content,
            identifiers=identifiers,
            reason=request.reason,
        )
    except KeyError as error:
        raise missing(f"no mail {error.args[0] if error.args else ''} in the archive") from None
    except ValueError as error:
        raise ApiError(400, "invalid", str(error)) from None
    return HoldBegun(mails, content)


async def keep(rooms: Rooms, caller: Caller, request: KeepRequest) -> Done:
    """For longer than the rules say; a hold is for what must not go at all."""
    identifiers = [number(text, f"$.ids[{place}]") for place, text in enumerate(request.ids)]
    retention = need(rooms.retention, "archive")
    try:
        return Done(await retention.keep(_tenant(caller), identifiers, request.until, caller.label, request.reason))
    except KeyError as error:
        raise missing(f"no mail {error.args[0] if error.args else ''} in the archive") from None
    except ValueError as error:
        raise ApiError(400, "invalid", str(error)) from None


async def release(rooms: Rooms, caller: Caller, request: HoldName) -> Done:
    """What is due goes with the next nights."""
    try:
        await need(rooms.retention, "archive").release(_tenant(caller), request.name, caller.label)
    except KeyError:
        raise missing(f"there is no hold {request.name}") from None
    return Done()


OPERATIONS = (
    Operation(
        "archive.retention",
        "GET",
        "/archive/retention",
        Nothing,
        RetentionView,
        Right.ADMINISTER,
        "See how long mail is kept",
        show,
    ),
    Operation(
        "archive.change_retention",
        "PUT",
        "/archive/retention",
        RulesRequest,
        RetentionView,
        Right.ADMINISTER,
        "Change how long mail is kept",
        change,
    ),
    Operation(
        "archive.preview_retention",
        "POST",
        "/archive/retention/preview",
        RulesRequest,
        PreviewView,
        Right.ADMINISTER,
        "See what rules of retention would remove",
        preview,
        audited=False,
    ),
    Operation("archive.holds", "GET", "/archive/holds", Nothing, HoldList, Right.AUDIT, "See legal holds", holds),
    Operation("archive.hold", "POST", "/archive/holds", HoldRequest, HoldBegun, Right.AUDIT, "Put mail under a legal hold", hold),
    Operation("archive.keep", "POST", "/archive/keep", KeepRequest, Done, Right.AUDIT, "Keep mail until a day", keep),
    Operation("archive.release", "POST", "/archive/holds/release", HoldName, Done, Right.AUDIT, "End a legal hold", release),
)
