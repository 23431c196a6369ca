"""Rules of retention, legal holds, deletion on request, and that nothing is left (A57, A58, rules 17, 18, 23)."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from twisted.internet.defer import Deferred

from hornetmail.archive.archive import Archive, ArchiveSettings
from hornetmail.archive.care.terms.keeping import Copies
from hornetmail.archive.care.terms.retention import RetentionSettings
from hornetmail.archive.index.ties import rules as applied
from hornetmail.archive.store.packs import open_pack
from hornetmail.archive.store.records import Kind
from hornetmail.core.archive.archived import ArchiveError, HoldRefused, QueryError
from hornetmail.core.archive.retention import DAY, Kept, Rule, checked, goes_at
from hornetmail.core.mail.envelope import Direction
from hornetmail.testing.archives import AUDITOR, NOW, BytesBody, directory_medium, item, mail, make_archive
from tests.archive.cases import ArchiveCase
from tests.archive.test_merging import attachment

RECORD_ID = 16


class Log:
    """An audit log in memory."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []

    async def begin(self, actor: str, action: str, subject: str, detail: str = "", tenant: int = 0) -> int:
        self.rows.append([actor, action, subject, detail, ""])
        return len(self.rows) - 1

    async def outcome(self, number: int, result: str) -> None:
        self.rows[number][4] = result


def kept(*domains: str, direction: str = "in", spam: bool = False, base: float = 90.0) -> Kept:
    return Kept(frozenset(domains), direction, spam, 0.0, base * DAY)


class TestRules:
    def test_the_more_telling_rule_counts(self) -> None:
        """Catches a general rule that beats a particular one, and mail of two domains that goes with the shorter-lived."""
        rules = checked(
            [
                Rule(10),
                Rule(20, domain="A.test"),
                Rule(30, domain="a.test", direction="in"),
                Rule(5, spam=True),
                Rule(7, direction="out"),
            ]
        )
        for mail_, days in (
            (kept("b.test"), 10),
            (kept("a.test"), 30),
            (kept("a.test", direction="out"), 20),
            (kept("b.test", direction="out"), 7),
            (kept("b.test", spam=True), 5),
            (kept("a.test", spam=True), 30),
            (kept("a.test", "b.test"), 30),
            (kept(), 10),
        ):
            assert goes_at(rules, mail_) == days * DAY, mail_

    def test_no_rule_no_change(self) -> None:
        """Catches rules for one domain that shorten another's mail, and a fact that a mail is kept until a day which rules overrule."""
        rules = checked([Rule(10, domain="a.test")])
        assert goes_at(rules, kept("b.test")) == 90 * DAY
        assert goes_at(rules, kept("a.test", "b.test")) == 90 * DAY
        assert goes_at((), kept("a.test")) == 90 * DAY
        assert goes_at(rules, Kept(frozenset({"a.test"}), "in", False, 0.0, 5.0, kept=40 * DAY)) == 40 * DAY

    def test_wrong_rules_are_named(self) -> None:
        """Catches rules that contradict one another, or that nothing can follow."""
        for rules, words in (
            ([Rule(0)], "rule 1: kept 0 days"),
            ([Rule(5), Rule(40_000)], "rule 2"),
            ([Rule(5, direction="sideways")], "no direction 'sideways'"),
            ([Rule(5, domain="a.test"), Rule(6, domain=" A.TEST")], "rule 2: another rule says the same of a.test"),
        ):
            with pytest.raises(ValueError, match=words):
                checked(rules)


def all_mails(cursor: Any) -> list[int]:
    """IDs of all mail, marked or not."""
    return [int(row[0]) for row in cursor.execute("SELECT id FROM mail").fetchall()]


class KeepingCase(ArchiveCase):
    async def filled(self, **more: Any) -> Archive:
        more.setdefault("settings", ArchiveSettings(retention=RetentionSettings(share=1.0)))
        archive = await self.fresh(**more)
        for n in range(30):
            await self.put(archive, mail(f"Keep{n}"), retention_days=400)
        for n in range(3):
            await self.put(archive, mail(f"Other{n}"), recipients=("x@other.test",), retention_days=400)
        await self.put(archive, mail("Spam0"), spam=True, retention_days=400)
        await self.put(
            archive,
            mail("Sent0"),
            sender="bob@example.test",
            recipients=("far@away.test",),
            direction=Direction.OUT,
            retention_days=400,
        )
        await archive.flush(seal=True)
        await archive.mark(NOW + 1)
        return archive

    async def ids(self, archive: Archive, query: str) -> list[int]:
        return [hit.id for hit in (await archive.search(AUDITOR, query, limit=500)).results]


