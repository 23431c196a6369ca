"""Two queues are asked the same, one keeps all messages whole and one hardly any: what they answer must not differ."""

from __future__ import annotations

import random
from types import MappingProxyType
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import Clock

from hornetmail.core.delivery.queued import Claim, Portal, RowKind, RowState, Settled
from hornetmail.core.failover.verdict import Outcome, Verdict
from hornetmail.core.mail.envelope import Direction
from hornetmail.core.mail.reply import Reply
from hornetmail.spool.start import OpenedQueue
from tests.spool.test_queue import Base

STEPS = 120
AFTER = (RowState.QUEUED, RowState.PARKED, RowState.STUCK, RowState.DELIVERED, RowState.FAILED)
BY_HAND = (RowState.QUEUED, RowState.HELD, RowState.PARKED, RowState.REMOVED)
DOMAINS = ("a.test", "b.test", "c.test")


class StoodStill:
    """The reactor, whose wall clock goes forward only by hand, so that both queues give the same IDs. Its timers are as ever."""

    def __init__(self) -> None:
        self.now = 1_710_000_000.0

    def seconds(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class Share:
    """Some destinations have no room at times."""

    def __init__(self, full: str) -> None:
        self._full = full

    def destination(self, domain: str, address: str) -> str:
        return address.rpartition("@")[2]

    def kept_waiting(self) -> None: ...

    def room(self, destination: str, taking: Any = MappingProxyType({})) -> int:
        return 0 if destination == self._full else 3 - int(taking.get(destination, 0))


class TwinTests(Base):
    """``Base`` opens one queue at a time; here a second one lies beside it."""

    def setUp(self) -> None:
        super().setUp()
        self.reactor = StoodStill()
        self.uptime = Clock()

    async def opened(self) -> list[OpenedQueue]:
        """One after the other, with databases and directories of their own."""
        queues = []
        for self.unpacked, name in ((20_000, "whole"), (1, "packed")):
            place, url = self.directory / name, self.url
            place.mkdir(exist_ok=True)
            self.url = f"sqlite://{self.directory}/{name}.db"
            queues.append(await self.open(place, segment_bytes=8_000, recent_bytes=2_000, uptime=self.uptime.seconds))
            self.url = url
        return queues

    async def test_the_same_answers(self) -> None:
        """Would catch a row that is lost, late, early, claimed twice or changed otherwise because its message was packed in between, over restarts with and
        without the index, whatever the order."""
        top = self.directory
        for seed in range(4):
            self.directory = top / str(seed)
            self.directory.mkdir()
            await self.play(random.Random(seed))

    async def play(self, chance: random.Random) -> None:
        queues = await self.opened()
        claimed: list[int] = []
        for step in range(STEPS):
            self.reactor.now += 1.0
            self.uptime.advance(1.0)
            what = chance.choices(
                ("accept", "claim", "settle", "change", "adopt", "reclaim", "tidy", "reopen", "lose"),
                (30, 20, 25, 10, 5, 2, 6, 3, 1),
            )[0]
            asked = chance.getrandbits(32)
            before = claimed
            answers = []
            for place, queue in enumerate(queues):
                claimed = list(before)
                if what == "lose":
                    await queue.close()
                    (self.directory / f"{('whole', 'packed')[place]}.db").unlink()
                elif what != "reopen":
                    answers.append(await self.act(queue, what, random.Random(asked), claimed, step))
            if what in ("reopen", "lose"):
                for queue in queues:
                    await queue.close()
                queues, claimed = await self.opened(), []
                answers = [queue.claimed_at_start() for queue in queues]
            assert answers[0] == answers[1], what
            await self.same(queues, chance)
        assert queues[1].live.messages.packed > 5
        for queue in queues:
            await queue.close()

    async def act(self, queue: OpenedQueue, what: str, chance: random.Random, claimed: list[int], step: int) -> Any:
        rows = [row.id for _, row in await queue.rows(limit=10_000)]
        some = chance.sample(rows, min(len(rows), chance.randrange(8)))
        now = self.reactor.now
        if what == "accept":
            to = tuple(f"u{step}{n}@{chance.choice(DOMAINS)}" for n in range(1 + chance.randrange(3)))
            domain, request = chance.choice(DOMAINS), f"r{step}" if chance.random() < 0.3 else ""
            direction = Direction.OUT if chance.random() < 0.2 else Direction.IN
            hold = "held" if chance.random() < 0.1 else ""
            body = b"%d" % step * chance.choice((10, 800))
            return await self.accept(
                queue, body, to, domain=domain, request=request, direction=direction, hold=hold, archive=chance.random() < 0.7
            )
        if what == "claim":
            due = now + chance.choice((5.0, 20.0, 300.0))
            if chance.random() < 0.3:
                claims = await queue.claim_rows(some, now, lambda _row: due)
            else:
                kinds = chance.choice(((), (RowKind.DELIVER,), (RowKind.ARCHIVE, RowKind.DRAIN)))
                share = Share(chance.choice((*DOMAINS, ""))) if chance.random() < 0.5 else None
                claims = await queue.claim(now, 1 + chance.randrange(6), lambda _row: due, kinds, share)
            claimed.extend(row.id for claim in claims for row in claim.rows)
            return [await self.told(queue, claim) for claim in claims]
        if what == "settle":
            chosen, claimed[:] = claimed[:6], claimed[6:]
            return await queue.settle([self.verdict(number, chance) for number in chosen])
        if what == "change":
            return await queue.change(some, chance.choice(BY_HAND), due=now + chance.randrange(50), reason="by hand")
        if what == "adopt":
            return await queue.adopt(chance.choice(DOMAINS), now)
        if what == "reclaim":
            return await queue.reclaim(claimed[:2])
        return await queue.tidy()

    async def told(self, queue: OpenedQueue, claim: Claim) -> Any:
        """With the body, if it has one still."""
        try:
            return claim, await (await queue.body(claim.message.id)).read()
        except KeyError:
            return claim, None

    def verdict(self, number: int, chance: random.Random) -> Settled:
        state = chance.choice(AFTER)
        reply = Reply(451, "4.2.0", f"later {chance.randrange(3)}")
        drain = (
            Portal(1 + chance.randrange(2), f"copy{number}") if state is RowState.DELIVERED and chance.random() < 0.4 else None
        )
        due = self.reactor.now + chance.randrange(40) if chance.random() < 0.8 else 0.0
        return Settled(number, state, Verdict(Outcome.DEFERRED, reply, "primary"), due, drain, f"why {chance.randrange(2)}")

    async def same(self, queues: list[OpenedQueue], chance: random.Random) -> None:
        """Pages, figures and times."""
        domain, mailbox = chance.choice(("", *DOMAINS)), chance.randrange(3)
        seen = []
        for queue in queues:
            seen.append(
                (
                    await queue.rows(limit=10_000),
                    await queue.rows(domain=domain, states=(RowState.QUEUED, RowState.PARKED), limit=7),
                    await queue.rows(mailbox=mailbox, kinds=(RowKind.DRAIN,)),
                    [row for _, row in await queue.rows(domain=domain, envelopes=False)],
                    queue.backlog(), queue.claimed_for(3.0), queue.next_due(), queue.next_due((RowKind.DRAIN,)),
                )
            )  # fmt: skip
        for one, other in zip(*seen, strict=True):
            assert one == other
