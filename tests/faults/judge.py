"""The one function that decides whether a run ended well (``docs/reliability.rst``)."""

from __future__ import annotations

from hornetmail.core.mode import Mode
from hornetmail.core.queued import RowState
from tests.faults.ledger import MARKS, Ledger

QUIET = 8 * 3600.0
"""Seconds after the restart within which all has to be where it belongs: uncertain copies wait for an hour and more (rule 11)."""


async def judge(ledger: Ledger, second_copies: int) -> list[str]:
    """After a restart without faults, with the primary up: what is not as it should be. ``second_copies`` may be (rule 11)."""
    house = ledger.house
    found: list[str] = []
    if not await house.until(lambda: house.idle() and house.mode() is Mode.NORMAL, QUIET, "quiet"):
        for message, row in await house.queue.rows():
            claimed = "claimed with nobody working on it" if row.state is RowState.CLAIMED else "still in the queue"
            found.append(f"{claimed}: {message.envelope.sender or '<>'} {row.kind} {row.state} {row.address} {row.last and row.last.reply}")
        if house.mode() is not Mode.NORMAL:
            found.append(f"the mode is still {house.mode()}")
    await house.archive.flush()
    home, portal, archive = ledger.home(), await ledger.portal(), await ledger.archive()
    queued = {
        (match, row.address) for message, row in await house.queue.rows() if (match := await _mark(house, message.id))
    }
    second = 0
    for mark, recipients in ledger.tried.items():
        told = mark in ledger.accepted
        extra = 0
        for address in recipients:
            key = (mark, address)
            at_home = home[key]
            in_portal = sum(count for (m, a, _), count in portal.items() if (m, a) == key)
            if told and not at_home and not in_portal and key not in queued and key not in ledger.removed and key not in ledger.doubtful:
                found.append(f"lost: {mark} to {address}")
            if key in ledger.removed and (in_portal or at_home > ledger.removed[key]):
                found.append(f"came back: {mark} to {address} was removed, and is {at_home} times at home, {in_portal} times in the portal")
            if told and key in ledger.placed and not portal[mark, address, ledger.placed[key]] and ledger.placed[key] != "INBOX":
                found.append(f"not where it was put: {mark} of {address} in {ledger.placed[key]}")
            extra = max(extra, at_home + in_portal - 1)
        second += extra
        if archive[mark] > 1:
            found.append(f"{archive[mark]} times in the archive: {mark}")
        if told and not archive[mark] and mark not in ledger.expired:
            found.append(f"not in the archive: {mark}")
        if archive[mark] and mark in ledger.expired:
            found.append(f"came back: {mark} was purged, and is in the archive")
    if second > second_copies:
        doubled = {key: count for key, count in home.items() if count > 1 and MARKS.match(key[0])}
        found.append(f"{second} second copies, {second_copies} allowed: at home {doubled}, in the portal {dict(portal)}")
    for finding in await house.archive.verify(full=True):
        found.append(f"archive verify: {finding.where}: {finding.what}")
    return found


async def _mark(house: object, message: int) -> str:
    from tests.faults.ledger import MARK

    try:
        body = await house.queue.body(message)  # type: ignore[attr-defined]
    except KeyError:
        return ""
    match = MARK.search(await body.read())
    return match.group(1).decode() if match else ""
