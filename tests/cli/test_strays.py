"""``mailbox strays`` and ``mailbox drain`` against the API over a real UNIX socket."""

from __future__ import annotations

import msgspec

from hornetmail.core.served import Host
from hornetmail.testing.rooms import MemoryPortal, MemoryStrays
from tests.cli.test_cli import CliCase


class TestStrays(CliCase):
    """Notes of alice that nobody delivered."""

    async def test_list_and_choose(self) -> None:
        """Catches options that do not reach the operation, wrong use that is taken for all, and control characters on a terminal."""
        site = await self.open()
        directory = site.control.directory
        await directory.change_domain("example.test", primaries=(Host("primary.example.test"),))
        alice = directory.mailbox("alice@example.test")
        assert alice is not None
        portal = MemoryPortal(site.control.bus)
        strays = MemoryStrays(portal, lambda mailbox: "alice@example.test" if mailbox == alice.id else "")
        site.api.rooms = msgspec.structs.replace(site.rooms, portal=portal, strays=strays)
        inbox = portal.tree(alice.id).found("INBOX")
        strays.marked[alice.id] = {
            inbox.add(b"Subject: =?utf-8?q?note=1B=5B2J?= %d\r\n\r\nx\r\n" % number) for number in range(3)
        }
        for whose in ((), ("example.test",), ("alice@example.test",)):
            listed = await self.cli("mailbox", "strays", *whose)
            assert listed.out.count("stays; would go to alice@example.test") == 3, listed.err
            assert "\x1b" not in listed.out
        ids = [one["id"] for one in (await self.cli("mailbox", "strays", "--json")).json["messages"]]
        for words in ((), ("--all", "--id", ids[0])):
            await self.refused("mailbox", "drain", "alice@example.test", *words, code=2)
        assert not strays.rows
        chosen = await self.cli("mailbox", "drain", "alice@example.test", "--id", ids[0], "--id", ids[1])
        assert chosen.out == "2 chosen for alice@example.test, delivered now\n"
        strays.waits = True
        everything = await self.cli("mailbox", "drain", "alice@example.test", "--all")
        assert everything.out == "1 chosen for alice@example.test, delivered once the emergency is over\n2 chosen before\n"
        assert (await self.cli("mailbox", "strays")).out.count("chosen, parked") == 3
        assert "no primary" in await self.refused("mailbox", "drain", "auditor@example.test", "--all")
        assert "not registered" in await self.refused("mailbox", "strays", "nobody@example.test")
