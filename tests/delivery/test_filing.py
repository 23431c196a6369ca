"""Home with flags and folders (L13): each thing once, by the ledger, whatever breaks on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from hornetmail.core.delivery.filing import Closed, Form, HomeServer, Standing, WayRefused
from hornetmail.core.delivery.queued import RowKind
from hornetmail.core.events import PrimarySeen
from hornetmail.core.served import Host, TLSPolicy
from hornetmail.db.engines import DatabaseError
from hornetmail.delivery.filing.connections import DOUBTS
from hornetmail.delivery.filing.filer import TRIES
from hornetmail.delivery.filing.filing import SLICE
from tests.delivery.filing import ALICE, BOB, FilingCase, letter


class Failing:
    """The step that is ``left`` steps away fails, before it did anything, after it, or so that ``end`` is called besides."""

    def __init__(self, left: int, how: str, end: Callable[[], None]) -> None:
        self.left = left
        self._how = how
        self._end = end

    def through(self, call: Any) -> Any:
        """The same call as a step."""

        async def step(*arguments: Any) -> Any:
            self.left -= 1
            if self.left == 0 and self._how == "before":
                raise DatabaseError("the disk")
            answer = await call(*arguments)
            if self.left == 0:
                if self._how != "after":
                    self._end()
                raise DatabaseError("the disk")
            return answer

        return step


class TestFolders(FilingCase):
    async def test_story(self) -> None:
        """Folders, flags, dates, sent mail; what is in the trash or marked deleted stays; a second pass and a restart bring nothing twice."""
        await self.build()
        self.imap.make(ALICE, "Gesendete Objekte", "\\Sent")
        await self.service()
        await self.emergency()
        await self.put(1, "Projekte/Größe", letter(1), ("\\Seen", "\\Flagged", "$Done"), 1e9)
        await self.put(1, "Sent", letter(2), ("\\Seen",), 1e9 + 5, "\\Sent")
        await self.put(1, "Trash", letter(3), (), 1e9, "\\Trash")
        await self.put(1, "Projekte/Größe", letter(4), ("\\Deleted",))
        await self.put(2, "Later", letter(5))
        await self.quiet()
        assert not self.imap.said, "nobody is asked in an emergency"
        await self.normal()
        await self.quiet()
        for again in (False, True):
            assert self.there(ALICE, "Projekte/Gr&APYA3w-e") == [letter(1)]
            assert self.there(ALICE, "Gesendete Objekte") == [letter(2)]
            assert self.there(BOB, "Later") == [letter(5)]
            assert set(self.imap.of(ALICE)) == {"INBOX", "Gesendete Objekte", "Projekte/Gr&APYA3w-e"}
            if not again:
                await self.quiet()
                await self.restart()
                await self.quiet()
        [kept] = self.imap.of(ALICE)["Projekte/Gr&APYA3w-e"].kept
        assert (set(kept.flags), kept.date) == ({"\\Seen", "\\Flagged", "$Done"}, 1e9)
        assert self.imap.of(ALICE)["Gesendete Objekte"].kept[0].date == 1e9 + 5
        progress = await self.filing.progress(1)
        assert (progress.home, progress.going, progress.stuck, progress.trouble) == (2, 0, (), "")

    async def test_newest_first(self) -> None:
        """L13: what is newest is what people miss first."""
        await self.build()
        await self.emergency()  # nothing goes until all is there
        await self.service()
        for number in (2, 5, 1, 4, 3):
            await self.put(1, "Kept", letter(number), (), 1e9 + number)
        await self.normal()
        await self.quiet()
        assert self.there(ALICE, "Kept") == [letter(number) for number in (5, 4, 3, 2, 1)]

    async def test_moved_here_meanwhile(self) -> None:
        """People act meanwhile: what went home from one folder and is moved to another one is not sent again; what is put there is."""
        await self.build()
        await self.service()
        uid = await self.put(1, "One", letter(1))
        await self.quiet()
        tree = self.portal.tree(1)
        await tree.create("Two")
        await (await tree.open("One")).move([uid], "Two")
        await self.put(1, "Two", letter(2))
        await self.quiet()
        await self.quiet()
        assert self.there(ALICE, "One") == [letter(1)]
        assert self.there(ALICE, "Two") == [letter(2)]

    async def test_every_step_cut_off(self) -> None:
        """The connection is lost at each command, before and after the server did it, and the process restarts: each thing is there once."""
        await self.build()
        await self.service()
        verbs = ("AUTHENTICATE", "NAMESPACE", "LIST", "CREATE", "SUBSCRIBE", "SELECT", "APPEND")
        for place, (verb, how) in enumerate((verb, how) for verb in verbs for how in ("drop", "store and drop", "bye")):
            await self.restart()  # and no connection is kept
            name = f"F{place}"
            await self.put(1, name, letter(place))
            self.imap.faults.append((verb, how))
            await self.quiet()
            assert not self.imap.faults, (verb, how)
            await self.restart()
            await self.quiet()
            assert self.there(ALICE, name) == [letter(place)], (verb, how)

    async def test_uncertain_is_looked_for(self) -> None:
        """Lost before the tagged OK: found by Message-ID, or by size and day where there is none, among what came since and is not known as another's."""
        await self.build()
        await self.service()
        bare = b"Subject: no id\r\n\r\nx\r\n"
        for name, data in (("With", letter(1)), ("Without", bare)):
            for how in ("drop", "store and drop"):
                folder = f"{name} {how}"
                await self.put(1, folder, data)
                await self.quiet()
                assert self.there(ALICE, folder) == [data]
                self.imap.faults.append(("APPEND", how))
                await self.put(1, folder, data)
                await self.quiet()
                assert not self.imap.faults
                await self.restart()
                await self.quiet()
                assert self.there(ALICE, folder) == [data, data]
                assert (await self.filing.progress(1)).going == 0

    async def test_looked_for_where_it_cannot_be_seen(self) -> None:
        """Would catch one more copy of what was cut off (rule 11) because the primary would not open the folder just then, and mail that waits for ever
        for a folder that somebody removed there."""
        await self.build()
        await self.service()
        for code, copies in ((b"INUSE", 2), (b"UNAVAILABLE", 2), (b"NONEXISTENT", 3)):
            folder = code.decode()
            await self.put(1, folder, letter(1))
            await self.quiet()
            await self.put(1, folder, letter(2))
            self.imap.faults += [("APPEND", "store and drop"), ("SELECT", b"%t NO [" + code + b"] not now")]
            # The first SELECT is that of the pass in which the APPEND is cut off.
            self.imap.faults.reverse()
            await self.quiet()
            await self.restart()
            await self.quiet()
            assert not self.imap.faults
            there = self.there(ALICE, folder)
            assert (len(there), set(there)) == (copies, {letter(1), letter(2)}), code

    async def test_without_uidplus_and_with_another_namespace(self) -> None:
        """INBOX. before every name and dots between levels; a server without UIDPLUS, and one whose UIDVALIDITY changes amid an uncertain APPEND."""
        await self.build()
        self.imap.delimiter, self.imap.prefix = ".", "INBOX."
        self.imap.capabilities.remove("UIDPLUS")
        await self.service(Form.STAR)
        await self.put(1, "A/B v1.2", letter(1))
        await self.quiet()
        assert self.there(ALICE, "INBOX.A.B v1_2") == [letter(1)]
        self.imap.faults.append(("APPEND", "store and drop"))
        await self.put(1, "A/B v1.2", letter(2))
        await self.quiet()
        self.imap.of(ALICE)["INBOX.A.B v1_2"].uidvalidity += 7
        await self.restart()
        await self.quiet()
        assert self.there(ALICE, "INBOX.A.B v1_2") == [letter(1), letter(2)]

    async def test_refusals(self) -> None:
        """No keywords: it goes without; no room: it waits and is told; a message, or a folder's name, that is refused stays, is told, and goes when somebody wants it tried anew."""
        await self.build()
        await self.service()
        self.imap.keywords = False
        await self.put(1, "K", letter(1), ("\\Seen", "$X"))
        await self.quiet()
        assert self.imap.of(ALICE)["K"].kept[0].flags == ("\\Seen",)
        assert [each.lost for each in (await self.filing.ledger.of(1)).values()] == [("$X",)]
        self.imap.quota = 10
        await self.put(1, "K", letter(2))
        await self.quiet()
        assert "OVERQUOTA" in (await self.filing.progress(1)).trouble
        assert {alarm.code for alarm in self.alarms} == {"filing"}
        self.imap.quota = 1 << 20
        await self.quiet()
        assert self.there(ALICE, "K") == [letter(1), letter(2)]
        assert "in the way of its mail" in self.filing.over(ALICE)
        assert "no way home" in self.filing.over("nobody@example.test")
        self.imap.faults.append(("APPEND", b"%t NO [CANNOT] a virus"))
        await self.put(1, "K", letter(3))
        await self.quiet()
        [(_, reason)] = (await self.filing.progress(1)).stuck
        assert "a virus" in reason
        assert {alarm.code for alarm in self.alarms} == {"filing", "filing-refused"}
        self.imap.faults.append(("CREATE", b"%t NO that is no name"))
        await self.put(1, "Bad", letter(4))
        await self.quiet()
        assert len((await self.filing.progress(1)).stuck) == 2
        assert len(self.there(ALICE, "K")) == 2
        alice = self.directory.mailbox_by_id(1)
        assert alice is not None
        assert await self.filing.retry(alice) == 2
        await self.quiet()
        assert self.there(ALICE, "K") == [letter(1), letter(2), letter(3)]
        assert self.there(ALICE, "Bad") == [letter(4)]

    async def test_one_that_the_server_stumbles_over(self) -> None:
        """It falls over the newest message each time: the others do not wait behind it, and it is not brought for ever (rule 11); it stays, and is told."""
        await self.build()
        await self.service()
        self.imap.poison = b"POISON"
        await self.put(1, "K", letter(9, "POISON"), (), 2e9)
        for number in range(3):
            await self.put(1, "K", letter(number))
        for _ in range(TRIES + 2):
            self.bus.publish(PrimarySeen("127.0.0.1", ("example.test",)))
            await self.quiet()
        assert sorted(self.there(ALICE, "K")) == [letter(0), letter(1), letter(2)]
        [(_, reason)] = (await self.filing.progress(1)).stuck
        assert f"{TRIES} times" in reason
        assert "filing-refused" in {alarm.code for alarm in self.alarms}
        assert sum("POISON" in each for each in self.imap.said) == TRIES

    async def test_what_does_not_fit_keeps_nobody_waiting(self) -> None:
        """The newest do not fit into the mailbox: older ones that do are not behind them for ever."""
        await self.build()
        await self.service()
        self.imap.quota = 1000
        for number in range(4):
            await self.put(1, "K", letter(f"big{number}", "x" * 2000), (), 2e9 + number)
        await self.put(1, "K", letter("small"))
        await self.quiet()
        await self.quiet()
        assert self.there(ALICE, "K") == [letter("small")]
        assert "OVERQUOTA" in (await self.filing.progress(1)).trouble

    async def test_each_step_of_ours_fails(self) -> None:
        """The ledger fails at each of its steps, before it did it and after, or the process ends there: what is known is not thrown away, each message is there once, the other mailbox too."""
        await self.build()
        await self.service()
        failed = place = 0
        for how in ("before", "after", "and the process ends"):
            left = 1
            while True:
                place += 1
                for mailbox in (1, 2):
                    await self.put(mailbox, f"F{place}", letter(f"{place}.{mailbox}"), ("\\Seen",))

                failing = Failing(left, how, self.filing.end)
                ledger: Any = self.filing.ledger
                for name in ("of", "one", "put", "forget"):
                    setattr(ledger, name, failing.through(getattr(ledger, name)))
                await self.quiet()
                self.flushLoggedErrors(DatabaseError)
                await self.restart()
                await self.quiet()
                for mailbox, user in ((1, ALICE), (2, BOB)):
                    assert self.there(user, f"F{place}") == [letter(f"{place}.{mailbox}")], (how, left)
                    assert (await self.filing.progress(mailbox)).going == 0
                if failing.left > 0:
                    break
                failed += 1
                left += 1
        assert failed > 15

    async def test_inbox_does_not_wait_for_folders(self) -> None:
        """A pass over a full folder has the mailbox to itself for hours: read mail of INBOX, and the drain with it, would wait behind it."""
        await self.build()
        await self.service()
        await self.emergency()
        for number in range(5 * SLICE):
            await self.put(1, "K", letter(number))
        await self.send(ALICE, data=letter("read"))

        async def there() -> bool:
            return bool(await self.inbox(1))

        await self.wait(there, "in the portal")
        inbox = await self.portal.tree(1).open("INBOX")
        await inbox.store([entry.uid for entry in await inbox.entries()], add=["\\Seen"])
        await self.normal()
        await self.until(lambda: self.there(ALICE, "INBOX"), "it is home")
        assert len(self.there(ALICE, "K")) <= 3 * SLICE
        await self.quiet()
        assert len(self.there(ALICE, "K")) == 5 * SLICE

    async def test_nul(self) -> None:
        """A mail with NUL: a literal cannot hold it; without BINARY it stays and is told, the others go on."""
        await self.build()
        await self.service()
        await self.put(1, "N", letter(1, "a\0b"), (), 2e9)
        await self.put(1, "N", letter(2))
        await self.quiet()
        assert self.there(ALICE, "N") == [letter(2)]
        assert "NUL" in (await self.filing.progress(1)).stuck[0][1]

    async def test_wrong_password(self) -> None:
        """Each try is one towards a lock-out: a person's is tried once, a service account's at a few mailboxes, until somebody changes something."""
        await self.build()
        server = HomeServer(Host("127.0.0.1", self.port), TLSPolicy.NONE)
        await self.ways.set_server("example.test", 1, server, None)
        alice = self.directory.mailbox_by_id(1)
        assert alice is not None
        await self.ways.set_login(alice, ALICE, "wrong")
        await self.put(1, "K", letter(1))
        for _ in range(3):
            await self.quiet()
        assert sum("AUTHENTICATE" in each for each in self.imap.said) == 1
        assert {alarm.code for alarm in self.alarms} == {"filing"}
        await self.assertFailure(self.failing(), Closed)
        await self.ways.set_login(alice, ALICE, "secret")
        await self.quiet()
        assert self.there(ALICE, "K") == [letter(1)]
        await self.ways.remove_login(1)
        assert self.ways.way(alice) is None
        self.imap.said.clear()
        await self.service(password="wrong")
        for mailbox in (1, 2, 3):
            await self.put(mailbox, "More", letter(mailbox))
        for _ in range(3):
            await self.quiet()
        assert sum("AUTHENTICATE" in each for each in self.imap.said) == DOUBTS
        assert not self.there(ALICE, "More")

    def failing(self) -> Deferred[object]:
        alice = self.directory.mailbox_by_id(1)
        assert alice is not None
        return Deferred.fromCoroutine(self.filing.test(alice))

    async def test_passwords_are_sealed(self) -> None:
        """Neither database nor its log holds a password in the clear; one that the domain does not want is refused."""
        await self.build()
        await self.service(password="hunter2-service")
        alice = self.directory.mailbox_by_id(1)
        assert alice is not None
        await self.ways.set_login(alice, ALICE, "hunter2-own")
        for path in self.home.glob("control.db*"):
            assert b"hunter2" not in path.read_bytes()
        server = HomeServer(Host("127.0.0.1", self.port), TLSPolicy.NONE, own=False)
        await self.ways.set_server("example.test", 1, server, None)
        for attempt in (self.ways.set_login(alice, ALICE, "x"), self.ways.set_login(alice, "a\r\nb", "x")):
            try:
                await attempt
            except WayRefused:
                continue
            raise AssertionError("it was taken")
        assert self.ways.way(alice) is None

    async def test_hostile(self) -> None:
        """Huge literals, endless lines, wrong tags, EXPUNGE out of nowhere: the others' mail goes on, and nothing is taken for home that is not."""
        await self.build()
        await self.service()
        said = (
            b"* LIST () NIL {4000000000}",
            b"zz OK done",
            b"+ go on",
            b"* 5 EXPUNGE\r\n* 4 EXPUNGE\r\n%t OK done",
            b'* LIST () "/" INBOX\r\n' * 20_000 + b"%t NO",
        )
        for place, line in enumerate(said):
            await self.restart()  # and no connection is kept
            self.imap.faults.append(("LIST", line))
            await self.put(1, f"H{place}", letter(place))
            await self.put(2, f"B{place}", letter(place))
            await self.quiet()
            assert not self.imap.faults, line[:40]
            await self.restart()
            await self.quiet()
            assert self.there(ALICE, f"H{place}") == [letter(place)], line[:40]
            assert self.there(BOB, f"B{place}") == [letter(place)], line[:40]


