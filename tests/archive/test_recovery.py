"""Crashes, damage, rebuilds and purges."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from hornetmail.archive.archive import Archive
from hornetmail.archive.care.packs.rebuild import Rebuild
from hornetmail.archive.keys.keyring import KeyTrouble
from hornetmail.archive.media.medium import MediumError
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.db.engines import Cursor
from hornetmail.disk.files import DiskFull
from hornetmail.testing.archives import AUDITOR, BytesBody, item, mail, make_archive, user
from tests.archive.cases import ArchiveCase, told

DAY = 86400.0


class _Died(Exception):
    """The process died here."""


def _dump(cursor: Cursor) -> list[Any]:
    return cursor.execute(
        "SELECT id, tenant, record, sha256, received, date, direction, feed, login, subject, message_id, size, attachments, spam, people,"
        " expires, month, leaf, pack IS NOT NULL FROM mail ORDER BY id"
    ).fetchall()


async def contents(archive: Archive) -> list[Any]:
    """Everything that the index says of mail, but where it lies."""
    database = archive.index()
    return await database.read(_dump)


class Crashes(ArchiveCase):
    async def test_staged_but_not_indexed(self) -> None:
        """Catches a mail that got its place in the staging pack and is never found after a crash."""
        archive = await self.fresh()
        for n in range(5):
            await self.put(archive, mail(f"Crash{n}"))
        await archive.stop()
        again = await self.reopened()
        await again.flush()
        assert await self.total(again, "crash*") == 5

    async def test_staged_again_after_a_crash(self) -> None:
        """Catches a second copy when the queue could not note that the archive had the mail: staged, indexed and sealed alike."""
        archive = await self.fresh()
        await archive.stage(item(1), BytesBody(mail("Sealed")))
        await archive.flush(seal=True)
        await archive.stage(item(2), BytesBody(mail("Indexed")))
        await archive.flush()
        await archive.stage(item(3), BytesBody(mail("Staged")))
        await archive.stop()
        again = await self.reopened()
        for row, subject in ((1, "Sealed"), (2, "Indexed"), (3, "Staged")):
            await again.stage(item(row), BytesBody(mail(subject)))
        await again.flush(seal=True)
        assert (await again.figures()).mails == 3
        assert await self.total(again, "") == 3
        assert await again.verify(True) == ()

    async def test_row_repeated_while_locked(self) -> None:
        """Catches a row that is staged twice because the index could not be asked (rule 22)."""
        archive = await self.fresh()
        await archive.stage(item(1), BytesBody(mail("Once")))
        await archive.flush(seal=True)
        await archive.stop()
        locked = await self.reopened(root=None)
        await locked.stage(item(1), BytesBody(mail("Once")))
        await locked.unlock(bytes(range(32)))
        await locked.flush(seal=True)
        assert (await locked.figures()).mails == 1
        seen = await locked.mail(AUDITOR, (await self.only(locked, "once")).id)
        assert seen.recipients == ("bob@example.test",)
        assert await locked.verify(True) == ()
        await locked.rebuild()
        assert (await locked.figures()).mails == 1
        assert await locked.verify(True) == ()

    async def test_death_at_each_step_of_sealing(self) -> None:
        """Catches mail lost or doubled when the process dies between two steps of putting packs onto the medium (rule 20)."""
        archive = await self.fresh()
        for n in range(6):
            await self.put(archive, mail(f"Step{n % 4}"))
        await archive.flush()
        sealer = archive.standing.writing().sealer
        for target, name in (
            (sealer._keys, "publish"),
            (archive.media.active, "put"),
            (sealer._database, "run"),
            (archive.holdings.leaves.records, "append"),
            (archive.holdings.leaves.records, "sync"),
            (archive.holdings.staging.records, "drop"),
        ):

            def die(*args: Any, **more: Any) -> Any:
                raise _Died

            before = getattr(target, name)
            setattr(target, name, die)
            with pytest.raises(_Died):
                await archive.flush(seal=True)
            setattr(target, name, before)
            archive.holdings.leaves.records.forget()
            assert await self.total(archive, "step*") == 4
        await archive.stop()
        again = await self.reopened()
        await again.flush(seal=True)
        assert await self.total(again, "step*") == 4
        assert len(self.packs()) == 1
        assert await again.verify(True) == ()
        figures = await again.figures()
        assert (figures.mails, figures.packs, figures.staged) == (4, 1, 0)

    async def test_torn_tail_of_the_staging_pack(self) -> None:
        """Catches a start that fails over a half-written record."""
        archive = await self.fresh()
        await self.put(archive, mail("Whole"))
        await archive.stop()
        (segment,) = (self.top / "archive" / "staging").glob("*.log")
        with open(segment, "ab") as file:
            file.write(b"\x01\x02\x03 half a record")
        again = await self.reopened()
        await again.flush(seal=True)
        assert await self.total(again, "whole") == 1

    async def test_leaf_numbers_go_on(self) -> None:
        """Catches a leaf number given twice across restarts (rule 17)."""
        archive = await self.fresh()
        await self.put(archive, mail("a"))
        await archive.flush(seal=True)
        await self.put(archive, mail("b"))
        await archive.stop()
        again = await self.reopened()
        await self.put(again, mail("c"))
        await again.flush(seal=True)
        leaves = sorted(row[17] for row in await contents(again))
        assert leaves == [0, 1, 2]
        assert again.holdings.leaves.size == 3
        assert await again.verify(True) == ()

    async def test_leaf_log_lost_or_damaged(self) -> None:
        """Catches leaf numbers that begin anew, or an archive that does not start, when the local leaf log is gone (rule 17)."""
        archive = await self.fresh()
        for n in range(3):
            await self.put(archive, mail(f"m{n}"))
            await archive.flush(seal=True)
        root = archive.holdings.leaves.root()
        await archive.stop()
        shutil.rmtree(self.top / "archive" / "leaves")
        again = await self.reopened()
        assert again.holdings.leaves.root() == root
        await again.stop()
        (log,) = (self.top / "archive" / "leaves").glob("*.log")
        data = bytearray(log.read_bytes())
        data[-10] ^= 1
        log.write_bytes(data)
        again = await self.reopened()
        assert again.holdings.leaves.root() == root
        await self.put(again, mail("next"))
        await again.flush(seal=True)
        assert again.holdings.leaves.size == 4
        assert await again.verify(True) == ()


class Verifying(ArchiveCase):
    async def filled(self) -> Archive:
        archive = await self.fresh()
        for n in range(4):
            await self.put(archive, mail(f"Mail{n}", "words " * 100))
        await archive.flush(seal=True)
        await self.put(archive, mail("Later"), retention_days=200)
        await archive.flush(seal=True)
        assert await archive.verify(True) == ()
        assert await archive.verify() == ()
        return archive

    async def test_a_flipped_bit(self) -> None:
        """Catches a changed bit in a pack that verify does not name, and a changed mail that is handed out."""
        archive = await self.filled()
        path = max(self.packs(), key=lambda p: p.stat().st_size)
        data = bytearray(path.read_bytes())
        data[64 + 4 + 40] ^= 1
        path.write_bytes(data)
        for full in (True, False):
            found = await archive.verify(full)
            assert told(found, path.name, "checksum"), found
            assert told(found, path.name, "record", "does not open"), found
        bad = 0
        for hit in (await archive.search(AUDITOR, "mail*")).results:
            try:
                await archive.read(AUDITOR, hit.id)
            except ArchiveError:
                bad += 1
        assert bad == 1

    async def test_a_cut_pack(self) -> None:
        """Catches a pack that lost its end."""
        archive = await self.filled()
        path = self.packs()[0]
        path.write_bytes(path.read_bytes()[:-100])
        found = await archive.verify(True)
        assert told(found, path.name, "bytes instead of"), found
        assert told(found, path.name, "cut off"), found

    async def test_a_missing_and_a_foreign_pack(self) -> None:
        """Catches a pack that was deleted, or put there by somebody else."""
        archive = await self.filled()
        path = self.packs()[0]
        path.rename(path.with_name("ab" * 16 + ".pack"))
        found = await archive.verify()
        assert told(found, path.name, "missing"), found
        assert told(found, "ab" * 16, "does not know"), found

    async def test_an_older_whole_pack(self) -> None:
        """Catches a pack replaced by another whole one under its name."""
        archive = await self.filled()
        first, second = self.packs()
        shutil.copy(first, second)
        found = await archive.verify(True)
        assert told(found, second.name, "not the one that was put there"), found

    async def test_wrapped_keys(self) -> None:
        """Catches wrapped keys that are gone from the medium or from beside the index (rule 22)."""
        archive = await self.filled()
        (self.medium / "keyring").unlink()
        assert told(await archive.verify(), "medium 1", "wrapped keys are missing")
        (self.medium / "keyring").write_bytes(b"rubbish")
        assert told(await archive.verify(), "medium 1", "wrapped keys")
        (self.top / "archive" / "keyring").unlink()
        assert told(await archive.verify(), "keyring", "missing")

    async def test_leaves(self) -> None:
        """Catches a leaf log on the medium that was changed (L2)."""
        archive = await self.filled()
        path = sorted((self.medium / "leaves").rglob("*.run"))[0]
        data = bytearray(path.read_bytes())
        data[30] ^= 1
        path.write_bytes(data)
        assert told(await archive.verify(), path.name, "damaged")
        path.unlink()
        assert told(await archive.verify(), "leaf log", "missing on the media")

    async def test_medium_out_of_reach_or_another(self) -> None:
        """Catches a medium that is not mounted, or another archive's."""
        archive = await self.filled()
        aside = self.top / "aside"
        self.medium.rename(aside)
        assert told(await archive.verify(), "medium 1", "out of reach")
        aside.rename(self.medium)
        identity = self.medium / "medium"
        identity.write_bytes(identity.read_bytes().replace(b'"medium":1', b'"medium":2'))
        assert told(await archive.verify(), "calls itself medium 2")
        await archive.stop()
        again = await self.reopened()
        assert "calls itself medium 2" in again.trouble
        await self.put(again, mail("Meanwhile"))
        await again.flush()
        with pytest.raises(MediumError):
            await again.flush(seal=True)

    async def test_staged_record_changed(self) -> None:
        """Catches damage to what is not yet on a medium."""
        archive = await self.filled()
        await self.put(archive, mail("Fresh"))
        await archive.flush()
        (segment,) = (self.top / "archive" / "staging").glob("*.log")
        data = bytearray(segment.read_bytes())
        data[-20] ^= 1
        segment.write_bytes(data)
        assert told(await archive.verify(), "staging")

    async def test_index_that_lost_a_full_text(self) -> None:
        """Catches mail that is archived but cannot be found."""
        archive = await self.filled()
        database = archive.index()
        (month,) = {row[16] for row in await contents(archive) if row[9] == "Later"}
        await database.run(lambda cursor: cursor.execute(f"DELETE FROM fts_{month}").fetchall())
        assert told(await archive.verify(), f"fts_{month}", "0 full texts for 1 mails")


