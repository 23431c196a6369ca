"""Home with flags and folders (L13) at servers that are not as expected, and with people who act meanwhile."""

from __future__ import annotations

from typing import Any

from hornetmail.core.delivery.filing import HomeServer
from hornetmail.core.folder import FolderError
from hornetmail.core.served import Host, TLSPolicy
from tests.delivery.filing import ALICE, BOB, FilingCase, letter


class TestServers(FilingCase):
    async def test_a_folder_that_is_there_under_another_case(self) -> None:
        """Exchange and others tell no case apart, and say NO without a code to a folder that is there: would catch mail that stays for ever because its folder need not be made."""
        await self.build()
        await self.service()
        await self.put(1, "projects", letter(1))
        self.imap.make(ALICE, "projects")
        self.imap.faults.append(("LIST", b'* LIST () "/" INBOX\r\n* LIST () "/" Projects\r\n%t OK done'))
        self.imap.faults.append(("CREATE", b"%t NO Folder exists."))
        await self.quiet()
        assert self.there(ALICE, "projects") == [letter(1)]
        assert not (await self.filing.progress(1)).stuck

    async def test_a_folder_that_goes_meanwhile(self) -> None:
        """Somebody removes or renames a folder at the primary while a pass knows its list: would catch mail that is told as refused, where a folder has to be made anew."""
        await self.build()
        await self.service()
        await self.put(1, "Kept", letter(1))
        await self.quiet()
        self.imap.of(ALICE)["Renamed"] = self.imap.of(ALICE).pop("Kept")
        await self.put(1, "Kept", letter(2))
        await self.put(1, "Other", letter(3), (), 2e9)  # so that Kept is selected anew
        await self.quiet()
        await self.quiet()
        assert not (await self.filing.progress(1)).stuck
        assert self.there(ALICE, "Kept") == [letter(2)]
        assert self.there(ALICE, "Other") == [letter(3)]

    async def test_names_that_it_does_not_take(self) -> None:
        """Maildir++ has no dots in names, whatever LIST says of levels, and Dovecot no ``~`` in front: would catch folders that stay here for ever for their names."""
        await self.build()
        await self.service()
        for place, name in enumerate(("v1.2", "~x", "Projekte: Größe/a*b")):
            self.imap.faults.append(("CREATE", b"%t NO [CANNOT] Character not allowed in mailbox name"))
            await self.put(1, name, letter(f"{place}.1"))
            await self.put(1, name, letter(f"{place}.2"))
            await self.quiet()
        assert {name: len(folder.kept) for name, folder in self.imap.of(ALICE).items()} == {
            "INBOX": 0,
            "v1_2": 2,
            "_x": 2,
            "Projekte_ Gr&APYA3w-e/a_b": 2,
        }
        await self.put(1, "v1.2", letter("again"))
        await self.restart()  # and no connection is kept
        self.imap.faults.append(("CREATE", b"%t NO [CANNOT] Character not allowed in mailbox name"))
        await self.quiet()
        assert len(self.there(ALICE, "v1_2")) == 3

    async def test_numbers_that_are_too_many(self) -> None:
        """A code with two numbers where one is due: would catch an error of ours, and a mailbox that never gets its mail."""
        await self.build()
        await self.service()
        await self.put(1, "Kept", letter(1))
        said = (
            b"* 0 EXISTS\r\n* OK [UIDVALIDITY 1 2] odd\r\n* OK [UIDNEXT] odd\r\n* OK [UIDNEXT x] odd\r\n%t OK [READ-WRITE] done"
        )
        self.imap.faults.append(("SELECT", said))
        await self.quiet()
        assert self.there(ALICE, "Kept") == [letter(1)]

    async def test_no_room_said_without_its_code(self) -> None:
        """Courier, Cyrus and hMailServer say in words only that a mailbox is full (RFC 5530 is younger than they are): would catch a mailbox of which each message is told as refused, and stays after there is room."""
        await self.build()
        await self.service()
        for number, words in enumerate((b"NO [ALERT] You exceeded your mail quota.", b"NO Over quota", b"NO Mailbox is full")):
            # What is told stays told; another pass, which finds room, may begin at any moment.
            self.alarms.clear()
            self.imap.faults.append(("APPEND", b"%t " + words))
            await self.put(1, "K", letter(number))
            await self.quiet()
            assert not (await self.filing.progress(1)).stuck, words
            assert [alarm.code for alarm in self.alarms if words.decode()[-6:] in alarm.text] == ["filing"]
            await self.quiet()
            assert len(self.there(ALICE, "K")) == number + 1

    async def test_one_mailbox_that_a_server_stumbles_over(self) -> None:
        """It ends the connection at one person's message each time: would catch the others of the domain who wait for that one."""
        await self.build()
        await self.service()
        self.imap.poison = b"POISON"
        await self.put(1, "K", letter(1, "POISON"))
        await self.put(2, "K", letter(2))
        await self.quiet()
        assert self.there(BOB, "K") == [letter(2)]

    async def test_a_refused_log_in_is_tried_again_the_next_day(self) -> None:
        """A primary that has just come back says NO to everybody until its directory is there too: would catch a person's password that is never tried again, though it is right."""
        await self.build()
        await self.ways.set_server("example.test", 1, HomeServer(Host("127.0.0.1", self.port), TLSPolicy.NONE), None)
        alice = self.directory.mailbox_by_id(1)
        assert alice is not None
        await self.ways.set_login(alice, ALICE, "secret")
        await self.put(1, "K", letter(1))
        self.imap.faults.append(("AUTHENTICATE", b"%t NO LOGIN failed."))
        await self.quiet()
        await self.quiet()
        assert not self.there(ALICE, "K")
        connections: Any = self.filing._connections
        closed = connections.closed(alice)
        assert closed is not None
        assert closed.lasting
        refusal = connections._refused[1]
        assert refusal.until - self.filing._clock.seconds() <= 86_400.0


