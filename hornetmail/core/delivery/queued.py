"""What the queue holds, as values: a message, its rows, and what an attempt made of them."""

from __future__ import annotations

import enum

import msgspec

from hornetmail.core.failover.verdict import Verdict
from hornetmail.core.mail.envelope import Direction, Envelope, Origin


class RowKind(enum.StrEnum):
    """``DELIVER``: one recipient. ``ARCHIVE``: the message's copy for the archive, due once a recipient in the service's
    scope was delivered. ``DRAIN``: a portal copy that has to get home (rule 3)."""

    DELIVER = "deliver"
    ARCHIVE = "archive"
    DRAIN = "drain"


class RowState(enum.StrEnum):
    """``WAITING``: not due before something else happens (an archive row). ``PARKED``: waits with the give-up clock stopped.
    ``HELD``: an administrator or a policy stopped it (quarantine, loops, bounces of rule 6).
    ``CLAIMED``: an attempt is under way, or was when the process died. ``STUCK``: a drain refused with 5xx (rule 10). ``HOME``: the primary has
    this portal copy, and it has yet to leave the portal; it is never handed over again."""

    WAITING = "waiting"
    QUEUED = "queued"
    CLAIMED = "claimed"
    PARKED = "parked"
    HELD = "held"
    STUCK = "stuck"
    HOME = "home"
    DELIVERED = "delivered"
    FAILED = "failed"
    REMOVED = "removed"


class WaitsFor(enum.StrEnum):
    """What a row waits for besides its time. ``MAILBOX``: parked in an emergency for want of a portal mailbox; it goes when one is
    assigned or the primary is back, which rows that an administrator parked do not. ``PRIMARY``: queued for the primary, which works but
    defers it, though the portal could have it (``PortalOn.OUTAGE``). ``OUTAGE``: a portal copy that was made because the primary as a whole
    was in trouble; it need not wait out its back-off once that is over. ``NOTICE``: its delivery has failed (``last`` says how), and nobody is dialled
    any more; whether its sender may be told is to be found out."""

    NOTHING = ""
    MAILBOX = "mailbox"
    PRIMARY = "primary"
    OUTAGE = "outage"
    NOTICE = "notice"


DONE = frozenset({RowState.DELIVERED, RowState.FAILED, RowState.REMOVED})
"""States in which a row asks for nothing any more."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """An accepted message. ``envelope.recipients`` are those accepted, in order.

    ``arrived``: Unix seconds. ``size`` and ``sha256``: of the body as received, CRLF line ends, without ``trace``.
    ``trace``: the header lines that we prepend on the way to anybody (bytes, CRLF, ends with CRLF or is empty).
    ``domain``: the served domain that it belongs to (the recipient's, or the sender's for outgoing mail).
    ``request``: a redelivery's or notice's unique request ID, ``""`` otherwise; accepting the same one twice is one message.
    """

    id: int
    tenant: int
    envelope: Envelope
    origin: Origin
    direction: Direction
    arrived: float
    size: int
    sha256: bytes
    trace: bytes
    domain: str = ""
    request: str = ""


class Portal(msgspec.Struct, frozen=True, gc=False):
    """Where a drain row's copy lies: ``mailbox`` is the mailbox's ID, ``name`` the Maildir base name up to its info part."""

    mailbox: int
    name: str
    uncertain: bool = False


class Row(msgspec.Struct, frozen=True, gc=False):
    """One thing to do for one message.

    ``address``: the recipient as accepted; ``number``: its place in the envelope. ``due``: Unix seconds of the next attempt.
    ``attempts`` counts claims. ``queued``: when the row came to be; ``worked``: seconds of service uptime that count
    towards giving up (rule 5). ``last``: the newest verdict. ``portal`` is set on drain rows. ``reason`` says, for people only, why
    it is held, parked or stuck. ``staged``: of an archive row, the rows of the recipients that are in the archive already. ``unheard``: how often somebody
    took the final dot and did not answer it (rule 11); a drain row goes on from what its delivery had come to.
    """

    id: int
    message: int
    kind: RowKind
    state: RowState
    address: str = ""
    number: int = 0
    due: float = 0.0
    attempts: int = 0
    queued: float = 0.0
    worked: float = 0.0
    last: Verdict | None = None
    portal: Portal | None = None
    reason: str = ""
    delay_told: bool = False
    waits_for: WaitsFor = WaitsFor.NOTHING
    staged: tuple[int, ...] = ()
    unheard: int = 0


class Claim(msgspec.Struct, frozen=True, gc=False):
    """Rows of one message, claimed together; their attempt and next time are on disk."""

    message: Message
    rows: tuple[Row, ...]


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What becomes of a claimed row: its new state, when it is due again (0 = never by itself), the verdict,
    and the drain row that is born with it when failover put a copy into the portal: ``due``, ``reason`` and ``waits_for`` are that row's then.
    ``staged`` as in Row; none leaves it as it was. ``unheard`` as in Row; it never becomes less."""

    row: int
    state: RowState
    verdict: Verdict | None = None
    due: float = 0.0
    drain: Portal | None = None
    reason: str = ""
    delay_told: bool = False
    waits_for: WaitsFor = WaitsFor.NOTHING
    staged: tuple[int, ...] = ()
    unheard: int = 0


class Backlog(msgspec.Struct, frozen=True, gc=False):
    """The queue in figures. ``oldest``: age in seconds of the oldest unfinished delivery."""

    messages: int = 0
    deliver: int = 0
    drain: int = 0
    archive: int = 0
    held: int = 0
    oldest: float = 0.0
