"""What the rooms promise each other.

Rooms that lie side by side know one another only through these interfaces, the bus and ``compose``. Methods marked ``async`` may be
awaited from the reactor thread only; the others answer at once from memory. Values are frozen structs of ``hornetmail.core``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from zope.interface import Attribute, Interface

from hornetmail.core.archived import (
    ArchivedMail,
    ArchiveFigures,
    ArchiveItem,
    BackupState,
    Finding,
    Handed,
    MediumProbe,
    MediumState,
    MirrorState,
    Page,
    RootKeyState,
)
from hornetmail.core.envelope import Envelope
from hornetmail.core.folder import Copied, Entry, FolderInfo, FolderStatus
from hornetmail.core.mode import Mode
from hornetmail.core.queued import Backlog, Claim, Message, Portal, Row, RowKind, RowState, Settled
from hornetmail.core.reply import Reply
from hornetmail.core.retention import Deleted, Hold, RetentionPreview, RetentionState, Rule
from hornetmail.core.served import Domain, Mailbox, Person, Scope
from hornetmail.core.spf import SPFVerdict
from hornetmail.core.stamps import StampState
from hornetmail.core.statistics import Statistics
from hornetmail.core.stray import Choice, Stray
from hornetmail.core.verdict import Verdict


class IBus(Interface):
    """Hints between rooms, sent after commit: losing one costs latency, never correctness."""

    def publish(event: Any) -> None:
        """Call every subscriber of ``type(event)`` in the next reactor turn; a subscriber's error is logged and disturbs nobody."""

    def subscribe(kind: type, listener: Callable[[Any], Any]) -> Callable[[], None]:
        """Listen to events of a class (of ``hornetmail.core.events``); the answer unsubscribes."""


class IBody(Interface):
    """The exact bytes of a message at rest."""

    size = Attribute("bytes")

    async def read(start: int = 0, length: int = -1) -> bytes:
        """A part, or all of it."""

    def chunks() -> AsyncIterator[bytes]:
        """All of it in pieces of at most 64 KiB, never whole in memory."""


class IDeposit(Interface):
    """A body that is arriving (the contract of a delivery: begin, write, then commit or abort)."""

    size = Attribute("bytes written so far")

    async def write(data: bytes) -> None:
        """Take a piece; returns when the next may come."""

    async def commit(*args: Any, **keywords: Any) -> Any:
        """Make it durable; what it takes and answers is said by whoever made the deposit."""

    async def abort() -> None:
        """Forget it. Safe to call at any time, also twice, also after commit (then it does nothing)."""


