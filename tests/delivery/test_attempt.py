"""One attempt: a verdict per recipient, the portal in the same attempt, drain rows from birth (C3, C4, C8, C20; rules 1-4, 6, 7)."""

from __future__ import annotations

from hornetmail.core.delivery.queued import RowKind, RowState
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Stage
from hornetmail.core.mail.envelope import Direction, Door, Origin
from hornetmail.core.served import Coverage, Domain, Host
from hornetmail.testing.scripted_primary import ScriptedPrimary
from tests.delivery.world import MAIL, SENDER, SLOW_MACHINE, TRACE, WorldCase, reactor

LOGGED_IN = Origin(Door.SUBMISSION, login="alice@example.test")


class Attempt(WorldCase):
    settings = SLOW_MACHINE

    async def test_normal(self) -> None:
        """C3, C8: something else than trace and the exact bytes arrives, or the archive misses the mail."""
        await self.build()
        message = await self.send("alice@example.test", "bob@example.test", "unregistered@example.test")
        await self.gone(message)
        [taken] = self.primary.accepted
        assert taken.data == TRACE + MAIL
        assert taken.sender == SENDER
        assert len(taken.recipients) == 3
        [item] = self.archive.items.values()
        assert set(item.recipients) == set(taken.recipients)
        assert self.archive.bodies[item.row] == MAIL
        assert item.trace == TRACE
        assert not self.portal.copies

    async def test_failover_at_each_stage(self) -> None:
        """C20: any 4xx, time-out or broken connection at any stage that does not lead into the portal in the same attempt."""
        await self.build()
        cases = 0
        for stage in ("GREETING", "EHLO", "MAIL", "RCPT", "DATA", "DOT"):
            for kind in ("reply", "drop", "hang"):
                if (stage, kind) in (("DOT", "drop"), ("DOT", "hang")):
                    continue
                script = self.primary.script
                if kind == "reply":
                    script.replies = {stage: "451 4.3.0 not now"}
                elif kind == "drop":
                    script.drop = {stage}
                else:
                    script.hang = {stage}
                message = await self.send("alice@example.test")
                await self.until(lambda n=cases: len(self.portal.inbox(1)) > n, f"the portal has it after {kind} at {stage}")
                [row] = [r for r in self.queue.held.values() if r.message == message.id and r.kind is RowKind.DELIVER]
                assert row.attempts == 1, (stage, kind)
                assert row.last is not None
                assert row.last.courier == "portal"
                cases += 1
                script.replies, script.drop, script.hang = {}, set(), set()
                # It gets home by itself (rule 3): wait, so that the next case starts clean.
                await self.gone(message)
                for each in list(self.primary.open):
                    each.transport.abortConnection()
                cases -= 1
        assert len(self.primary.accepted) == 16

    async def test_refused_within_a_second(self) -> None:
        """Numbers to reach: primary refused, message in the portal within 1 s."""
        await self.build()
        await self.primary.stop()
        began = reactor.seconds()
        await self.send("alice@example.test")
        await self.until(lambda: self.portal.inbox(1), "it is in the portal")
        assert reactor.seconds() - began < 1.0
        await self.primary.listen()

    async def test_5xx_before_mail_is_unavailability(self) -> None:
        """Rule 4: 5xx at connect or EHLO taken for a refusal, and the mail bounced."""
        await self.build()
        self.primary.script.replies = {"GREETING": "554 5.3.2 go away"}
        await self.send("alice@example.test")
        await self.until(lambda: self.portal.inbox(1), "it is in the portal")
        assert not self.notices()

    async def test_one_full_mailbox(self) -> None:
        """Rule 3: Bob's mail waits in the portal with a drain row of its own, Alice's is delivered, and Bob's gets home later."""
        await self.build()
        self.primary.script.full = {"bob@example.test"}
        message = await self.send("alice@example.test", "bob@example.test")
        await self.until(lambda: self.portal.inbox(2), "Bob's is in the portal")
        await self.until(lambda: self.drains(RowState.QUEUED) or self.drains(RowState.CLAIMED), "it has its drain row")
        assert not self.portal.inbox(1)
        assert [each.recipients for each in self.primary.accepted] == [("alice@example.test",)]
        self.primary.script.full = set()
        await self.gone(message)
        assert not self.portal.inbox(2)
        assert self.primary.to("bob@example.test")[0].data == TRACE + MAIL
        assert self.mode() is Mode.NORMAL

    async def test_uncertain(self) -> None:
        """Rule 1: no reply after the dot. The copy is marked, byte for byte the same, and the primary gets at most one more."""
        await self.build()
        self.primary.script.drop = {"DOT"}
        message = await self.send("alice@example.test")
        await self.until(lambda: self.portal.inbox(1), "a copy is in the portal")
        [copy] = self.portal.inbox(1)
        assert copy.portal.uncertain
        assert len(self.primary.accepted) == 1
        self.primary.script.drop = set()
        await self.gone(message)
        first, second = self.primary.accepted
        assert first.data == second.data == TRACE + MAIL

    async def test_uncertain_without_portal_mailbox(self) -> None:
        """A recipient without a mailbox is lost after an uncertain hand-over, instead of being tried again."""
        await self.build()
        self.primary.script.drop, self.primary.script.keep_dropped = {"DOT"}, False
        message = await self.send("nobody@example.test")
        await self.until(lambda: self.primary.seen.get("DOT"), "the dot was sent")
        self.primary.script.drop = set()
        await self.gone(message)
        assert len(self.primary.accepted) == 1

    async def test_portal_down_too(self) -> None:
        """Primary and portal both fail: the message stays in the queue, also the memory of an uncertain hand-over."""
        await self.build()
        self.primary.script.drop = {"DOT"}
        self.portal.fail = OSError("disk")
        message = await self.send("alice@example.test")
        await self.until(lambda: any(s.state is RowState.QUEUED for s in self.queue.settled), "it was deferred")
        self.flushLoggedErrors(OSError)
        [row] = self.queue.all(RowKind.DELIVER)
        assert row.last is not None
        assert row.last.outcome is Outcome.UNCERTAIN
        self.portal.fail = None
        self.primary.script.replies = {"MAIL": "451 4.3.0 no"}
        await self.until(lambda: self.portal.inbox(1), "it is in the portal")
        self.flushLoggedErrors(OSError)
        assert self.portal.inbox(1)[0].portal.uncertain
        self.primary.script.replies, self.primary.script.drop = {}, set()
        await self.gone(message)

    async def test_unregistered_is_tried_again(self) -> None:
        """No portal mailbox: the mail waits for the primary with back-off and arrives."""
        await self.build()
        self.primary.script.limited["RCPT"] = (2, "451 4.3.0 later")
        message = await self.send("nobody@example.test")
        await self.gone(message)
        assert len(self.primary.accepted) == 1
        assert not self.portal.copies

    async def test_not_covered(self) -> None:
        """C12: a mailbox that was not picked goes to the primary only, also in an emergency."""
        await self.build(coverage=Coverage.PICKED)
        self.directory.registered[1] = self.directory.registered[1].__class__(2, "bob@example.test", "example.test", picked=False)
        await self.delivery.modes.switch("example.test", Mode.EMERGENCY, "admin")
        message = await self.send("bob@example.test")
        await self.until(lambda: self.primary.accepted, "the primary has it")
        await self.gone(message)
        assert not self.archive.items, "nobody in the service's scope got it"

    async def test_no_primary(self) -> None:
        """A domain without a primary: the portal for good, no drain row, unknown recipients fail."""
        await self.build()
        self.directory.served.append(Domain("own.test"))
        self.directory.registered.append(self.directory.registered[0].__class__(9, "zoe@own.test", "own.test"))
        message = await self.send("zoe@own.test", domain="own.test")
        await self.gone(message)
        assert len(self.portal.inbox(9)) == 1
        assert not self.drains()
        refused = await self.send("nobody@own.test", sender="alice@example.test", origin=LOGGED_IN, domain="own.test")
        await self.gone(refused)
        assert len(self.notices()) == 1


