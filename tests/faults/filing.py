"""A primary that offers IMAP too, what is needed to go home by it (L13), and the verdict on what did."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hornetmail.core.delivery.filing import HomeServer
from hornetmail.core.served import Host, TLSPolicy
from hornetmail.delivery.filing.filing import EVERY_SECONDS
from hornetmail.delivery.filing.ledger import Ledger as Filed
from hornetmail.delivery.filing.ways import Ways
from hornetmail.disk.seal import Seal
from hornetmail.testing.faults.network import Network
from hornetmail.testing.scripted_imap import ScriptedIMAP
from tests.faults.ledger import MAILBOXES, MARK, MARKS, Ledger

KEY = "key"
STAYS = ("INBOX", "Trash")
"""Folders of which nothing is filed: INBOX drains, and what was thrown away stays (C6)."""

PASSES = 12
"""Within so many all is filed."""


class Offered:
    """Outlives processes, as a primary does."""

    def __init__(self, network: Network) -> None:
        self.imap = ScriptedIMAP(network, dict.fromkeys(MAILBOXES.values(), "secret"), master=("master", KEY))
        self._port = self.imap.listen()

    async def stores(self, control: Any, directory: Any) -> dict[str, Any]:
        """``ways`` and ``filed`` of one life."""
        ways = Ways(control, Seal(b"s" * 32), directory)
        await ways.open()
        if ways.server("example.test") is None:
            await control.run(_registered)
            server = HomeServer(Host("127.0.0.1", self._port), TLSPolicy.NONE, "master")
            await ways.set_server("example.test", 1, server, KEY)
        return {"ways": ways, "filed": Filed(control)}

    def copies(self) -> Counter[tuple[str, str, str]]:
        """By mark, address and folder."""
        found: Counter[tuple[str, str, str]] = Counter()
        for address, folders in self.imap.folders.items():
            for name, folder in folders.items():
                for kept in folder.kept:
                    match = MARK.search(kept.data)
                    if match:
                        found[match.group(1).decode(), address, name] += 1
        return found

    def flags(self, mark: str) -> set[str]:
        """What its copies have."""
        kept = [each for folders in self.imap.folders.values() for folder in folders.values() for each in folder.kept]
        return {flag for each in kept if f"Subject: {mark}\r".encode() in each.data for flag in each.flags}


def _registered(cursor: Any) -> None:
    cursor.execute("INSERT INTO domains (name, tenant, value) VALUES ('example.test', 1, '{}') ON CONFLICT DO NOTHING", ())
    sql = "INSERT INTO mailboxes (id, tenant, domain, value) VALUES (?, 1, 'example.test', '{}') ON CONFLICT DO NOTHING"
    cursor.executemany(sql, [(number,) for number in MAILBOXES])


async def judge_filed(ledger: Ledger) -> list[str]:
    """After a restart without faults: what is not at the primary, is there twice, or should not be there."""
    house = ledger.house
    for _ in range(PASSES):
        there = {key for key, count in (await ledger.portal()).items() if key[2] not in STAYS and MARKS.match(key[0])}
        copies = house.offered.copies()
        brought = {
            (mark, address) for mark, address, _ in copies
        }  # wherever it was then: it is not sent again from another folder
        missing = sorted(key for key in there if key[:2] not in brought)
        if not missing:
            break
        await house.pause(EVERY_SECONDS)
    found = [f"not filed: {mark} of {address} in {folder}" for mark, address, folder in missing]
    for (mark, address, folder), count in sorted(copies.items()):
        if count > 1:
            found.append(f"filed {count} times: {mark} of {address} in {folder}")
        if folder == "Trash":
            found.append(f"thrown away, and filed: {mark} of {address}")
        if ledger.removed.get((mark, address)) == 0:
            found.append(f"removed, and filed: {mark} of {address} in {folder}")
    for mark, flags in ledger.flagged.items():
        if any(key[0] == mark for key in copies) and not flags <= house.offered.flags(mark):
            found.append(f"without its flags: {mark} has {house.offered.flags(mark)}")
    return found
