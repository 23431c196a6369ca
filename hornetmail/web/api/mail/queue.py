"""The queue: look, flush, hold, release, delete, bounce."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from hornetmail.access.rights import Right
from hornetmail.core.delivery.queued import DONE, Message, Row, RowKind, RowState
from hornetmail.web.api.operations import ApiError, Caller, Done, Operation, missing, need, number
from hornetmail.web.api.rooms import Rooms

PAGE = 500


class RowView(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do for one message. ``due``, ``queued``: Unix seconds. ``last``: the newest reply, as one line."""

    id: str
    kind: RowKind
    state: RowState
    recipient: str
    due: float
    attempts: int
    queued: float
    reason: str
    last: str
    host: str


class MessageView(msgspec.Struct, frozen=True, kw_only=True):
    """A message in the queue with its rows. ``arrived``: Unix seconds; ``size``: bytes."""

    id: str
    sender: str
    domain: str
    direction: str
    door: str
    arrived: float
    size: int
    rows: list[RowView]


class QueueList(msgspec.Struct, frozen=True):
    """A page of the queue, oldest first; ``after`` continues behind it or is ``""``."""

    messages: list[MessageView]
    after: str = ""


class QueueFilter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which rows; ``state`` empty: all unfinished ones. ``limit`` 1-500 rows."""

    domain: str = ""
    state: RowState | None = None
    kind: RowKind | None = None
    limit: int = PAGE
    after: str = ""


class QueueMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names a message by its ID."""

    id: str


class QueueChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change: messages by ID, or single rows, or everything of a domain, or ``all``. ``recipient`` picks rows of that address."""

    messages: list[str] = []
    rows: list[str] = []
    domain: str = ""
    recipient: str = ""
    all: bool = False
    reason: str = ""


def row_view(row: Row) -> RowView:
    """A row for people and programs."""
    return RowView(
        id=str(row.id),
        kind=row.kind,
        state=row.state,
        recipient=row.address,
        due=row.due,
        attempts=row.attempts,
        queued=row.queued,
        reason=row.reason,
        last=str(row.last.reply) if row.last else "",
        host=row.last.host if row.last else "",
    )


def group(found: Iterable[tuple[Message, Row]]) -> list[MessageView]:
    """Rows gathered under their messages, in order of first appearance."""
    messages: dict[int, tuple[Message, list[RowView]]] = {}
    for message, row in found:
        messages.setdefault(message.id, (message, []))[1].append(row_view(row))
    return [
        MessageView(
            id=str(message.id),
            sender=message.envelope.sender,
            domain=message.domain,
            direction=message.direction.value,
            door=message.origin.door.value,
            arrived=message.arrived,
            size=message.size,
            rows=rows,
        )
        for message, rows in messages.values()
    ]


async def list_all(rooms: Rooms, caller: Caller, request: QueueFilter) -> QueueList:
    """A page of it, confined to the caller's tenant."""
    if not 1 <= request.limit <= PAGE:
        raise ApiError(400, "invalid", f"$.limit: 1 to {PAGE}")
    after = number(request.after, "$.after") if request.after else 0
    queue = need(rooms.queue, "queue")
    states = (request.state,) if request.state else tuple(state for state in RowState if state not in DONE)
    found = await queue.rows(
        domain=request.domain.lower(),
        states=states,
        kinds=(request.kind,) if request.kind else (),
        limit=request.limit,
        after=after,
    )
    behind = str(found[-1][1].id) if len(found) == request.limit else ""
    return QueueList(group((message, row) for message, row in found if caller.reaches(message.tenant)), behind)


async def show(rooms: Rooms, caller: Caller, request: QueueMessage) -> MessageView:
    """One message with all of its rows, done ones too."""
    found = await need(rooms.queue, "queue").rows(message=number(request.id, "$.id"))
    shown = group((message, row) for message, row in found if caller.reaches(message.tenant))
    if not shown:
        raise missing(f"message {request.id} is not in the queue")
    return shown[0]


_HANDED_OVER = (RowKind.DELIVER, RowKind.DRAIN)
"""What people may stop or drop. Archive rows follow by themselves: what was delivered is archived, what was not never is (C8, A20)."""


