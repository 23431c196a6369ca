"""Help for those who search: facets, another word, and people as they are typed; within the caller's scope, like the search (rules 14, 15)."""

from __future__ import annotations

import msgspec

from hornetmail.access.rights import LOCAL_ADMINISTRATOR, Right
from hornetmail.core.archive.guidance import Count
from hornetmail.core.served import Scope
from hornetmail.web.api.operations import Caller, Operation, need
from hornetmail.web.api.rooms import Rooms


class GuidanceRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A query as for a search, and whether only of the own mail."""

    query: str = ""
    own: bool = False


class CountView(msgspec.Struct, frozen=True):
    """How many mails have it."""

    value: str
    mails: int


class GuidanceView(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the newest ``looked`` mails that the query finds: people, months of receipt (YYYY-MM, UTC) and endings of files. ``meant``: the query with another word for one that finds nothing, or ``""``."""

    looked: int
    people: list[CountView]
    months: list[CountView]
    types: list[CountView]
    meant: str


class SuggestRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The beginning of a name or an address."""

    text: str
    own: bool = False


class Suggested(msgspec.Struct, frozen=True):
    """Those whom the caller's mail knows by it, the likeliest first."""

    people: list[str]


def _scope(rooms: Rooms, caller: Caller, own: bool) -> Scope:
    person = caller.acting or LOCAL_ADMINISTRATOR
    return rooms.access.own_scope(person) if own else rooms.access.scope(person)


def _counts(found: tuple[Count, ...]) -> list[CountView]:
    return [CountView(one.value, one.mails) for one in found]


async def guide(rooms: Rooms, caller: Caller, request: GuidanceRequest) -> GuidanceView:
    """Of the newest hits."""
    found = await need(rooms.archive, "archive").guidance(_scope(rooms, caller, request.own), request.query)
    return GuidanceView(
        looked=found.looked,
        people=_counts(found.people),
        months=_counts(found.months),
        types=_counts(found.types),
        meant=found.meant,
    )


async def suggest(rooms: Rooms, caller: Caller, request: SuggestRequest) -> Suggested:
    """People, while their name is typed."""
    return Suggested(list(await need(rooms.archive, "archive").suggestions(_scope(rooms, caller, request.own), request.text)))


OPERATIONS = (
    Operation(
        "archive.guidance",
        "GET",
        "/archive/guidance",
        GuidanceRequest,
        GuidanceView,
        Right.SEARCH,
        "What a search could be narrowed to",
        guide,
    ),
    Operation(
        "archive.suggest",
        "GET",
        "/archive/suggest",
        SuggestRequest,
        Suggested,
        Right.SEARCH,
        "People whose name begins so",
        suggest,
    ),
)
