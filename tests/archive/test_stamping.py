"""Time stamps (A33, A34, A52, A60, L2) and the audit log in the same tree (L14), against ``openssl ts`` behind real HTTP."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer

from hornetmail.archive.archive import Archive
from hornetmail.archive.care.copies.mirror import superseded
from hornetmail.archive.care.terms.retention import LAST
from hornetmail.archive.care.trust import stamping
from hornetmail.archive.care.trust.stamping import CHAIN, CLOCK, ENDING, FAILED, MANY, Outside
from hornetmail.archive.index.ties.leaves import audit_leaves, enter_audit_leaf
from hornetmail.archive.proof import stamplog, stampsheets
from hornetmail.archive.proof.evidence import verify_bundle
from hornetmail.archive.proof.stamps import NONE, read_stamp
from hornetmail.archive.proof.tokens import ask_for, fingerprint
from hornetmail.archive.store.records import AuditLeaf
from hornetmail.core.archive.archived import ArchiveError, NoAuthority, Refused
from hornetmail.core.archive.stamps import Authority, CACertificate, StampSettings
from hornetmail.core.delivery.backoff import DAY, Backoff
from hornetmail.core.events import Alarm, AlarmEnded
from hornetmail.core.served import Scope
from hornetmail.db.engines import Cursor
from hornetmail.interfaces.bus import IBus
from hornetmail.net.ask import Asker, AskError
from hornetmail.testing.archives import ADMIN, AUDITOR, NOW, ROOT, Clock, mail, make_archive, user
from hornetmail.testing.stamp_authority import StampAuthority
from tests.archive.cases import ArchiveCase, told


class MemoryAudit:
    """Rows of the audit log by their hash."""

    def __init__(self) -> None:
        self.hashes: list[bytes] = []
        self.since: list[int] = []
        self.broken = ""

    async def newest(self) -> tuple[int, bytes]:
        return len(self.hashes), self.hashes[-1] if self.hashes else bytes(32)

    async def hash_of(self, number: int) -> bytes | None:
        return self.hashes[number - 1] if 0 < number <= len(self.hashes) else None

    async def verify(self, since: int = 0) -> str:
        self.since.append(since)
        return self.broken


@implementer(IBus)
class Alarms:
    """A bus that keeps the alarms."""

    def __init__(self, kept: list[Alarm]) -> None:
        self._kept = kept
        self.ended: list[str] = []

    def publish(self, event: object) -> None:
        if isinstance(event, Alarm):
            self._kept.append(event)
        elif isinstance(event, AlarmEnded):
            self.ended.append(event.code)

    def subscribe(self, kind: type, listener: Callable[[Any], Any]) -> Callable[[], None]:
        return lambda: None


class StampCase(ArchiveCase):
    """An archive, authorities, and what is told."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock(reactor, time.time())
        self.audit = MemoryAudit()
        self.settings = StampSettings()
        self.alarms: list[Alarm] = []
        self.bus = Alarms(self.alarms)
        self.authorities: list[StampAuthority] = []

    def authority(self, name: str = "one", **more: Any) -> StampAuthority:
        made = StampAuthority(self.top / "authorities" / name, **more)
        self.addCleanup(made.close)
        self.authorities.append(made)
        return made

    def use(self, *authorities: StampAuthority, **more: Any) -> None:
        """Set them up, each with its root selected (A34)."""
        roots = {fingerprint(one.root): one.pem for one in authorities}
        self.settings = StampSettings(
            tuple(Authority(one.place.name, one.url, certificates=(fingerprint(one.root),), **more) for one in authorities),
            tuple(CACertificate(print_, pem) for print_, pem in roots.items()),
        )

    def more(self, **given: Any) -> dict[str, Any]:
        outside = Outside(
            settings=lambda: self.settings, post=Asker(reactor).post, audit=self.audit, backoff=Backoff(first=0.05), **given
        )
        return {"stamping": outside, "bus": self.bus}

    async def stamped(self, *mails: bytes) -> Archive:
        """An archive with these mails and a stamp on them."""
        self.use(self.authority())
        archive = await self.fresh(**self.more())
        for one in mails or (mail("first"),):
            await self.put(archive, one)
        await archive.stamps.stamp()
        return archive

    def codes(self) -> set[str]:
        return {one.code for one in self.alarms}