class IShare(Interface):
    """Who may have how much of the attempts under way, so that one slow destination does not keep others waiting."""

    def destination(domain: str, address: str) -> str:
        """Where a row of a message of that domain to that address goes; rows with the same answer share."""

    def room(destination: str, taking: Mapping[str, int] = ...) -> int:
        """How many messages more it may have under way, if these, by destination, are taken besides."""


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

    async def take_back(
        copy: Portal, envelope: Envelope, address: str, *, tenant: int, domain: str, arrived: float, size: int, due: float
    ) -> Message:
        """A portal copy whose drain row was settled has to get home after all (rule 10): a message without a body whose one row is a DRAIN
        row for ``address``, QUEUED for ``due``, or PARKED if that is 0. Durable on return."""

    def claimed_at_start() -> Sequence[tuple[Message, Row]]:
        """Rows whose attempt the last death interrupted, as they were then; by now they are queued for the time recorded with the attempt."""

    async def body(message: int) -> IBody:
        """The body as received. Raises KeyError once the message has left, and SpoolError if it cannot be read now.

        ``body``, ``IBody.read`` and ``IBody.chunks`` raise ``hornetmail.spool.errors.BodyLost``, a SpoolError, if the body is gone for good
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
    ) -> Sequence[tuple[Message, Row]]:
        """A page of the queue in order of row ID."""

    async def remember(space: str, key: str, value: bytes | None) -> None:
        """Keep a small fact (mode, probe, callforward answer); None forgets it. ``remembered`` shows it once it is durable; if it raises, it is
        neither, and the same call may be made again."""

    def remembered(space: str) -> dict[str, bytes]:
        """All facts of a space, from memory."""

    def backlog() -> Backlog:
        """Figures, from memory."""

    def next_due(kinds: Collection[RowKind] = ()) -> float | None:
        """When the next queued row of these kinds (all, if none) is due, in Unix seconds; past times are overdue ones; None if there is none.
        From memory; never too late, and too early for a while after thousands of rows were held or removed at once. Rows
        that ``claim`` passed over for want of room in a share are not counted: who gives room claims again."""

    def wake(listener: Callable[[], None]) -> None:
        """Call when something became due by the clock, and when a row became the next of its kind to be due (``next_due`` may have come
        earlier): in a later turn of the reactor, once for all that happened meanwhile. While rows stay overdue it calls again every 5 s."""


class ICourier(Interface):
    """A way to a destination. The agent knows nothing else of it."""

    name = Attribute("primary, portal, mx, archive, …")

    async def deliver(message: Message, rows: Sequence[Row], body: IBody) -> dict[int, Verdict]:
        """One attempt: a verdict for every row given, by row ID. Never raises for what a destination does."""


class IModes(Interface):
    """The mode of each domain."""

    def mode(domain: str) -> Mode:
        """Now, from memory; NORMAL for domains it has not heard of."""

    def explain(domain: str) -> dict[str, Any]:
        """For people: mode, since when, by whom, why, next probe, health of every primary. Always there: ``up`` (True if
        some primary answers, None while nobody knows) and ``primaries``, a list of ``{"host", "up", "since", "seen", "reason"}``."""

    async def recipients(domain: str) -> dict[str, Any]:
        """For people: ``accepts_everything`` (rule 4: registration is required), ``gaps`` (L7: the first addresses that the primary accepts and
        nobody registered, so that their mail waits in an emergency) and ``gaps_total``. Looked up: not for many domains at a time."""

    def ended(domain: str) -> float:
        """When the last emergency ended, in Unix seconds; 0 if none is known. Outlives restarts."""

    async def switch(domain: str, mode: Mode, by: str, reason: str = "") -> None:
        """By hand. Raises KeyError (no such domain) or ValueError (that switch makes no sense, says why)."""


class IRecipients(Interface):
    """Whether a recipient exists (C13, C14, rule 4)."""

    async def verify(address: str, sender: str = "") -> Reply:
        """250 known, 550 5.1.1 unknown, 451 cannot tell now."""


class ISenderCheck(Interface):
    """Whether the reverse-path of a message is the sender's own, which a bounce to it needs (rule 6)."""

    async def spf(peer: str, helo: str, sender: str) -> SPFVerdict:
        """What the sender's domain says of the client ``peer`` (an IP address): check_host of RFC 7208 for MAIL FROM. Answers within
        20 s, never raises."""


class IDirectory(Interface):
    """Domains and mailboxes from a versioned in-memory snapshot."""

    version = Attribute("grows with each change")

    def domain(name: str) -> Domain | None:
        """By folded name or alias."""

    def domains() -> Sequence[Domain]:
        """All, by name."""

    def mailbox(address: str) -> Mailbox | None:
        """By address or alias, any case (C25)."""

    def mailbox_by_id(identifier: int) -> Mailbox | None:
        """By its stable ID."""

    def mailboxes(domain: str = "") -> Sequence[Mailbox]:
        """All, or those of a domain, by address."""

    def with_roles(tenant: int) -> Sequence[Mailbox]:
        """Those of a tenant that have a role, by address, found without looking at the others."""

    def covered(address: str) -> Mailbox | None:
        """The mailbox, if the service covers it (C11, C12)."""


class IAccess(Interface):
    """Log-in and rights: one place for every door."""

    async def login(user: str, password: str, door: str, peer: str) -> Person:
        """Raises AccessRefused; throttled by account and by network, whatever the door. ``door`` names the entrance for the log: ``submission``,
        ``imap``, ``pop3``, ``web``, ``http`` or ``socket``; ``peer`` is an IP address or ``""``."""

    def scope(person: Person) -> Scope:
        """What of the archive that person may see. Raises ``core.archived.Refused`` while that is suspended (rule 15)."""