class Rules(KeepingCase):
    async def test_set_while_those_of_another_are_applied(self) -> None:
        """Catches rules of a tenant that wait for the next marking, because another tenant's were being applied when they were set."""
        archive = await self.filled()
        await self.put(archive, mail("Elsewhere"), tenant=2, retention_days=400)
        await archive.flush(seal=True)
        self.patch(applied, "PAGE", 1)
        await archive.keeping.set_rules(1, [Rule(500)], "admin")
        assert archive.keeping._walking is not None
        await archive.keeping.set_rules(2, [Rule(5)], "admin")
        while archive.keeping._walking is not None:
            await archive.keeping._walking
        assert not (await archive.keeping.state(1)).walking
        assert not (await archive.keeping.state(2)).walking
        assert (await archive.keeping.preview(2, [Rule(5)])).more == 0

    async def test_changed_later_for_mail_that_is_there(self) -> None:
        """Catches retention frozen at ingest: a shorter rule that leaves old mail, one that takes other domains' mail, and a mark that a longer one does
        not take back."""
        archive = await self.filled()
        await archive.keeping.set_rules(1, [Rule(5, domain="other.test"), Rule(6, spam=True)], "admin")
        assert await self.night(archive, 7) == (4, 0)
        assert await self.total(archive, "other*") == 0
        await archive.keeping.set_rules(1, [Rule(500, domain="other.test"), Rule(6, spam=True)], "admin")
        assert await self.night(archive, 8) == (0, 1)
        assert await self.total(archive, "other*") == 3
        assert await self.total(archive, "spam0") == 0
        await archive.keeping.set_rules(1, [], "admin")
        await archive.confirm_purge()
        assert await archive.mark(NOW + 401 * DAY) == 34
        assert await archive.verify(True) == ()

    async def test_for_mail_that_comes_and_for_what_went_out(self) -> None:
        """Catches rules that count only for what was there, and outgoing mail that goes by its recipients' domain."""
        archive = await self.filled()
        await archive.keeping.set_rules(1, [Rule(5, domain="example.test", direction="out"), Rule(3, domain="new.test")], "admin")
        await self.put(archive, mail("New"), recipients=("a@new.test",), retention_days=400)
        await archive.flush(seal=True)
        assert await self.night(archive, 4) == (1, 0)
        assert await self.total(archive, "new") == 0
        assert await self.night(archive, 6) == (1, 1)
        assert await self.total(archive, "sent0") == 0

    async def test_preview(self) -> None:
        """Catches a preview that changes something, or says another number than what goes then."""
        archive = await self.filled()
        (held,) = await self.ids(archive, "other2")
        await archive.keeping.hold(1, "case", "admin", identifiers=[held])
        self.clock.now = NOW + 10 * DAY
        rules = [Rule(5, domain="other.test")]
        seen = await archive.keeping.preview(1, rules)
        assert (seen.mails, seen.going, seen.more, seen.held, seen.spared) == (35, 2, 2, 1, 0)
        assert seen.bytes == len(mail("Other0")) + len(mail("Other1"))
        assert set(seen.sample) == set(await self.ids(archive, "other0")) | set(await self.ids(archive, "other1"))
        assert await archive.mark(self.clock.now) == 0
        assert await archive.keeping.preview(2, rules) == type(seen)()
        await archive.keeping.set_rules(1, rules, "admin")
        assert await archive.mark(self.clock.now) == seen.going

    async def test_the_brakes_hold_for_rules_too(self) -> None:
        """Catches a slip of the pen in a rule that empties the archive overnight (rule 19)."""
        archive = await self.filled(settings=ArchiveSettings())
        for n in range(120):
            await self.put(archive, mail(f"More{n}"), retention_days=400)
        await archive.flush(seal=True)
        await archive.keeping.set_rules(1, [Rule(1)], "admin")
        self.clock.now = NOW + 2 * DAY
        with pytest.raises(ArchiveError, match="would be marked to go at once"):
            await archive.mark(self.clock.now)

    async def test_a_rebuild_and_a_restart_know_them(self) -> None:
        """Catches rules that only the index knew (rule 18), and a process that died before they were applied to all."""
        archive = await self.filled()
        await archive.keeping.set_rules(1, [Rule(5, domain="other.test")], "admin")
        await archive.keeping.set_rules(1, [Rule(6, domain="other.test")], "second")
        database = archive.index()
        await database.run(lambda cursor: cursor.execute("DELETE FROM rules").fetchall())
        await database.run(lambda cursor: cursor.execute("UPDATE mail SET expires = base").fetchall())
        await archive.stop()
        archive = await self.reopened()
        assert (await archive.keeping.state(1)).rules == (Rule(6, domain="other.test"),)
        self.clock.now = NOW + 5.5 * DAY
        assert await archive.mark(self.clock.now) == 0
        await archive.flush(seal=True)
        await archive.stop()
        self.wipe_local()
        again = make_archive(self.clock, self.top)
        again.restore()
        await self.started(again)
        await again.rebuild()
        state = await again.keeping.state(1)
        assert (state.rules, state.by) == ((Rule(6, domain="other.test"),), "second")
        await again.confirm_purge()
        assert await again.mark(NOW + 7 * DAY) == 3