class TestStamps(StampCase):
    async def test_a_stamp_on_the_root(self) -> None:
        """A33: catches a stamp on something else than the root of all leaves, or one that lies in one place only."""
        archive = await self.stamped(mail("a"), mail("b"))
        state = archive.stamps.state()
        assert (state.stamps, state.stamped, state.unstamped, state.authority) == (1, 2, 0, "one")
        assert abs(state.at - time.time()) < 30
        assert state.until > time.time() + 300 * DAY
        stamp = read_stamp((self.medium / "stamps/n0/00000000000000000000.stamp").read_bytes())
        assert stamp.head.root == archive.holdings.leaves.root()
        assert await archive.verify(full=True) == ()
        assert self.alarms == []

    async def test_each_holds_the_one_before(self) -> None:
        """A33, rule 17: catches stamps that stand alone: one could be taken out, or made later, unseen."""
        archive = await self.stamped()
        await self.put(archive, mail("second"))
        await archive.stamps.stamp()
        one, two = (archive.stamps.stamps.get(n) for n in (0, 1))
        assert two.head.before == one.link
        assert (one.head.size, two.head.size) == (1, 2)

    async def test_nothing_new_is_not_stamped_again(self) -> None:
        """A60: catches a stamp each night on what was stamped already: each costs money."""
        archive = await self.stamped()
        await archive.stamps.daily(0.0)
        assert self.authorities[0].asked == 1
        assert archive.stamps.state().stamps == 1

    async def test_many_unstamped(self) -> None:
        """A52: catches a quarter of an hour that stamps a few mails, or does not stamp 10,000."""
        archive = await self.stamped()
        await self.put(archive, mail("one more"))
        await archive.stamps.if_many()
        assert archive.stamps.state().stamps == 1
        self.patch(archive.holdings.staging, "next_leaf", MANY + 1)
        await archive.stamps.if_many()
        assert archive.stamps.state().stamps == 2

    async def test_before_the_first(self) -> None:
        """Would catch an archive that counts leaves as stamped before there is any stamp: at the start it would look for them on the media."""
        archive = await self.fresh(**self.more())
        assert (archive.stamps.stamped, archive.stamps.unstamped(), archive.stamps.clocks()) == (0, 0, (0, 0.0, 0.0))
        await self.put(archive, mail("first"))
        assert (archive.stamps.stamped, archive.stamps.unstamped(), archive.stamps.state().stamped) == (0, 1, 0)
        assert await archive.verify(full=True) == ()

    async def test_without_an_authority(self) -> None:
        """A34: catches a service that seems to prove something when nobody was asked, or that fails at night for it."""
        archive = await self.fresh(**self.more())
        await self.put(archive, mail())
        with pytest.raises(NoAuthority, match="nothing proves"):
            await archive.stamps.stamp()
        await archive.stamps.daily(0.0)
        assert (archive.stamps.state().authorities, archive.stamps.state().failing) == (0, "")

    async def test_another_is_asked(self) -> None:
        """A33: catches one authority that is down and nobody else asked; and an order that does not count."""
        down, up = self.authority("down"), self.authority("up")
        down.status = 503
        self.use(down, up)
        archive = await self.fresh(**self.more())
        await self.put(archive, mail())
        state = await archive.stamps.stamp()
        assert (state.authority, state.failing, self.alarms) == ("up", "", [])
        down.status = 200
        await self.put(archive, mail("again"))
        assert (await archive.stamps.stamp()).authority == "down"

    async def test_failure_is_told_and_tried_again(self) -> None:
        """A33: catches a night without a stamp that nobody hears of, and one that waits for the next night."""
        one = self.authority()
        one.status = 500
        self.use(one)
        archive = await self.fresh(**self.more())
        await self.put(archive, mail())
        with pytest.raises(ArchiveError, match="one: it answered 500"):
            await archive.stamps.stamp()
        assert self.codes() == {FAILED}
        state = archive.stamps.state()
        assert "500" in state.failing
        assert state.again > self.clock.seconds()
        one.status = 200
        done: Deferred[None] = Deferred()
        append = archive.stamps.stamps.append

        def appended(stamp: Any) -> None:
            append(stamp)
            reactor.callFromThread(done.callback, None)  # type: ignore[attr-defined]

        self.patch(archive.stamps.stamps, "append", appended)
        await done.addTimeout(20, reactor)
        await archive.stamps.daily(0.0)
        assert (archive.stamps.state().stamps, archive.stamps.state().failing) == (1, "")
        assert FAILED in self.bus.ended

    async def test_a_medium_that_is_away(self) -> None:
        """A33: catches a night whose stamp waits for the next one because a medium was away for a minute, and nobody told."""
        self.use(self.authority())
        archive = await self.fresh(**self.more())
        await self.put(archive, mail())
        self.medium.rename(self.top / "away")
        self.medium.write_bytes(b"")
        with pytest.raises(ArchiveError, match="nothing could be made ready"):
            await archive.stamps.stamp()
        assert FAILED in self.codes()
        assert archive.stamps.state().again > self.clock.seconds()
        self.medium.unlink()
        (self.top / "away").rename(self.medium)
        await archive.stamps.stamp()
        assert archive.stamps.state().stamps == 1
        assert FAILED in self.bus.ended

    async def test_what_does_not_count(self) -> None:
        """A34: catches tokens that are believed: of another authority, of none, refused, on other data, repeated, with a wrong log-in, over-long."""
        good, other = self.authority("good"), self.authority("other")
        archive = await self.fresh(**self.more())
        await self.put(archive, mail())
        old = good.answer(ask_for(b"something else").data)
        cases: list[tuple[str, dict[str, Any]]] = [
            ("no reply of a time stamp authority", {"reply": b"<html>log in</html>"}),
            ("no reply of a time stamp authority", {"reply": b""}),
            ("refused .status 2.: no thanks", {"reply": _refusal()}),
            ("it stamps something else", {"reply": old}),
            ("too long", {"reply": bytes(1 << 19)}),
            ("it answered 401", {"login": "me:secret"}),
            ("it answered 302", {"status": 302}),
        ]
        for words, behaviour in cases:
            self.use(good)
            for name, value in behaviour.items():
                self.patch(good, name, value)
            with pytest.raises(ArchiveError, match=words):
                await archive.stamps.test("good")
            good.reply, good.status, good.login = None, 200, ""
        self.use(good)
        (wrong,) = self.settings.authorities
        self.settings = StampSettings(
            (msgspec.structs.replace(wrong, certificates=(fingerprint(other.root),)),),
            (CACertificate(fingerprint(other.root), other.pem),),
        )
        with pytest.raises(ArchiveError, match="chain does not hold"):
            await archive.stamps.test("good")
        self.settings = msgspec.structs.replace(self.settings, certificates=())
        with pytest.raises(ArchiveError, match="no CA certificate is selected"):
            await archive.stamps.test("good")
        assert archive.stamps.state().stamps == 0
        good.login = "me:secret"
        self.use(good, user="me", password="secret")
        await archive.stamps.test("good")
        with pytest.raises(KeyError):
            await archive.stamps.test("nobody")

    async def test_tokens_that_the_strict_reader_refuses(self) -> None:
        """A33: catches an authority that cannot be used because its certificates are not in DER's order: openssl judges then, and a wrong one is still wrong."""
        one, other = self.authority("one", whole_chain=True), self.authority("other")
        self.use(one)
        archive = await self.fresh(**self.more())
        await self.put(archive, mail())
        await archive.stamps.stamp()
        assert await archive.verify(full=True) == ()
        (mine,) = self.settings.authorities
        self.settings = StampSettings(
            (msgspec.structs.replace(mine, certificates=(fingerprint(other.root),)),),
            (CACertificate(fingerprint(other.root), other.pem),),
        )
        with pytest.raises(ArchiveError, match="openssl refuses it"):
            await archive.stamps.test("one")

    async def test_a_clock_that_differs_is_told(self) -> None:
        """Rule 19: catches a clock that is years off and nobody told, although an authority says what time it is."""
        self.clock.now += 3 * DAY
        archive = await self.stamped()
        assert self.codes() == {CLOCK}
        self.clock.now -= 3 * DAY
        await self.put(archive, mail("again"))
        await archive.stamps.stamp()
        assert CLOCK in self.bus.ended

    async def test_nothing_goes_by_a_clock_that_differs(self) -> None:
        """Rule 19: catches retention that believes a clock which an authority contradicts: ahead when it stamped, or behind it now. Somebody may say that the
        clock is right."""
        self.clock.now += 3 * DAY
        archive = await self.stamped()
        await self.refused(archive)
        await archive.confirm_purge()
        assert await archive.mark(self.clock.seconds()) == 1, "it goes by the clock again"
        self.clock.now -= 3 * DAY
        await archive.confirm_purge()
        await self.put(archive, mail("later"))
        await archive.stamps.stamp()
        assert await archive.mark(self.clock.seconds()) == 2
        self.clock.now -= 2 * 3600.0
        archive.upkeep.began = (self.clock.seconds(), self.clock.monotonic())
        await archive.index().run(no_runs)
        await self.refused(archive)

    async def refused(self, archive: Archive) -> None:
        for job in (archive.mark, archive.purge):
            with pytest.raises(ArchiveError, match="disagrees with the last time stamp"):
                await job(self.clock.seconds())

    async def test_the_newest_does_not_read(self) -> None:
        """A33: catches a damaged newest stamp that ends all stamping, or that nobody hears of."""
        archive = await self.stamped()
        await archive.stop()
        for path in self.top.rglob("*.stamp"):
            path.write_bytes(b"damaged")
        archive = await self.reopened(**self.more())
        await self.put(archive, mail("second"))
        assert (await archive.stamps.stamp()).stamps == 2
        assert self.codes() == {CHAIN}
        assert told(await archive.verify(), "stamp 0", "not a stamp")
        hit = await self.only(archive, "subject:first")
        assert verify_bundle(await archive.evidence(AUDITOR, hit.id)).proved

    async def test_stopping_while_an_authority_hangs(self) -> None:
        """Catches a stop that waits for an authority that does not answer, and one that asks the next."""
        asked: Deferred[None] = Deferred()
        cut_off: list[str] = []

        async def post(url: str, *_: Any, **__: Any) -> Any:
            reactor.callLater(0, asked.callback, None)  # type: ignore[attr-defined]
            try:
                await Deferred()
            except CancelledError:
                cut_off.append(url)
                raise AskError("no answer in time") from None

        self.use(self.authority("one"), self.authority("two"))
        more = self.more()
        more["stamping"] = msgspec.structs.replace(more["stamping"], post=post)
        archive = await self.fresh(**more)
        await self.put(archive, mail())
        stamping = Deferred.fromCoroutine(archive.stamps.stamp())
        await asked
        await archive.stop()
        with pytest.raises(ArchiveError, match="stops"):
            await stamping
        assert cut_off == [self.authorities[0].url]


