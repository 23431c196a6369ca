"""Damage costs what is damaged and nothing beside it, is named, and is still named after a rebuild (L3)."""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Iterator
from pathlib import Path

from hornetmail.archive.archive import Archive
from hornetmail.archive.care.terms.retention import Retention
from hornetmail.archive.store.packs import FOOTER, HEADER, salvage_pack
from hornetmail.archive.store.records import EventMeta, What
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.testing.archives import AUDITOR, NOW, BytesBody, item, mail, make_archive
from tests.archive.cases import ArchiveCase, told

DAY = 86400.0


def flip(path: Path, at: int) -> None:
    """Change one bit of one byte."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def records_in(data: bytes) -> Iterator[int]:
    """Where the records of a pack of tenant 1 begin."""
    for match in re.finditer(rb"\x01[\x01-\x03]\x01\x00" + (1).to_bytes(8, "big"), data):
        yield match.start()


class DamageCase(ArchiveCase):
    async def fifty(self) -> tuple[Archive, Path]:
        """Fifty mails in one pack."""
        archive = await self.fresh()
        for n in range(50):
            await self.put(archive, mail(f"Number{n}", body=f"word{n} " * 20))
        await archive.flush(seal=True)
        (pack,) = self.packs()
        return archive, pack


class Packs(DamageCase):
    async def test_one_flipped_bit_costs_one_mail(self) -> None:
        """Catches a rebuild that drops a whole pack for one damaged record: 49 of 50 can be read."""
        archive, pack = await self.fifty()
        data = pack.read_bytes()
        start = list(records_in(data))[20]
        flip(pack, start + 60)
        findings = await archive.rebuild()
        assert await self.total(archive, "") == 49
        assert told(findings, data[start + 12 : start + 28].hex(), "changed")
        assert told(findings, "leaf", "records are missing")
        assert told(await archive.verify(True), "leaf", "records are missing")
        assert await archive.read(AUDITOR, (await self.only(archive, "number49")).id) == mail("Number49", body="word49 " * 20)

    async def test_lost_trailer(self) -> None:
        """Catches a pack that is dropped whole because its end is gone."""
        archive, pack = await self.fifty()
        data = pack.read_bytes()
        at = FOOTER.unpack_from(data, len(data) - FOOTER.size)[0]
        pack.write_bytes(data[: at + 7])
        findings = await archive.rebuild()
        assert await self.total(archive, "") == 50
        assert told(findings, pack.name, "trailer")
        assert not told(findings, "records are missing")

    async def test_cut_in_the_middle(self) -> None:
        """Catches the readable half of a pack that is dropped with the other."""
        archive, pack = await self.fifty()
        data = pack.read_bytes()
        start = list(records_in(data))[30]
        pack.write_bytes(data[: start + 50])
        findings = await archive.rebuild()
        assert await self.total(archive, "") == 30
        assert told(findings, "20 arrivals", "records are missing")

    async def test_damaged_header_length_and_record_header(self) -> None:
        """Catches that one wrong length hides everything behind it."""
        archive, pack = await self.fifty()
        data = pack.read_bytes()
        starts = list(records_in(data))
        flip(pack, 3)
        flip(pack, starts[10] - 3)
        flip(pack, starts[20] + 1)
        flip(pack, len(data) - 100)
        findings = await archive.rebuild()
        assert await self.total(archive, "") >= 48
        assert await self.total(archive, "number30") == 1
        assert told(findings, pack.name, "header")

    async def test_a_missing_pack_is_named(self) -> None:
        """Catches a pack that is gone without a trace after a rebuild, and a verify that is content afterwards."""
        archive, pack = await self.fifty()
        await self.put(archive, mail("Later"))
        await archive.flush(seal=True)
        pack.unlink()
        findings = await archive.rebuild()
        assert told(findings, pack.name, "missing")
        assert told(findings, "50 arrivals", "leaf 0 to 49")
        assert told(await archive.verify(True), "50 arrivals", "leaf 0 to 49")
        assert await self.total(archive, "") == 1

    async def test_missing_after_everything_local_was_lost(self) -> None:
        """Catches that only the old index knew of a missing pack: the leaf log on the medium knows too (L2, L3)."""
        archive, pack = await self.fifty()
        await self.put(archive, mail("Later"))
        await archive.flush(seal=True)
        await archive.stop()
        pack.unlink()
        self.wipe_local()
        again = make_archive(self.clock, self.top)
        again.restore()
        await self.started(again)
        assert told(await again.rebuild(), "50 arrivals", "leaf 0 to 49")

    async def test_a_lost_attachment_leaves_its_mail(self) -> None:
        """Catches a mail that vanishes because an attachment of it cannot be read any more."""
        archive = await self.fresh()
        block = base64.encodebytes(random.Random(1).randbytes(40_000)).replace(b"\n", b"\r\n").rstrip()
        head = mail("Attached").partition(b"\r\n\r\n")[0].replace(b"text/plain; charset=utf-8", b"multipart/mixed; boundary=b")
        raw = head + b"\r\n\r\n--b\r\n\r\ntext\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n" + block + b"\r\n--b--\r\n"
        await self.put(archive, raw)
        await archive.flush(seal=True)
        (pack,) = self.packs()
        flip(pack, HEADER.size + 4 + 500)
        findings = await archive.rebuild()
        hit = await self.only(archive, "attached")
        assert told(findings, "by its headers only")
        try:
            await archive.read(AUDITOR, hit.id)
        except ArchiveError as error:
            assert "part" in str(error)
        else:
            raise AssertionError("a mail without its attachment was given out as whole")

    async def test_salvage_takes_what_is_whole(self) -> None:
        """Catches a salvage that raises, or takes long, on any damage: each byte of a small pack is changed, cut off there, and zeroed."""
        archive = await self.fresh()
        for n in range(3):
            await self.put(archive, mail(f"Number{n}"))
        await archive.flush(seal=True)
        (pack,) = self.packs()
        data = pack.read_bytes()
        name = pack.relative_to(self.medium).as_posix()
        keyring = archive.keys.current()
        whole = {member.record for member in salvage_pack(name, data, keyring).pack.members}
        assert len(whole) == 3
        least = 3
        for at in range(0, len(data), 3):
            for damaged in (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], data[:at], data[:at] + bytes(len(data) - at)):
                found = salvage_pack(name, damaged, keyring)
                assert found.damage or damaged == data or {m.record for m in found.pack.members} == whole
                if len(damaged) == len(data) and damaged[at + 1 :] == data[at + 1 :]:
                    least = min(least, len({m.record for m in found.pack.members} & whole))
        assert least >= 2


class Facts(DamageCase):
    async def test_arriving_again_around_the_purge(self) -> None:
        """Catches mail with ten years to live that a rebuild drops, because the same bytes were purged before (rule 18): it came again after the
        index let it go and before the journal was told."""
        archive = await self.fresh()
        await self.put(archive, mail("Twice"), retention_days=1)
        for n in range(40):
            await self.put(archive, mail(f"Keep{n}"), retention_days=4000)
        await archive.flush(seal=True)
        await self.night(archive, 2)
        tell = Retention.tell_journal

        async def late(retention: Retention, now: float) -> None:
            self.patch(Retention, "tell_journal", tell)
            await self.put(archive, mail("Twice"), received=self.clock.now, retention_days=3650)
            await archive.flush()
            await tell(retention, now)

        self.patch(Retention, "tell_journal", late)
        assert await self.night(archive, 3) == (0, 1)
        assert await self.total(archive, "twice") == 1
        assert await archive.verify(True) == ()
        assert await archive.rebuild() == ()
        assert await archive.read(AUDITOR, (await self.only(archive, "twice")).id) == mail("Twice")

    async def test_death_before_the_journal_is_told(self) -> None:
        """Catches a purge that a crash leaves half done for good: the journal is told at the next start."""
        archive = await self.fresh()
        await self.put(archive, mail("Old"), retention_days=1)
        for n in range(40):
            await self.put(archive, mail(f"Keep{n}"), retention_days=4000)
        await archive.flush(seal=True)
        await self.night(archive, 2)

        async def dies(retention: Retention, now: float) -> None:
            raise RuntimeError("died here")

        tell = Retention.tell_journal
        self.patch(Retention, "tell_journal", dies)
        try:
            await self.night(archive, 3)
        except RuntimeError:
            pass
        await archive.stop()
        self.patch(Retention, "tell_journal", tell)
        again = await self.reopened()
        await again.rebuild()
        assert await self.total(again, "old") == 0

    async def test_a_purge_that_is_staged_counts_in_a_rebuild(self) -> None:
        """Catches purged mail that is back after a rebuild, since the journal on the medium had not yet been told."""
        archive = await self.fresh()
        await self.put(archive, mail("Old"), retention_days=1)
        for n in range(40):
            await self.put(archive, mail(f"Keep{n}"), received=NOW, retention_days=400 if n else 2)
        await archive.flush(seal=True)
        await self.night(archive, 2)
        sealer = archive.standing.writing().sealer

        async def nothing() -> int:
            return 0

        self.patch(sealer, "seal", nothing)
        assert (await self.night(archive, 3))[1] == 1
        assert not list((self.medium / "journal").rglob("*.pack")) if (self.medium / "journal").exists() else True
        assert await archive.rebuild() == ()
        assert await self.total(archive, "old") == 0

    async def test_words_of_later_versions_are_no_damage(self) -> None:
        """Catches an event whose word this version does not know, reported as damage or in the way of a rebuild."""
        archive = await self.fresh()
        await self.put(archive, mail("Some"))
        await archive.flush(seal=True)
        await archive.holdings.staging.add_event(1, EventMeta("reminder", NOW, (), text="of a later version"))
        await archive.flush(seal=True)
        assert await archive.verify(True) == ()
        assert await archive.rebuild() == ()
        assert await archive.verify(True) == ()

    async def test_undeleted_beats_an_earlier_deletion_only(self) -> None:
        """Catches facts that apply in the order in which they are read instead of that in which they happened."""
        archive = await self.fresh()
        for n in range(2):
            await self.put(archive, mail(f"Back{n}"))
        await archive.flush(seal=True)
        database = archive.index()
        records = [
            row[0] for row in await database.read(lambda c: c.execute("SELECT record FROM mail ORDER BY place").fetchall())
        ]
        # Read in this order: the later fact of the first mail is its return, that of the second its deletion.
        for record, what, at in (
            (records[0], What.UNDELETED, NOW + 2),
            (records[0], What.DELETED, NOW + 1),
            (records[1], What.DELETED, NOW + 2),
            (records[1], What.UNDELETED, NOW + 1),
        ):
            await archive.holdings.staging.add_event(1, EventMeta(what, at, (record,)))
        await archive.flush(seal=True)
        await archive.rebuild()
        assert [hit.subject for hit in (await archive.search(AUDITOR, "")).results] == ["Back0"]


class Away(DamageCase):
    async def test_dead_packs_of_a_medium_that_is_away_hold_up_nothing(self) -> None:
        """Catches a purge that ends for all because one medium does not answer, and a pack forgotten though it is still there."""
        archive = await self.fresh()
        await self.put(archive, mail("Old"), retention_days=1)
        for n in range(40):
            await self.put(archive, mail(f"Keep{n}"), retention_days=400)
        await archive.flush(seal=True)
        await self.night(archive, 2)
        medium = archive.media.active
        delete = medium.delete

        def away(name: str) -> None:
            from hornetmail.archive.media.medium import MediumError

            raise MediumError("medium 1 is out of reach")

        self.patch(medium, "delete", away)
        packs = len(self.packs())
        assert (await self.night(archive, 3))[1] == 1
        assert len(self.packs()) >= packs
        self.patch(medium, "delete", delete)
        await self.night(archive, 4)
        assert len([p for p in self.packs() if "packs" in p.parts]) == packs - 1
        assert await archive.verify(True) == ()

    async def test_bytes_that_come_again_get_a_leaf_of_their_own(self) -> None:
        """Catches leaves of copies that are said to have no owner once their mail was purged (rule 17)."""
        archive = await self.fresh()
        for n in range(40):
            await self.put(archive, mail(f"Keep{n}"), retention_days=400)
        await self.put(archive, mail("Old"), retention_days=1)
        await archive.flush(seal=True)
        await archive.stage(item(900, recipients=("carol@example.test",), retention_days=1), BytesBody(mail("Old")))
        await archive.flush(seal=True)
        await self.night(archive, 2)
        assert (await self.night(archive, 3))[1] == 1
        assert await archive.verify(True) == ()
        assert await archive.rebuild() == ()
        assert await archive.verify(True) == ()


class StagingArea(DamageCase):
    async def damaged(self, *, restart: bool) -> Archive:
        """Ten staged mails, of which the sixth's payload is damaged."""
        archive = await self.fresh()
        if restart:
            # What was indexed before would be found, damaged or not.
            self.patch(archive.standing.writing().indexer, "_stopped", True)
        for n in range(10):
            await self.put(archive, mail(f"Number{n}", body="x" * 300))
        if restart:
            await archive.stop()
        else:
            await archive.flush()
        (segment,) = (self.top / "archive" / "staging").glob("*.log")
        data = segment.read_bytes()
        flip(segment, [match.start() for match in re.finditer(rb"\xa5HR\x01", data)][5] + 70)
        return await self.reopened() if restart else archive

    async def test_damage_before_sealing_blocks_nothing(self) -> None:
        """Catches one bad record that keeps all that is staged from the medium for ever."""
        archive = await self.damaged(restart=False)
        await archive.flush(seal=True)
        assert (await archive.figures()).staged == 0
        assert await archive.read(AUDITOR, (await self.only(archive, "number6")).id) == mail("Number6", body="x" * 300)
        findings = await archive.verify(True)
        assert told(findings, "kept aside")
        assert told(findings, "its bytes are lost")

    async def test_damaged_segment_survives_the_next_start(self) -> None:
        """Catches a start that drops a damaged segment with what is in it: it is kept aside, named, and the others are archived."""
        archive = await self.damaged(restart=True)
        await archive.flush(seal=True)
        assert await self.total(archive, "") == 9
        (aside,) = (self.top / "archive" / "staging-damaged").glob("*.log")
        assert not list((self.top / "archive" / "staging").glob(aside.name))
        assert told(await archive.verify(), aside.name, "kept aside")
        await archive.stop()
        again = await self.reopened()
        assert await self.total(again, "") == 9
        assert told(await again.verify(), aside.name, "kept aside")

    async def test_records_of_a_newer_program(self) -> None:
        """Catches staged records of a later format that are dropped by a program that does not know it."""
        archive = await self.fresh()
        await self.put(archive, mail("Known"))
        position = archive.holdings.staging.records.append(1, bytes(24) + b"\x02" + bytes(60))
        archive.holdings.staging.records.sync()
        await archive.stop()
        again = await self.reopened()
        await again.flush(seal=True)
        assert await self.total(again, "known") == 1
        (aside,) = (self.top / "archive" / "staging-damaged").glob("*.log")
        assert b"\x02" + bytes(60) in aside.read_bytes()
        assert position.segment == 1