class Failures(WorldCase):
    settings = SLOW_MACHINE

    async def test_bounce(self) -> None:
        """Rule 6: a logged-in sender hears of a refusal, once, with the header; nothing is archived (A20)."""
        await self.build()
        self.primary.script.unknown = {"bob@example.test"}
        message = await self.send("bob@example.test", sender="alice@example.test", origin=LOGGED_IN)
        await self.gone(message)
        await self.until(lambda: self.primary.to("alice@example.test"), "Alice has the bounce")
        [bounce] = self.primary.to("alice@example.test")
        assert bounce.sender == ""
        assert b"Final-Recipient: rfc822; bob@example.test" in bounce.data
        assert b"Status: 5.1.1" in bounce.data
        assert b"Subject: hello" in bounce.data
        assert b"..more" not in bounce.data
        assert not self.archive.items

    async def test_unproved_sender(self) -> None:
        """Rule 6: a bounce goes to somebody who may be forged; the message must be held and shown instead."""
        await self.build()
        self.primary.script.unknown = {"bob@example.test"}
        await self.send("bob@example.test", origin=Origin(Door.MX))
        await self.until(lambda: self.queue.all(RowKind.DELIVER, RowState.HELD), "it is held")
        [row] = self.queue.all(RowKind.DELIVER)
        assert "no bounce" in row.reason
        assert not self.notices()
        await self.until(lambda: self.alarms, "an alarm")
        assert self.alarms[0].code == "bounce-held"

    async def test_never_a_bounce_of_a_bounce(self) -> None:
        """Rule 6."""
        await self.build()
        self.primary.script.unknown = {"bob@example.test"}
        message = await self.send("bob@example.test", sender="", origin=LOGGED_IN)
        await self.gone(message)
        assert not self.notices()

    async def test_given_up(self) -> None:
        """After 5 days of worked time the sender hears; after 4 h he was told of the delay, once."""
        await self.build()
        self.primary.script.replies = {"RCPT": "451 4.3.0 later"}
        message = await self.send("nobody@example.test", sender="alice@example.test", origin=LOGGED_IN)
        await self.until(lambda: any(r.last for r in self.queue.all(RowKind.DELIVER, RowState.QUEUED)), "it was deferred")
        self.work(5 * 3600)
        await self.until(lambda: self.notices(), "a delay notice")
        settled = len(self.queue.settled)
        await self.until(lambda: len(self.queue.settled) >= settled + 6, "further attempts")
        mine = [n for n in self.notices() if n.request.startswith("dsn-delayed")]
        assert len(mine) == 1
        self.work(5 * 86400)
        await self.until(lambda: [n for n in self.notices() if n.request.startswith("dsn-failed")], "a bounce")
        await self.gone(message)
        self.primary.script.replies = {}

    def work(self, seconds: float) -> None:
        for row in self.queue.all(RowKind.DELIVER):
            if self.queue.messages[row.message].origin.door is not Door.NOTICE:
                self.queue.held[row.id] = row.__class__(
                    **{name: getattr(row, name) for name in row.__struct_fields__ if name != "worked"}, worked=seconds
                )

    async def test_sick_primary(self) -> None:
        """Rule 4: a primary that lost its directory refuses everybody; the third known address is not believed any more."""
        await self.build()
        self.primary.script.replies = {"RCPT": "550 5.1.1 no such user"}
        for user in ("alice", "bob", "admin"):
            await self.send(f"{user}@example.test", sender="", archive=False)
        await self.until(lambda: self.portal.copies, "the third is in the portal")
        assert len(self.portal.copies) == 1
        assert self.delivery.accepted.is_sick("example.test")
        evidence = self.delivery.modes.explain("example.test")["evidence"]
        assert any("refuses known addresses" in each["text"] for each in evidence)

    async def test_given_up_by_hand(self) -> None:
        """``queue bounce``: the sender is told and the row ends."""
        await self.build()
        self.primary.script.replies = {"RCPT": "451 4.3.0 later"}
        message = await self.send("nobody@example.test", sender="alice@example.test", origin=LOGGED_IN)
        await self.until(lambda: any(r.last for r in self.queue.all(RowKind.DELIVER, RowState.QUEUED)), "it was deferred")
        [row] = self.queue.all(RowKind.DELIVER)
        assert await self.delivery.give_up([row.id], "by the administrator") == 1
        await self.gone(message)
        assert len(self.notices()) == 1
        self.primary.script.replies = {}


