"""A live message as few bytes: all that the queue decides by, but not its envelope and trace, which the journal has. No I/O."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from hornetmail.core.delivery.queued import Portal, RowKind, RowState, WaitsFor
from hornetmail.core.failover.verdict import Verdict
from hornetmail.spool.disk.journal import LiveRow, Where
from hornetmail.spool.rows.entry import Entry

_KINDS = tuple(RowKind)
_STATES = tuple(RowState)
_SAME_DOMAIN = 32
_OUTGOING, _INDEXED = 1, 2
_TOLD, _INTERRUPTED = 1, 2
T = TypeVar("T", Verdict, str)


class _Row(msgspec.Struct, array_like=True, gc=False):
    """``id``: beyond the message's. ``what``: kind, state, and whether ``address`` is the local part of one in the message's domain. A time of None
    is 0, ``queued`` and ``mark`` of None are the first row's. ``last``: the verdict's number in ``Shared``, or itself."""

    id: int
    what: int
    address: str
    due: float | None
    queued: float | None
    mark: float | None
    number: int
    attempts: int
    worked: float | None
    last: int | Verdict | None
    portal: tuple[int, str, bool] | None
    reason: str
    flags: int
    waits_for: WaitsFor | None
    staged: tuple[int, ...]
    unheard: int


class _Packed(msgspec.Struct, array_like=True, gc=False):
    """``where`` comes first: ``in_file`` looks for it. ``domain``: its number in ``Shared``, or itself."""

    where: int
    tenant: int
    segment: int
    offset: int
    stored: int
    flags: int
    domain: int | str
    file: int
    request: str
    meta: bytes | None
    rows: list[_Row]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Packed).decode


class Numbers(Generic[T]):
    """Values that many messages share, by small numbers: at most ``most`` of them. Each number that ``number`` gave is to be given back once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: list[T | None] = []
        self._users: list[int] = []
        self._free: list[int] = []
        self._numbers: dict[T, int] = {}

    def number(self, value: T) -> int | T:
        """Its number, or the value itself if there are too many different ones."""
        number = self._numbers.get(value)
        if number is None:
            if self._free:
                number = self._free.pop()
                self._known[number] = value
            elif len(self._known) < self._most:
                number = len(self._known)
                self._known.append(value)
                self._users.append(0)
            else:
                return value
            self._numbers[value] = number
        self._users[number] += 1
        return number

    def back(self, number: int | T) -> T:
        """The value of a number, which whoever asks does not use any more."""
        if not isinstance(number, int):
            return number
        value = self._known[number]
        assert value is not None
        self._users[number] -= 1
        if not self._users[number]:
            del self._numbers[value]
            self._known[number] = None
            self._free.append(number)
        return value


class Shared:
    """What packed messages have in common."""

    def __init__(self) -> None:
        self.verdicts: Numbers[Verdict] = Numbers(10_000)
        self.domains: Numbers[str] = Numbers(100_000)


def pack(entry: Entry, shared: Shared, bare: bool = False) -> bytes:
    """About 150 bytes for one recipient. Of its Message nothing is left, unless it has a request, whose remains need it, or the index does not have it
    yet and it is not to be ``bare``."""
    rows: list[_Row] = []
    here = "@" + entry.domain
    first = entry.rows[0]
    for row in entry.rows:
        what = _KINDS.index(row.kind) * 10 + _STATES.index(row.state)
        address = row.address
        if address.endswith(here):
            what, address = what + _SAME_DOMAIN, address[: -len(here)]
        portal = row.portal
        rows.append(
            _Row(
                row.id - entry.id, what, address, row.due or None,
                None if row is not first and row.queued == first.queued else row.queued,
                None if row is not first and row.mark == first.mark else row.mark,
                row.number, row.attempts, row.worked or None, None if row.last is None else shared.verdicts.number(row.last),
                None if portal is None else (portal.mailbox, portal.name, portal.uncertain), row.reason,
                _TOLD * row.delay_told + _INTERRUPTED * row.interrupted, row.waits_for, row.staged, row.unheard,
            )
        )  # fmt: skip
    flags = _OUTGOING * entry.outgoing + _INDEXED * entry.indexed
    whole = entry.request or not (bare or entry.indexed)
    meta = entry.pack() if whole and entry.meta is not None else None
    return _encode(
        _Packed(
            int(entry.where),
            entry.tenant,
            entry.segment,
            entry.offset,
            entry.stored,
            flags,
            shared.domains.number(entry.domain),
            entry.file,
            entry.request,
            meta,
            rows,
        )
    )


def unpack(number: int, packed: bytes, shared: Shared) -> Entry:
    """What was packed; once each."""
    one = _decode(packed)
    rows: list[LiveRow] = []
    domain = shared.domains.back(one.domain)
    here = "@" + domain
    queued = mark = 0.0
    for row in one.rows:
        what, address = row.what, row.address
        if what >= _SAME_DOMAIN:
            what, address = what - _SAME_DOMAIN, address + here
        if not rows:
            queued, mark = row.queued or 0.0, row.mark or 0.0
        rows.append(
            LiveRow(
                number + row.id, number, _KINDS[what // 10], _STATES[what % 10], address, row.number, row.due or 0.0, row.attempts,
                queued if row.queued is None else row.queued, row.worked or 0.0, None if row.last is None else shared.verdicts.back(row.last), None if row.portal is None else Portal(*row.portal),
                row.reason, bool(row.flags & _TOLD), mark if row.mark is None else row.mark, bool(row.flags & _INTERRUPTED), row.waits_for, row.staged, row.unheard,
            )
        )  # fmt: skip
    return Entry(
        number, one.tenant, one.meta, tuple(rows), one.segment, one.offset, one.stored, Where(one.where), one.file, domain,
        bool(one.flags & _OUTGOING), one.request, bool(one.flags & _INDEXED),
    )  # fmt: skip


def in_file(packed: bytes) -> bool:
    """Whether its body has a file of its own."""
    return packed[1] == Where.FILE