class IFolderTree(Interface):
    """Folders of one mailbox, implemented by portal and archive, mounted side by side by IMAP and webmail (L1)."""

    async def folders() -> Sequence[FolderInfo]:
        """All of them, INBOX first."""

    async def open(name: str) -> IFolder:
        """Raises FolderError NONEXISTENT."""

    async def create(name: str, use: str = "") -> None:
        """Missing levels too. Raises FolderError."""

    async def delete(name: str) -> None:
        """Raises FolderError."""

    async def rename(old: str, new: str) -> None:
        """Lower levels move too; INBOX moves its messages (RFC 3501 section 6.3.5). Raises FolderError."""

    async def subscribe(name: str, wanted: bool) -> None:
        """Subscriptions outlive their folders."""

    async def subscriptions() -> Sequence[str]:
        """Names, folders that are gone included."""


class IFolder(Interface):
    """One folder. UIDs only grow; every change has a modseq."""

    info = Attribute("FolderInfo")

    async def status() -> FolderStatus:
        """Figures."""

    async def entries(uids: Collection[int] | None = None) -> Sequence[Entry]:
        """Messages by UID."""

    async def changes(modseq: int) -> Sequence[Entry]:
        """Entries changed, new or gone since then, by modseq."""

    async def structures(uids: Sequence[int]) -> dict[int, Any]:
        """``hornetmail.mime.structure.Part`` trees with offsets; the portal keeps them, 64 messages a hop."""

    async def body(uid: int) -> IBody:
        """The message as served. Raises FolderError EXPUNGEISSUED if it has gone."""

    async def store(
        uids: Collection[int], add: Collection[str] = (), remove: Collection[str] = (), replace: Collection[str] | None = None
    ) -> Sequence[Entry]:
        """Change flags and keywords; the entries as they are then. A claimed drain copy: FolderError INUSE."""

    async def expunge(uids: Collection[int] | None = None) -> Sequence[int]:
        r"""Remove messages marked \Deleted (all, or those among ``uids``); the UIDs that went. They count as removed (C6)."""

    async def copy(uids: Collection[int], target: str) -> Copied:
        """To another folder of the same tree, keeping flags and date. All or nothing. A target that begins with ``/`` lies in the tree
        mounted at the root: only trees that are mounted elsewhere are asked that (rule 27)."""

    async def move(uids: Collection[int], target: str) -> Copied:
        """The same, and away from here (RFC 6851)."""

    def append(flags: Collection[str], date: float | None) -> IDeposit:
        """A new message; ``commit()`` answers ``Copied``."""


