"""Folders that people share (RFC 4314), over the door and the real portal: each right against each command, and who may know of what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hornetmail.core.sharing import ALL
from tests.peers.imap_lines import Lines
from tests.portal.ground import Bytes, message, row
from tests.servers.imap.people import ALICE, BOB, CAROL, EVE, OTHERS, People, ok

F = f'"{OTHERS}{ALICE}/F"'
MAIL = "Subject: one\r\n\r\nHello\r\n"
LITERAL = f"{{{len(MAIL)}+}}\r\n{MAIL}"


class Shared(People):
    """See ``People``."""

    async def test_each_right_and_each_command(self) -> None:
        """Would catch a command that asks for no right, for another one, or for more than RFC 4314 section 4 wants: with all rights but one each command is
        refused if, and only if, that one is among those that it needs; and those that it needs are enough."""
        await self.start()

        def all_but_one(alice: Lines, bob: Lines) -> None:
            for name, (needed, done) in COMMANDS.items():
                for right in ALL:
                    prepared(alice, bob, ALL.replace(right, ""))
                    assert done(bob) == (right not in needed), (name, f"without {right}")
                prepared(alice, bob, needed)
                assert done(bob), (name, f"with {needed} alone")

        await self.talk(all_but_one, ALICE, BOB)

    async def test_any_right_is_told(self) -> None:
        """MYRIGHTS (section 3.5): would catch a refusal for who has one of lrikxa, and a folder betrayed to who has none of them."""
        await self.start()

        def each(alice: Lines, bob: Lines) -> None:
            for right in ALL:
                prepared(alice, bob, right)
                assert ok(bob.say(f"MYRIGHTS {F}")) == (right in "lrikxa"), right
            prepared(alice, bob, "lrke")
            assert bob.say(f"MYRIGHTS {F}")[0] == [b'MYRIGHTS "Other users/alice@example.test/F" lrkecd']

        await self.talk(each, ALICE, BOB)

    async def test_nobody_hears_of_what_is_not_theirs(self) -> None:
        """Would catch a folder without rights that is answered otherwise than one that is not there, for any command, and rights given across tenants (rule 25)."""
        await self.start()

        def strangers(alice: Lines, bob: Lines, eve: Lines) -> None:
            assert ok(alice.say("CREATE F"))
            assert not ok(alice.say(f"SETACL F {EVE} lr"))
            assert alice.say(f"SETACL F {EVE} lr")[1] == alice.say("SETACL F nobody@example.test lr")[1]
            assert alice.say(f"LISTRIGHTS F {EVE}")[1] == alice.say("LISTRIGHTS F nobody@example.test")[1]
            asked = (
                "SELECT {}",
                "STATUS {} (MESSAGES)",
                "MYRIGHTS {}",
                "GETACL {}",
                "SETACL {} anyone lr",
                "LISTRIGHTS {} anyone",
                "DELETE {}",
                "CREATE {}",
                "RENAME {} " + F[:-1] + '2"',
                "APPEND {} " + LITERAL,
                "GETQUOTAROOT {}",
            )
            for who in (bob, eve):
                for command in asked:
                    pair = ("F/new", "G/new") if command.startswith("CREATE") else ("F", "G")
                    there, gone = (who.say(command.replace("{}", f'"{OTHERS}{ALICE}/{name}"'))[1] for name in pair)
                    assert there.startswith(b"NO "), (command, there)
                    assert there == gone, command
                assert not [line for line in who.say('LIST "" *')[0] if b"Other" in line]
            assert ok(alice.say("SETACL F anyone lr"))
            assert any(b"alice@example.test/F" in line for line in bob.say('LIST "" *')[0]), "anyone of the tenant"
            assert not any(b"Other" in line for line in eve.say('LIST "" *')[0]), "and of no other"
            assert not ok(eve.say(f"SELECT {F}"))

        await self.talk(strangers, ALICE, BOB, EVE)

    async def test_the_rights_are_told_and_stay(self) -> None:
        """Would catch rights that are lost at a restart, with the index, or with a rename; that the owner can give away; and denied or unknown rights that are
        taken for something."""
        await self.start()

        def given(alice: Lines) -> None:
            assert alice.say("NAMESPACE")[0] == [b'NAMESPACE (("" "/")) (("Other users/" "/")) NIL']
            assert b" ACL RIGHTS=kxte" in alice.say("CAPABILITY")[0][0]
            assert ok(alice.say("CREATE F"))
            assert ok(alice.say(f"SETACL F {BOB} lrswi"))
            assert ok(alice.say(f"SETACL F {BOB} -wi"))
            assert ok(alice.say(f"SETACL F {BOB} +d")), "which stands for t and e (section 2.1.1)"
            assert ok(alice.say(f"SETACL F {CAROL} lr"))
            assert ok(alice.say(f"DELETEACL F {CAROL}"))
            assert alice.say(f"SETACL F {BOB} lrz")[1].startswith(b"BAD"), "section 3.1: an unknown right"
            assert not ok(alice.say(f"SETACL F -{BOB} r"))
            assert not ok(alice.say(f"SETACL F {ALICE} lr"))
            assert ok(alice.say("CREATE F/below")), "which has what its parent has (section 4, CREATE)"
            assert ok(alice.say("RENAME F Projects"))
            for name in ("Projects", "Projects/below"):
                owner = b"lrswipkxteacd"
                assert alice.say(f"GETACL {name}")[0] == [
                    b"ACL %b alice@example.test %b bob@example.test lrsted" % (name.encode(), owner)
                ]
            assert alice.say(f"LISTRIGHTS Projects {BOB}")[0] == [
                b'LISTRIGHTS Projects bob@example.test "" l r s w i p k x t e a c d'
            ]
            assert alice.say(f"LISTRIGHTS Projects {ALICE}")[0][0].endswith(b" lrswipkxteacd")

        await self.talk(given, ALICE)
        await self.ground.stop()
        await self.ground.start()
        await self.talk(still, BOB)
        await self.ground.database.run(lambda cursor: cursor.execute("DELETE FROM portal_grants"))
        await self.ground.stop()
        await self.ground.start()
        await self.ground.portal.folder(1, "INBOX")
        await self.talk(still, BOB)

    async def test_a_right_that_is_taken_back(self) -> None:
        """Would catch somebody who reads on in the folder that is selected, or idles there, after its rights were taken back; and a change of one that the other
        does not hear of."""
        await self.start()

        def taken_back(alice: Lines, bob: Lines, carol: Lines) -> None:
            prepared(alice, bob, "lrsw")
            assert ok(alice.say(f"SETACL F {CAROL} lr"))
            assert ok(bob.say(f"SELECT {F}"))
            assert ok(carol.say(f"SELECT {F}"))
            assert ok(alice.say("SELECT F"))
            assert ok(bob.say("STORE 1 +FLAGS (\\Flagged)"))
            assert any(b"\\Flagged" in line for line in alice.say("NOOP")[0])
            assert any(b"\\Flagged" in line for line in carol.say("NOOP")[0])
            assert not ok(carol.say("STORE 1 +FLAGS (\\Seen)"))
            assert ok(alice.say(f"DELETEACL F {BOB}"))
            said = bob.say("FETCH 1 (BODY.PEEK[])")
            assert not ok(said)
            assert not any(b"Hello" in line for line in said[0])
            assert any(line.startswith(b"FLAGS") for line in carol.say(f"EXAMINE {F}")[0]), "Carol reads on"

        await self.talk(taken_back, ALICE, BOB, CAROL)

    async def test_flags_come_as_far_as_rights_go(self) -> None:
        """Would catch flags set by APPEND, COPY or STORE without the right to (section 4); a STORE refused that may do some of it; and UIDs told of a folder that may
        not be read (RFC 4315 section 3)."""
        await self.start()

        def flags(alice: Lines, bob: Lines) -> None:
            def those(number: int) -> bytes:
                assert ok(alice.say("SELECT F"))
                return (
                    alice.say(f"FETCH {number} (FLAGS)")[0][0]
                    .partition(b"FLAGS ")[2]
                    .replace(b"\\Recent", b"")
                    .replace(b"( ", b"(")
                )

            prepared(alice, bob, "lrsi")
            assert ok(alice.say("SELECT F"))
            assert ok(alice.say("STORE 1 -FLAGS (\\Deleted)"))
            said = bob.say(f"APPEND {F} (\\Seen \\Flagged \\Deleted) {LITERAL}")
            assert b"APPENDUID" in said[1]
            assert those(2).strip(b" )") == b"(\\Seen"
            assert ok(bob.say(f"APPEND INBOX (\\Seen \\Flagged kept) {LITERAL}"))
            assert ok(bob.say("SELECT INBOX"))
            assert b"COPYUID" in bob.say(f"COPY 2 {F}")[1]
            assert those(3).strip(b" )") == b"(\\Seen"
            assert ok(bob.say(f"SELECT {F}"))
            assert ok(bob.say("STORE 1 FLAGS (\\Seen \\Flagged)"))
            assert those(1).strip(b" )") == b"(\\Seen"
            assert ok(alice.say("STORE 1 +FLAGS (\\Flagged)"))
            assert ok(bob.say("STORE 1 FLAGS ()"))
            assert those(1).strip(b" )") == b"(\\Flagged", "what Bob may not take away stays"
            assert ok(bob.say("UNSELECT"))
            assert ok(alice.say(f"SETACL F {BOB} i"))
            assert b"UID" not in bob.say(f"APPEND {F} {LITERAL}")[1]
            assert b"UID" not in bob.say(f"APPEND {F} {LITERAL} {LITERAL}")[1], "several at once"
            assert ok(bob.say("SELECT INBOX"))
            assert b"UID" not in bob.say(f"COPY 1 {F}")[1]

        await self.talk(flags, ALICE, BOB)

    async def test_messages_go_from_one_to_the_other(self) -> None:
        """Would catch messages that are lost, changed or doubled on their way between two people's folders, an EMAILID that does not go with them (RFC 8474
        section 5.1), and a move that cannot take away the message and leaves its copy."""
        await self.start()
        portal = self.ground.portal
        body = Bytes(b"Subject: delivered\r\n\r\nfor Alice\r\n")
        await portal.deliver(1, message(body.data), row(), body)

        def known(lines: Lines) -> bytes:
            return lines.say("FETCH 1 (EMAILID)")[0][0].rpartition(b"EMAILID ")[2]

        def there_and_back(alice: Lines, bob: Lines) -> None:
            inbox = f'"{OTHERS}{ALICE}/INBOX"'
            assert ok(alice.say(f"SETACL INBOX {BOB} lrswit"))
            assert ok(bob.say(f"SELECT {inbox}"))
            before = known(bob)
            assert not ok(bob.say("MOVE 1 INBOX")), "without e"
            assert b"MESSAGES 0" in bob.say("STATUS INBOX (MESSAGES)")[0][0]
            assert ok(alice.say(f"SETACL INBOX {BOB} +e"))
            assert b"COPYUID" in b"".join(bob.say("MOVE 1 INBOX")[0])
            assert ok(bob.say("SELECT INBOX"))
            assert known(bob) == before
            text = bob.say("FETCH 1 (BODY.PEEK[])")[0][0]
            assert text.endswith(b"for Alice\r\n)")
            assert b"Return-Path" not in text
            assert ok(bob.say(f"MOVE 1 {inbox}"))
            assert ok(alice.say("SELECT INBOX"))
            assert known(alice) == before
            assert ok(bob.say("UNSELECT"))
            assert b"MESSAGES 0" in bob.say("STATUS INBOX (MESSAGES)")[0][0]

        await self.talk(there_and_back, ALICE, BOB)

    async def test_the_drain_stands(self) -> None:
        """Would catch INBOX's drain disturbed by rights (C5, C6): what Bob moves out of Alice's INBOX does not drain, what stays does, and what he moves back within her
        folders is the same copy as before (rule 10)."""
        await self.start()
        portal = self.ground.portal
        copies = []
        for number in (1, 2):
            body = Bytes(b"Subject: %d\r\n\r\n.\r\n" % number)
            copies.append(await portal.deliver(1, message(body.data, number), row(number), body))

        def out(alice: Lines, bob: Lines) -> None:
            assert ok(alice.say("CREATE F"))
            for name in ("INBOX", "F"):
                assert ok(alice.say(f"SETACL {name} {BOB} lrite"))
            assert ok(bob.say(f'SELECT "{OTHERS}{ALICE}/INBOX"'))
            assert ok(bob.say(f"MOVE 1 {F}"))

        def back(bob: Lines) -> None:
            assert ok(bob.say(f"SELECT {F}"))
            assert ok(bob.say(f'MOVE 1 "{OTHERS}{ALICE}/INBOX"'))

        await self.talk(out, ALICE, BOB)
        assert await portal.begin_drain(copies[0]) is None
        assert await portal.begin_drain(copies[1]) is not None
        await portal.end_drain(copies[1], delivered=True)
        await self.talk(back, BOB)
        again = await portal.begin_drain(copies[0])
        assert again is not None
        assert again[0].sender == "alice@example.test", "the envelope it came with"

    async def test_subscribed_to_what_others_share(self) -> None:
        """Would catch subscriptions to others' folders that are forgotten, or told as one's own."""
        await self.start()

        def subscribed(alice: Lines, bob: Lines) -> None:
            prepared(alice, bob, "lr")
            assert ok(bob.say(f"SUBSCRIBE {F}"))
            assert any(
                b"\\Subscribed" in line and b"alice@example.test/F" in line for line in bob.say('LIST (SUBSCRIBED) "" *')[0]
            )
            assert any(b"alice@example.test/F" in line for line in bob.say('LSUB "" *')[0])
            assert ok(alice.say(f"DELETEACL F {BOB}"))
            gone = [line for line in bob.say('LIST (SUBSCRIBED) "" *')[0] if b"/F" in line]
            assert gone
            assert b"\\NonExistent" in gone[0]
            assert ok(bob.say(f"UNSUBSCRIBE {F}"))

        await self.talk(subscribed, ALICE, BOB)


def still(bob: Lines) -> None:
    """What Bob sees of it."""
    listed = [line for line in bob.say('LIST "" "Other users/*"')[0] if b"NoSelect" not in line]
    names = [line.rpartition(b'"/" ')[2] for line in listed if b"\\Noselect" not in line]
    assert names == [b'"Other users/alice@example.test/Projects"', b'"Other users/alice@example.test/Projects/below"'], listed
    assert ok(bob.say(f'SELECT "{OTHERS}{ALICE}/Projects"'))


def prepared(alice: Lines, bob: Lines, rights: str) -> None:
    """A fresh folder F with one message, marked as deleted, on which Bob has these rights; H, below which he may make folders; and one message in his INBOX."""
    for command in ("SELECT INBOX", "UNSELECT"):  # whose selected folder goes is told BYE
        assert ok(bob.say(command))
    for command in ("SELECT H", "UNSELECT", "DELETE F", "DELETE F/new", "DELETE H/moved", "CREATE H", f"SETACL H {BOB} lk"):
        alice.say(command)
    assert ok(alice.say("CREATE F"))
    assert ok(alice.say(f"APPEND F {LITERAL}"))
    assert ok(alice.say(f'SETACL F {BOB} "{rights}"'))
    if b"MESSAGES 0" in bob.say("STATUS INBOX (MESSAGES)")[0][0]:
        assert ok(bob.say(f"APPEND INBOX {LITERAL}"))
    assert ok(alice.say("SELECT F"))
    assert ok(alice.say("STORE 1 +FLAGS (\\Deleted)"))
    assert ok(alice.say("UNSELECT"))


def said(command: str) -> Callable[[Lines], bool]:
    """The command is done."""
    return lambda bob: ok(bob.say(command))


def inside(command: str) -> Callable[[Lines], bool]:
    """The same, in the folder selected."""
    return lambda bob: ok(bob.say(f"SELECT {F}")) and ok(bob.say(command))


def is_listed(bob: Lines) -> bool:
    return any(b"alice@example.test/F" in line and b"\\Noselect" not in line for line in bob.say(f'LIST "" {F}')[0])


def is_named(bob: Lines) -> bool:
    return any(b"alice@example.test/F" in line for line in bob.say(f'LIST "" {F}')[0])


def closed(bob: Lines) -> bool:
    """CLOSE is done always; whether it removed what is marked."""
    if not ok(bob.say(f"SELECT {F}")):
        return False
    assert ok(bob.say("CLOSE"))
    return b"MESSAGES 0" in bob.say(f"STATUS {F} (MESSAGES)")[0][0]


def seen(bob: Lines) -> bool:
    r"""Reading is done always for who may read; whether it set \Seen."""
    if not ok(bob.say(f"SELECT {F}")):
        return False
    assert ok(bob.say("FETCH 1 (BODY[])"))
    return b"\\Seen" in bob.say("FETCH 1 (FLAGS)")[0][0]


def writable(bob: Lines) -> bool:
    return b"READ-WRITE" in bob.say(f"SELECT {F}")[1]


def brought(bob: Lines) -> bool:
    return ok(bob.say("SELECT INBOX")) and ok(bob.say(f"COPY 1 {F}"))


COMMANDS: dict[str, tuple[str, Any]] = {
    "LIST": ("l", is_named),
    "LIST to select it": ("lr", is_listed),
    "SELECT": ("r", said(f"SELECT {F}")),
    "EXAMINE": ("r", said(f"EXAMINE {F}")),
    "STATUS": ("r", said(f"STATUS {F} (MESSAGES UNSEEN)")),
    "SUBSCRIBE": ("", said(f"SUBSCRIBE {F}")),
    "FETCH": ("r", inside("FETCH 1 (FLAGS ENVELOPE BODYSTRUCTURE BODY.PEEK[])")),
    "FETCH that sets seen": ("rs", seen),
    "SEARCH": ("r", inside("SEARCH TEXT Hello")),
    "SORT": ("r", inside("SORT (SUBJECT) UTF-8 ALL")),
    "STORE seen": ("rs", inside("STORE 1 +FLAGS (\\Seen)")),
    "STORE flagged": ("rw", inside("STORE 1 +FLAGS (\\Flagged)")),
    "STORE a keyword": ("rw", inside("STORE 1 +FLAGS (Work)")),
    "STORE not deleted": ("rt", inside("STORE 1 -FLAGS (\\Deleted)")),
    "EXPUNGE": ("re", inside("EXPUNGE")),
    "UID EXPUNGE": ("re", inside("UID EXPUNGE 1")),
    "CLOSE that expunges": ("re", closed),
    "APPEND": ("i", said(f"APPEND {F} {LITERAL}")),
    "COPY into it": ("i", brought),
    "COPY out of it": ("r", inside("COPY 1 INBOX")),
    "MOVE out of it": ("rte", inside("MOVE 1 INBOX")),
    "COPY within it": ("ri", inside(f"COPY 1 {F}")),
    "REPLACE": ("rite", inside(f"REPLACE 1 {F} {LITERAL}")),
    "CREATE below": ("k", said(f'CREATE {F[:-1]}/new"')),
    "RENAME": ("x", said(f'RENAME {F} "{OTHERS}{ALICE}/H/moved"')),
    "DELETE": ("x", said(f"DELETE {F}")),
    "GETACL": ("a", said(f"GETACL {F}")),
    "SETACL": ("a", said(f"SETACL {F} {CAROL} lr")),
    "DELETEACL": ("a", said(f"DELETEACL {F} {CAROL}")),
    "LISTRIGHTS": ("a", said(f"LISTRIGHTS {F} {CAROL}")),
}
"""What each needs, and how one sees that it was done."""