class TestKept(StampCase):
    async def test_restart_and_media_that_were_away(self) -> None:
        """A33: catches stamps that are forgotten by a restart, and a medium that never gets those made while it was away."""
        archive = await self.stamped()
        await archive.stop()
        shutil.rmtree(self.medium / "stamps")
        archive = await self.reopened(**self.more())
        assert archive.stamps.state().stamps == 1
        found = await archive.verify()
        assert told(found, "medium 1", "00000000000000000000.stamp", "the stamp is missing"), found
        await self.put(archive, mail("second"))
        await archive.stamps.stamp()
        assert await archive.verify(full=True) == ()

    async def test_found_again_by_a_rebuild(self) -> None:
        """L3: catches stamps that are lost with the machine, although they lie on the medium; the audit log's leaves too."""
        self.audit.hashes = [b"h" * 32]
        archive = await self.stamped()
        await archive.stop()
        self.wipe_local()
        restored = make_archive(self.clock, self.top, root=ROOT, **self.more())
        restored.restore()
        archive = await self.started(restored)
        assert await archive.rebuild() == ()
        assert archive.stamps.state().stamps == 1
        assert await archive.verify(full=True) == ()
        hit = await self.only(archive, "")
        assert verify_bundle(await archive.evidence(AUDITOR, hit.id)).proved

    async def test_an_older_copy_of_the_directory(self) -> None:
        """A33: catches a number that is given twice: the medium's second stamp would be another one than ours, for good."""
        archive = await self.stamped()
        await archive.stop()
        shutil.copytree(self.top / "archive" / "stamps", self.top / "older")
        archive = await self.reopened(**self.more())
        await self.put(archive, mail("second"))
        await archive.stamps.stamp()
        await archive.stop()
        shutil.rmtree(self.top / "archive" / "stamps")
        shutil.copytree(self.top / "older", self.top / "archive" / "stamps")
        archive = await self.reopened(**self.more())
        await self.put(archive, mail("third"))
        assert (await archive.stamps.stamp()).stamps == 3
        assert await archive.verify(full=True) == ()

    async def test_wrong_ones_are_named(self) -> None:
        """A33: catches a verification that does not look: at the token, the chain of stamps, the root, the copy on the medium."""
        archive = await self.stamped()
        await self.put(archive, mail("second"))
        await archive.stamps.stamp()
        place = self.top / "archive" / "stamps"
        first = place / "00000000000000000000.stamp"
        sound = first.read_bytes()
        stamp = read_stamp(sound)
        changed = {
            "its root is not that": msgspec.structs.replace(stamp, head=msgspec.structs.replace(stamp.head, root=bytes(32))),
            "it stamps something else": msgspec.structs.replace(stamp, head=msgspec.structs.replace(stamp.head, made=5)),
            "its token is not good": msgspec.structs.replace(stamp, token=stamp.token[:-1] + bytes([stamp.token[-1] ^ 1])),
            "it holds 9 leaves, the leaf log has 2": msgspec.structs.replace(
                stamp, head=msgspec.structs.replace(stamp.head, size=9)
            ),
        }
        for words, wrong in changed.items():
            first.write_bytes(wrong.to_bytes())
            found = await archive.verify(full=True)
            assert told(found, "stamp 0", words), (words, found)
            assert told(found, "stamp 1", "does not hold the stamp before it"), found
            assert told(found, "medium 1", "the stamp was changed"), found
        first.write_bytes(sound[:-1])
        assert told(await archive.verify(), "stamp 0", "damaged")
        first.unlink()
        assert told(await archive.verify(), "stamp 0", "missing")
        assert await archive.rebuild() == ()
        assert first.read_bytes() == sound


