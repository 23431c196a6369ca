"""What the spool promises to whoever puts mail in, and to whoever takes it on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from zope.interface import Interface

from hornetmail.core.delivery.queued import Backlog, Claim, Message, Portal, Row, RowKind, RowState, Settled
from hornetmail.core.mail.envelope import Envelope
from hornetmail.interfaces.body import IBody, IDeposit


class IShare(Interface):
    """Who may have how much of the attempts under way, so that one slow destination does not keep others waiting."""

    def destination(domain: str, address: str) -> str:
        """Where a row of a message of that domain to that address goes; rows with the same answer share."""

    def room(destination: str, taking: Mapping[str, int] = ...) -> int:
        """How many messages more it may have under way, if these, by destination, are taken besides."""

    def kept_waiting() -> None:
        """A claim left rows that are due, for lack of room: whoever claims looks again when an attempt ends."""


class IQueue(Interface):
    """The spool: a message is in it from its 250 until all its rows are done and it is archived."""

    def begin(tenant: int, *, own: bool = False) -> IDeposit:
        """A new message; ``own``: a letter of ours, for which a reserve of the disk is kept. Its ``commit(envelope, origin, direction, trace, *, domain, archive, hold="", request="")`` answers the
        ``Message``, durable, with one DELIVER row a recipient (HELD with that reason if ``hold``) and, if ``archive``, an ARCHIVE row
        that waits. Raises DiskFull or SpoolError: answer 4xx."""

    async def claim(
        now: float,
        limit: int,
        next_due: Callable[[Row], float],
        kinds: Collection[RowKind] = (),
        share: IShare | None = None,
    ) -> Sequence[Claim]:
        """Claim rows that are due, oldest first, newest arrivals from memory; attempt and next time are durable on return. Rows whose
        destination has no room in ``share`` wait unclaimed."""

    async def claim_rows(rows: Iterable[int], now: float, next_due: Callable[[Row], float]) -> Sequence[Claim]:
        """Claim just these, if they are not claimed or done: what drain and flush use."""

    async def settle(verdicts: Sequence[Settled]) -> None:
        """Record what became of claimed rows, and drain rows born with them. A message with nothing left leaves.

        After return the verdicts are in the journal. If it raises (DiskFull, SpoolError), nothing was recorded and the very same call may be
        made again; after SpoolBroken only a restart helps. A caller that was cancelled cannot know: the record may be on disk, and the same
        call made again changes nothing then (the same copy is one drain row). It waits for whatever is under way with these rows; none is
        passed over but those that are done or gone."""

    def claimed_for(seconds: float) -> Sequence[tuple[Message, Row]]:
        """Rows that have been claimed for longer than that (service uptime), from memory, oldest claim first. Only who made the claims
        knows whether somebody still works on them."""

    async def reclaim(rows: Iterable[int]) -> Sequence[tuple[Message, Row]]:
        """Take claimed rows back whose attempt will never end: QUEUED for the time recorded with their claim, and shown by
        ``claimed_at_start`` of every later start until they are settled, as after a crash. The rows as they were; others are passed over.
        Durable on return; raises as ``settle`` does."""

    async def queue_copy(
        copy: Portal, envelope: Envelope, address: str, *, tenant: int, domain: str, arrived: float, size: int, due: float
    ) -> Message:
        """A portal copy whose drain row was settled has to get home after all (rule 10): a message without a body whose one row is a DRAIN
        row for ``address``, QUEUED for ``due``, or PARKED if that is 0. Durable on return."""

    def claimed_at_start() -> Sequence[tuple[Message, Row]]:
        """Rows whose attempt the last death interrupted, as they were then; by now they are queued for the time recorded with the attempt."""

    async def body(message: int) -> IBody:
        """The body as received. Raises KeyError once the message has left, and SpoolError if it cannot be read now.

        ``body``, ``IBody.read`` and ``IBody.chunks`` raise ``hornetmail.spool.disk.errors.BodyLost``, a SpoolError, if the body is gone for good
        (missing, damaged, or on a bad sector): trying again is of no use, hold the rows. The alarm ``queue-body-lost`` names the message once."""

    async def change(rows: Iterable[int], state: RowState, *, due: float = 0.0, reason: str = "") -> int:
        """Administration: hold, release, park, flush, delete (REMOVED); claimed and done rows are left alone; the number changed. Many rows go
        in slices, each durable; if it raises, the same call may be made again."""

    async def adopt(domain: str, now: float) -> int:
        """Make all that is deferred for a domain due now (L4). Many rows go in slices, each durable: whoever was stopped in between, by an
        error or a death, calls it again."""

    async def rows(
        *,
        domain: str = "",
        states: Collection[RowState] = (),
        kinds: Collection[RowKind] = (),
        message: int = 0,
        mailbox: int = 0,
        limit: int = 500,
        after: int = 0,
        envelopes: bool = True,
    ) -> Sequence[tuple[Message, Row]]:
        """A page of the queue in order of row ID; a short one is the last. Messages that memory does not keep whole are read from disk, so whoever
        looks at rows alone says no ``envelopes``: such messages are then what their rows say of them, with ID, tenant, domain and direction, and without a
        sender, and so are those that cannot be read. Notices and redeliveries (all that has a request) are whole even so."""

    async def remember(space: str, key: str, value: bytes | None) -> None:
        """Keep a small fact (mode, probe, callforward answer); None forgets it. ``remembered`` shows it once it is durable; if it raises, it is
        neither, and the same call may be made again."""

    def remembered(space: str) -> dict[str, bytes]:
        """All facts of a space, from memory."""

    def backlog(tenant: int = 0) -> Backlog:
        """Figures, from memory: a tenant's (rule 25), or of all."""

    def next_due(kinds: Collection[RowKind] = ()) -> float | None:
        """When the next queued row of these kinds (all, if none) is due, in Unix seconds; past times are overdue ones; None if there is none.
        From memory; never too late, and too early for a while after thousands of rows were held or removed at once. Rows
        that ``claim`` passed over for want of room in a share are not counted: who gives room claims again."""

    def wake(listener: Callable[[], None]) -> None:
        """Call when something became due by the clock, and when a row became the next of its kind to be due (``next_due`` may have come
        earlier): in a later turn of the reactor, once for all that happened meanwhile. While rows stay overdue it calls again every 5 s."""
