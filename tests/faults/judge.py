"""The one function that decides whether a run ended well (``docs/reliability.rst``)."""

from __future__ import annotations

from hornetmail.core.alarms import Ends, kind_of
from hornetmail.core.delivery.queued import RowState
from hornetmail.core.failover.machine import HEALTH
from hornetmail.core.failover.mode import Mode
from hornetmail.runtime.jobs import Result
from tests.faults.house import House
from tests.faults.ledger import MARK, MARKS, Ledger

QUIET = 8 * 3600.0
"""Seconds after the restart within which all has to be where it belongs: uncertain copies wait for an hour and more (rule 11)."""

LATE = 600.0
"""Seconds that a job may be behind its time."""

ALARMED = 30 * 3600.0
"""Seconds within which every alarm has ended whose cause is gone: some are looked after once a night."""


async def judge(ledger: Ledger, second_copies: int) -> list[str]:
    """After a restart without faults, with the primary up: what is not as it should be. ``second_copies`` may be (rule 11)."""
    house = ledger.house
    found: list[str] = []
    await house.pause(1.0)
    if house.mode() is Mode.EMERGENCY and house.delivery.modes.explain("example.test")["by"] != HEALTH:
        await house.delivery.modes.switch("example.test", Mode.NORMAL, "admin")
    held = [row.id for _, row in await house.queue.rows(states=(RowState.HELD,))]
    if held:
        if not ledger.told:
            found.append("held, and nobody was told")
        await house.queue.change(held, RowState.QUEUED)  # as somebody does who was told
    if any(alarm.code == "archive-index" for alarm in house.alarms):
        await house.archive.rebuild()  # as the alarm says
    if not await house.until(lambda: house.idle() and house.mode() is Mode.NORMAL, QUIET, "quiet"):
        for message, row in await house.queue.rows():
            claimed = "claimed with nobody working on it" if row.state is RowState.CLAIMED else "still in the queue"
            found.append(
                f"{claimed}: {message.envelope.sender or '<>'} {row.kind} {row.state} {row.address} {row.last and row.last.reply}"
            )
        if house.mode() is not Mode.NORMAL:
            found.append(f"the mode is still {house.mode()}")
    await house.archive.flush(seal=True)
    home, portal, archive = ledger.home(), await ledger.portal(), await ledger.archive()
    queued = {(match, row.address) for message, row in await house.queue.rows() if (match := await _mark(house, message.id))}
    second = 0
    for mark, recipients in ledger.tried.items():
        told = mark in ledger.accepted
        extra = 0
        for address in recipients:
            key = (mark, address)
            at_home = home[key]
            in_portal = sum(count for (m, a, _), count in portal.items() if (m, a) == key)
            if told and not at_home and not in_portal and key not in queued and "" not in ledger.places.get(key, ()):
                found.append(f"lost: {mark} to {address}")
            if key in ledger.removed and (in_portal or at_home > ledger.removed[key]):
                found.append(
                    f"came back: {mark} to {address} was removed, and is {at_home} times at home, {in_portal} times in the portal"
                )
            elif at_home > ledger.stays.get(key, at_home):
                found.append(f"marked as deleted: {mark} to {address} went home all the same")
            extra = max(extra, at_home + in_portal - 1 - (key in ledger.copied or len(ledger.places.get(key, ())) > 1))
        second += extra
    for mark in ledger.tried.keys() | ledger.feeds:
        if archive[mark] > 1:
            found.append(f"{archive[mark]} times in the archive: {mark}")
        if not archive[mark] and (mark in ledger.accepted or mark in ledger.archived) and mark not in ledger.perhaps_expired:
            found.append(f"not in the archive: {mark}")
        if archive[mark] and mark in ledger.expired:
            found.append(f"came back: {mark} was purged, and is in the archive")
    for (mark, address), folders in ledger.places.items():
        if not folders & {"", "INBOX"} and not any(portal[mark, address, folder] for folder in folders):
            found.append(f"not where it was put: {mark} of {address} in {folders}")
    for mark in ledger.carried & ledger.accepted.keys():
        if not any(count for (m, _, _), count in portal.items() if m == mark) and not any(
            home[key] for key in home if key[0] == mark
        ):
            found.append(f"lost between two mailboxes: {mark}")
    if second > second_copies:
        doubled = {key: count for key, count in home.items() if count > 1 and MARKS.match(key[0])}
        found.append(f"{second} second copies, {second_copies} allowed: at home {doubled}, in the portal {dict(portal)}")
    for finding in await house.archive.verify(full=True):
        found.append(f"archive verify: {finding.where}: {finding.what}")
    return [*found, *await _alarms(ledger), *_jobs(house)]


def _jobs(house: House) -> list[str]:
    """None is left in the middle, and none that was missed is not made up for."""
    now = house.reactor.seconds()
    views = house.jobs.views() if house.planned else ()
    found = [f"job left in the middle: {view.name}" for view in views if view.result is Result.RUNNING]
    return found + [f"job missed: {view.name}" for view in views if view.next < now - LATE]


async def _alarms(ledger: Ledger) -> list[str]:
    """Rule 8f: those that were written down are still known, and all end with their cause, or once they were seen."""
    house = ledger.house
    book = house.base.alarms
    known = {record.key for record in (*book.standing(), *await book.over(limit=1000))}
    found = [f"alarm lost: {code} {subject}" for code, subject in sorted(ledger.alarms - known)]

    def lasting() -> list[str]:
        return [
            f"{record.code} {record.subject}: {record.text}"
            for record in book.standing()
            if kind_of(record.code).ends is Ends.CAUSE and record.code not in ledger.stand
        ]

    await house.until(lambda: not lasting(), ALARMED, "alarms end")
    found += [f"alarm without a cause: {text}" for text in lasting()]
    await book.acknowledge([record.number for record in book.standing() if record.code not in ledger.stand], "admin")
    found += [f"alarm seen, and still open: {r.code}" for r in book.standing() if kind_of(r.code).ends is Ends.SEEN]
    return found


async def _mark(house: House, message: int) -> str:
    try:
        body = await house.queue.body(message)
    except KeyError:
        return ""
    match = MARK.search(await body.read())
    return match.group(1).decode() if match else ""