class TestAuditLog(StampCase):
    async def test_its_newest_hash_is_a_leaf(self) -> None:
        """L14: catches an audit log that can be written anew from the start: its rows are under the stamp, and what no longer agrees is named."""
        self.audit.hashes = [b"a" * 32, b"b" * 32]
        archive = await self.stamped()
        assert archive.stamps.state().stamped == 2
        leaves = await archive.index().read(audit_leaves)
        assert [(one.number, one.digest, one.leaf) for one in leaves] == [(2, b"b" * 32, 1)]
        assert archive.holdings.leaves.leaf(1) == leaves[0].leaf_hash()
        assert await archive.verify(full=True) == ()
        self.audit.hashes[1] = b"c" * 32
        assert told(await archive.verify(), "audit log", "row 2 was changed")
        self.audit.hashes.pop()
        assert told(await archive.verify(), "audit log", "row 2 is missing")
        self.audit.broken = "audit row 1 was altered"
        assert told(await archive.verify(), "audit log", "row 1 was altered")

    async def test_a_short_look_at_it(self) -> None:
        """Catches a short verification that walks the audit log of ten years, and a whole one that does not."""
        self.patch(stamping, "LEAVES", 3)
        archive = await self.stamped()
        size = archive.holdings.leaves.size
        self.audit.hashes = [bytes([n]) * 32 for n in range(1, 9)]
        for n in range(2, 9):
            leaf = AuditLeaf(0, size + n, n, self.audit.hashes[n - 1], NOW)
            await archive.index().run(enter_audit_leaf, leaf)
        self.audit.hashes[6] = self.audit.hashes[2] = bytes(32)
        self.audit.since.clear()
        found = [one.what for one in await archive.stamps.check_audit(False)]
        assert [one.split(":")[0] for one in found] == ["row 7 was changed"]
        found = [one.what for one in await archive.stamps.check_audit(True)]
        assert [one.split(":")[0] for one in found if "row 1 " not in one] == ["row 3 was changed", "row 7 was changed"]
        assert self.audit.since == [6, 0]

    async def test_its_leaves_have_an_owner(self) -> None:
        """Rule 17, L14: catches an audit leaf that is reported as lost mail: while staged, sealed, after a restart while staged, after a rebuild."""
        self.audit.hashes = [b"a" * 32]
        archive = await self.stamped()
        assert await archive.verify() == ()
        self.audit.hashes.append(b"b" * 32)
        await archive.stamps._audit_leaf(archive.stamps._outside)  # type: ignore[arg-type]
        assert await archive.verify() == ()
        await archive.stop()
        archive = await self.reopened(**self.more())
        await archive.flush(seal=True)
        assert await archive.verify(full=True) == ()
        assert [one.number for one in await archive.index().read(audit_leaves)] == [1, 2]
        assert await archive.rebuild() == ()
        assert [one.number for one in await archive.index().read(audit_leaves)] == [1, 2]

    async def test_only_if_it_grew(self) -> None:
        """L14: catches a leaf for the same row each night."""
        self.audit.hashes = [b"a" * 32]
        archive = await self.stamped()
        await self.put(archive, mail("second"))
        await archive.stamps.stamp()
        assert len(await archive.index().read(audit_leaves)) == 1

    async def test_after_an_older_one_was_restored(self) -> None:
        """L14: catches an audit log that nobody stamps for weeks after a restore: its rows have the numbers of rows that were lost, and count as stamped by them."""
        self.audit.hashes = [bytes([n]) * 32 for n in range(1, 6)]
        archive = await self.stamped()
        self.audit.hashes = [*self.audit.hashes[:2], b"n" * 32]
        await self.put(archive, mail("second"))
        await archive.stamps.stamp()
        leaves = await archive.index().read(audit_leaves)
        assert [(one.number, one.digest) for one in leaves] == [(5, b"\5" * 32), (3, b"n" * 32)]
        found = [one.what for one in await archive.stamps.check_audit(True)]
        assert len(found) == 1
        assert found[0].startswith("row 5 is missing"), "what was lost stays named"
        assert archive.stamps.state().stamped == archive.holdings.leaves.size


