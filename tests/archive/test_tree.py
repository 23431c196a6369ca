"""The archive's folders: what lies in them for whom, and under which UIDs (rule 27)."""

from __future__ import annotations

import shutil
from unittest.mock import patch

import pytest

from hornetmail.archive.archive import ArchiveSettings
from hornetmail.archive.care.terms.retention import RetentionSettings
from hornetmail.archive.index.finding import folders
from hornetmail.archive.index.finding.folders import Month
from hornetmail.archive.index.query.language import Words
from hornetmail.archive.tree.site import TreeSite
from hornetmail.core.folder import FolderError
from hornetmail.core.mail.envelope import Direction
from hornetmail.core.served import Scope
from hornetmail.db.engines import Cursor
from hornetmail.testing.archives import NOW, mail, user
from tests.archive.trees import ALL_MAY, AUDITOR, BOB, CAROL, MAY, TreeCase, uids_of

DAY = 86_400.0
LOOSE = ArchiveSettings(retention=RetentionSettings(1.0))
"""All of it may go at once."""

APRIL = NOW - 40 * DAY


class Folders(TreeCase):
    """What is shown."""

    async def test_by_month_received_and_sent(self) -> None:
        """Catches mail in the month of another time zone or of its Date field, sent mail among the received, mail to oneself in one of them only, an empty folder, and folders without mail."""
        archive = await self.fresh(settings=LOOSE)
        site = self.site(archive)
        assert await self.names(site) == []
        await self.put(archive, mail("to bob"))
        await self.put(archive, mail("long ago"), received=APRIL)
        await self.put(
            archive,
            mail("by bob"),
            sender="bob@example.test",
            login="bob@example.test",
            recipients=("x@y.test",),
            direction=Direction.OUT,
        )
        await self.put(archive, mail("a note"), sender="bob@example.test", login="bob@example.test", direction=Direction.INTERNAL)
        await self.put(archive, mail("carol's"), recipients=("carol@example.test",))
        await archive.flush()
        assert await self.names(site) == ["Received/2026/04", "Received/2026/05", "Sent/2026/05"]
        assert list((await self.shown(site)).values()) == ["to bob", "a note"]
        assert list((await self.shown(site, "Received/2026/04")).values()) == ["long ago"]
        assert list((await self.shown(site, "Sent/2026/05")).values()) == ["by bob", "a note"]
        assert await self.names(site, CAROL) == ["Received/2026/05"]
        both = ["Received/2026/04", "Received/2026/05", "Sent/2026/05"]
        assert await self.names(site, AUDITOR) == [f"Everybody/{name}" for name in both]
        assert list((await self.shown(site, ALL_MAY, AUDITOR)).values()) == ["to bob", "a note", "carol's"]
        assert list((await self.shown(site, "Everybody/Sent/2026/05", AUDITOR)).values()) == ["by bob", "a note"]

    async def test_nobody_sees_others_mail(self) -> None:
        """Catches a folder that shows a name without the right to it: other tenants' mail, mail that only names somebody in its header, everybody's without the role."""
        archive = await self.fresh(settings=LOOSE)
        site = self.site(archive)
        await self.put(archive, mail("forged", sender="Bob <bob@example.test>", to="bob@example.test"), recipients=("x@y.test",))
        await self.put(archive, mail("another tenant"), tenant=2)
        await archive.flush()
        assert await self.names(site) == []
        assert list((await self.shown(site, ALL_MAY, AUDITOR)).values()) == ["forged"]
        for name in (
            MAY,
            ALL_MAY,
            "Everybody/Sent/2026/05",
            "Received/2026/13",
            "Received",
            "Received/2026/05/x",
            "nobody/Received/2026/05",
            "",
        ):
            with pytest.raises(FolderError) as refused:
                await self.tree(site).open(name)
            assert refused.value.code == "NONEXISTENT", name

    async def test_words_of_one_field(self) -> None:
        """Catches a search of who sees everybody's mail that finds sent mail among the received, or takes To for Cc or From."""
        archive = await self.fresh(settings=LOOSE)
        await self.put(archive, mail("one", to="Dora <dora@example.test>", cc="Emil <emil@example.test>"))
        await self.put(archive, mail("two", to="Emil <emil@example.test>", sender="Dora <dora@example.test>"))
        await self.put(archive, mail("three", cc="Dora <dora@example.test>"), login="bob@example.test", direction=Direction.OUT)
        await archive.flush()

        def found(cursor: Cursor, field: str, sent: bool) -> list[str]:
            wanted = folders.Wanted(words=Words("dora"), field=field)
            uids = folders.numbers(cursor, Scope(1, None, all_recipients=True, content=True), 0, Month(202605, sent), wanted)
            return [cursor.execute("SELECT subject FROM mail WHERE leaf = ?", (uid - 1,)).fetchone()[0] for uid in uids]

        index = archive.standing.index()
        for field, received, sent in (
            ("", ["one", "two"], ["three"]),
            ("to", ["one"], []),
            ("cc", [], ["three"]),
            ("from", ["two"], []),
        ):
            assert await index.read(found, field, False) == received, field
            assert await index.read(found, field, True) == sent, field

    async def test_a_blind_copy_is_the_receivers(self) -> None:
        """Catches Bcc recipients that cannot see their mail, and others who see the name: what is served are the bytes as received, and the envelope is nowhere in them (rule 14)."""
        archive = await self.fresh(settings=LOOSE)
        site = self.site(archive)
        await self.put(archive, mail("quiet", to="bob@example.test"), recipients=("bob@example.test", "carol@example.test"))
        await archive.flush()
        assert await self.shown(site, MAY, CAROL) == await self.shown(site) == {1: "quiet"}
        folder = await self.tree(site).open(MAY)
        await folder.uids()
        [text] = await folder.pieces([(1, 0, 10_000)])
        assert text is not None
        assert b"carol" not in text

    async def test_a_right_that_ends_ends_at_once(self) -> None:
        """Catches an open folder that goes on to serve who may not see it any more: a role that was taken, an address, the whole archive (rule 15)."""
        archive = await self.fresh(settings=LOOSE)
        site = self.site(archive)
        await self.put(archive, mail("secret"))
        await archive.flush()
        everybody = await self.tree(site, AUDITOR).open(ALL_MAY)
        own = await self.tree(site).open(MAY)
        for folder in (everybody, own):
            assert list(await folder.uids()) == [1]
            assert folder.there
        del self.rights[AUDITOR]["Everybody/"]
        self.rights[BOB][""] = user("robert@example.test")
        for folder in (everybody, own):
            assert not folder.there
            for work in (
                folder.pieces([(1, 0, 10)]),
                folder.entries(),
                folder.headers([1]),
                folder.structures([1]),
                folder.body(1),
                folder.status(),
                folder.copy([1], "/INBOX"),
            ):
                with pytest.raises(FolderError):
                    await work
        self.rights[BOB][""] = user("bob@example.test")
        self.closed = "closed until a second person approves"
        with pytest.raises(FolderError) as refused:
            await own.pieces([(1, 0, 10)])
        assert (refused.value.code, self.closed) == ("NOPERM", refused.value.text)
        tree = self.tree(site)
        assert (list(await tree.folders()), tree.word(), tree.word()) == ([], self.closed, "")
        self.closed = ""
        assert [info.name for info in await tree.folders()] == [MAY]

    async def test_opening_others_mail_is_in_the_audit_log(self) -> None:
        """Catches an auditor who reads mail in his mail program without a trace, a trace that comes after the text, a row for each look at a list, and rows for one's own mail."""
        archive = await self.fresh(settings=LOOSE)
        site = self.site(archive)
        await self.put(archive, mail("one"))
        await self.put(archive, mail("two", "x" * 2_000_000))
        await self.put(archive, mail("mine"), recipients=("audit@example.test",))
        await archive.flush()
        folder = await self.tree(site, AUDITOR).open(ALL_MAY)
        uids = list(await folder.uids())
        trees = await folder.structures(uids)
        await folder.headers(uids)
        await folder.pieces([(1, 0, trees[1].body)])
        assert self.log.rows == []
        self.log.fails = True
        for work in (folder.pieces([(1, 0, trees[1].end)]), folder.body(2)):
            with pytest.raises((OSError, FolderError)):
                await work
        self.log.fails = False
        await folder.pieces([(1, 0, trees[1].end), (1, trees[1].body, 3)])
        await folder.body(2)
        await folder.body(2)
        assert [(actor, action) for actor, action, _ in self.log.rows] == [("audit@example.test", "archive.export")] * 2
        own = await self.tree(site, AUDITOR).open(MAY)
        await own.uids()
        await own.pieces([(3, 0, 500)])
        assert len(self.log.rows) == 2