class IPortal(Interface):
    """The Maildir store."""

    def tree(mailbox: int) -> IFolderTree:
        """The folders of a mailbox; INBOX is made on first use."""

    async def deliver(mailbox: int, message: Message, row: Row, body: IBody, *, uncertain: bool = False) -> Portal:
        """Into INBOX, with the envelope in its first lines (rule 9); the file's name holds the row's ID, so twice is once."""

    async def lock(mailbox: int, owner: str) -> bool:
        """The POP lock (RFC 1939 section 4); drain waits for it."""

    async def unlock(mailbox: int, owner: str) -> None:
        """Release it."""

    async def begin_drain(copy: Portal) -> tuple[Envelope, IBody] | None:
        """Claim a copy for hand-over: its original envelope, and its bytes without the envelope lines. None if it was deleted,
        marked \\Deleted or moved out of INBOX: then it does not drain (C6). While claimed, clients get INUSE."""

    async def end_drain(copy: Portal, *, delivered: bool, keyword: str = "", reason: str = "") -> None:
        """Remove it after the primary's 250 (open sessions see EXPUNGE), or let it go again, marked with ``keyword``."""

    async def received(mailbox: int, row: Row) -> Portal | None:
        """The copy that ``deliver`` made for this row, wherever it was moved since; None if there never was one. Asked after a crash."""

    async def returned(mailbox: int, names: Collection[str]) -> dict[str, tuple[Envelope, int]]:
        """Which of the copies of these names lie in INBOX now, unmarked: their original envelope, and their size without its lines. Copies
        keep their identity wherever they were moved (rule 10)."""

    async def unaddressed(mailbox: int, *, copies: bool = False) -> Sequence[Entry]:
        """Messages in INBOX without an envelope (APPENDed, foreign: rule 10), or all of INBOX with ``copies``. ``begin_drain`` takes their names as
        it takes copies'; the envelope of those without one is ``<>`` to the mailbox's main address."""

    async def holding(mailboxes: Iterable[int], spoken_for: Collection[int] | None = None) -> Sequence[int]:
        """Which of these mailboxes hold such messages, or, if it is given, copies of rows that are not ``spoken_for``; in the same order, from
        the files' names alone."""

    async def left_over(
        mailbox: int, before: float, spared: Collection[str] = (), refused: Collection[str] = ()
    ) -> dict[str, list[str]]:
        """What is in the portal since ``before`` or longer, names by folder: all folders but INBOX, and of INBOX the copies ``refused`` by
        the primary (rule 24). Copies ``spared`` count nowhere, wherever they were moved. Both are names of ``Portal`` values."""

    async def expire(
        mailbox: int, before: float, spared: Collection[str] = (), refused: Collection[str] = ()
    ) -> dict[str, list[str]]:
        """Remove just that; what went, names by folder. Open sessions see EXPUNGE; of INBOX nothing goes during a POP session."""

    async def figures() -> dict[str, int]:
        """Mailboxes, messages, bytes, and how much lies in INBOXes."""


class IStrays(Interface):
    """Mail in INBOXes that has no envelope, and the choice to have it delivered all the same (rule 10)."""

    def goal(mailbox: int) -> str:
        """The address at the primary that chosen mail of this mailbox goes to; ``""`` if there is no primary, and nothing can be chosen."""

    async def of(mailbox: int, uids: Collection[int] | None = None) -> Sequence[Stray]:
        """All in a mailbox, or those among ``uids``, by UID; without what is marked \\Deleted. Raises FolderError."""

    async def page(mailboxes: Sequence[int], limit: int, after: int = 0) -> tuple[Sequence[Stray], bool]:
        """Up to ``limit`` of several mailboxes, in their order, of the first one those with UIDs above ``after``; True: there are more."""

    async def choose(mailbox: int, uids: Collection[int] | None = None) -> Choice:
        """Have them delivered to ``goal(mailbox)`` with MAIL FROM ``<>``: all, or those among ``uids``. Their drain rows are durable on
        return; a second choice makes no second row. Raises KeyError (no such mailbox), ValueError (no primary), FolderError."""


class IExpiry(Interface):
    """What an emergency left in the portal's folders goes after a time, announced (rule 24)."""

    def due(mailbox: int) -> float:
        """The date that was announced to the mailbox's owner, in Unix seconds, from memory; 0 if none was."""