class TestRenewal(StampCase):
    async def test_before_the_certificate_ends(self) -> None:
        """A33, RFC 4998: catches proofs that end with the authority's certificate: a stamp that ages is held by a new one, without new mail, and the bundle
        of the old mail proves the old time with what is good today."""
        began = time.time()
        old = self.authority("old", days=120, at=began)
        self.use(old)
        archive = await self.fresh(**self.more())
        await self.put(archive, mail("old"))
        await archive.stamps.stamp()
        hit = await self.only(archive, "")
        first = verify_bundle(await archive.evidence(AUDITOR, hit.id))
        assert (first.proved, len(first.stamps)) == (True, 1)
        self.clock.now = began + 20 * DAY
        await archive.stamps.daily(0.0)
        assert archive.stamps.state().stamps == 1, "it is good for more than 90 days"
        for number, days in enumerate((40, 60, 100)):
            self.clock.now = began + days * DAY
            new = self.authority(f"new{number}", days=1000, at=self.clock.now, ca=old)
            self.use(new)
            if number:
                await self.put(archive, mail(f"later {days}"))
            await archive.stamps.stamp()
        assert archive.stamps.state().stamps == 4
        assert await archive.verify(full=True) == ()
        bundle = await archive.evidence(AUDITOR, hit.id)
        verdict = verify_bundle(bundle)
        assert (verdict.flaws, len(verdict.stamps)) == ((), 2)
        assert abs(verdict.stamps[0].at - began) < 5
        assert verdict.stamps[-1].until > began + 1000 * DAY
        assert b"links.bin" in bundle

    async def test_over_a_broken_chain(self) -> None:
        """Catches a bundle that cannot be made, or does not hold, because a later stamp is damaged or the chain began anew: the first stamp proves as much as it
        did, and what keeps it good is taken from before the break."""
        began = time.time()
        old = self.authority("old", days=120, at=began)
        self.use(old)
        archive = await self.fresh(**self.more())
        await self.put(archive, mail("old"))
        await archive.stamps.stamp()
        for days in (40, 60, 100):
            self.clock.now = began + days * DAY
            self.use(self.authority(f"new{days}", days=900 + days, at=self.clock.now, ca=old))
            await self.put(archive, mail(f"later {days}"))
            await archive.stamps.stamp()
        hit, log = await self.only(archive, "old"), archive.stamps.stamps
        for number, proved in ((3, 2), (2, 2), (1, 1)):
            for broken in (
                b"damaged",
                msgspec.structs.replace(
                    log.get(number), head=msgspec.structs.replace(log.get(number).head, before=NONE)
                ).to_bytes(),
            ):
                path = log._path(number)
                whole = path.read_bytes()
                path.write_bytes(broken)
                verdict = verify_bundle(await archive.evidence(AUDITOR, hit.id))
                assert (verdict.flaws, len(verdict.stamps), verdict.proved) == ((), proved, True), number
                path.write_bytes(whole)

    async def test_too_late(self) -> None:
        """A33: catches a stamp that is taken for good although its certificate had ended before the next was made."""
        began = time.time()
        old = self.authority("old", days=10, at=began)
        self.use(old)
        archive = await self.fresh(**self.more())
        await self.put(archive, mail("old"))
        await archive.stamps.stamp()
        assert self.codes() == {ENDING}
        self.clock.now = began + 30 * DAY
        self.use(self.authority("new", days=1000, at=self.clock.now, ca=old))
        await archive.stamps.stamp()
        verdict = verify_bundle(await archive.evidence(AUDITOR, (await self.only(archive, "")).id))
        assert len(verdict.stamps) == 1
        assert verdict.stamps[0].until < self.clock.now