class Holds(KeepingCase):
    async def test_a_hold_beats_all(self) -> None:
        """Catches held mail that a rule, its age or a request removes, that stays hidden because it was marked, or that never goes after a release."""
        archive = await self.filled()
        await archive.keeping.set_rules(1, [Rule(5, domain="other.test")], "admin")
        assert await self.night(archive, 6) == (3, 0)
        assert await archive.keeping.hold(1, "case 7", "auditor", query="subject:other1", content=True, reason="court") == 1
        assert await self.total(archive, "other*") == 1
        assert await self.night(archive, 7) == (0, 2)
        (held,) = await self.ids(archive, "other1")
        with pytest.raises(HoldRefused, match=f"mail {held} is under the legal hold case 7"):
            await archive.keeping.delete(1, [*(await self.ids(archive, "keep0")), held], "dpo", "please")
        assert await self.total(archive, "keep0") == 1
        (hold,) = await archive.keeping.holds(1)
        assert (hold.name, hold.by, hold.query, hold.reason, hold.mails, hold.released) == (
            "case 7",
            "auditor",
            "subject:other1",
            "court",
            1,
            0.0,
        )
        await archive.keeping.release(1, "case 7", "auditor")
        (hold,) = await archive.keeping.holds(1)
        assert (hold.mails, hold.released) == (0, self.clock.now)
        assert await self.night(archive, 9) == (1, 0)
        assert await self.night(archive, 10.1) == (0, 1)

    async def test_what_comes_later_is_held_too(self) -> None:
        """Catches a hold that ends where the case goes on: mail that comes after it and matches."""
        archive = await self.filled()
        await archive.keeping.hold(1, "case", "auditor", query="subject:project", content=True)
        await self.put(archive, mail("Project news"), retention_days=2)
        await self.put(archive, mail("Project news"), retention_days=2, tenant=2)
        await archive.flush(seal=True)
        assert await self.night(archive, 3) == (1, 0)
        assert await self.total(archive, "project") == 1
        (hold,) = await archive.keeping.holds(1)
        assert hold.mails == 1

    async def test_a_rebuild_knows_them(self) -> None:
        """Catches a hold, or its release, that only the index knew (rule 18), also if it is not yet on a medium."""
        archive = await self.filled()
        await archive.keeping.hold(1, "first", "auditor", query="other*", content=True)
        self.clock.now += 10
        await archive.keeping.hold(1, "over", "auditor", query="keep*", content=True)
        self.clock.now += 10
        await archive.keeping.release(1, "over", "auditor")
        await archive.flush(seal=True)
        self.clock.now += 10
        await archive.keeping.hold(1, "second", "auditor", identifiers=await self.ids(archive, "spam0"))
        before = await archive.keeping.holds(1)
        assert [(hold.name, hold.mails, bool(hold.released)) for hold in before] == [
            ("second", 1, False),
            ("over", 0, True),
            ("first", 3, False),
        ]
        assert await archive.rebuild() == ()
        assert await archive.keeping.holds(1) == before
        await archive.merge(NOW)
        await archive.flush(seal=True)
        await archive.stop()
        self.wipe_local()
        again = make_archive(self.clock, self.top)
        again.restore()
        await self.started(again)
        await again.rebuild()
        assert await again.keeping.holds(1) == before
        with pytest.raises(HoldRefused):
            await again.keeping.delete(1, await self.ids(again, "spam0"), "dpo", "please")

    async def test_a_process_that_died_before_the_index_knew(self) -> None:
        """Catches a hold that is in the journal, and of which the index never hears."""
        archive = await self.filled()

        async def die(*args: Any) -> Any:
            raise RuntimeError("died")

        database = archive.index()
        run, database.run = database.run, die  # type: ignore[method-assign,assignment]
        with pytest.raises(RuntimeError):
            await archive.keeping.hold(1, "case", "auditor", query="other*", content=True)
        database.run = run  # type: ignore[method-assign]
        await archive.stop()
        again = await self.reopened()
        (hold,) = await again.keeping.holds(1)
        assert hold.mails == 3

    async def test_whoever_may_not_read_cannot_ask_by_a_hold(self) -> None:
        """Catches a hold that tells an administrator, by its count, which mails hold a word (rule 15)."""
        archive = await self.filled()
        assert await archive.keeping.hold(1, "words", "admin", query="keep1") == 0
        assert await archive.keeping.hold(1, "people", "admin", query="to:far") == 0
        assert await archive.keeping.hold(1, "by address", "admin", query="from:alice") == 35
        with pytest.raises(QueryError):
            await archive.keeping.hold(1, "subject", "admin", query="subject:keep1")

    async def test_bad_input(self) -> None:
        """Catches holds that nobody can name or that hold nothing on purpose."""
        archive = await self.filled()
        for name, query in (("", "x"), ("a\nb", "x"), ("case", " ")):
            with pytest.raises(ValueError, match="hold"):
                await archive.keeping.hold(1, name, "me", query=query)
        with pytest.raises(QueryError):
            await archive.keeping.hold(1, "case", "me", query="after:yesterday-ish")
        with pytest.raises(KeyError):
            await archive.keeping.hold(1, "case", "me", identifiers=[5])
        with pytest.raises(KeyError):
            await archive.keeping.release(1, "case", "me")


