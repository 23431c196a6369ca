"""Domains that share a mail server share its part of the deliveries under way."""

from __future__ import annotations

import msgspec

from hornetmail.core.delivery.queued import RowKind, RowState
from hornetmail.core.mail.envelope import Direction, Door, Origin
from hornetmail.core.served import Domain, Host, TLSPolicy
from hornetmail.net.clients.smtp import Timeouts
from hornetmail.testing.scripted_primary import ScriptedPrimary
from tests.delivery.world import SLOW_MACHINE, WorldCase, reactor

OUT = {"origin": Origin(Door.SUBMISSION, login="alice@example.test"), "direction": Direction.OUT, "sender": "alice@example.test"}


class SharedHosts(WorldCase):
    settings = msgspec.structs.replace(SLOW_MACHINE, deliveries=10, timeouts=Timeouts(connect=20, reply=20, data=20, dot=20))

    async def hanging(self) -> Host:
        """A server that says nothing after RCPT."""
        server = ScriptedPrimary(reactor)
        await server.listen()
        self.primaries.append(server)
        server.script.hang = {"RCPT"}
        return Host("127.0.0.1", server.port)

    def under_way(self) -> int:
        return len(self.queue.all(RowKind.DELIVER, RowState.CLAIMED))

    async def test_served_domains(self) -> None:
        """Five customers on one hanging server, each with a part of its own, would fill the lane; the sixth is on another one."""
        await self.build()
        host = await self.hanging()
        self.directory.served += [Domain(f"hang{n}.test", primaries=(host,), tls=TLSPolicy.NONE) for n in range(5)]
        for number in range(5):
            for _ in range(4):
                await self.send(f"x@hang{number}.test", domain=f"hang{number}.test")
        await self.until(lambda: self.under_way() == 2, "its part is under way")
        message = await self.send("alice@example.test")
        await self.gone(message)
        assert self.under_way() == 2

    async def test_exchangers(self) -> None:
        """The same for domains outside, once it is known where their mail goes."""
        await self.build()
        host = await self.hanging()
        names = [f"hang{number}.test" for number in range(5)]
        self.resolver.mx |= dict.fromkeys(names, (host,))
        for name in names:
            await self.send(f"x@{name}", **OUT)  # type: ignore[arg-type]
            await self.until(lambda n=name: n in self.resolver.asked, "its exchanger is known")  # type: ignore[misc]
        before = self.under_way()
        assert before < 10
        for name in names:
            for _ in range(4):
                await self.send(f"y@{name}", **OUT)  # type: ignore[arg-type]
        message = await self.send("alice@example.test")
        await self.gone(message)
        assert self.under_way() <= before + 1, "what began under another name counts there"