class TestSheets(StampCase):
    async def test_old_stamps_in_few_objects(self) -> None:
        """Catches a medium whose objects grow by one a day for stamps alone; sheets that a rebuild, a verification, a new medium or the mirror cannot use; a stamp that is damaged
        in a sheet and costs the others."""
        self.patch(stampsheets, "SHEET", 4)
        self.patch(stamplog, "SHEET", 4)
        self.use(self.authority())
        archive = await self.fresh(**self.more())
        for n in range(11):
            await self.put(archive, mail(f"Day{n}"))
            await archive.stamps.stamp()
        names = sorted(path.name for path in (self.medium / "stamps/n0").iterdir())
        assert [name[18:] for name in names] == ["00.sheet", "04.sheet", "08.stamp", "09.stamp", "10.stamp"]
        assert await archive.verify(True) == ()
        hit = await self.only(archive, "day2")
        kept = archive.stamps.stamps.get(5).to_bytes()
        await archive.stop()
        self.wipe_local()
        again = make_archive(self.clock, self.top, **self.more())
        again.restore()
        await self.started(again)
        assert await again.rebuild() == ()
        assert again.stamps.stamps.count == 11
        assert again.stamps.stamps.get(5).to_bytes() == kept
        assert verify_bundle(await again.evidence(AUDITOR, hit.id)).proved
        sheet = self.medium / "stamps/n0" / names[1]
        data = sheet.read_bytes()
        at = data.index(again.stamps.stamps.get(6).token) + 40
        sheet.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert await again.verify() == ()
        assert told(await again.verify(True), names[1], "changed")
        for path in (self.top / "archive" / "stamps").glob("*.stamp"):
            path.unlink()
        found = again.stamps.restore()
        assert told(found, names[1], "damaged")
        assert again.stamps.stamps.numbers() == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10]
        sheet.write_bytes(data)
        assert again.stamps.restore() == []
        sheet.unlink()
        assert told(await again.verify(), "05.stamp", "the stamp is missing")
        await self.put(again, mail("Later"))
        await again.stamps.stamp()
        assert sheet.read_bytes() == data
        assert await again.verify(True) == ()

    def test_what_the_mirror_keeps(self) -> None:
        """Catches stamps that go from the mirror though no sheet holds them."""
        names = {f"stamps/n0/{n:020d}.stamp": 1 for n in (0, 255, 256)}
        assert superseded(names, {f"stamps/n0/{0:020d}.sheet": 9}) == list(names)[:2]
        assert superseded(names, {f"stamps/n1/{0:020d}.sheet": 9}) == []
        assert superseded(names, names) == []