def pages(path: Path, key: bytes) -> Iterator[bytes]:
    """What SQLCipher has written into a database's pages, or into the frames of its log, free pages included."""
    data = path.read_bytes()
    step, at = (4096 + 24, 32 + 24) if path.name.endswith("-wal") else (4096, 0)
    for start in range(at, len(data) - 4095, step):
        page = data[start : start + 4096]
        first = 16 if start == 0 else 0
        decryptor = Cipher(algorithms.AES(key[:32]), modes.CBC(page[-80:-64])).decryptor()
        yield decryptor.update(page[first:-80]) + decryptor.finalize()


class Races(KeepingCase):
    async def test_a_hold_and_a_purge_at_once(self) -> None:
        """Catches mail that is said to be held, or kept, and went meanwhile: found by the hold, gone with the purge, then put under the hold."""
        for way in ("hold", "keep"):
            archive = await self.fresh()
            for number in range(3):
                await self.put(archive, mail(f"of the case {number}"))
            await archive.flush(seal=True)
            await archive.confirm_purge()
            self.clock.now = NOW + 100 * DAY
            await archive.confirm_purge()
            assert await archive.mark(self.clock.seconds()) == 3
            self.clock.now += DAY + 4200.0
            found = await archive.index().read(all_mails)
            staging: Any = archive.holdings.staging
            add_event, purging = staging.add_event, []

            async def late(*more: Any, archive: Archive = archive, add_event: Any = add_event, purging: Any = purging) -> Any:
                """The purge begins when what is to be held is found, and is not held yet; it gets all the time that it takes, unless it has to wait."""
                if not purging:
                    purging.append(Deferred.fromCoroutine(archive.purge(self.clock.seconds())))
                    while not purging[0].called and not archive.moving.waiting:
                        await archive.index().read(all_mails)
                return await add_event(*more)

            staging.add_event = late
            if way == "hold":
                count = await archive.keeping.hold(1, "case", "an auditor", query="of the case", content=True)
            else:
                count = await archive.keeping.keep(1, found, self.clock.seconds() + 1000 * DAY, "an auditor")
            staging.add_event = add_event
            await purging[0]
            assert count == 3
            assert len(await archive.index().read(all_mails)) == 3, way
            await archive.stop()
            shutil.rmtree(self.top)
            self.top.mkdir()


