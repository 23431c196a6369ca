"""Time stamps on the leaf log (A33, A34, L2): when they are made, whom they are asked of, what is done when nobody answers.

A stamp is made in this order: the audit log's newest hash becomes a leaf (L14), everything staged is sealed, the head of the log is taken while nothing
is being sealed, an authority stamps it, the token is checked against the selected CA certificates, the stamp is on the local disk, then on the media.
A token that was given is never thrown away but with the disk that was to keep it. Media that were away get what they lack with the next one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NoReturn

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.archive.index.ties.leaves import audit_leaves, is_audited
from hornetmail.archive.media.medium import MediumError
from hornetmail.archive.media.roster import Media
from hornetmail.archive.proof.leaflog import LeafLog
from hornetmail.archive.proof.leaves import EMPTY_ROOT, audit_input, leaf_hash, milliseconds
from hornetmail.archive.proof.stamplog import StampLog
from hornetmail.archive.proof.stamps import NONE, Head, Stamp, StampBroken
from hornetmail.archive.proof.tokens import (
    TokenWrong,
    ask_for,
    check,
    good_until,
    loaded,
    read_certificates,
    read_token,
    token_in,
)
from hornetmail.archive.store.holdings import Holdings
from hornetmail.archive.store.records import EventMeta, What
from hornetmail.core.archive.archived import ArchiveError, Finding, NoAuthority
from hornetmail.core.archive.stamps import Authority, StampSettings, StampState
from hornetmail.core.clock import TOLERANCE
from hornetmail.core.delivery.backoff import DAY, Backoff
from hornetmail.db.engines import DatabaseError
from hornetmail.db.pool import Database
from hornetmail.disk.files import DiskFull
from hornetmail.interfaces.audit import IAudit
from hornetmail.interfaces.stamps import IStamps
from hornetmail.net.ask import Answer, AskError

MANY = 10_000
"""So many unstamped leaves are stamped at the next quarter of an hour (A52)."""

RENEW = 90 * DAY
"""A stamp whose certificate or algorithm ends sooner is held by a new one."""

WARN = 30 * DAY
"""An authority whose new stamps end sooner than this is told of."""

LEAVES = 32
"""So many of the newest leaves of the audit log, and what came behind the oldest of them, a short verification looks at."""

FAILED = "archive-stamp"
ENDING = "archive-stamp-ending"
CLOCK = "archive-stamp-clock"
CHAIN = "archive-stamp-lost"


class Outside(msgspec.Struct, frozen=True):
    """What stamping gets from elsewhere. ``settings``: as they are now. ``post``: ``Asker.post``. ``audit``: an ``IAudit``."""

    settings: Callable[[], StampSettings]
    post: Callable[..., Coroutine[Any, Any, Answer]]
    audit: IAudit
    backoff: Backoff = Backoff()


class Inside(msgspec.Struct, frozen=True):
    """What it works on. ``index``: as it is now; raises ArchiveError without one. ``seal``: everything staged onto the medium;
    ``quiet``: runs a look while nothing is sealed. ``alarm``, ``over``: begin and end an alarm, code and text."""

    holdings: Holdings
    stamps: StampLog
    index: Callable[[], Database]
    seal: Callable[[], Awaitable[None]]
    quiet: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
    alarm: Callable[[str, str], None]
    over: Callable[[str, str], None]


@implementer(IStamps)
class Stamping:
    """Keeps an archive stamped. ``outside`` None: nobody can be asked (commands without the service)."""

    log = Logger()

    def __init__(self, inside: Inside, outside: Outside | None) -> None:
        self._inside = inside
        self._outside = outside
        self._holdings = inside.holdings
        self._lock = DeferredLock()
        self._timer: Any = None
        self._again: Deferred[None] | None = None
        self._asking: Deferred[Answer] | None = None
        self._stopped = False
        self._failures = 0
        self._failing = ""
        self._since = 0.0
        self._next = 0.0

    # -- what there is

    @property
    def stamps(self) -> StampLog:
        """Those that there are."""
        return self._inside.stamps

    def open(self) -> None:
        """Look at what is here, and take from the media what is not. Blocking."""
        self.stamps.open()
        if self.stamps.newest is None:
            had = self.stamps.count
            problems = self.restore()
            if had or self.stamps.count:
                self.log.warn(
                    "no stamp was readable here ({had} files): {count} were taken from the media",
                    had=had,
                    count=self.stamps.count,
                )
            for one in problems:
                self.log.error("stamps: {where}: {what}", where=one.where, what=one.what)

    def restore(self, every: bool = True) -> Sequence[Finding]:
        """Take from the media the stamps that are missing here, or damaged if ``every`` one is looked at (L3); what cannot be used. Blocking."""
        found: list[Finding] = []
        self.stamps.restore(self._holdings.media.all(), every, lambda where, what: found.append(Finding(where, what)))
        return found

    @property
    def stamped(self) -> int:
        """Leaves that the newest stamp is over."""
        newest = self.stamps.newest
        return newest.head.size if newest else 0

    def unstamped(self) -> int:
        """Leaves that no stamp holds, those included that wait to be sealed."""
        newest = self.stamps.newest
        return max(0, self._holdings.staging.next_leaf - (newest.head.size if newest else 0))

    def clocks(self) -> tuple[int, float, float]:
        """How many stamps there are, and when the newest was made, by the clock here and by its authority's (rule 19)."""
        newest = self.stamps.newest
        return (self.stamps.count, newest.head.made / 1000, times_of(newest)[0]) if newest is not None else (0, 0.0, 0.0)

    def state(self) -> StampState:
        """How it stands."""
        newest = self.stamps.newest
        at = until = 0.0
        if newest is not None:
            at, until = times_of(newest)
        return StampState(
            authorities=len(self._outside.settings().authorities) if self._outside else 0,
            stamps=self.stamps.count,
            stamped=newest.head.size if newest else 0,
            unstamped=self.unstamped(),
            at=at,
            authority=newest.authority if newest else "",
            until=until,
            failing=self._failing,
            since=self._since,
            again=self._next,
        )

    # -- when

    async def stamp(self) -> StampState:
        """Now, if there is anything new or the newest stamp is to be renewed. Raises NoAuthority, ArchiveError (nobody gave one; it is tried again)."""
        await self._lock.acquire()
        try:
            await self._try()
        finally:
            self._lock.release()
        return self.state()

    async def daily(self, now: float) -> None:
        """23:57 (A60). What fails is told and tried again; no authority is no failure, and shows in the state."""
        try:
            await self.stamp()
        except NoAuthority:
            self.log.info("nothing is stamped: there is no time stamp authority")
        except ArchiveError as error:
            self.log.error("no time stamp: {error}", error=error)

    async def if_many(self) -> None:
        """xx:00, :15, :30 and :45 (A52)."""
        if self.unstamped() >= MANY and self._outside is not None and self._outside.settings().authorities:
            await self.daily(self._holdings.seconds())

    async def stop(self) -> None:
        """Ask no more; what is being asked is cut off, what was answered is kept."""
        self._stopped = True
        if self._asking is not None:
            self._asking.cancel()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._again is not None:
            await self._again
        await self._lock.acquire()
        self._lock.release()

    # -- how

    async def _try(self) -> None:
        outside = self._outside
        settings = outside.settings() if outside else StampSettings()
        if outside is None or not settings.authorities:
            raise NoAuthority("no time stamp authority is set up: nothing proves when mail was here")
        try:
            head = await self._head(outside)
        except (ArchiveError, DatabaseError, OSError) as error:
            self._failed(f"nothing could be made ready for it: {error}")
        if head is None:
            self._well()
            return
        problems = []
        for authority in settings.authorities:
            if self._stopped:
                raise ArchiveError("the archive stops")
            try:
                stamp = await self._ask(authority, settings, head)
            except (AskError, TokenWrong) as error:
                problems.append(f"{authority.name}: {error}")
                continue
            try:
                await self._holdings.in_thread(self.stamps.append, stamp)
            except OSError as error:
                problems.append(f"the stamp could not be kept: {error}")
                break
            self._well()
            await self._after(stamp)
            return
        self._failed("; ".join(problems))

    async def _head(self, outside: Outside) -> Head | None:
        """What is to be stamped; None: it is stamped already."""
        await self._audit_leaf(outside)
        await self._inside.seal()
        # This directory may be an older copy: a number that a medium has is not given again.
        for one in await self._holdings.in_thread(self.restore, False):
            self.log.error("stamps: {where}: {what}", where=one.where, what=one.what)
        newest = self.stamps.newest
        now = self._holdings.seconds()

        async def look() -> tuple[int, bytes]:
            leaves = self._holdings.leaves
            return leaves.size, leaves.root()

        size, root = await self._inside.quiet(look)
        if not size or (newest is not None and newest.head.size >= size and times_of(newest)[1] - now > RENEW):
            return None
        before = NONE
        if self.stamps.count:
            if newest is None or newest.head.number != self.stamps.count - 1:
                self._inside.alarm(
                    CHAIN, f"stamp {self.stamps.count - 1} does not read: the chain of stamps begins anew behind it"
                )
            else:
                before = newest.link
        return Head(self._holdings.node, self.stamps.count, size, root, milliseconds(now), before)

    async def _audit_leaf(self, outside: Outside) -> None:
        number, digest = await outside.audit.newest()
        if not number or await self._inside.index().read(is_audited, self._holdings.node, number, digest):
            return
        now = milliseconds(self._holdings.seconds()) / 1000
        event = EventMeta(What.AUDIT, now, text=f"{number} {digest.hex()}")
        await self._holdings.staging.add_event(0, event, leaf_hash(audit_input(number, digest, now)))

    async def check_audit(self, full: bool) -> Sequence[Finding]:
        """Whether the audit log is whole, and still what its leaves state (L14); not ``full``: behind the newest leaves but ``LEAVES``."""
        if self._outside is None:
            return ()
        audit, found = self._outside.audit, []
        leaves = await self._inside.index().read(audit_leaves)
        since = 0 if full or len(leaves) <= LEAVES else leaves[-LEAVES].number
        if problem := await audit.verify(since):
            found.append(Finding("audit log", problem))
        for one in leaves if full else leaves[-LEAVES:]:
            digest = await audit.hash_of(one.number)
            if digest != one.digest:
                what = "is missing" if digest is None else "was changed"
                found.append(Finding("audit log", f"row {one.number} {what}: leaf {one.leaf} of node {one.node} states another"))
        return found

    async def test(self, name: str) -> None:
        settings = self._outside.settings() if self._outside else StampSettings()
        authority = settings.authority(name)
        if authority is None:
            raise KeyError(name)
        try:
            await self._ask(authority, settings, Head(self._holdings.node, 0, 0, EMPTY_ROOT, 0, NONE))
        except (AskError, TokenWrong) as error:
            raise ArchiveError(f"{name}: {error}") from None

    async def _ask(self, authority: Authority, settings: StampSettings, head: Head) -> Stamp:
        """One authority's stamp on a head, checked. Raises AskError, TokenWrong."""
        assert self._outside is not None
        pem = settings.pem_of(authority)
        certificates = read_certificates(pem) if pem else []
        if not certificates:
            raise TokenWrong("no CA certificate is selected to hold its stamps against")
        data = head.to_bytes()
        query = ask_for(data)
        self._asking = Deferred.fromCoroutine(
            self._outside.post(
                authority.url, "application/timestamp-query", query.data, user=authority.user, password=authority.password
            )
        )
        try:
            answer = await self._asking
        finally:
            self._asking = None
        if answer.status != 200:
            raise AskError(f"it answered {answer.status}")
        token = token_in(answer.body)
        stated = await self._holdings.in_thread(check, token, data, certificates, query.nonce)
        until = good_until(stated, certificates)
        now = self._holdings.seconds()
        if until <= max(now, stated.at):
            raise TokenWrong("its certificate has ended, or its algorithm is no longer good")
        if abs(stated.at - now) > TOLERANCE:
            self._inside.alarm(CLOCK, f"the clock here and that of {authority.name} differ by {stated.at - now:.0f} s")
        return Stamp(head, token, authority.name, tuple(one.public_bytes(Encoding.DER) for one in certificates))

    async def _after(self, stamp: Stamp) -> None:
        """It is kept here; what fails from now on loses nothing."""
        for problem in await self._holdings.in_thread(self._publish):
            self.log.error("stamps: {problem}", problem=problem)
        at, until = times_of(stamp)
        if abs(at - stamp.head.made / 1000) <= TOLERANCE:
            self._inside.over(CLOCK, f"the clock here and that of {stamp.authority} agree")
        if until - self._holdings.seconds() >= WARN:
            self._inside.over(ENDING, f"the newest stamp of {stamp.authority} is good for longer")
        else:
            self._inside.alarm(
                ENDING,
                f"stamps of {stamp.authority} are good for {(until - self._holdings.seconds()) / DAY:.0f} days only:"
                " its certificate or algorithm ends. Set up another authority, or its new certificate",
            )

    def _publish(self) -> list[str]:
        problems = []
        for medium in self._holdings.media.all():
            try:
                self.stamps.publish(medium)
            except (MediumError, DiskFull, OSError) as error:
                problems.append(f"medium {medium.number}: {error}")
        return problems

    # -- when it fails

    def _failed(self, why: str) -> NoReturn:
        outside, now = self._outside, self._holdings.seconds()
        assert outside is not None
        self._failures += 1
        self._since = self._since if self._failing else now
        self._failing = why
        delay = outside.backoff.delay(self._failures, 0.5)
        if not self._stopped:
            self._next = now + delay
            if self._timer is not None and self._timer.active():
                self._timer.cancel()
            self._timer = self._holdings.reactor.callLater(delay, self._try_again)
            self._inside.alarm(
                FAILED, f"no time stamp, {self.unstamped()} leaves wait for one: {why}. Next try in {delay / 60:.0f} min"
            )
        raise ArchiveError(f"no time stamp: {why}")

    def _try_again(self) -> None:
        self._again = Deferred.fromCoroutine(self.daily(self._holdings.seconds()))

    def _well(self) -> None:
        self._failures, self._failing, self._since, self._next = 0, "", 0.0, 0.0
        self._inside.over(FAILED, "everything archived so far is stamped")
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