class TestArrivals(StampCase):
    async def test_each_arrival_is_provable(self) -> None:
        """L2, rule 17: catches a bundle that proves the first arrival only of bytes that came again, one that shows the others' hidden recipients (rule 14), and arrivals that
        nothing finds any more after a merging or a rebuild."""
        self.use(self.authority())
        archive = await self.fresh(**self.more())
        for n, reader in enumerate(("bob@example.test", "carol@example.test", "dora@example.test")):
            await self.put(archive, mail("again"), recipients=(reader,), received=NOW + n)
            if n < 2:
                await archive.stamps.stamp()
        await archive.flush()
        hit = await self.only(archive, "again")
        bundle = await archive.evidence(AUDITOR, hit.id)
        verdict = verify_bundle(bundle)
        assert (verdict.flaws, len(verdict.further)) == ((), 1), "the third is not on a medium yet"
        assert b"arrived 1 more time, of which" in bundle
        await archive.stamps.stamp()
        await self.put(archive, mail("other"))
        await archive.flush(seal=True)
        for change in (None, archive.merge, archive.rebuild):
            if change is not None:
                await change(*([self.clock.now + 40 * DAY] if change == archive.merge else []))
            bundle = await archive.evidence(AUDITOR, hit.id)
            verdict = verify_bundle(bundle)
            assert verdict.proved
            assert b"more time" not in bundle
            assert [one.statement.recipients for one in verdict.further if one.statement] == [
                ("carol@example.test",),
                ("dora@example.test",),
            ]
            assert [one.statement.received for one in verdict.further if one.statement] == [int(NOW + n) * 1000 for n in (1, 2)]
            assert all(one.stamps for one in verdict.further)
        shown = await archive.evidence(user("carol@example.test"), hit.id)
        assert [one.statement.recipients for one in verify_bundle(shown).further if one.statement] == [("carol@example.test",)]
        assert b"dora" not in shown
        assert b"arrived 1 more time, of which" in shown