async def picked(
    rooms: Rooms, caller: Caller, request: QueueChange, states: Sequence[RowState], kinds: Sequence[RowKind] = _HANDED_OVER
) -> list[int]:
    """IDs of the rows that a request means and the caller may touch. Raises ApiError when it names nothing, or what is not there."""
    queue = need(rooms.queue, "queue")
    if not (request.messages or request.rows or request.domain or request.all):
        raise ApiError(400, "invalid", "$: name messages, rows or a domain, or say all")
    chosen: list[tuple[Message, Row]] = []
    for place, text in enumerate(request.messages):
        found = [
            pair for pair in await queue.rows(message=number(text, f"$.messages[{place}]")) if caller.reaches(pair[0].tenant)
        ]
        if not found:
            raise missing(f"message {text} is not in the queue")
        chosen += found
    wanted = {number(text, f"$.rows[{place}]") for place, text in enumerate(request.rows)}
    if wanted or request.domain or request.all:
        after = 0
        while page := await queue.rows(
            domain=request.domain.lower(), states=tuple(states), limit=PAGE, after=after, envelopes=False
        ):
            after = page[-1][1].id
            chosen += [
                (message, row) for message, row in page if caller.reaches(message.tenant) and (not wanted or row.id in wanted)
            ]
            if len(page) < PAGE:
                break
    recipient = request.recipient.casefold()
    chosen = [(message, row) for message, row in chosen if not recipient or row.address.casefold() == recipient]
    return list({row.id: None for _, row in chosen if row.state in states and row.kind in kinds})


_LIVE = tuple(state for state in RowState if state not in DONE)
_STOPPABLE = (RowState.QUEUED, RowState.PARKED, RowState.STUCK)


async def flush(rooms: Rooms, caller: Caller, request: QueueChange) -> Done:
    """Try now what waits for its next attempt; held mail stays held."""
    rows = await picked(rooms, caller, request, (RowState.QUEUED, RowState.PARKED, RowState.STUCK), tuple(RowKind))
    return Done(await rooms.queue.change(rows, RowState.QUEUED, due=rooms.clock.seconds()) if rows else 0)


async def hold(rooms: Rooms, caller: Caller, request: QueueChange) -> Done:
    """Stop it until it is released."""
    rows = await picked(rooms, caller, request, _STOPPABLE)
    return Done(await rooms.queue.change(rows, RowState.HELD, reason=request.reason or f"held by {caller.label}") if rows else 0)


async def release(rooms: Rooms, caller: Caller, request: QueueChange) -> Done:
    """Held mail goes on, now."""
    rows = await picked(rooms, caller, request, (RowState.HELD,))
    return Done(await rooms.queue.change(rows, RowState.QUEUED, due=rooms.clock.seconds()) if rows else 0)


async def delete(rooms: Rooms, caller: Caller, request: QueueChange) -> Done:
    """Take it out without telling the sender."""
    rows = await picked(rooms, caller, request, _LIVE)
    return Done(
        await rooms.queue.change(rows, RowState.REMOVED, reason=request.reason or f"deleted by {caller.label}") if rows else 0
    )


async def bounce(rooms: Rooms, caller: Caller, request: QueueChange) -> Done:
    """Give up deliveries and tell their senders, as far as rule 6 allows."""
    give_up = need(rooms.bounce, "delivery")
    rows = await picked(rooms, caller, request, (*_STOPPABLE, RowState.HELD), (RowKind.DELIVER,))
    return Done(await give_up(rows, request.reason or f"returned by {caller.label}") if rows else 0)


def _change(name: str, summary: str, run: object) -> Operation[QueueChange, Done]:
    return Operation(f"queue.{name}", "POST", f"/queue/{name}", QueueChange, Done, Right.ADMINISTER, summary, run)  # type: ignore[arg-type]


OPERATIONS = (
    Operation("queue.list", "GET", "/queue", QueueFilter, QueueList, Right.ADMINISTER, "List the queue", list_all),
    Operation(
        "queue.show", "GET", "/queue/{id}", QueueMessage, MessageView, Right.ADMINISTER, "Show a message in the queue", show
    ),
    _change("flush", "Try mail in the queue now", flush),
    _change("hold", "Hold mail in the queue", hold),
    _change("release", "Release held mail", release),
    _change("delete", "Delete mail from the queue", delete),
    _change("bounce", "Return mail to its sender", bounce),
)
