"""What an emergency left in the portal's folders goes after a time, announced (rule 24).

A mailbox gets a plan when something in it will soon be old enough: its date, bound to the emergency that left it. Each announcement goes out so
many days before the date as it says; one that is late moves the date. The plans are facts in the queue. Nothing goes before
all announcements were made, that is younger in the portal than the domain's days, or that is still to get home; nothing at all while the domain is
not in normal mode, or while the clock cannot be trusted. Domains without a primary, and without a known emergency, keep everything.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.core import clock
from hornetmail.core.delivery.queued import DONE, Row, RowKind, RowState
from hornetmail.core.events import Alarm, AlarmEnded
from hornetmail.core.failover.mode import Mode
from hornetmail.core.mail.address import domain_of
from hornetmail.core.served import Domain, Mailbox
from hornetmail.delivery.attempt.ground import Ground
from hornetmail.delivery.letters.notices import Notices
from hornetmail.delivery.pages import pages
from hornetmail.delivery.tasks import pause
from hornetmail.interfaces.audit import IAudit
from hornetmail.interfaces.expiry import IExpiry
from hornetmail.interfaces.portal import IPortal
from hornetmail.runtime.timetable import Job

DAY = 86_400.0
SPACE = "expiry"
LAST = "last run"
ACTOR = "HornetMail"
ACTION = "portal.expire"
INBOX = "INBOX"

OFTEN = 6 * 3600.0
"""Seconds between two runs."""

SLICE = 500
"""Mailboxes looked at before others get a turn."""

SHOWN = 100
"""Folders that an announcement lists."""

LIVE = tuple(state for state in RowState if state not in DONE)


class Plan(msgspec.Struct, frozen=True, array_like=True):
    """``ended``: the emergency that it belongs to; ``due``: when its leavings go; ``told``: announcements made; ``before``: what is in the portal
    since then or longer was announced. Times in Unix seconds."""

    ended: float
    due: float
    told: int
    before: float


class Step(msgspec.Struct, frozen=True):
    """What a run does for a mailbox: tell of ``plan`` and what is ``left``, or carry it out if nothing is given."""

    mailbox: Mailbox
    domain: Domain
    plan: Plan
    left: Mapping[str, Sequence[str]] | None = None


class Done(msgspec.Struct, frozen=True):
    """What a run did."""

    announced: int = 0
    mailboxes: int = 0
    messages: int = 0
    failed: int = 0


@implementer(IExpiry)
class Expiry:
    """See the module. ``announce``: seconds before the date, falling. ``drift``: by how many seconds wall clock and monotonic time disagree."""

    log = Logger()

    def __init__(
        self,
        ground: Ground,
        portal: IPortal,
        notices: Notices,
        audit: IAudit,
        hostname: str,
        *,
        announce: Sequence[float] = (14 * DAY, 3 * DAY),
        drift: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._clock = ground.clock
        self._queue = ground.queue
        self._portal = portal
        self._directory = ground.directory
        self._modes = ground.modes
        self._notices = notices
        self._audit = audit
        self._bus = ground.bus
        self._hostname = hostname
        self._announce = tuple(sorted(announce, reverse=True))
        self._drift = drift
        self._plans: dict[int, Plan] = {}
        self._last = 0.0
        self._load()

    def _load(self) -> None:
        for key, value in self._queue.remembered(SPACE).items():
            try:
                if key == LAST:
                    self._last = msgspec.msgpack.decode(value, type=float)
                else:
                    self._plans[int(key)] = msgspec.msgpack.decode(value, type=Plan)
            except (msgspec.DecodeError, ValueError):
                self.log.error("the fact {key} of expiring folders cannot be read; it is announced anew", key=key)

    def jobs(self) -> Sequence[Job]:
        """For the timetable."""
        seconds = max(1.0, min(OFTEN, self._announce[-1] / 4))
        return (Job("portal folders", seconds, lambda: self.run(self._clock.seconds()), first=min(300.0, seconds)),)

    def due(self, mailbox: int) -> float:
        """See IExpiry."""
        plan = self._plans.get(mailbox)
        return plan.due if plan is not None else 0.0

    async def run(self, now: float) -> Done:
        """Announce what is to be announced, and remove what is due, a row in the audit log for each tenant; ``now`` in Unix seconds."""
        if why := clock.trouble(self._drift(), self._last, now, "the last look at portal folders"):
            self._bus.publish(
                Alarm("portal-expiry", f"{why}: nothing in portal folders expires until it is right and we are restarted")
            )
            return Done()
        self._bus.publish(AlarmEnded("portal-expiry", why="the clock is right"))
        todo: dict[int, list[Step]] = {}
        there: set[int] = set()
        known = any(self._modes.ended(domain.name) for domain in self._directory.domains())
        for number, mailbox in enumerate(self._directory.mailboxes() if known or self._plans else (), 1):
            there.add(mailbox.id)
            if number % SLICE == 0:
                await pause(self._clock, 0)
            try:
                step = await self._step(mailbox, now)
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001 - others' turns come all the same
                self.log.failure("the portal folders of {address} could not be looked at", address=mailbox.address)
                continue
            if step is not None:
                todo.setdefault(mailbox.tenant, []).append(step)
        for mailbox_id in [one for one in self._plans if one not in there]:
            await self._forget(mailbox_id)
        done = [await self._tenant(tenant, steps) for tenant, steps in todo.items()]
        self._last = now
        await self._queue.remember(SPACE, LAST, msgspec.msgpack.encode(now))
        return _sum(done)

    # -- what is to be done

    async def _step(self, mailbox: Mailbox, now: float) -> Step | None:
        domain = self._directory.domain(mailbox.domain)
        names = {domain_of(address) for address in (mailbox.address, *mailbox.aliases)}
        ended = max(self._modes.ended(name) for name in names)
        if domain is None or not domain.primaries or not domain.portal_days or not ended:
            await self._forget(mailbox.id)
            return None
        if any(self._modes.mode(name) is not Mode.NORMAL for name in names):
            return None
        keep = domain.portal_days * DAY
        base = ended + keep
        first = self._announce[0]
        plan = self._plans.get(mailbox.id)
        if plan is not None and (plan.ended != ended or not base <= plan.due <= max(base, now + first)):
            # Another emergency, another term, or a clock that was set back.
            await self._forget(mailbox.id)
            plan = None
        if plan is None:
            if now < base - first:
                return None
            due = max(base, now + first)
            return await self._telling(mailbox, domain, Plan(ended, due, 1, due - keep))
        if plan.told < len(self._announce):
            lead = self._announce[plan.told]
            if now < plan.due - lead:
                return None
            due = max(plan.due, now + lead)
            return await self._telling(mailbox, domain, Plan(ended, due, plan.told + 1, min(plan.before, due - keep)))
        if now < plan.due:
            return None
        # A term that became shorter meanwhile takes nothing along that was not announced, a longer one counts.
        return Step(mailbox, domain, msgspec.structs.replace(plan, before=min(plan.before, plan.due - keep)))

    async def _telling(self, mailbox: Mailbox, domain: Domain, plan: Plan) -> Step | None:
        spared, refused = await self._rows(mailbox.id)
        left = await self._portal.left_over(mailbox.id, plan.before, spared, list(refused))
        if left:
            return Step(mailbox, domain, plan, left)
        await self._forget(mailbox.id)
        return None

    async def _rows(self, mailbox: int) -> tuple[list[str], dict[str, Row]]:
        """Copies that are still to get home, and those that the primary refused, by name."""
        spared: list[str] = []
        refused: dict[str, Row] = {}
        async for page in pages(self._clock, self._queue, (RowKind.DRAIN,), LIVE, mailbox=mailbox):
            for _, row in page:
                if row.portal is not None and row.state is RowState.STUCK:
                    refused[row.portal.name] = row
                elif row.portal is not None:
                    spared.append(row.portal.name)
        return spared, refused

    async def _forget(self, mailbox: int) -> None:
        if self._plans.pop(mailbox, None) is not None:
            await self._queue.remember(SPACE, str(mailbox), None)

    # -- doing it

    async def _tenant(self, tenant: int, steps: Sequence[Step]) -> Done:
        """Row first, then the action, then its outcome."""
        telling = [step.mailbox.address for step in steps if step.left is not None]
        going = [step.mailbox.address for step in steps if step.left is None]
        detail = msgspec.json.encode({"announce": telling[:SHOWN], "expire": going[:SHOWN]}).decode()
        subject = f"{len(going)} to expire, {len(telling)} to announce"
        number = await self._audit.begin(ACTOR, ACTION, subject, detail, tenant)
        done = _sum([await self._one(step) for step in steps])
        text = f"{done.messages} messages of {done.mailboxes} mailboxes expired, {done.announced} announced"
        await self._audit.outcome(number, f"partly done: {text}, {done.failed} failed" if done.failed else f"done: {text}")
        self.log.info("portal folders: {text}", text=text)
        return done

    async def _one(self, step: Step) -> Done:
        try:
            return await (self._expire(step) if step.left is None else self._tell(step, step.left))
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - the next run tries again
            self.log.failure("the portal folders of {address} could not be dealt with", address=step.mailbox.address)
            return Done(failed=1)

    async def _tell(self, step: Step, left: Mapping[str, Sequence[str]]) -> Done:
        plan, mailbox = step.plan, step.mailbox
        subject, lines = announcement(mailbox, step.domain, plan.due, left, self._hostname)
        about = f"portal-expiry-{plan.ended:.0f}-{plan.due:.0f}-{plan.told}"
        await self._notices.tell(mailbox.tenant, mailbox.address, subject, lines, about, step.domain.name)
        self._plans[mailbox.id] = plan
        await self._queue.remember(SPACE, str(mailbox.id), msgspec.msgpack.encode(plan))
        return Done(announced=1)

    async def _expire(self, step: Step) -> Done:
        mailbox = step.mailbox
        if self._modes.mode(mailbox.domain) is not Mode.NORMAL:
            return Done()
        spared, refused = await self._rows(mailbox.id)
        gone = await self._portal.expire(mailbox.id, step.plan.before, spared, list(refused))
        over = [refused[name].id for name in gone.get(INBOX, ()) if name in refused]
        if over:
            await self._queue.change(over, RowState.REMOVED, reason="expired in the portal")
        await self._forget(mailbox.id)
        return Done(mailboxes=1, messages=sum(map(len, gone.values())))


def _sum(done: Collection[Done]) -> Done:
    return Done(
        sum(one.announced for one in done),
        sum(one.mailboxes for one in done),
        sum(one.messages for one in done),
        sum(one.failed for one in done),
    )


def day_of(at: float) -> str:
    """The date in UTC, as everybody reads it."""
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d")


def announcement(
    mailbox: Mailbox, domain: Domain, due: float, left: Mapping[str, Sequence[str]], hostname: str
) -> tuple[str, list[str]]:
    """Subject and lines for the mailbox's owner."""
    day = day_of(due)
    lines = [
        f"While the mail server of {domain.name} was unavailable, mail of yours was left on the emergency",
        f"server {hostname}. It is removed there on {day}:",
        "",
    ]
    for folder, names in list(left.items())[:SHOWN]:
        count = f"{len(names)} message{'s' if len(names) != 1 else ''}"
        lines.append(f"  INBOX: {count} that your mail server refused" if folder == INBOX else f"  {folder}: {count}")
    if len(left) > SHOWN:
        lines.append(f"  and {len(left) - SHOWN} more folders")
    lines += [
        "",
        "Nothing changes in your usual mailbox. A message that was delivered to you, and that you want to",
        "have there, you can move into the INBOX of the emergency server: it is then delivered to",
        f"{mailbox.address}. Or copy it with your mail program.",
        "",
    ]
    if mailbox.archive and domain.archive:
        lines += [
            "What is in the archive stays in the archive for as long as the archive keeps it, and can be",
            "delivered to you from there. Drafts, and what you put into folders yourself, were never archived.",
        ]
    else:
        lines.append("Your mail is not archived: what is removed is gone.")
    return f"Mail on the emergency server is removed on {day}", lines