class TestRights(StampCase):
    async def test_who_gets_it(self) -> None:
        """Rule 14: catches a bundle that shows hidden recipients, or the log-in, to those who may not see them, and content to administrators."""
        self.use(self.authority())
        archive = await self.fresh(**self.more())
        bcc = ("bob@example.test", "carol@example.test")
        await self.put(archive, mail("in"), recipients=bcc)
        await self.put(archive, mail("out"), recipients=("bob@example.test",), login="alice@example.test")
        await archive.stamps.stamp()
        received, sent = await self.only(archive, "subject:in"), await self.only(archive, "subject:out")
        assert verify_bundle(await archive.evidence(AUDITOR, received.id)).proved
        for scope in (user("bob@example.test"), Scope(0, None)):
            with pytest.raises(Refused, match="hidden recipients"):
                await archive.evidence(scope, received.id)
        with pytest.raises(Refused, match="hidden recipients"):
            await archive.evidence(user("bob@example.test"), sent.id)
        assert verify_bundle(await archive.evidence(user("alice@example.test"), sent.id)).proved
        with pytest.raises(Refused, match="content"):
            await archive.evidence(ADMIN, received.id)
        with pytest.raises(KeyError):
            await archive.evidence(user("mallory@example.test"), received.id)
        # Carol is not in the header, and sees her own entry and Bob's: all there is.
        assert verify_bundle(await archive.evidence(user("carol@example.test"), received.id)).proved

    async def test_not_stamped_yet(self) -> None:
        """L2: catches a bundle that looks like a proof before there is a stamp, and one of mail that is in no log yet."""
        archive = await self.fresh(**self.more())
        await self.put(archive, mail())
        await archive.flush()
        hit = await self.only(archive, "")
        with pytest.raises(ArchiveError, match="not on a medium yet"):
            await archive.evidence(AUDITOR, hit.id)
        await archive.flush(seal=True)
        bundle = await archive.evidence(AUDITOR, hit.id)
        verdict = verify_bundle(bundle)
        assert (verdict.flaws, verdict.stamps, verdict.proved) == ((), (), False)
        assert b"NOT STAMPED YET" in bundle


def no_runs(cursor: Cursor) -> None:
    """As if retention had not run yet, which also knows the time."""
    cursor.execute("DELETE FROM fact WHERE name = ?", (LAST,))


def _refusal() -> bytes:
    text = b"\x0c\x09no thanks"
    state = b"\x02\x01\x02" + b"\x30" + bytes([len(text)]) + text
    inner = b"\x30" + bytes([len(state)]) + state
    return b"\x30" + bytes([len(inner)]) + inner