class TestPeople(FilingCase):
    async def test_what_lies_below_the_trash(self) -> None:
        """Thunderbird deletes a folder by moving it below Trash: would catch what was thrown away at the primary again (C6)."""
        await self.build()
        await self.service()
        await self.put(1, "Trash", letter(1), (), 1e9, "\\Trash")
        await self.put(1, "Trash/Old project", letter(2))
        await self.put(1, "Trash/Old project/deep", letter(3))
        await self.put(1, "Trashy", letter(4))
        await self.quiet()
        assert set(self.imap.of(ALICE)) == {"INBOX", "Trashy"}
        assert self.there(ALICE, "Trashy") == [letter(4)]

    async def test_folders_that_were_away(self) -> None:
        """The portal's disk is away for some passes (an empty mount point, a backup that is put in its place): would catch a ledger that forgets what was filed, and everything filed twice."""
        await self.build()
        await self.service()
        await self.put(1, "K", letter(1))
        await self.quiet()
        files = [each for each in self.home.rglob("*") if each.parent.name in ("new", "cur") and each.is_file()]
        [directory] = [each.parent.parent for each in files if b"<1@x.test>" in each.read_bytes()]
        directory.rename(self.home / "away")

        async def unseen() -> bool:
            return "K" not in [info.name for info in await self.portal.tree(1).folders()]

        await self.wait(unseen, "the folder is not shown")
        for _ in range(3):
            await self.quiet()
        assert [each.standing.value for each in (await self.filing.ledger.of(1)).values()] == ["home"]

    async def test_trouble_ends_with_its_mail(self) -> None:
        """What did not fit is removed by its owner: would catch an alarm that stays though nothing is left to go (rule 8f)."""
        await self.build()
        await self.service()
        self.imap.quota = 10
        uid = await self.put(1, "K", letter(1))
        await self.quiet()
        assert not self.filing.over(ALICE)
        await (await self.portal.tree(1).open("K")).store([uid], add=["\\Deleted"])
        await (await self.portal.tree(1).open("K")).expunge()
        await self.quiet()
        assert self.filing.over(ALICE)
        assert not (await self.filing.progress(1)).trouble

    async def test_one_folder_that_cannot_be_read(self) -> None:
        """A bad sector under one folder: would catch the others of its owner that wait for it."""
        await self.build()
        await self.service()
        await self.put(1, "Bad", letter(1))
        await self.put(1, "Good", letter(2))
        tree: Any = self.portal.tree(1)
        found = type(tree).open

        async def opened(self_: Any, name: str) -> Any:
            if name == "Bad":
                raise FolderError("UNAVAILABLE", "the disk")
            return await found(self_, name)

        self.patch(type(tree), "open", opened)
        await self.quiet()
        assert self.there(ALICE, "Good") == [letter(2)]
        assert "filing" in {alarm.code for alarm in self.alarms}
        assert not self.filing.over(ALICE)