class TestInbox(FilingCase):
    async def copy(self, data: bytes, *flags: str) -> None:
        """A portal copy, marked by its owner."""
        await self.send(ALICE, data=data)

        async def there() -> bool:
            return any(data in each for each in await self.inbox(1))

        await self.wait(there, "in the portal")

        async def recorded() -> bool:
            return len(await self.queue.rows(kinds=(RowKind.DRAIN,), envelopes=False)) >= len(await self.inbox(1))

        await self.wait(recorded, "its way home is on record")
        if flags:
            folder = await self.portal.tree(1).open("INBOX")
            newest = max(entry.uid for entry in await folder.entries())
            await folder.store([newest], add=flags)

    async def idle(self) -> None:
        async def empty() -> bool:
            return not await self.queue.rows(kinds=(RowKind.DRAIN,), envelopes=False)

        await self.wait(empty, "everything is home")

    async def test_by_state(self) -> None:
        """What nobody touched goes by SMTP, for the primary's filters and notifications; what was read or flagged goes as it stands."""
        await self.build()
        await self.service()
        await self.emergency()
        await self.copy(letter(1))
        await self.copy(letter(2), "\\Seen", "\\Flagged")
        await self.normal()
        await self.idle()
        assert [each.data[-len(letter(1)) :] for each in self.primary.accepted] == [letter(1)]
        [kept] = self.imap.of(ALICE)["INBOX"].kept
        assert kept.data.endswith(letter(2))
        assert set(kept.flags) == {"\\Seen", "\\Flagged"}
        assert not await self.inbox(1)

    async def test_lost_after_the_last_byte(self) -> None:
        """The primary has it and said nothing: looked for before it is offered again, and once there."""
        await self.build()
        await self.service()
        await self.emergency()
        await self.copy(letter(1), "\\Seen")
        self.imap.faults.append(("APPEND", "store and drop"))
        await self.normal()
        await self.until(lambda: not self.imap.faults, "it was cut off")
        await self.restart()
        await self.idle()
        assert len(self.there(ALICE, "INBOX")) == 1
        assert not self.primary.accepted

    async def test_trial_and_doubt_go_by_smtp(self) -> None:
        """Whether a primary takes mail is asked by SMTP: a read copy that went by IMAP would end an emergency of a server that takes no mail. What SMTP may have brought already goes that way
        again, byte for byte (rule 1)."""
        await self.build()
        await self.service()
        await self.emergency()
        await self.copy(letter(1), "\\Seen")
        self.primary.script.replies = {"DOT": "451 4.3.0 not now"}
        assert await self.delivery.drain.trial("example.test") is False
        assert not self.there(ALICE, "INBOX")
        self.primary.script.replies, self.primary.script.hang = {}, {"DOT"}
        assert await self.delivery.drain.trial("example.test") is False
        self.primary.script.hang = set()
        await self.normal()
        await self.idle()
        assert not self.there(ALICE, "INBOX")
        assert self.primary.accepted

    async def test_a_kept_connection_that_the_server_ended(self) -> None:
        """Rule 2: an error on a connection that was used before is no trouble of the primary, and the message goes at once on a fresh one."""
        await self.build()
        await self.service()
        await self.put(1, "One", letter(1))
        await self.quiet()
        self.imap.faults.append(("CREATE", "bye"))
        await self.put(1, "Two", letter(2))
        await self.quiet()
        assert self.there(ALICE, "Two") == [letter(2)]
        assert (await self.filing.progress(1)).trouble == ""

    async def test_no_way_in(self) -> None:
        """A password that is wrong does not keep read mail from home: it goes as it would without IMAP, and somebody is told."""
        await self.build()
        await self.service(password="wrong")
        await self.emergency()
        await self.copy(letter(1), "\\Seen")
        await self.normal()
        await self.idle()
        assert len(self.primary.accepted) == 1
        assert "filing" in {alarm.code for alarm in self.alarms}

    async def test_home_from_a_folder_and_back(self) -> None:
        """Filed, gone home from there, and moved back into INBOX: it is at the primary, and not sent again."""
        await self.build()
        await self.service()
        await self.emergency()
        await self.copy(letter(1))
        tree = self.portal.tree(1)
        await tree.create("Kept")
        inbox = await tree.open("INBOX")
        [entry] = await inbox.entries()
        await inbox.move([entry.uid], "Kept")
        await self.normal()
        await self.idle()
        await self.quiet()
        assert len(self.there(ALICE, "Kept")) == 1
        kept = await tree.open("Kept")
        [entry] = await kept.entries()
        await kept.move([entry.uid], "INBOX")

        async def gone() -> bool:
            return not await self.inbox(1)

        await self.wait(gone, "it leaves INBOX, for it is home")
        assert not self.primary.accepted
        assert len(self.there(ALICE, "Kept")) == 1
        assert not self.there(ALICE, "INBOX")
        assert {each.standing for each in (await self.filing.ledger.of(1)).values()} <= {Standing.HOME}