def times_of(stamp: Stamp) -> tuple[float, float]:
    """When it was made, and until when it is good by itself."""
    try:
        stated = read_token(stamp.token)
    except TokenWrong:
        return 0.0, 0.0
    return stated.at, good_until(stated, [one for raw in stamp.certificates if (one := loaded(raw))])


QUICK = 8
"""Tokens and roots that a short verification checks: the newest. The chain of heads is always checked whole, and what was changed in the log shows in the newest root."""


def verify_stamps(stamps: StampLog, leaves: LeafLog, media: Media, full: bool) -> list[Finding]:
    """Every stamp: whole, chained, its root that of the leaf log, its token good; and the same on the media. Blocking."""
    found: list[Finding] = []
    before, size = NONE, 0
    numbers = stamps.numbers()
    for number in range(stamps.count):
        where = f"stamp {number}"
        try:
            stamp = stamps.get(number)
        except StampBroken as error:
            found.append(Finding(where, str(error)))
            before = b""
            continue
        found += [Finding(where, what) for what in _wrong(stamp, leaves, before, size, full or number >= stamps.count - QUICK)]
        before, size = stamp.link, stamp.head.size
    for medium in media.all() if numbers else ():
        try:
            found += [Finding(f"medium {medium.number}: {name}", what) for name, what in stamps.differing(medium, full)]
        except MediumError as error:
            found.append(Finding(f"medium {medium.number}", str(error)))
    return found


def _wrong(stamp: Stamp, leaves: LeafLog, before: bytes, size: int, whole: bool) -> list[str]:
    head, found = stamp.head, []
    if before and head.before != before:
        found.append("it does not hold the stamp before it: one of the two was changed")
    if head.size < size:
        found.append(f"it holds {head.size} leaves, the stamp before it {size}")
    if head.size > leaves.size:
        found.append(f"it holds {head.size} leaves, the leaf log has {leaves.size}")
    elif whole and leaves.root_at(head.size) != head.root:
        found.append(f"its root is not that of the first {head.size} leaves of the log: the log was changed since")
    if whole:
        try:
            check(stamp.token, head.to_bytes(), [one for raw in stamp.certificates if (one := loaded(raw))])
        except (TokenWrong, ValueError) as error:
            found.append(f"its token is not good: {error}")
    return found