class IArchive(Interface):
    """The encrypted archive."""

    async def stage(item: ArchiveItem, body: IBody) -> None:
        """Durable in the staging pack on return, once for a row ID. Raises DiskFull or ArchiveError: try again later."""

    async def search(scope: Scope, query: str, *, limit: int = 50, after: str = "") -> Page:
        """Newest first. Words, "phrases", and from: to: subject: before: after: has:attachment size> id: terms.
        Hits are counted exactly up to 10,000. Raises QueryError."""

    async def mail(scope: Scope, identifier: int) -> ArchivedMail:
        """What the scope may see of one. Raises KeyError."""

    async def read(scope: Scope, identifier: int) -> bytes:
        """The exact bytes as received, checked by SHA-256. Raises KeyError, Refused (no right to content), ArchiveError (medium out of reach)."""

    async def evidence(scope: Scope, identifier: int) -> bytes:
        """The evidence bundle of one mail, a zip (``hornetmail.archive.proof.evidence``). Raises KeyError, Refused (no right to content, or not to all that the
        envelope names: rule 14), ArchiveError (not on a medium yet, or out of reach)."""

    async def figures() -> ArchiveFigures:
        """Counts."""

    async def verify(full: bool = False) -> Sequence[Finding]:
        """Checks seals, order, references and SHA-256 of everything (full), or of what is new and a sample. Empty: all is well."""

    async def flush(seal: bool = False) -> None:
        """Index all that is staged; with ``seal``, close the staging pack and put it on the medium now."""

    async def confirm_purge() -> None:
        """Somebody looked: the clock is right, what is marked may go, and the next marking goes through, however much it is (rules 18, 19)."""

    async def mark(now: float) -> int:
        """What has expired is found by no search any more (A57), and goes with a ``purge`` a day later unless it is given longer until then; the number.
        Raises ArchiveError: refused until confirmed (rule 19)."""

    async def purge(now: float) -> int:
        """What was marked a day ago leaves the media (A58); the number that went. Raises ArchiveError: refused until confirmed (rule 19)."""


class IStamps(Interface):
    """Time stamps on the archive's leaf log (A33, A34, L2)."""

    def state() -> StampState:
        """How it stands."""

    async def stamp() -> StampState:
        """Have the newest root stamped now, the audit log's newest hash under it. Raises NoAuthority, ArchiveError: nobody gave one; it is tried again."""

    async def test(name: str) -> None:
        """Ask one authority for a stamp that is thrown away. Raises KeyError, ArchiveError: why it would not count."""


class IRetention(Interface):
    """How long the archive keeps mail: rules, legal holds, and deletion on request (A57, A58, rule 23). Each tenant has its own."""

    async def state(tenant: int) -> RetentionState:
        """The rules in force, and what is on its way out. Raises ArchiveError (no index)."""

    async def preview(tenant: int, rules: Sequence[Rule]) -> RetentionPreview:
        """What these rules would do now with the mail that is there; nothing changes. Raises ValueError (which rule is wrong), ArchiveError."""

    async def set_rules(tenant: int, rules: Sequence[Rule], by: str) -> None:
        """In place of those before, for mail that is there and that comes. What goes by them is marked in the next night, under rule 19's brakes. Raises
        ValueError, ArchiveError, DiskFull."""

    async def holds(tenant: int) -> Sequence[Hold]:
        """All of them, the newest first, released ones too."""

    async def hold(
        tenant: int,
        name: str,
        by: str,
        *,
        query: str = "",
        content: bool = False,
        identifiers: Sequence[int] = (),
        reason: str = "",
    ) -> int:
        """Hold what a query finds, now and later, or these mails; more may be added under the same name. ``content``: the query looks into texts and subjects,
        which not everybody may who may hold (rule 15). How many are new in it. What was marked to go is not any more. Raises ValueError, QueryError, KeyError (no such mail), ArchiveError, DiskFull."""

    async def release(tenant: int, name: str, by: str) -> None:
        """End a hold. Raises KeyError (there is none of that name), ArchiveError, DiskFull."""

    async def delete(tenant: int, identifiers: Sequence[int], by: str, reason: str) -> Deleted:
        """All of them, or none: out of index, full text and search at once, off the media with the next merging. Raises ValueError (too many), KeyError (no such
        mail), HoldRefused, ArchiveError, DiskFull."""


class IRootKeys(Interface):
    """The archive's root key, its paper, and its change in three steps (A3-A6, rule 22)."""

    state = Attribute("a ``RootKeyState``")

    async def backup(password: str) -> str:
        """The key in force as text under a password. Raises KeyRefused (it is not here)."""

    async def begin(password: str) -> str:
        """Make a new root key that nothing uses yet; its paper. Raises KeyRefused (one is pending, or the archive is locked), ArchiveError."""

    async def confirm(text: str, password: str) -> RootKeyState:
        """The paper was read: the pending key comes into force here and on every medium in reach. Raises KeyRefused (no pending key, another
        key's paper, a bad line, the wrong password), ArchiveError (the disk)."""

    async def cancel() -> None:
        """Drop the pending key. Raises KeyRefused (there is none, or it is in force already), ArchiveError."""


