"""Annotations (RFC 5464), over the door and the real portal."""

from __future__ import annotations

from hornetmail.core import metadata
from tests.peers.imap_lines import Lines
from tests.servers.imap.people import ALICE, BOB, CAROL, EVE, OTHERS, People, ok

F = f'"{OTHERS}{ALICE}/F"'


class Noted(People):
    """See ``People``."""

    async def test_set_and_read(self) -> None:
        """Sections 4.2, 4.3: would catch values that are lost, changed or of another case's entry; NIL that does not remove; the empty string taken for NIL; and bytes that a
        string cannot carry."""
        await self.start()

        def spoken(alice: Lines) -> None:
            assert b" METADATA" in alice.say("CAPABILITY")[0][0]
            assert alice.say("GETMETADATA INBOX /private/comment")[0] == [b"METADATA INBOX (/private/comment NIL)"]
            assert ok(alice.say('SETMETADATA INBOX (/Private/Comment "My \\"own\\"" /shared/comment "Ours" /shared/empty "")'))
            assert alice.say("GETMETADATA INBOX (/shared/COMMENT /private/comment /shared/empty)")[0] == [
                b'METADATA INBOX (/shared/comment "Ours" /private/comment "My \\"own\\"" /shared/empty "")'
            ]
            assert ok(alice.say("SETMETADATA inbox (/private/comment NIL)"))
            assert alice.say("GETMETADATA INBOX /private/comment")[0] == [b"METADATA INBOX (/private/comment NIL)"]
            assert ok(alice.say("SETMETADATA INBOX (/private/x ~{4+}\r\na\0\r\n)"))
            assert b"~{4}" in alice.say("GETMETADATA INBOX /private/x")[0][0]
            assert ok(alice.say('SETMETADATA "" (/private/comment "of the server")'))
            assert alice.say('GETMETADATA "" (/private/comment /shared/comment)')[0] == [
                b'METADATA "" (/private/comment "of the server" /shared/comment NIL)'
            ]
            assert alice.say('SETMETADATA "" (/shared/comment "x")')[1].startswith(b"NO [NOPERM]")
            assert alice.say("GETMETADATA Nowhere /private/comment")[1].startswith(b"NO [NONEXISTENT]")
            assert alice.say('SETMETADATA Nowhere (/private/comment "x")')[1].startswith(b"NO [NONEXISTENT]")

        await self.talk(spoken, ALICE)

    async def test_depth_and_size(self) -> None:
        """Sections 4.2.1, 4.2.2: would catch levels too many or too few, a neighbour whose name begins alike, and a value over MAXSIZE that is told, or not told of."""
        await self.start()

        def asked(alice: Lines) -> None:
            assert ok(alice.say('SETMETADATA INBOX (/private/a "1" /private/a/b "22" /private/a/b/c "333" /private/ab "4")'))

            def told(options: str) -> list[bytes]:
                said = alice.say(f"GETMETADATA {options}")
                assert ok(said)
                return said[0]

            assert told("(DEPTH 0) INBOX /private/a") == [b'METADATA INBOX (/private/a "1")']
            assert told("(DEPTH 1) INBOX /private/a") == [b'METADATA INBOX (/private/a "1" /private/a/b "22")']
            whole = [b'METADATA INBOX (/private/a "1" /private/a/b "22" /private/a/b/c "333")']
            assert told("(DEPTH infinity) INBOX /private/a") == whole
            assert told("INBOX (DEPTH infinity) (/private/a)") == whole, "as the examples write it"
            assert told("(DEPTH infinity) INBOX /private/none") == []
            said = alice.say("GETMETADATA (MAXSIZE 2 DEPTH infinity) INBOX /private/a")
            assert said[0] == [b'METADATA INBOX (/private/a "1" /private/a/b "22")']
            assert said[1].startswith(b"OK [METADATA LONGENTRIES 3]")
            assert len(told("(DEPTH infinity) INBOX (/private)")[0].split(b'"')) == 9

        await self.talk(asked, ALICE)

    async def test_limits(self) -> None:
        """Section 4.3: would catch a mailbox that can be filled with annotations without end, and half of a command that is refused."""
        await self.start()

        def filled(alice: Lines) -> None:
            long = metadata.VALUE_BYTES + 1
            said = alice.say(f'SETMETADATA INBOX (/private/a "x" /private/b {{{long}+}}\r\n{"x" * long})')
            assert said[1].startswith(b"NO [METADATA MAXSIZE %d]" % metadata.VALUE_BYTES)
            assert alice.say("GETMETADATA INBOX /private/a")[0] == [b"METADATA INBOX (/private/a NIL)"], "all or none"
            for n in range(metadata.ENTRIES):
                assert ok(alice.say(f'SETMETADATA INBOX (/private/n{n} "x")'))
            assert alice.say('SETMETADATA INBOX (/private/more "x")')[1].startswith(b"NO [METADATA TOOMANY]")
            assert ok(alice.say('SETMETADATA INBOX (/private/n0 NIL /private/more "x")')), "one goes, one comes"
            assert ok(alice.say('SETMETADATA INBOX (/shared/one "x")')), "those of everybody have room of their own"
            assert alice.say("SETMETADATA INBOX (" + " ".join(f"/private/o{n} NIL" for n in range(101)) + ")")[1].startswith(
                b"BAD"
            )

        await self.talk(filled, ALICE)

    async def test_hostile_names(self) -> None:
        """Section 3.2: would catch a name that is no entry's, and a conversation that ends by one."""
        await self.start()

        def said(alice: Lines) -> None:
            for name in (
                "comment",
                "/comment",
                "/private/",
                "/private//x",
                "/private/*",
                "/shared/a%",
                '"/private/a\tb"',
                "/privatex/a",
                "{11+}\r\n/private/\u00e4",
                f"/private/{'x' * 300}",
                "/private",
            ):
                assert alice.say(f'SETMETADATA INBOX ({name} "x")')[1].startswith(b"BAD"), name
            for rest in (
                "(DEPTH 2) INBOX /private/a",
                "(DEPTH 0 DEPTH 0) INBOX /private/a",
                "(MAXSIZE 99999999999) INBOX /private/a",
                "INBOX ()",
                "INBOX",
            ):
                assert alice.say(f"GETMETADATA {rest}")[1].startswith(b"BAD"), rest
            for rest in ("INBOX ()", "INBOX (/private/a)", 'INBOX /private/a "x"', "INBOX (/private/a ~{99999999+}\r\n"):
                if not rest.endswith("\n"):
                    assert alice.say(f"SETMETADATA {rest}")[1].startswith(b"BAD"), rest
            assert ok(alice.say('SETMETADATA INBOX ("/private/with space" "x")'))
            assert alice.say('GETMETADATA INBOX "/private/with space"')[0] == [b'METADATA INBOX ("/private/with space" "x")']

        await self.talk(said, ALICE)  # fmt: skip

    async def test_they_lie_with_the_folder(self) -> None:
        """Would catch annotations that are lost with a restart, with ``portal.db``, or with a rename; and some that a folder has of an earlier one of its name."""
        await self.start()

        def made(alice: Lines) -> None:
            assert ok(alice.say("CREATE F"))
            assert ok(alice.say('SETMETADATA F (/shared/comment "Ours" /private/comment "Mine")'))
            assert ok(alice.say("RENAME F G"))

        def still(alice: Lines) -> None:
            assert alice.say("GETMETADATA G (/shared/comment /private/comment)")[0] == [
                b'METADATA G (/shared/comment "Ours" /private/comment "Mine")'
            ]

        def anew(alice: Lines) -> None:
            assert ok(alice.say("DELETE G"))
            assert ok(alice.say("CREATE G"))
            assert alice.say("GETMETADATA (DEPTH infinity) G (/private /shared)")[0] == []

        await self.talk(made, ALICE)
        await self.ground.stop()
        await self.ground.start()
        await self.talk(still, ALICE)
        await self.ground.database.run(lambda cursor: cursor.execute("DELETE FROM portal_folders"))
        await self.ground.stop()
        await self.ground.start()
        await self.talk(still, ALICE)
        await self.talk(anew, ALICE)

    async def test_lines_that_are_not_understood(self) -> None:
        """Would catch a file that others wrote in taken for none, and its lines thrown away with the next change (rule 8e)."""
        kept = metadata.read(
            b"shared = /shared/a\n7 QQ== /private/b\nfuture line\n7 !!! /private/c\n7 QQ== /shared/no\n9 QQ== /other/x\n"
        )
        assert kept.of(7) == {"/shared/a": b"", "/private/b": b"A"}
        assert kept.of(8) == {"/shared/a": b""}
        after, changed = kept.change(1, 7, {"/private/b": None, "/shared/a": b"\0\n"})
        assert changed == ["/private/b", "/shared/a"]
        assert metadata.written(after) == (
            b"shared AAo= /shared/a\nfuture line\n7 !!! /private/c\n7 QQ== /shared/no\n9 QQ== /other/x\n"
        )

    async def test_in_shared_folders(self) -> None:
        """Section 3.3: would catch private entries of one person shown to another, shared ones that are not, and rights that are asked for otherwise than ``l`` with any of
        ``rswip``; nothing is told of a folder to who has no right on it, nor across tenants (rule 25)."""
        await self.start()

        def shared(alice: Lines, bob: Lines, eve: Lines) -> None:
            assert ok(alice.say("CREATE F"))
            assert ok(alice.say('SETMETADATA F (/shared/comment "Ours" /private/comment "Alice")'))
            both = "(/shared/comment /private/comment)"
            gone = bob.say(f'GETMETADATA {F[:-1]}G" {both}')[1]
            for command in (f"GETMETADATA {F} {both}", f'SETMETADATA {F} (/shared/comment "x")'):
                assert bob.say(command)[1] == gone
                assert eve.say(command)[1] == gone
            for rights in ("l", "lkxtea", "rswip"):
                assert ok(alice.say(f"SETACL F {BOB} {rights}"))
                assert not ok(bob.say(f"GETMETADATA {F} {both}")), rights
                assert not ok(bob.say(f'SETMETADATA {F} (/private/comment "x")')), rights
            for right in "rswip":
                assert ok(alice.say(f"SETACL F {BOB} l{right}"))
                assert ok(bob.say(f'SETMETADATA {F} (/private/comment "{right}")')), right
                assert bob.say(f"GETMETADATA {F} {both}")[0] == [
                    b'METADATA %b (/shared/comment "Ours" /private/comment "%b")' % (F.encode(), right.encode())
                ]
            assert ok(bob.say(f'SETMETADATA {F} (/shared/comment "Bob says")'))
            assert alice.say(f"GETMETADATA F {both}")[0] == [b'METADATA F (/shared/comment "Bob says" /private/comment "Alice")']
            assert not ok(bob.say(f'SETMETADATA "{OTHERS}" (/private/comment "x")'))

        await self.talk(shared, ALICE, BOB, EVE)

    async def test_who_said_enable_is_told(self) -> None:
        """Section 4.4.2: would catch a change by somebody else that is not told of, at once to who idles, with a value, to who may not know of it, or of others' private
        entries; and words to a client that did not ask for them."""
        await self.start()

        def told(alice: Lines, again: Lines, bob: Lines, carol: Lines) -> None:
            assert ok(alice.say("CREATE F"))
            assert ok(alice.say(f"SETACL F {BOB} lr"))
            for one in (again, bob, carol):
                assert one.say("ENABLE METADATA")[0] == [b"ENABLED METADATA"]
            assert ok(alice.say('SETMETADATA F (/shared/comment "new" /private/comment "hush")'))
            assert alice.say("NOOP")[0] == []
            news = again.say("NOOP")[0]
            assert sorted(news) == [b"METADATA F /private/comment", b"METADATA F /shared/comment"] or news == [
                b"METADATA F /private/comment /shared/comment"
            ]
            assert again.say("NOOP")[0] == [], "once"
            assert bob.say("NOOP")[0] == [b"METADATA %b /shared/comment" % F.encode()]
            assert carol.say("NOOP")[0] == []
            assert ok(alice.say('SETMETADATA F (/shared/comment "new")'))
            assert bob.say("NOOP")[0] == [], "nothing changed"
            bob._socket.sendall(b"i IDLE\r\n")
            assert bob._answer().startswith(b"+")
            assert ok(alice.say("SETMETADATA F (/shared/comment NIL)"))
            assert bob._answer() == b"* METADATA %b /shared/comment" % F.encode()
            bob._socket.sendall(b"DONE\r\n")
            assert bob._answer() == b"i OK IDLE done"
            assert ok(alice.say(f"DELETEACL F {BOB}"))
            assert ok(alice.say('SETMETADATA F (/shared/comment "last")'))
            assert bob.say("NOOP")[0] == [], "the right was taken back"

        await self.talk(told, ALICE, ALICE, BOB, CAROL)
