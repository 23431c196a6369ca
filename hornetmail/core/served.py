"""What the directory knows, as values: domains, mailboxes, and who somebody is once logged in."""

from __future__ import annotations

import enum

import msgspec


class Failover(enum.StrEnum):
    """Who switches to emergency and back (C7)."""

    AUTO = "auto"
    MANUAL = "manual"


class PortalOn(enum.StrEnum):
    """At which trouble of the primary a single mail goes to the portal: ``ANY``, as C20 has it, or only such as an ``OUTAGE``
    may show in (L6): greylisted mail and mail for a full mailbox then waits in the queue for the primary."""

    ANY = "any"
    OUTAGE = "outage"


class OverQuota(enum.StrEnum):
    """What becomes of mail for a mailbox that is full: it waits in the queue and is tried again, or its sender is told at once."""

    DEFER = "defer"
    REFUSE = "refuse"


class Quota(msgspec.Struct, frozen=True, gc=False):
    """How much a mailbox may hold in all its folders; 0: as much as comes."""

    size: int = 0
    messages: int = 0

    def full(self, size: int, messages: int, percent: int = 100) -> bool:
        """Whether so much is more than that share of what it may hold."""
        return bool(
            (self.size and size * 100 > self.size * percent) or (self.messages and messages * 100 > self.messages * percent)
        )


class Coverage(enum.StrEnum):
    """All users of the domain, or picked mailboxes (C12)."""

    ALL = "all"
    PICKED = "picked"


class MailServer(msgspec.Struct, frozen=True, gc=False):
    """A door of the portal for mail programs. ``encryption``: ``TLS`` from the start, or ``STARTTLS``."""

    protocol: str
    host: str
    port: int
    encryption: str


class TLSPolicy(enum.StrEnum):
    """Outgoing TLS: if offered, required and verified, or never."""

    MAY = "may"
    VERIFY = "verify"
    NONE = "none"


class Role(enum.StrEnum):
    """Roles of a person (A39-A43); a plain user has none of them."""

    ADMIN = "admin"
    AUDITOR = "auditor"
    REVISOR = "revisor"
    DATAOFFICER = "dataofficer"


class Host(msgspec.Struct, frozen=True, gc=False):
    """A host to dial, ``port`` 1-65535."""

    name: str
    port: int = 25

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


class Domain(msgspec.Struct, frozen=True, gc=False):
    """A served domain. No ``primaries``: the portal is its mail server for good. ``relay_from``: networks whose hosts may send
    for it through the relay door. ``archive``: mail is archived (C8). ``retention_days``: kept that long (C1). ``portal_on``: what
    sends a single mail to the portal (C20). ``portal_days``: what an emergency left in the portal's folders stays that many days after it
    (rule 24); 0: for good. ``tell_people``: those who have a second address on file are told there when an emergency begins and ends.
    ``quota_bytes`` and ``quota_messages``: what each mailbox may hold in the portal, 0 without limit; ``over_quota``: what becomes of mail for a full one."""

    name: str
    tenant: int = 1
    primaries: tuple[Host, ...] = ()
    failover: Failover = Failover.AUTO
    coverage: Coverage = Coverage.ALL
    tls: TLSPolicy = TLSPolicy.MAY
    active: bool = True
    archive: bool = True
    retention_days: int = 90
    relay_from: tuple[str, ...] = ()
    smarthost: Host | None = None
    aliases: tuple[str, ...] = ()
    portal_on: PortalOn = PortalOn.ANY
    portal_days: float = 90.0
    tell_people: bool = False
    quota_bytes: int = 0
    quota_messages: int = 0
    over_quota: OverQuota = OverQuota.DEFER


class Cause(enum.StrEnum):
    """Why the archive is closed to somebody: an administrator set the password, or made the mailbox for an address that has archived mail."""

    PASSWORD = "password"
    ADDRESS = "address"


OPERATOR = 1
"""The first tenant: whoever runs the installation (rule 25). What the machine's own administrator does, whose tenant is 0, is for its auditors to see."""


class Suspension(msgspec.Struct, frozen=True, gc=False):
    """Access to archived mail is suspended until a second person approves (rule 15). ``since``: Unix seconds; ``by``: mailbox IDs of the
    administrators who brought it about, 0 for the local one; none of them can lift it."""

    cause: Cause
    since: float
    by: tuple[int, ...]


class Mailbox(msgspec.Struct, frozen=True, gc=False):
    """A registered mailbox. ``address`` in the case it was registered in (C25); ``aliases`` are further addresses of it alone.
    ``picked``: covered in a domain with picked coverage. ``archive``: false exempts it from archiving, on the record (rule 24).
    ``suspended``: its person may not use the archive for now; mail goes on working. ``second``: where its person can be reached when this
    mailbox cannot, an address outside the served domains, or ``""``. ``quota_bytes`` and ``quota_messages``: instead of the domain's, None: as it has them."""

    id: int
    address: str
    domain: str
    tenant: int = 1
    aliases: tuple[str, ...] = ()
    roles: tuple[Role, ...] = ()
    name: str = ""
    enabled: bool = True
    picked: bool = True
    archive: bool = True
    suspended: Suspension | None = None
    second: str = ""
    quota_bytes: int | None = None
    quota_messages: int | None = None

    def quota(self, domain: Domain | None) -> Quota:
        """What it may hold, in its domain."""
        size, messages = (domain.quota_bytes, domain.quota_messages) if domain is not None else (0, 0)
        return Quota(
            size if self.quota_bytes is None else self.quota_bytes,
            messages if self.quota_messages is None else self.quota_messages,
        )


class Person(msgspec.Struct, frozen=True, gc=False):
    """Somebody who logged in. ``addresses``: keys (``Address.key``) of every own address (A43, A44)."""

    mailbox: int
    address: str
    tenant: int
    roles: tuple[Role, ...] = ()
    addresses: tuple[str, ...] = ()
    name: str = ""

    def has(self, role: Role) -> bool:
        """Whether the role was granted."""
        return role in self.roles


class Scope(msgspec.Struct, frozen=True, gc=False):
    """What of the archive somebody may see, computed by ``access`` alone (rules 14, 15).

    ``tenant`` 0 means every tenant. ``addresses`` are keys of own addresses, None means all mail. ``content`` false: envelope, date, size
    and ID only (with ``subjects``, the subject too), and no opening. ``all_recipients``: sees Bcc recipients of mail that is not
    his own (auditors). ``own``: keys of own addresses where ``addresses`` is None, for whoever sees more sees no less of the own mail.
    """

    tenant: int
    addresses: frozenset[str] | None
    content: bool = True
    subjects: bool = True
    all_recipients: bool = False
    own: frozenset[str] = frozenset()

    @property
    def mine(self) -> frozenset[str]:
        """Keys of the own addresses, whatever else is seen."""
        return self.own if self.addresses is None else self.addresses