class Rebuilding(ArchiveCase):
    async def filled(self) -> Archive:
        archive = await self.fresh()
        for n in range(10):
            await self.put(
                archive,
                mail(f"Mail{n}", f"common word{n} müll"),
                login="alice@example.test" if n % 2 else "",
                retention_days=30 + n * 10,
            )
        twice = mail("Twice", to="x@y.test")
        await self.put(archive, twice, recipients=("bob@example.test",))
        await archive.flush(seal=True)
        await self.put(archive, twice, recipients=("carol@example.test",))
        await archive.flush(seal=True)
        return archive

    async def test_one_that_fails_leaves_all_as_it_was(self) -> None:
        """Catches a rebuild that could not be done, and mail that is neither indexed nor sealed from then on until a restart."""
        archive = await self.filled()
        before = await contents(archive)

        async def full(*_: Any, **__: Any) -> Any:
            raise DiskFull("there is no room for it")

        self.patch(Rebuild, "run", full)
        with pytest.raises(DiskFull):
            await archive.rebuild()
        assert await contents(archive) == before
        await self.put(archive, mail("Behind"))
        await archive.flush(seal=True)
        assert await self.total(archive, "behind") == 1
        assert archive.holdings.staging.count == 0
        assert await archive.verify(True) == ()

    async def test_from_medium_and_key_alone(self) -> None:
        """Catches a fact that only the database knew (L3, A30)."""
        archive = await self.filled()
        before = await contents(archive)
        queries = ("", "common", "word3", "mull", "twice", "from:alice", "to:bob")
        scopes = (AUDITOR, user("bob@example.test"), user("carol@example.test"), user("alice@example.test"))
        hits = [await archive.search(scope, query) for scope in scopes for query in queries]
        root = archive.holdings.leaves.root()
        await archive.stop()
        self.wipe_local()
        again = make_archive(self.clock, self.top)
        again.restore()
        await self.started(again)
        assert await again.rebuild() == ()
        assert await contents(again) == before
        assert [await again.search(scope, query) for scope in scopes for query in queries] == hits
        assert again.holdings.leaves.root() == root
        assert await again.verify(True) == ()
        await again.stage(item(1), BytesBody(mail("Mail0", "common word0 müll")))
        await again.flush()
        assert (await again.figures()).mails == 11

    async def test_in_place_with_mail_staged(self) -> None:
        """Catches a rebuild that forgets what is not yet on a medium."""
        archive = await self.filled()
        await self.put(archive, mail("Staged"))
        await archive.flush()
        before = await contents(archive)
        assert await archive.rebuild() == ()
        assert await contents(archive) == before
        assert await self.total(archive, "staged") == 1

    async def test_another_key(self) -> None:
        """Catches a rebuild that begins with a key that is not this archive's."""
        archive = await self.filled()
        await archive.stop()
        self.wipe_local()
        with pytest.raises(KeyTrouble, match="belongs to root key"):
            make_archive(self.clock, self.top, root=bytes(32)).restore()

    async def test_damaged_pack_is_told_and_passed_over(self) -> None:
        """Catches one bad pack that keeps all other mail from coming back."""
        archive = await self.filled()
        total = (await archive.figures()).mails
        path = max(self.packs(), key=lambda p: p.stat().st_size)
        data = bytearray(path.read_bytes())
        data[200] ^= 1
        path.write_bytes(data)
        found = await archive.rebuild()
        assert told(found, path.name)
        assert 0 < (await archive.figures()).mails < total

    async def test_lost_or_broken_index_does_not_stop_the_mail(self) -> None:
        """Catches an archive that takes no mail because its index, which can be rebuilt, is damaged."""
        archive = await self.filled()
        before = await contents(archive)
        await archive.stop()
        path = self.top / "archive" / "archive.db"
        path.write_bytes(b"rubbish" * 5000)
        again = await self.reopened()
        await self.put(again, mail("Meanwhile"))
        with pytest.raises(ArchiveError, match="rebuild"):
            await again.search(AUDITOR, "")
        await again.rebuild()
        assert await self.total(again, "meanwhile") == 1
        assert len(await contents(again)) == len(before) + 1
        with closing(sqlite3.connect(path)) as plain, pytest.raises(sqlite3.DatabaseError):
            plain.execute("SELECT count(*) FROM mail")

    async def test_index_deleted(self) -> None:
        """Catches an archive that comes up empty, as if nothing had ever been in it, when its index is gone."""
        archive = await self.filled()
        await archive.stop()
        (self.top / "archive" / "archive.db").unlink()
        again = await self.reopened()
        with pytest.raises(ArchiveError, match="rebuild"):
            await again.search(AUDITOR, "")
        assert await again.rebuild() == ()
        assert await self.total(again, "common") == 10

    async def test_keyring_deleted(self) -> None:
        """Catches a start that fails over wrapped keys that lie on the medium too (rule 22)."""
        archive = await self.filled()
        await archive.stop()
        (self.top / "archive" / "keyring").unlink()
        again = await self.reopened()
        assert await self.total(again, "common") == 10
        assert (self.top / "archive" / "keyring").read_bytes() == (self.medium / "keyring").read_bytes()