class Nothing(KeepingCase):
    """After a deletion and the next merging no file holds a word of the mail, whoever has the keys."""

    WORDS = (b"xylograph", b"Quokkaville", b"zebrastripe", b"kangarooroute")

    def opened(self, archive: Archive) -> Iterator[tuple[Path, bytes]]:
        """All that the service wrote, as one sees it who has every key."""
        keyring = archive.keys.current()
        for path in sorted(self.top.rglob("*")):
            if not path.is_file():
                continue
            data = path.read_bytes()
            yield path, data
            if path.name.startswith("archive.db") and not path.name.endswith("-shm"):
                for page in pages(path, keyring.database_key()):
                    yield path, page
            if path.suffix == ".pack":
                for member in open_pack(data, keyring).members:
                    record = data[member.offset : member.offset + member.length]
                    codec = archive.holdings.codec
                    if member.kind == Kind.MESSAGE:
                        _, meta, body = codec.open_mail(record)
                        yield path, body + repr(meta).encode()
                    elif member.kind == Kind.PART:
                        yield path, codec.open_part(record)[2]
                    else:
                        yield path, repr(codec.open_event(record)[1]).encode()
            if path.parent.name == "staging" and path.suffix == ".log":
                for entries in archive.holdings.staging.segments.values():
                    for entry in entries:
                        record = archive.holdings.staging.read(entry.position)
                        if entry.kind == Kind.MESSAGE:
                            yield path, archive.holdings.codec.open_mail(record)[2]
                        elif entry.kind == Kind.EVENT:
                            yield path, repr(archive.holdings.codec.open_event(record)[1]).encode()

    def left(self, archive: Archive, words: Sequence[bytes]) -> set[tuple[str, bytes]]:
        return {
            (str(path.relative_to(self.top)), word)
            for path, data in self.opened(archive)
            for word in words
            if word.lower() in data.lower()
        }

    async def test_nothing_is_left(self) -> None:
        """Catches words, names, attachments or salts that stay in full text, free pages, log, staging area, packs or the facts about further arrivals
        (rules 17, 23); and others' mail and shared attachments that go with it."""
        archive = await self.filled()
        raw = mail("Quokkaville", "xylograph and nothing else", to="Zoe <zebrastripe@example.test>")
        shared, own = os.urandom(40_000), b"zebrastripe" * 4000
        await self.put(archive, raw, recipients=("zebrastripe@example.test",), retention_days=400)
        await archive.flush(seal=True)
        await self.put(archive, raw, recipients=("kangarooroute@example.test",), retention_days=400)
        for n in range(2):
            await self.put(archive, attachment(f"Attached{n}", shared), retention_days=400)
        await self.put(archive, attachment("Quokkaville too", own), retention_days=400)
        await archive.flush(seal=True)
        assert {word for _, word in self.left(archive, self.WORDS)} == set(self.WORDS), "the search finds nothing"
        salts = [meta_salt for path in self.packs() for meta_salt in salts_in(archive, path, raw)]
        assert len(salts) == 2
        wanted = [*(await self.ids(archive, "quokkaville")), *(await self.ids(archive, "attached0"))]
        deleted = await archive.keeping.delete(1, wanted, "dpo", "she asked for it")
        assert set(deleted.removed) == set(wanted)
        assert deleted.gone_by == self.clock.now + DAY
        assert (await archive.keeping.state(1)).waiting >= 1
        assert not {file for file, _ in self.left(archive, self.WORDS)} - {str(p.relative_to(self.top)) for p in self.packs()}
        with pytest.raises(KeyError):
            await archive.read(AUDITOR, wanted[0])
        merged = await archive.merge(self.clock.now + DAY)
        assert merged.dropped == 5, merged
        assert self.left(archive, [*self.WORDS, *salts]) == set()
        state = await archive.keeping.state(1)
        assert (state.waiting, state.gone_by) == (0, 0.0)
        (hit,) = await self.ids(archive, "attached1")
        assert await archive.read(AUDITOR, hit) == attachment("Attached1", shared)
        assert await archive.verify(True) == ()
        assert await archive.rebuild() == ()
        assert await self.total(archive, "quokkaville") == 0
        assert await self.total(archive, "") == 36
        assert await archive.verify(True) == ()

    async def test_fully_gone_counts_backups_and_mirror(self) -> None:
        """A58, rule 23: catches a date at which backups and the mirror still hold what was deleted, a page that says "all gone" as soon as no pack holds it, and a date
        that a rebuild forgets."""
        archive = await self.filled()
        archive.keeping.copied(Copies(lambda at: at + 35 * DAY, lambda: ("the mirror (/m) does not follow",)))
        assert (await archive.keeping.state(1)).gone_by == 0.0
        deleted = await archive.keeping.delete(1, await self.ids(archive, "keep0"), "dpo", "she asked for it")
        assert deleted.gone_by == self.clock.now + 36 * DAY
        assert deleted.waits == ("the mirror (/m) does not follow",)
        state = await archive.keeping.state(1)
        assert (state.waiting, state.gone_by) == (1, self.clock.now + 36 * DAY)
        went = self.clock.now
        await archive.merge(self.clock.now + DAY)
        for _ in range(2):
            state = await archive.keeping.state(1)
            assert (state.waiting, state.gone_by) == (0, went + 35 * DAY)
            await archive.flush(seal=True)
            await archive.rebuild()
        assert (await archive.keeping.state(2)).gone_by == 0.0, "of another tenant nothing went"
        self.clock.now += 36 * DAY
        state = await archive.keeping.state(1)
        assert (state.gone_by, state.waits) == (0.0, ())

    async def test_media_that_keep_it_are_named(self) -> None:
        """Catches a date that is promised although the medium with the pack is away or out of use."""
        archive = await self.filled()
        wanted = await self.ids(archive, "keep0")
        other = directory_medium(2, self.top / "second")
        other.claim(archive.keys.current().archive)
        (one,) = archive.media.all()
        archive.media.change([one, other], 2, frozenset({1}), {})
        deleted = await archive.keeping.delete(1, wanted, "dpo", "she asked for it")
        assert deleted.waits == ("medium 1 is out of use",)
        archive.media.change([one, other], 2, frozenset(), {})
        self.medium.rename(self.top / "elsewhere")
        archive.watch.look()
        (why,) = (await archive.keeping.state(1)).waits
        assert "medium 1 is out of reach" in why
        (self.top / "elsewhere").rename(self.medium)
        archive.watch.look()
        await archive.merge(self.clock.now + DAY)
        state = await archive.keeping.state(1)
        assert (state.waiting, state.gone_by, state.waits) == (0, 0.0, ())

    async def test_a_rebuild_before_the_merging(self) -> None:
        """Catches deleted mail that stays on the medium for good because the index was rebuilt before its pack was written anew."""
        archive = await self.filled()
        raw = mail("Quokkaville", "xylograph")
        await self.put(archive, raw, retention_days=400)
        await archive.flush(seal=True)
        await self.put(archive, raw, recipients=("kangarooroute@example.test",), retention_days=400)
        await self.put(archive, attachment("Quokkaville too", b"zebrastripe" * 4000), retention_days=400)
        await archive.flush(seal=True)
        await archive.keeping.delete(1, await self.ids(archive, "quokkaville"), "dpo", "")
        assert await archive.rebuild() == ()
        assert self.left(archive, self.WORDS)
        await archive.merge(self.clock.now)
        assert self.left(archive, self.WORDS) == set()
        assert await archive.verify(True) == ()

    async def test_every_removal_is_in_the_audit_log(self) -> None:
        """Catches mail that retention removes and nobody can say when, which, or how many."""
        log = Log()
        archive = await self.filled(audit=log)
        await archive.keeping.set_rules(1, [Rule(5, domain="other.test")], "admin")
        wanted = await self.ids(archive, "other*")
        await self.night(archive, 6)
        assert log.rows == []
        await self.night(archive, 7)
        ((actor, action, subject, detail, result),) = log.rows
        assert (actor, action, subject, result) == ("retention", "archive.purge", "3 mails", "3 removed")
        assert set(detail.split()) == set(map(str, wanted))
        (asked,) = await self.ids(archive, "keep0")
        await archive.keeping.delete(1, [asked], "dpo", "she asked")
        assert log.rows[1] == ["dpo", "archive.delete", "she asked", str(asked), "1 removed"]
        with pytest.raises(KeyError):
            await archive.keeping.delete(1, [asked], "dpo", "she asked")
        assert log.rows[2][4].startswith("nothing removed")

    async def test_all_or_nothing(self) -> None:
        """Catches a request with a slip in it that removes half, and one that reaches another tenant's mail."""
        archive = await self.filled()
        wanted = await self.ids(archive, "other*")
        with pytest.raises(KeyError):
            await archive.keeping.delete(1, [*wanted, 77], "dpo", "")
        with pytest.raises(KeyError):
            await archive.keeping.delete(2, wanted, "dpo", "")
        assert await self.total(archive, "other*") == 3

    async def test_the_same_bytes_once_more(self) -> None:
        """Catches mail that cannot be archived any more because the same bytes were deleted before."""
        archive = await self.filled()
        await archive.keeping.delete(1, await self.ids(archive, "other0"), "dpo", "")
        await archive.stage(item(900, received=NOW), BytesBody(mail("Other0")))
        await archive.flush(seal=True)
        await archive.merge(self.clock.now)
        assert await self.total(archive, "other0") == 1
        assert await archive.rebuild() == ()
        assert await self.total(archive, "other0") == 1