class Numbers(TreeCase):
    """UIDs."""

    async def test_in_the_order_of_becoming_visible(self) -> None:
        """Catches UIDs by date: a mail that is archived later with an older date must get the higher UID; so must, for somebody who received it later, a mail that others have seen
        before. Copies are one mail (rule 13), and others keep their UID."""
        archive = await self.fresh(settings=LOOSE)
        site = self.site(archive)
        raw = mail("for both")
        await self.put(archive, raw)
        await self.put(archive, mail("between", to="x"), recipients=("bob@example.test", "carol@example.test"))
        await self.put(archive, mail("older"), received=NOW - 3600.0)
        await archive.flush()
        before = await self.shown(site)
        assert list(before.values()) == ["for both", "between", "older"]
        assert await self.shown(site, MAY, CAROL) == {2: "between"}
        folder = await self.tree(site, CAROL).open(MAY)
        status = await folder.status()
        assert list(await folder.uids()) == [2]
        await self.put(archive, raw, recipients=("carol@example.test",))
        await archive.flush()
        assert uids_of(await folder.changes(status.modseq)) == [4]
        assert await self.shown(site, MAY, CAROL) == {2: "between", 4: "for both"}
        assert await self.shown(site) == before
        assert len(await self.shown(site, ALL_MAY, AUDITOR)) == 3
        assert (await folder.status()).uidnext == 5

    async def test_the_same_after_restart_purge_and_rebuild(self) -> None:
        """Catches UIDs or UIDVALIDITY that a restart, a removal or a rebuild changes: every client would read the whole archive again. What was purged goes as EXPUNGE would, is not
        there after a rebuild either, and its UID is nobody's."""
        archive = await self.fresh(settings=LOOSE)
        site = self.site(archive)
        raw = mail("for both")
        await self.put(archive, mail("short"), retention_days=10)
        await self.put(archive, raw)
        await self.put(archive, mail("last for now"), received=NOW - 60.0)
        await self.put(archive, raw, recipients=("carol@example.test",))
        await archive.flush(seal=True)
        before = await self.seen(site)
        archive = await self.again(archive)
        site = self.site(archive)
        assert await self.seen(site) == before
        folder = await self.tree(site).open(MAY)
        assert list(await folder.uids()) == [1, 2, 3]
        modseq = (await folder.status()).modseq
        assert await self.night(archive, 11) == (1, 0)
        assert uids_of(await folder.changes(modseq), gone=True) == [1]
        assert (await self.night(archive, 12))[1] == 1
        assert list(await folder.uids()) == [2, 3]
        after = await self.seen(site)
        assert after == [(validity, {uid: text for uid, text in shown.items() if uid != 1}) for validity, shown in before]
        await self.put(archive, mail("staged"), received=NOW - 30.0)
        await archive.flush()
        after = await self.seen(site)
        assert after[0][1] == {2: "for both", 3: "last for now", 5: "staged"}
        uidnext = (await (await self.tree(site).open(MAY)).status()).uidnext
        assert list(await archive.rebuild()) == []
        assert await self.seen(site) == after
        site = self.site(await self.again(archive))
        assert await self.seen(site) == after
        assert (await (await self.tree(site).open(MAY)).status()).uidnext == uidnext

    async def test_a_rebuild_that_fails_leaves_them(self) -> None:
        """Catches a rebuild that is cut off between two of its steps and leaves other UIDs, another UIDVALIDITY, or a folder that cannot be opened: whichever step fails, the old index or the
        whole new one is there after a restart, and both number alike."""
        archive = await self.fresh(settings=LOOSE)
        raw = mail("for both")
        await self.put(archive, raw)
        await self.put(archive, raw, recipients=("carol@example.test",))
        await archive.flush(seal=True)
        self.clock.now += 60.0
        await self.put(archive, mail("staged"))
        await archive.flush()
        before = await self.seen(self.site(archive))
        for step in (
            "hornetmail.archive.running.rebuilding.numbering",
            "hornetmail.archive.running.rebuilding.take_numbering",
            "hornetmail.archive.running.rebuilding.take_tops",
        ):
            failing = patch(step, lambda *args: 1 // 0)
            failing.start()
            try:
                await archive.rebuild()
            except ZeroDivisionError:
                pass
            finally:
                failing.stop()
            if not step.endswith(".numbering"):
                assert await self.seen(self.site(archive)) == before, step
            archive = await self.again(archive)
            after = await self.seen(self.site(archive))
            if step.endswith(".numbering"):
                assert [mails for _, mails in after] == [mails for _, mails in before]
                assert all(new[0] > old[0] for new, old in zip(after, before, strict=True))
                before = after
            assert after == before, step

    async def test_an_index_that_was_lost_says_so(self) -> None:
        """Catches UIDs of a rebuild without the old index that claim to be the old ones: what it knew besides the packs is gone, so there is another UIDVALIDITY, and a higher one."""
        archive = await self.fresh(settings=LOOSE)
        await self.put(archive, mail("one"))
        await archive.flush(seal=True)
        before = await self.validity(self.site(archive))
        await archive.stop()
        for file in (self.top / "archive").glob("archive.db*"):
            file.unlink()
        self.clock.now += 10.0
        archive = await self.reopened(settings=LOOSE)
        await archive.rebuild()
        site = self.site(archive)
        assert await self.shown(site) == {1: "one"}
        assert await self.validity(site) > before

    async def test_what_comes_back_has_a_new_validity(self) -> None:
        """Catches a mail that was expunged in the clients and comes back under its old UID, behind higher ones (RFC 3501 section 2.3.1.1): retention marked it, and another arrival
        lets it live on."""
        archive = await self.fresh(settings=LOOSE)
        site = self.site(archive)
        raw = mail("again")
        await self.put(archive, raw, retention_days=10)
        await self.put(archive, mail("stays"))
        await archive.flush(seal=True)
        before = await self.validity(site)
        folder = await self.tree(site).open(MAY)
        assert await self.night(archive, 11) == (1, 0)
        assert await self.shown(site) == {2: "stays"}
        assert await self.validity(site) == before
        assert folder.there
        await self.put(archive, raw, received=self.clock.now)
        await archive.flush()
        assert await self.shown(site) == {1: "again", 2: "stays"}
        assert await self.validity(site) > before
        await folder.look()
        assert not folder.there

    async def test_a_rebuild_forgets_marks_and_says_so(self) -> None:
        """Catches the same through a rebuild: the new index does not know what was marked, so that it comes back, and must have another UIDVALIDITY."""
        archive = await self.fresh(settings=LOOSE)
        await self.put(archive, mail("short"), retention_days=10)
        await self.put(archive, mail("stays"))
        await self.put(
            archive,
            mail("sent"),
            sender="bob@example.test",
            login="bob@example.test",
            recipients=("x@y.test",),
            direction=Direction.OUT,
        )
        await archive.flush(seal=True)
        site = self.site(archive)
        before, sent = await self.validity(site), await self.validity(site, "Everybody/Sent/2026/05", AUDITOR)
        assert await self.night(archive, 11) == (1, 0)
        assert await self.shown(site) == {2: "stays"}
        await archive.rebuild()
        assert await self.shown(site) == {1: "short", 2: "stays"}
        assert await self.validity(site) > before
        assert await self.validity(site, "Everybody/Sent/2026/05", AUDITOR) == sent

    async def test_other_rights_are_another_numbering(self) -> None:
        """Catches an address that somebody gets later, whose older mail appears below UIDs that clients have passed; the way back is another one again, also after a restart."""
        archive = await self.fresh(settings=LOOSE)
        site = self.site(archive)
        await self.put(archive, mail("robert's"), recipients=("robert@example.test",))
        await self.put(archive, mail("bob's"))
        await archive.flush()
        validities = [await self.validity(site)]
        for step, addresses in enumerate((("bob@example.test", "robert@example.test"), ("bob@example.test",))):
            self.clock.now += step  # the clock may stand still
            self.rights[BOB][""] = user(*addresses)
            validities.append(await self.validity(site))
            assert len(await self.shown(site)) == len(addresses)
        assert validities == sorted(set(validities))
        assert await self.validity(self.site(await self.again(archive))) == validities[-1]

    async def test_everybodys_numbers_grow_without_counting_all(self) -> None:
        """Catches a folder of everybody's mail that is read whole for each mail that comes: the answer must be the same as that of a whole reading, also when something goes meanwhile."""
        archive = await self.fresh(settings=LOOSE)
        site = self.site(archive)
        may = Month(202605, False)
        scope = Scope(1, None, all_recipients=True)
        for number in range(6):
            await self.put(
                archive, mail(f"number {number}"), retention_days=10 if number in (1, 4) else 90, received=NOW - number
            )
            await archive.flush(seal=True)
            if number == 4:
                await self.night(archive, 11)
            shown = (await site.snapshot(scope, may)).uids
            assert list(shown) == list(await archive.index().read(folders.numbers, scope, 0, may))
            assert list(shown) == await archive.index().read(leaves)
        assert len(shown) == 4
        figures = await (await self.tree(site, AUDITOR).open(ALL_MAY)).status()
        rows = await archive.index().read(folders.rows, 0, list(shown))
        assert (figures.messages, figures.size, figures.uidnext) == (4, sum(row.size for row in rows), 7)

    async def seen(self, site: TreeSite) -> list[tuple[int, dict[int, str]]]:
        return [
            (await self.validity(site, name, mailbox), await self.shown(site, name, mailbox))
            for name, mailbox in ((MAY, BOB), (MAY, CAROL), (ALL_MAY, AUDITOR))
        ]

    async def again(self, archive):  # type: ignore[no-untyped-def]
        """A restart."""
        await archive.stop()
        return await self.reopened(settings=LOOSE)


def leaves(cursor: Cursor) -> list[int]:
    """The UIDs of all mail that is not marked."""
    return [uid for (uid,) in cursor.execute("SELECT leaf + 1 FROM mail WHERE marked IS NULL ORDER BY leaf").fetchall()]


class Media(TreeCase):
    """Mail that cannot be read now."""

    async def test_a_medium_that_is_away_is_named_and_others_go_on(self) -> None:
        """Catches an answer without the mail of other media, an error without the medium's number, and mail redelivered by half."""
        archive = await self.fresh(settings=LOOSE)
        site = self.site(archive)
        await self.put(archive, mail("on the medium"))
        await archive.flush(seal=True)
        await self.put(archive, mail("staged"))
        await archive.flush()
        shutil.move(self.medium, self.top / "elsewhere")
        folder = await self.tree(site).open(MAY)
        uids = list(await folder.uids())
        assert list(await folder.structures(uids)) == [2]
        assert "medium 1" in folder.trouble()
        assert folder.trouble() == ""
        assert [text is None for text in await folder.pieces([(1, 0, 5), (2, 0, 5)])] == [True, False]
        with pytest.raises(FolderError) as refused:
            await folder.copy(uids, "/INBOX")
        assert refused.value.code == "UNAVAILABLE"
        assert "medium 1" in refused.value.text
        assert self.sent.mails == []
        shutil.move(self.top / "elsewhere", self.medium)
        assert list(await folder.structures(uids)) == [1, 2]
        await folder.copy(uids, "/INBOX")
        assert [to for to, _ in self.sent.mails] == ["bob@example.test"] * 2

    async def test_a_locked_archive_shows_nothing_and_says_why_once(self) -> None:
        """Catches a mail program that cannot list its own folders while the archive is locked."""
        archive = await self.fresh(settings=LOOSE)
        await self.put(archive, mail("one"))
        await archive.flush()
        await archive.stop()
        tree = self.tree(self.site(await self.reopened(root=None)))
        assert list(await tree.folders()) == []
        assert "locked" in tree.word()
        assert tree.word() == ""
        with pytest.raises(FolderError) as refused:
            await tree.open(MAY)
        assert refused.value.code == "UNAVAILABLE"
