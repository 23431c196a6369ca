"""What is served: by whichever thread, whoever wrote the file, and where a folder exists by its lower levels only."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
from twisted.trial.unittest import TestCase

from hornetmail.core.folder import FolderError
from hornetmail.mime.structure import scan
from hornetmail.portal.maildir import files, naming
from tests.portal.ground import MAIL, TRACE, Bytes, Ground, message, row

LINES = b"Subject: f\n\nline\nline\n"


class Served(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.ground = Ground("sqlite")
        await self.ground.start()
        await self.inbox()

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.ground.stop()
        self.ground.clean()

    async def inbox(self) -> Any:
        return await self.ground.portal.tree(1).open("INBOX")

    def drop(self, name: str, data: bytes, when: float = 1_600_000_000.0, sub: str = "new") -> None:
        path = self.ground.maildir() / sub / name
        path.write_bytes(data)
        os.utime(path, (when, when))

    async def whole(self, folder: Any, uid: int) -> bytes:
        body = await folder.body(uid)
        data = bytes(await body.read())
        assert len(data) == body.size
        assert b"".join([piece async for piece in body.chunks()]) == data
        for start, length in ((0, 7), (5, 10), (len(data) - 3, 9), (len(data), 5), (len(data) + 4, 5), (0, 0)):
            assert await body.read(start, length) == data[start : start + length], (start, length)
        assert await body.read(6) == data[6:]
        return data

    async def test_many_of_another_program(self) -> None:
        """Would catch two files found at once under one UID, or under UIDs that fall or do not follow their dates (RFC 3501 section 2.3.1.1)."""
        await self.ground.portal.deliver(1, message(), row(), Bytes(MAIL))
        for number in range(5):
            self.drop(f"{number}.1_1.other", b"Subject: %d\n\nx\n" % number, 1_600_000_000.0 - number)
        inbox = await self.inbox()
        entries = await inbox.entries()
        assert [entry.uid for entry in entries] == [1, 2, 3, 4, 5, 6]
        assert [entry.date for entry in entries[1:]] == [1_600_000_000.0 - number for number in (4, 3, 2, 1, 0)]
        assert (await inbox.status()).uidnext == 7
        for number, entry in enumerate(reversed(entries[1:])):
            assert await self.whole(inbox, entry.uid) == b"Subject: %d\r\n\r\nx\r\n" % number
        await self.ground.restart()
        assert await (await self.inbox()).entries() == entries

    async def test_line_ends_and_sizes(self) -> None:
        """Would catch a file with LF that is served as it is, or one with CRLF that gets more, whatever sizes its name tells; the size that is told is that of
        what is served."""
        crlf = LINES.replace(b"\n", b"\r\n")
        self.drop(f"1.M1P1.other,S={len(LINES)},W={len(crlf)}", LINES)
        self.drop(f"2.M1P1.other,S={len(crlf)},W={len(crlf)}", crlf)
        self.drop("3.M1P1.other", crlf + LINES)
        self.drop("4.M1P1.other", b"Subject: lone\r\n\r\na\rb\r\n")
        self.drop(f"5.M1P1.other,S={len(crlf)},W={len(crlf)}", LINES)
        self.drop("6.M1P1.other:2,S", LINES, sub="cur")
        inbox = await self.inbox()
        entries = {entry.name[0]: entry for entry in await inbox.entries()}
        wanted = {"1": crlf, "2": crlf, "3": crlf + crlf, "4": b"Subject: lone\r\n\r\na\rb\r\n", "5": crlf, "6": crlf}
        assert entries.keys() == wanted.keys()
        for name, data in wanted.items():
            assert await self.whole(inbox, entries[name].uid) == data, name
            assert entries[name].size == len(data)
        assert entries["6"].flags == {"\\Seen"}

    async def test_line_ends_across_pieces(self) -> None:
        """Would catch a size that is one too large, when CR and LF lie in two pieces of a large file."""
        self.patch(files, "PIECE", 64)
        data = b"Subject: x\r\n\r\n".ljust(63, b"x") + b"\r\n" + b"y" * 62 + b"\n" + b"z" * 70 + b"\n"
        self.drop("1.1_1.other", data)
        inbox = await self.inbox()
        (entry,) = await inbox.entries()
        assert await self.whole(inbox, entry.uid) == files.with_crlf(data)

    async def test_no_file_is_opened_in_the_reactor(self) -> None:
        """Would catch a reactor that waits for the disk while a mail is read: all others wait with it (rule 8d). Small and large ones, pieces of them, and
        many at once, a foreign file with bare LF among them."""
        large = b"Subject: l\r\n\r\n" + b"x" * 998 + b"\r\n" + b"line of text\r\n" * 30_000
        await self.ground.portal.deliver(1, message(), row(), Bytes(MAIL))
        await self.ground.portal.deliver(1, message(large, 2), row(2), Bytes(large))
        self.drop("1.1_1.other", large.replace(b"\r\n", b"\n"))
        inbox = await self.inbox()
        wholes = {1: TRACE + MAIL, 2: TRACE + large, 3: large}
        opened: list[str] = []
        whole_open = self.ground.disk.open

        def noted(*arguments: Any) -> int:
            opened.append(threading.current_thread().name)
            return whole_open(*arguments)

        self.patch(self.ground.disk, "open", noted)
        for uid, whole in wholes.items():
            body = await inbox.body(uid)
            assert await body.read() == whole
            assert await body.read(5, 100) == whole[5:105]
        wanted = [(uid, start, 50) for uid in (3, 1, 2) for start in (0, 40)]
        assert await inbox.pieces([*wanted, (9, 0, 5)]) == [*(wholes[u][s : s + 50] for u, s, _ in wanted), None]
        assert opened
        assert threading.main_thread().name not in opened

    async def test_headers_are_kept(self) -> None:
        """Would catch a header sync of a folder that opens each of its files: of what was delivered, appended, copied, moved and dropped by another program,
        each is read once at most. A header too long to be kept is served all the same."""
        inbox = await self.inbox()
        await self.ground.portal.deliver(1, message(), row(), Bytes(MAIL))
        deposit = inbox.append([], None)
        await deposit.write(MAIL)
        await deposit.commit()
        self.drop("1.1_1.other", b"Subject: f\nTo: g\n\nline\n")
        inbox = await self.inbox()
        await inbox.copy([1, 2], "Sent")
        sent = await self.ground.portal.tree(1).open("Sent")
        await inbox.move([2], "Trash")
        trash = await self.ground.portal.tree(1).open("Trash")
        assert await inbox.headers([3]) == {3: b"Subject: f\r\nTo: g\r\n\r\n"}
        head = MAIL.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        self.patch(self.ground.disk, "open", lambda *arguments: self.fail("a file was opened"))
        assert await inbox.headers([1, 3, 7]) == {1: TRACE + head, 3: b"Subject: f\r\nTo: g\r\n\r\n"}
        assert await sent.headers([1, 2]) == {1: TRACE + head, 2: head}
        assert await trash.headers([1]) == {1: head}
        assert (await inbox.structures([1]))[1].body == len(TRACE + head)

    async def test_a_header_too_long_to_be_kept(self) -> None:
        """Would catch one that is cut, or left out."""
        mail = b"Subject: x\r\nX-Long: " + b"word " * 10_000 + b"\r\n\r\nbody\r\n"
        inbox = await self.inbox()
        deposit = inbox.append([], None)
        await deposit.write(mail)
        await deposit.commit()
        for _ in range(2):
            assert await inbox.headers([1]) == {1: mail[:-6]}

    async def test_structure_of_what_a_client_brought(self) -> None:
        """Would catch a structure whose offsets are not those of the mail: FETCH BODY[1] would begin a byte late."""
        inbox = await self.inbox()
        long_one = MAIL + b"and more\r\n" * 400_000
        for data in (MAIL, long_one):
            deposit = inbox.append([], None)
            await deposit.write(data)
            await deposit.commit()
        kept = await inbox.structures([1, 2])
        assert kept == {1: scan(MAIL), 2: scan(long_one)}

    async def test_levels_that_exist_by_name_only(self) -> None:
        """Would catch a level above a folder that can be selected, is shown as subscribed when it is not, or the other way round (RFC 3501 section 6.3.8)."""
        tree = self.ground.portal.tree(1)
        await tree.create("a/b/c")
        await tree.subscribe("a/b", True)
        await tree.delete("a")
        await tree.delete("a/b")
        infos = {info.name: info for info in await tree.folders()}
        assert [(infos[name].selectable, infos[name].subscribed, infos[name].uidvalidity) for name in ("a", "a/b")] == [
            (False, False, 0),
            (False, True, 0),
        ]
        assert infos["a/b/c"].selectable
        names = list(infos)
        assert names == ["INBOX", *sorted(names[1:])]

    async def test_what_cannot_be_renamed(self) -> None:
        """Would catch a folder that takes INBOX's name, or one that nobody can open afterwards; nothing has moved then."""
        tree = self.ground.portal.tree(1)
        for old, new, code in (
            ("Sent", "inbox", "ALREADYEXISTS"),
            ("Sent", "a//b", "CANNOT"),
            ("Sent", "Trash", "ALREADYEXISTS"),
            ("INBOX", "Trash", "ALREADYEXISTS"),
            ("nowhere", "x", "NONEXISTENT"),
        ):
            with self.assertRaises(FolderError) as caught:  # noqa: PT027
                await tree.rename(old, new)
            assert caught.exception.code == code, (old, new)
        assert [info.name for info in await tree.folders()] == ["INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"]
        await tree.create("Sent/2025")
        with self.assertRaises(FolderError) as caught:  # noqa: PT027
            await tree.rename("Sent", "Trash")  # of the names that it would have, one is there and the other is not
        assert caught.exception.code == "ALREADYEXISTS"
        assert "Sent/2025" in [info.name for info in await tree.folders()]

    async def test_a_folder_says_what_the_tree_says(self) -> None:
        """Would catch a folder that is subscribed in one answer and not in another."""
        tree = self.ground.portal.tree(1)
        await tree.create("a")
        for on in (True, False):
            await tree.subscribe("a", on)
            (listed,) = [info for info in await tree.folders() if info.name == "a"]
            assert (await tree.open("a")).info == listed
            assert listed.subscribed is on

    async def test_a_directory_by_another_name(self) -> None:
        """Would catch a directory whose odd spelling stands for the name of another: both would be one folder, with the mail of one of them."""
        for directory in (".Mine", ".&AE0-ine"):
            for sub in ("new", "cur", "tmp"):
                (self.ground.maildir() / directory / sub).mkdir(parents=True)
        await self.ground.restart()
        names = [info.name for info in await self.ground.portal.tree(1).folders()]
        assert names.count("Mine") == 1
        assert self.ground.maildir().joinpath(".&AE0-ine").is_dir()
        (self.ground.maildir() / ".Mine").rename(self.ground.maildir() / ".Others")
        await self.ground.restart()
        names = [info.name for info in await self.ground.portal.tree(1).folders()]
        assert "Mine" not in names
        assert "Others" in names

    async def test_what_lies_below_goes_along_or_nothing_goes(self) -> None:
        """Would catch a folder that nobody can open any more, since it lies too deep, or has too long a name, below one that was renamed."""
        tree = self.ground.portal.tree(1)
        await tree.create("a/b")
        deep, long = "/".join("x" * 20), "y" * 254
        for new in (deep, long):
            with self.assertRaises(FolderError) as caught:  # noqa: PT027
                await tree.rename("a", new)
            assert caught.exception.code == "CANNOT"
        assert {"a", "a/b"} <= {info.name for info in await tree.folders()}
        await tree.rename("a", deep[2:])
        assert (await (await tree.open(f"{deep[2:]}/b")).status()).messages == 0

    async def test_who_has_mail_without_an_envelope(self) -> None:
        """Would catch foreign mail in INBOX that the drain's page does not show, mail of other folders that it does, and a mailbox that nobody opened yet."""
        portal = self.ground.portal
        assert await portal.holding([1, 2]) == []
        await portal.deliver(1, message(), row(), Bytes(MAIL))
        assert await portal.holding([1]) == []
        assert await portal.holding([1], {1001}) == []
        assert await portal.holding([1], {1002}) == [1], "its row is nobody's any more"
        (self.ground.maildir() / ".Sent" / "new" / "1.1_1.other").write_bytes(LINES)
        (self.ground.maildir() / "new" / ".hidden").write_bytes(LINES)
        assert await portal.holding([1], {1001}) == []
        self.drop("1.1_1.other:2,S", LINES, sub="cur")
        assert await portal.holding([2, 1, 99]) == [1]

    async def test_into_the_folder_itself(self) -> None:
        """RFC 6851 section 3.3: MOVE into the selected mailbox is allowed where COPY is. A copy that has its way home before it still drains (rule
        10). Would catch a refusal, a message lost, or one that is there twice."""
        await self.ground.portal.deliver(1, message(), row(), Bytes(MAIL))
        inbox = await self.inbox()
        before = (await inbox.entries())[0]
        moved = await inbox.move([1], "INBOX")
        assert (moved.sources, moved.targets) == ((1,), (2,))
        (entry,) = await inbox.entries()
        assert (entry.uid, entry.flags, entry.date, entry.size) == (2, before.flags, before.date, before.size)
        assert naming.row_of(entry.name) == naming.row_of(before.name) != 0
        assert (await self.whole(inbox, 2)).endswith(b"Bob\r\n")
        await self.ground.restart()
        assert [entry.uid for entry in await (await self.inbox()).entries()] == [2]

    async def test_made_anew_while_a_message_arrives(self) -> None:
        """Would catch an APPEND that lands in another folder of the same name, or tells the UIDVALIDITY of the one that has gone."""
        tree = self.ground.portal.tree(1)
        await tree.create("Work")
        deposit = (await tree.open("Work")).append((), None)
        await deposit.write(MAIL)
        await tree.delete("Work")
        await tree.create("Work")
        with pytest.raises(FolderError) as caught:
            await deposit.commit()
        assert caught.value.code == "NONEXISTENT"
        folder = await tree.open("Work")
        assert not await folder.entries()
        deposit = folder.append((), None)
        await deposit.write(MAIL)
        await tree.rename("Work", "Old")
        await tree.create("Work")
        copied = await deposit.commit()
        old = await tree.open("Old")
        assert (copied.uidvalidity, copied.targets) == (old.info.uidvalidity, (1,))
        assert [entry.uid for entry in await old.entries()] == [1]
