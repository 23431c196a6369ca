"""What is kept of messages so that the next question costs nothing, and questions about what is there, what has gone, and what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import Portal
from hornetmail.core.folder import FolderError, Sieve
from hornetmail.portal.box.box import LATELY_SECONDS
from hornetmail.portal.maildir import naming
from hornetmail.portal.maildir.lately import PAGE, Lately, Readies
from hornetmail.portal.rows import index
from tests.portal.ground import MAIL, Bytes, Ground, message, row


class Kept(TestCase):
    """An INBOX of seven messages."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.ground = Ground("sqlite")
        await self.ground.start()
        self.copies: list[Portal] = []
        for number in range(1, 8):
            data = MAIL.replace(b"one", b"number %d" % number)
            self.copies.append(await self.ground.portal.deliver(1, message(data, number), row(number), Bytes(data)))
        self.inbox: Any = await self.ground.portal.tree(1).open("INBOX")

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.ground.stop()
        self.ground.clean()

    async def gone(self, *uids: int) -> None:
        await self.inbox.store(list(uids), add=["\\Deleted"])
        await self.inbox.expunge(list(uids))

    def file(self, uid: int) -> Path:
        return self.ground.maildir() / self.inbox._snapshot.places[uid].file

    async def counted(self, tables: Sequence[str], *kept: int) -> None:
        """Of the folder's rows in these tables only some are left; what memory has is forgotten."""
        marks = ",".join(map(str, kept)) or "0"

        def forget(cursor: Any) -> None:
            for table in tables:
                cursor.execute(f"DELETE FROM {table} WHERE folder = ? AND uid NOT IN ({marks})", (self.inbox._snapshot.id,))

        await self.ground.database.run(forget)
        self.patch(self.ground.portal._ground, "lately", Readies())

    async def rows(self, question: Any, *uids: int) -> set[int]:
        return {one[0] for one in await self.ground.database.read(question, self.inbox._snapshot.id, uids)}

    async def test_summaries(self) -> None:
        """Would catch ENVELOPE or BODYSTRUCTURE of another message, of one that was not asked for, or made anew at each question; what an older version
        did not keep is made in pieces, and none is left out."""
        self.patch(index, "TREES", 2)
        uids = [1, 2, 3, 4, 5, 6, 7]
        summaries, fields = await self.inbox.summaries(uids), await self.inbox.fields(uids)
        assert set(summaries) == set(fields) == set(uids)
        for uid in uids:
            assert b"number %d" % uid in summaries[uid][0]
            assert b"number %d" % uid not in summaries[uid][1]
            assert b"number %d" % uid in fields[uid][1]
        tables = ("portal_summaries", "portal_fields")
        await self.counted(tables, 3)
        assert await self.inbox.summaries(uids) == summaries
        assert await self.rows(index.summaries, *uids) == await self.rows(index.fields, *uids) == set(uids)
        await self.counted(tables, 3)
        assert await self.inbox.fields(uids) == fields
        assert await self.rows(index.summaries, *uids) == await self.rows(index.fields, *uids) == set(uids)
        await self.counted(())
        assert await self.inbox.summaries([2]) == {2: summaries[2]}
        assert await self.inbox.fields([2]) == {2: fields[2]}

    async def test_kept_is_not_made(self) -> None:
        """Would catch a file that is read for what the index has, and what memory has asked of the index."""
        uids = [1, 2]
        summaries, fields = await self.inbox.summaries(uids), await self.inbox.fields(uids)
        reads: list[str] = []
        true = self.ground.database.read

        async def read(work: Any, *given: Any) -> Any:
            reads.append(work.__name__)
            return await true(work, *given)

        self.patch(self.ground.database, "read", read)
        assert await self.inbox.summaries(uids) == summaries
        assert await self.inbox.fields(uids) == fields
        assert reads == []
        await self.counted(())
        assert await self.inbox.summaries(uids) == summaries
        assert await self.inbox.fields(uids) == fields
        assert reads == ["summaries", "fields"]

    async def test_texts(self) -> None:
        """Would catch a search that is told another message's text, or of no further than the first five hundred; and texts that are kept of what has gone."""
        self.patch(index, "TEXTS", 3)
        await self.gone(5)
        await self.inbox.keep_texts([(uid, b"head %d" % uid, b"body %d" % uid) for uid in (1, 2, 4, 5, 7)])
        asked: dict[int, tuple[bytes, bytes]] = {}
        passed: list[tuple[bytes, bytes]] = []

        def possible(headers: bytes, bodies: bytes) -> bool:
            passed.append((headers, bodies))
            return True

        def judge(uid: int, head: bytes, body: bytes) -> bool:
            asked[uid] = head, body
            return uid > 2

        sieve = Sieve(judge, possible)
        found = await self.inbox.sifted([1, 2, 3, 4, 6, 7], sieve)
        assert found == {1: False, 2: False, 4: True, 7: True}
        assert asked == {uid: (b"head %d" % uid, b"body %d" % uid) for uid in (1, 2, 4, 7)}
        assert passed == [(b"head 1\nhead 2", b"body 1\nbody 2"), (b"head 4\nhead 7", b"body 4\nbody 7")]
        await self.inbox.keep_texts([(5, b"", b"")])
        assert 5 not in await self.inbox.sifted([5], sieve)
        passed.clear()
        assert await self.inbox.sifted([1, 4, 7], sieve) == found
        assert passed == [(b"head 1\nhead 2\nhead 4\nhead 7", b"body 1\nbody 2\nbody 4\nbody 7")], "from memory"

    async def test_pieces(self) -> None:
        """Would catch a message that is said to have gone since another program renamed its file, a piece of another one, and an error of the disk taken for an expunge."""
        wanted = [(7, 0, 8), (2, 10, 4), (3, 0, 8)]
        assert await self.inbox.pieces(wanted) == [b"Received", b"from", b"Received"]
        two = self.file(2)
        two.rename(two.parent.parent / "cur" / f"{naming.split_name(two.name)[0]}:2,FS")
        await self.gone(3)
        assert await self.inbox.pieces(wanted) == [b"Received", b"from", None]

    async def test_who_is_there(self) -> None:
        """Would catch entries in another order than that of their UIDs, one that has gone, and a copy that stands although it was moved away."""
        assert [one.uid for one in await self.inbox.entries([7, 2, 99, 3])] == [2, 3, 7]
        assert [one.uid for one in await self.inbox.entries()] == [1, 2, 3, 4, 5, 6, 7]
        portal = self.ground.portal
        standing = await portal.standing(self.copies[2])
        assert standing is not None
        assert standing.uid == 3
        await self.inbox.move([3], "Trash")
        assert await portal.standing(self.copies[2]) is None

    async def test_a_folder_that_has_gone(self) -> None:
        """Would catch a session that goes on in a folder which another one removed."""
        tree = self.ground.portal.tree(1)
        await tree.create("Old")
        folder = await tree.open("Old")
        assert (folder.there, self.inbox.there) == (True, True)
        await tree.delete("Old")
        assert (folder.there, self.inbox.there) == (False, True)

    async def test_made_for_a_use(self) -> None:
        """RFC 6154 section 3: would catch a use that the level above gets instead, or besides."""
        tree = self.ground.portal.tree(1)
        await tree.create("A/B", "\\Archive")
        await tree.create("C/D")
        uses = {info.name: info.use for info in await tree.folders()}
        assert [uses[name] for name in ("A", "A/B", "C", "C/D")] == ["", "\\Archive", "", ""]

    async def test_flags_of_what_was_renamed_meanwhile(self) -> None:
        """Would catch flags that are stored for one of several messages only, since another program renamed one of their files at the same moment, and those
        that are lost or told of without being there."""
        four = self.file(4)
        four.rename(four.parent.parent / "cur" / f"{naming.split_name(four.name)[0]}:2,R")
        changed = await self.inbox.store([3, 4, 5], add=["\\Flagged"])
        assert [(one.uid, one.flags) for one in changed] == [
            (3, {"\\Flagged"}),
            (4, {"\\Flagged", "\\Answered"}),
            (5, {"\\Flagged"}),
        ]
        names = {naming.split_name(path.name) for path in (self.ground.maildir() / "cur").iterdir()}
        for uid, letters in ((3, "F"), (4, "FR"), (5, "F")):
            assert (naming.split_name(self.file(uid).name)[0], letters) in names
        await self.ground.restart()
        inbox = await self.ground.portal.tree(1).open("INBOX")
        assert [one.flags for one in await inbox.entries([3, 4, 5])] == [one.flags for one in changed]

    async def test_stored_on_a_condition(self) -> None:
        """RFC 7162 section 3.1.3: would catch a message that was changed at just that modseq passed over, and one that is gone asked for its own."""
        first, *_ = await self.inbox.store([6], add=["\\Seen"])
        later, *_ = await self.inbox.store([7], add=["\\Seen"])
        stored = await self.inbox.store([5, 6, 7, 99], add=["$X"], since=first.modseq)
        assert [one.uid for one in stored] == [5, 6]
        assert [one.uid for one in await self.inbox.store([7], add=["$X"], since=later.modseq)] == [7]

    async def test_changes_have_one_number_each(self) -> None:
        """RFC 7162 section 3.1.1: would catch a copy, a move or a removal that counts twice, or whose messages bear another number than their folder."""
        tree = self.ground.portal.tree(1)
        sent = await tree.open("Sent")
        for doing in (self.inbox.copy([1, 2], "Sent"), self.inbox.move([3, 4], "Sent")):
            before, there = (await sent.status()).modseq, {one.uid for one in await sent.entries()}
            copied = await doing
            assert len(copied.targets) == 2
            assert (await sent.status()).modseq == before + 1
            assert {one.modseq for one in await sent.entries() if one.uid not in there} == {before + 1}
        before = (await self.inbox.status()).modseq
        await self.inbox.store([5], add=["\\Deleted"])
        await self.inbox.expunge([5])
        assert (await self.inbox.status()).modseq == before + 2

    async def test_listed_seldom(self) -> None:
        """Would catch a folder that is listed for each of a thousand copies that go home, one that is not looked at for longer than some seconds, and none
        that is looked at while the clock is behind."""
        box, snapshot = self.inbox._box, self.inbox._snapshot
        looks: list[float] = []
        now = snapshot.looked[2]

        async def opened(name: str) -> Any:
            looks.append(now)
            return snapshot

        self.patch(box, "opened", opened)
        self.patch(box.ground, "now", lambda: now)
        for later in (0.0, LATELY_SECONDS - 0.1):
            now = snapshot.looked[2] + later
            assert await box.opened_lately("INBOX") is snapshot
        assert looks == []
        for later in (LATELY_SECONDS + 0.1, -0.1):
            now = snapshot.looked[2] + later
            await box.opened_lately("INBOX")
        assert len(looks) == 2

    async def test_why_it_is_here(self) -> None:
        """Would catch a reason that is shown for a message that has gone, or for another one."""
        portal = self.ground.portal
        for number in (1, 2):
            assert await portal.begin_drain(self.copies[number]) is not None
            await portal.end_drain(self.copies[number], delivered=False, reason=f"no {number}")
        assert await portal.notes(1) == {self.copies[1].name: "no 1", self.copies[2].name: "no 2"}
        await self.gone(2)
        assert await portal.notes(1) == {self.copies[2].name: "no 2"}

    async def test_returned(self) -> None:
        """Would catch copies that come back under the envelope or with the size of another one."""
        names = [self.copies[number].name for number in (0, 4)]
        found = await self.ground.portal.returned(1, [*names, "nothing"])
        assert set(found) == set(names)
        entries = {one.name: one.size for one in await self.inbox.entries()}
        assert {name: size for name, (_, size) in found.items()} == {name: entries[name] for name in names}
        assert all(sent.sender == "alice@example.test" for sent, _ in found.values())

    async def test_names_that_no_folder_has(self) -> None:
        """RFC 3501 section 6.3.5: would catch a folder that is renamed to INBOX, or a refusal that says of a bad name that it is there already."""
        tree = self.ground.portal.tree(1)
        await tree.create("Old")
        for name, code in (("inbox", "ALREADYEXISTS"), ("a//b", "CANNOT"), ("", "CANNOT")):
            with pytest.raises(FolderError) as caught:
                await tree.rename("Old", name)
            assert caught.value.code == code
        with pytest.raises(FolderError) as caught:
            await tree.create("a//b")
        assert caught.value.code == "CANNOT"
        with pytest.raises(FolderError) as caught:
            await tree.delete("inbox")
        assert caught.value.code == "CANNOT"