def salts_in(archive: Archive, path: Path, raw: bytes) -> list[bytes]:
    """As ``repr`` shows them: those of all arrivals of a mail in a pack."""
    wanted = hashlib.sha256(raw).digest()
    data = path.read_bytes()
    found = []
    for member in open_pack(data, archive.keys.current()).members:
        record = data[member.offset : member.offset + member.length]
        meta = None
        if member.kind == Kind.MESSAGE:
            meta = archive.holdings.codec.open_mail(record)[1]
        elif member.kind == Kind.EVENT:
            meta = archive.holdings.codec.open_event(record)[1].copy
        if meta is not None and meta.sha256 == wanted:
            found.append(repr(meta.salt).encode())
    return found


class KeptUntil(KeepingCase):
    async def test_for_longer_than_the_rules_say(self) -> None:
        """C1: catches mail that goes before the day until which somebody keeps it: by its time, by rules, when it is marked already, after a restart with the fact only staged,
        after a merging, and after a rebuild. And a fact about it that stays when it has gone (rule 23)."""
        archive = await self.filled()
        await archive.keeping.set_rules(1, [Rule(5, domain="other.test")], "admin")
        assert (await self.night(archive, 6))[0] == 3
        assert await self.total(archive, "other*") == 0
        rows = await archive.index().read(lambda c: c.execute("SELECT id FROM mail WHERE subject = 'Other1'").fetchall())
        until = NOW + 60 * DAY
        assert await archive.keeping.keep(1, [rows[0][0]], until, "auditor", "a case that may come") == 1
        assert (await self.only(archive, "other*")).subject == "Other1"
        await archive.stop()
        archive = await self.reopened(settings=ArchiveSettings(retention=RetentionSettings(share=1.0)))
        await archive.flush(seal=True)
        journal = list((self.medium / "journal").rglob("*.pack"))
        facts = [what for path in self.packs() if path not in journal for what in words_in(archive, path)]
        assert facts == ["keep-until"], "beside its mail"
        assert await self.night(archive, 8) == (0, 2)
        await archive.merge(NOW + 50 * DAY)
        assert await archive.rebuild() == ()
        await archive.confirm_purge()
        assert await self.night(archive, 50) == (0, 0)
        assert (await self.only(archive, "other*")).subject == "Other1"
        assert await archive.verify(True) == ()
        assert (await self.night(archive, 61))[0] == 1
        assert (await self.night(archive, 62))[1] == 1
        await archive.merge(NOW + 62 * DAY)
        assert [what for path in self.packs() if "journal" not in path.parts for what in words_in(archive, path)] == []
        assert await archive.verify(True) == ()

    async def test_what_is_refused(self) -> None:
        """Catches a day gone by, a day that no calendar has, and another tenant's mail."""
        archive = await self.filled()
        (one,) = await self.ids(archive, "spam0")
        for until in (NOW - DAY, NOW, NOW + 400_000 * DAY):
            with pytest.raises(ValueError, match="a day to come"):
                await archive.keeping.keep(1, [one], until, "auditor")
        with pytest.raises(KeyError):
            await archive.keeping.keep(2, [one], NOW + DAY, "auditor")


def words_in(archive: Archive, path: Path) -> list[str]:
    """Of the facts in a pack."""
    pack = open_pack(path.read_bytes(), archive.keys.current())
    records = [pack.data[m.offset : m.offset + m.length] for m in pack.members if m.kind == Kind.EVENT]
    return [archive.holdings.codec.open_event(record)[1].what for record in records]