class Outgoing(WorldCase):
    settings = SLOW_MACHINE

    async def test_mx_and_smarthost(self) -> None:
        """Outgoing mail goes to the MX of its domain, or to the sender's smarthost; what has nowhere to go bounces."""
        await self.build()
        other = ScriptedPrimary(reactor)
        await other.listen()
        self.primaries.append(other)
        self.resolver.mx["outside.test"] = (Host("127.0.0.1", other.port),)
        out = {"origin": LOGGED_IN, "direction": Direction.OUT, "sender": "alice@example.test"}
        await self.gone(await self.send("x@outside.test", **out))  # type: ignore[arg-type]
        assert other.accepted[0].recipients == ("x@outside.test",)
        await self.gone(await self.send("x@nowhere.test", **out))  # type: ignore[arg-type]
        assert [n.request.split(":")[0] for n in self.notices()] == ["dsn-failed"]
        smart = ScriptedPrimary(reactor)
        await smart.listen()
        self.primaries.append(smart)
        domain = self.directory.served[0]
        self.directory.served[0] = Domain(
            domain.name, primaries=domain.primaries, tls=domain.tls, smarthost=Host("127.0.0.1", smart.port)
        )
        await self.gone(await self.send("y@nowhere.test", **out))  # type: ignore[arg-type]
        assert smart.accepted[0].recipients == ("y@nowhere.test",)
        assert self.archive.items

    async def test_next_exchanger(self) -> None:
        """RFC 5321 section 5.1: recipients that the first exchanger defers, at MAIL or at RCPT, are given to the next within the attempt, and
        only they; where all defer, that is the verdict, and nobody is asked twice."""
        await self.build()
        first, second = ScriptedPrimary(reactor), ScriptedPrimary(reactor)
        for each in (first, second):
            await each.listen()
            self.primaries.append(each)
        self.resolver.mx["outside.test"] = tuple(Host("127.0.0.1", each.port) for each in (first, second))
        out = {"origin": LOGGED_IN, "direction": Direction.OUT, "sender": "alice@example.test"}
        first.script.full = {"full@outside.test"}
        message = await self.send("x@outside.test", "full@outside.test", **out)  # type: ignore[arg-type]
        await self.gone(message)
        assert [each.recipients for each in first.accepted] == [("x@outside.test",)]
        assert [each.recipients for each in second.accepted] == [("full@outside.test",)]
        first.script.replies = {"MAIL": "451 4.3.0 not now"}
        await self.gone(await self.send("y@outside.test", **out))  # type: ignore[arg-type]
        assert second.accepted[1].recipients == ("y@outside.test",)
        second.script.replies = {"MAIL": "451 4.3.0 nor here"}
        asked = second.seen["MAIL"]
        await self.send("z@outside.test", **out)  # type: ignore[arg-type]
        await self.until(
            lambda: any(row.last is not None and row.last.outcome is Outcome.DEFERRED for row in self.queue.held.values()),
            "deferred",
        )
        assert second.seen["MAIL"] == asked + 1

    async def test_dns_down(self) -> None:
        """DNS that does not answer makes mail fail instead of wait."""
        from hornetmail.net.resolver import ResolveError

        await self.build()
        self.resolver.mx["outside.test"] = ResolveError("no answer")
        await self.send("x@outside.test", origin=LOGGED_IN, direction=Direction.OUT)
        await self.until(lambda: any(r.last for r in self.queue.all(RowKind.DELIVER, RowState.QUEUED)), "it was deferred")
        [row] = self.queue.all(RowKind.DELIVER)
        assert row.last is not None
        assert row.last.stage is Stage.RESOLVE