def test_what_was_read_lately() -> None:
    """Would catch another message's answer, a page of which a part is missing taken for whole, and one that is used all the time and goes first."""
    lately: Lately[tuple[bytes]] = Lately(4 * 1000)
    for uid in range(1, 4):
        lately.put(1, uid, (b"%d" % uid * 300,))
    assert lately.all_of(1, [1, 3]) == {1: (b"1" * 300,), 3: (b"3" * 300,)}
    assert lately.all_of(1, []) == {}
    assert lately.all_of(1, [1, 4]) is None
    assert lately.all_of(2, [1]) is None
    for uid in range(4, 13):
        lately.put(1, uid, (b"%d" % (uid % 10) * 300,))
        assert lately.all_of(1, [1]) == {1: (b"1" * 300,)}
    assert lately.all_of(1, [2]) is None


@pytest.mark.parametrize(("many", "held"), [(PAGE, True), (PAGE + 1, False)])
def test_only_pages_are_held(many: int, held: bool) -> None:
    """Would catch a page that is read from the index at each scroll, and a whole folder that takes the place of what others use."""
    lately: Lately[tuple[bytes]] = Lately()
    lately.put_all(1, dict.fromkeys(range(many), (b"x",)))
    assert (lately.all_of(1, [0]) is not None) is held
    assert (lately.all_of(1, range(many)) is not None) is held
    for uid in range(many):
        lately.put(1, uid, (b"x",))
    assert (lately.all_of(1, range(many)) is not None) is held