class IMedia(Interface):
    """The archive's media (A7-A16). What may not be done raises ``ArchiveError`` that says why; what a medium says, ``MediumError``."""

    async def list() -> Sequence[MediumState]:
        """All, by number, retired ones included."""

    async def test(number: int) -> MediumProbe:
        """Write, read, list and delete there."""

    async def add(kind: str, place: str, options: Mapping[str, object], secret: str, name: str = "") -> int:
        """Make a new medium there, or take in one that this archive had; its number. ``kind``: directory, smb or s3. Raises ValueError (a place
        that cannot be understood) besides."""

    async def activate(number: int) -> None:
        """From now on it takes new mail; exactly one does (A12)."""

    async def deactivate(number: int) -> None:
        """Out of use: not looked at any more, its mail says so when opened (A15). Not the active one."""

    async def use(number: int) -> None:
        """Back in use."""

    async def set_secret(number: int, secret: str) -> None:
        """Another password or secret key for a share or bucket."""

    async def remove(number: int) -> None:
        """Take out one that never held mail (A14). Its number is not given again."""

    async def merge(numbers: Sequence[int], into: int) -> None:
        """Begin to move all that these hold to another medium; each is retired when it is done, its number leads there (A16)."""


class ISafety(Interface):
    """Backups of the databases, and the mirror of all media (A29, A32). Both are made by their jobs."""

    async def backups() -> Sequence[BackupState]:
        """Whole ones on media in reach, newest first."""

    def gone_by(now: float) -> float:
        """What is deleted at ``now`` is in no backup after that moment (rule 23); Unix seconds."""

    async def mirror() -> MirrorState | None:
        """None: none is set up."""

    async def set_mirror(kind: str, place: str, options: Mapping[str, object], secret: str) -> None:
        """From now on everything is mirrored there; see ``IMedia.add``. Raises ArchiveError, ValueError."""

    async def unset_mirror() -> None:
        """Follow no more; what lies there stays."""

    def statistics(tenant: int) -> Statistics | None:
        """As counted last (A59); None: not yet, or there is no mail."""

    async def repair(full: bool) -> Sequence[Finding]:
        """Put packs that are missing or (``full``) damaged back from the mirror: what was, and whether it is mended. Raises ArchiveError."""


class IRedelivery(Interface):
    """Old mail to whoever may have it, wherever that person's mail goes now (C10, C16, C17)."""

    async def redeliver(
        person: Person, identifiers: Sequence[int], to: str = "", request: str = "", *, attached: bool = False
    ) -> Handed:
        """``to`` defaults to the person's own address; administrators name the owner. MAIL FROM ``<>``, not archived again. ``attached``: each
        as message/rfc822 in a new message of ours; what 8bit cannot carry is left out, and why is said."""


class IMeters(Interface):
    """Counters and gauges for /metrics and the dashboard."""

    def count(name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""

    def observe(name: str, seconds: float, **labels: str) -> None:
        """A duration into a histogram."""


class IAudit(Interface):
    """Who did what. Row first, then the action, then its outcome."""

    async def begin(actor: str, action: str, subject: str, detail: str = "", tenant: int = 0) -> int:
        """Durable before the action; its number. ``tenant`` 0: the whole installation's business."""

    async def outcome(number: int, result: str) -> None:
        """What came of it."""

    async def entries(*, tenant: int = 0, before: int = 0, limit: int = 100) -> Sequence[Any]:
        """``hornetmail.runtime.audit.AuditRow`` values, newest first, each with what came of it. ``tenant`` 0: everybody's; ``before``: numbers below it."""

    async def verify() -> str:
        """Walk the whole chain of hashes: ``""``, or where it breaks."""

    async def newest() -> tuple[int, bytes]:
        """Number and hash of the newest row; number 0: there is none."""

    async def hash_of(number: int) -> bytes | None:
        """The hash of a row; None: it is not there."""
