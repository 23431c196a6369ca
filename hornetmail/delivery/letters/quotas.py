"""The letter to somebody whose mailbox is nearly full: once, until it has held less meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hornetmail.core.events import QuotaNear
from hornetmail.core.served import Domain, Mailbox, OverQuota, Quota
from hornetmail.delivery.letters.notices import Notices
from hornetmail.delivery.tasks import Tasks
from hornetmail.interfaces.bus import IBus
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.portal import IPortal


class QuotaLetters:
    """The event is said again until the letter is in the queue, and the letter has a request ID made of mailbox and time: neither is lost, nor
    said twice."""

    log = Logger()

    def __init__(self, clock: IReactorTime, directory: IDirectory, portal: IPortal, notices: Notices, bus: IBus) -> None:
        self._directory = directory
        self._portal = portal
        self._notices = notices
        self._bus = bus
        self._tasks = Tasks(clock)
        self._under_way: set[int] = set()
        self._leave: Callable[[], None] | None = None

    def start(self) -> None:
        """Listen."""
        self._leave = self._bus.subscribe(QuotaNear, self._near)

    async def stop(self) -> None:
        """Say nothing more."""
        if self._leave is not None:
            self._leave()
        await self._tasks.stop(1.0)

    def _near(self, event: QuotaNear) -> None:
        if event.mailbox not in self._under_way:
            self._under_way.add(event.mailbox)
            self._tasks.start(self._tell(event), f"the letter that mailbox {event.mailbox} is nearly full")

    async def _tell(self, event: QuotaNear) -> None:
        try:
            owner = self._directory.mailbox_by_id(event.mailbox)
            if owner is not None:
                domain = self._directory.domain(owner.domain)
                request = f"quota:{event.mailbox}:{event.since:.3f}"
                lines = _lines(event, owner, domain)
                subject = "Your mailbox is nearly full"
                await self._notices.letter(owner.tenant, owner.address, subject, lines, request, owner.domain)
            await self._portal.quota_told(event.mailbox, event.since)
        finally:
            self._under_way.discard(event.mailbox)


def _lines(event: QuotaNear, owner: Mailbox, domain: Domain | None) -> list[str]:
    quota = owner.quota(domain)
    lines = [f"{owner.address} holds {_held(event, quota)}.", ""]
    if domain is None or domain.primaries:
        lines.append(
            "When it is full you can put nothing more into its folders. Mail that comes while your mail server is down is taken all the same."
        )
    elif domain.over_quota is OverQuota.REFUSE:
        lines.append("When it is full, mail for you goes back to its senders.")
    else:
        lines.append("When it is full, mail for you waits; what waits too long goes back to its senders.")
    return [*lines, "Please delete what you do not need, and empty the trash."]


def _held(event: QuotaNear, quota: Quota) -> str:
    said = []
    if quota.size:
        said.append(f"{event.size / 1e6:.0f} of {quota.size / 1e6:.0f} MB")
    if quota.messages:
        said.append(f"{event.messages} of {quota.messages} messages")
    return " and ".join(said) or "more than it may"