class Archiving(WorldCase):
    settings = SLOW_MACHINE

    async def test_archive_down(self) -> None:
        """Step 5: an archive that is down delays delivery, or mail leaves the queue unarchived."""
        await self.build()
        self.archive.fail = OSError("full")
        message = await self.send("alice@example.test")
        await self.until(lambda: self.primary.accepted, "delivered all the same")
        await self.until(lambda: any(r.last for r in self.queue.all(RowKind.ARCHIVE)), "archiving was tried")
        assert message.id not in self.queue.left
        self.archive.fail = None
        await self.gone(message)
        self.flushLoggedErrors(OSError)
        assert len(self.archive.items) == 1

    async def test_held_mail(self) -> None:
        """A19, A20: mail in quarantine that is in the archive although nobody has got it, or is not there once it was released."""
        await self.build()
        await self.delivery.stop(0.1)
        message = await self.send("alice@example.test")
        [row] = self.queue.all(RowKind.DELIVER)
        await self.queue.change([row.id], RowState.HELD, reason="quarantine")
        await self.launch()
        before = reactor.seconds()
        await self.until(lambda: reactor.seconds() - before > 0.3, "some sweeps")
        assert not self.archive.items
        assert not self.primary.accepted
        await self.queue.change([row.id], RowState.QUEUED, due=reactor.seconds())
        await self.gone(message)
        assert len(self.archive.items) == 1

    async def test_late_recipient(self) -> None:
        """A recipient delivered after the first staging has no right to his own mail (rule 14)."""
        await self.build()
        self.primary.script.replies = {}
        self.primary.script.full = {"late@example.test"}
        message = await self.send("alice@example.test", "late@example.test")
        await self.until(lambda: self.archive.items, "staged for Alice")
        self.primary.script.full = set()
        await self.gone(message)
        named = {each for item in self.archive.items.values() for each in item.recipients}
        assert named == {"alice@example.test", "late@example.test"}

    async def test_exempt(self) -> None:
        """Rule 24: a mailbox that is exempt from archiving is archived."""
        await self.build()
        bob = self.directory.registered[1]
        self.directory.registered[1] = bob.__class__(bob.id, bob.address, bob.domain, archive=False)
        await self.gone(await self.send("alice@example.test", "bob@example.test"))
        [item] = self.archive.items.values()
        assert item.recipients == ("alice@example.test",)
        await self.gone(await self.send("bob@example.test"))
        assert len(self.archive.items) == 1

    async def test_marks_of_the_archive(self) -> None:
        """A21: mail that was tagged as spam and is not marked so. C9, rule 14: a sender whom the primary vouches for has no right to the
        mail that it sent through us, or somebody outside gets one by naming a served address."""
        await self.build()
        tagged = b"X-Spam-Flag: YES\r\n" + MAIL
        await self.gone(await self.send("alice@example.test", data=tagged))
        relay = Origin(Door.RELAY, peer="127.0.0.1", trusted=True)
        await self.gone(await self.send("alice@example.test", sender="bob@example.test", origin=relay))
        await self.gone(await self.send("alice@example.test", sender="bob@example.test"))
        spam, vouched, claimed = self.archive.items.values()
        assert (spam.spam, spam.login) == (True, "")
        assert (vouched.spam, vouched.login) == (False, "bob@example.test")
        assert claimed.login == ""
