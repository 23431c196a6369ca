"""Alarms by mail: to the administrators of a tenant, and over another path where their own mail may not reach them (rule 8f).

A person may have a second address on file, outside the served domains. It is used too while the person's own domain is in emergency, on its way
back, off, or its primary does not answer, and for every alarm about that domain: who was told there of a beginning is told there of the end.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence

from hornetmail.core.alarms import AlarmRecord, Stage, Way, kind_of
from hornetmail.core.failover.mode import Mode
from hornetmail.core.served import Mailbox, Role
from hornetmail.delivery.letters.notices import Notices
from hornetmail.interfaces.directory import IDirectory
from hornetmail.interfaces.modes import IModes

SHOWN = 50
"""Alarms that one mail describes; the others are counted."""


class AlarmLetters:
    """``panel``: the address of the page with all alarms."""

    def __init__(self, directory: IDirectory, modes: IModes, notices: Notices, hostname: str, panel: str) -> None:
        self._directory = directory
        self._modes = modes
        self._notices = notices
        self._hostname = hostname
        self._panel = panel

    async def send(self, tenant: int, said: Sequence[tuple[AlarmRecord, Stage]]) -> bool:
        """One mail to each administrator, durable on return; False: the tenant has none. Trying again after an error repeats nothing that went
        out: each mail has a request ID made of what it says. Raises what the queue raises, once everybody was tried."""
        request = _request(said)
        subject, lines = self._text(said)
        trouble: Exception | None = None
        addresses = self.addresses(tenant, said)
        for address, domain in addresses.items():
            try:
                await self._notices.letter(tenant, address, subject, lines, f"{request}:{address}", domain)
            except Exception as error:  # noqa: BLE001 - the others are to hear of it all the same
                trouble = trouble or error
        if trouble is not None:
            raise trouble
        return bool(addresses)

    def addresses(self, tenant: int, said: Sequence[tuple[AlarmRecord, Stage]] = ()) -> dict[str, str]:
        """Where administrators of a tenant hear of these alarms now, each with the domain to send on behalf of. A mere log-in at this host's own name
        is no address: mail for it would come back here."""
        found: dict[str, str] = {}
        for mailbox in self._directory.mailboxes():
            if mailbox.tenant != tenant or Role.ADMIN not in mailbox.roles or not mailbox.enabled:
                continue
            own = self._directory.domain(mailbox.domain)
            if own is not None or not (mailbox.second or mailbox.domain == self._hostname):
                found.setdefault(mailbox.address, mailbox.domain if own is not None else "")
            if mailbox.second and self._astray(mailbox, said):
                found.setdefault(mailbox.second, self._notices.way_out(mailbox.domain))
        return found

    def _astray(self, mailbox: Mailbox, said: Sequence[tuple[AlarmRecord, Stage]]) -> bool:
        """Whether mail to the person's own address may not be seen, or the alarm is about just that."""
        own = self._directory.domain(mailbox.domain)
        if own is None or not own.active or self._modes.mode(own.name) is not Mode.NORMAL:
            return True
        if any(record.domain == own.name for record, _ in said):
            return True
        return bool(own.primaries) and self._modes.explain(own.name).get("up") is False

    def _text(self, said: Sequence[tuple[AlarmRecord, Stage]]) -> tuple[str, list[str]]:
        lines: list[str] = []
        for record, stage in said[:SHOWN]:
            lines += [*_described(record, stage), ""]
        if len(said) > SHOWN:
            lines += [f"And {len(said) - SHOWN} more, which the page with all alarms shows.", ""]
        lines += [
            f"All alarms, and the button that says that you have seen them: {self._panel}",
            f"or: hornetmail alarms list. What each means: the operations guide. This is {self._hostname}.",
        ]
        return _subject(said), lines


def _subject(said: Sequence[tuple[AlarmRecord, Stage]]) -> str:
    if len(said) == 1:
        record, stage = said[0]
        about = f"{kind_of(record.code).title}{f': {record.subject}' if record.subject else ''}"
        return {Stage.BEGAN: f"Alarm: {about}", Stage.LASTS: f"Still: {about}", Stage.ENDED: f"Over: {about}"}[stage]
    titles = list(dict.fromkeys(kind_of(record.code).title for record, _ in said))
    over = all(stage is Stage.ENDED for _, stage in said)
    more = f" and {len(titles) - 3} other kinds" if len(titles) > 3 else ""
    return f"{len(said)} alarms{' are over' if over else ''}: {', '.join(titles[:3])}{more}"


def _described(record: AlarmRecord, stage: Stage) -> list[str]:
    head = {Stage.BEGAN: "ALARM", Stage.LASTS: "STILL", Stage.ENDED: "OVER"}[stage]
    times = f", raised {record.count} times" if record.count > 1 else ""
    span = f"since {_moment(record.since)}{times}"
    if stage is Stage.ENDED:
        span = f"from {_moment(record.since)} to {_moment(record.ended)}{times}"
    lines = [f"{head}: {kind_of(record.code).title} ({record.code}{f', {record.subject}' if record.subject else ''})"]
    lines += [f"  {' '.join(record.text.split())}", f"  {span}"]
    if stage is Stage.ENDED:
        lines.append(f"  {record.why}")
    return lines


def _moment(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _request(said: Sequence[tuple[AlarmRecord, Stage]]) -> str:
    """The same for the same things said, and for nothing else."""
    whole = " ".join(f"{record.number}:{stage.value}:{record.telling(Way.MAIL).at:.3f}" for record, stage in said)
    return f"alarms:{hashlib.sha256(whole.encode()).hexdigest()[:32]}"
