"""Who sees what (rules 14, 15, 25), over search, count, view and reading alike."""

from __future__ import annotations

import pytest

from hornetmail.core.archive.archived import QueryError, Refused
from hornetmail.core.mail.envelope import Direction
from hornetmail.core.served import Scope
from hornetmail.testing.archives import ADMIN, AUDITOR, item, mail, user
from tests.archive.cases import ArchiveCase

ALICE = user("alice@example.test")
BOB = user("bob@example.test")
CAROL = user("carol@example.test")


class Rights(ArchiveCase):
    async def test_forged_from_opens_nothing(self) -> None:
        """Catches rights that come from a header or an unauthenticated reverse-path."""
        archive = await self.fresh()
        await self.put(archive, mail("forged", sender="carol@example.test", to="carol@example.test"), sender="carol@example.test")
        await archive.flush()
        hit = await self.only(archive, "forged", BOB)
        assert await self.total(archive, "", CAROL) == 0
        for call in (archive.mail(CAROL, hit.id), archive.read(CAROL, hit.id)):
            with pytest.raises(KeyError):
                await call

    async def test_bcc_is_hidden_from_others(self) -> None:
        """Catches a Bcc recipient who shows in another recipient's hits, counts, searches or view, or who cannot find his own mail."""
        archive = await self.fresh()
        await self.put(
            archive,
            mail("Plan", "the plan"),
            sender="alice@example.test",
            login="alice@example.test",
            recipients=("bob@example.test", "carol@example.test"),
        )
        await archive.flush()
        for query in ("carol", "to:carol", "to:carol@example.test", "car*", "plan carol", '"carol example"'):
            assert await self.total(archive, query, BOB) == 0, query
            assert await self.total(archive, query, ALICE) == 1, query
            assert await self.total(archive, query, CAROL) == 1, query
            assert await self.total(archive, query, AUDITOR) == 1, query
            assert await self.total(archive, query, Scope(0, None)) == 0, query
        assert await self.total(archive, "plan -carol", BOB) == 1
        bobs = await self.only(archive, "plan", BOB)
        assert bobs.recipients == ("bob@example.test",)
        seen = await archive.mail(BOB, bobs.id)
        assert (seen.recipients, seen.login) == (("bob@example.test",), "")
        assert (await archive.mail(CAROL, bobs.id)).recipients == ("bob@example.test", "carol@example.test")
        assert (await archive.mail(ALICE, bobs.id)).recipients == ("bob@example.test", "carol@example.test")
        assert (await archive.mail(AUDITOR, bobs.id)).login == "alice@example.test"
        assert (await archive.mail(ADMIN, bobs.id)).recipients == ("bob@example.test",)

    async def test_undisclosed_recipients_do_not_see_each_other(self) -> None:
        """Catches two Bcc recipients of one mail who learn of each other."""
        archive = await self.fresh()
        await self.put(archive, mail("Circular", to="list@else.test"), recipients=("bob@example.test", "carol@example.test"))
        await archive.flush()
        hit = await self.only(archive, "circular", BOB)
        assert "carol@example.test" not in hit.recipients
        assert await self.total(archive, "to:carol", BOB) == 0
        assert await self.total(archive, "to:bob", BOB) == 1

    async def test_a_users_words_cannot_reach_the_rights(self) -> None:
        """Catches a query that breaks out of its quotes into the index's own language."""
        archive = await self.fresh()
        await self.put(archive, mail("Private", "nothing for carol"))
        await archive.flush()
        for query in (
            '" OR rights : "x',
            "rights:x",
            '") OR ("x',
            "x",
            "NEAR(a b)",
            "{rights}:x",
            "a) OR (rights : x",
            "ha",
            "*",
        ):
            try:
                assert await self.total(archive, query, CAROL) == 0, query
            except QueryError:
                pass

    async def test_tenants_are_apart(self) -> None:
        """Catches a search, or a duplicate, that crosses tenants (rules 13, 25)."""
        archive = await self.fresh()
        raw = mail("Shared bytes")
        await self.put(archive, raw, tenant=1)
        await self.put(archive, raw, tenant=2)
        await archive.flush(seal=True)
        assert await self.total(archive, "shared") == 2
        assert await self.total(archive, "shared", Scope(1, None)) == 1
        assert await self.total(archive, "shared", user("bob@example.test", tenant=2)) == 1
        assert await self.total(archive, "shared", user("bob@example.test", tenant=3)) == 0
        assert len({p.parent.parent.name for p in self.packs()}) == 2

    async def test_administrator_by_headers_only(self) -> None:
        """Catches content, or a subject that is not set free, reaching an administrator (rule 15)."""
        archive = await self.fresh()
        await self.put(archive, mail("Secretsubject", "secretbody"))
        await archive.flush()
        for query in ("secretbody", "secretsubject"):
            assert await self.total(archive, query, ADMIN) == 0
        with pytest.raises(QueryError):
            await archive.search(ADMIN, "subject:secretsubject")
        hit = await self.only(archive, "to:bob from:alice size>10", ADMIN)
        assert hit.subject == ""
        assert (await archive.mail(ADMIN, hit.id)).text == ""
        with pytest.raises(Refused):
            await archive.read(ADMIN, hit.id)
        free = Scope(0, None, content=False, subjects=True)
        assert (await self.only(archive, "secretsubject", free)).subject == "Secretsubject"
        assert await self.total(archive, "secretbody", free) == 0

    async def test_what_was_not_looked_into_is_told(self) -> None:
        """Rule 15: would catch a search that finds nothing by words of a text, with rights that do not reach it, and does not say that it did not look there."""
        archive = await self.fresh()
        headers = Scope(0, None, content=False, subjects=True)
        for query in ("secretbody", "from:x -secretbody", "from:x (to:y OR (a secretbody))", '"a b"'):
            assert (await archive.search(headers, query)).closed == ("content",), query
            assert (await archive.search(ADMIN, query)).closed == ("subject", "content"), query
            for scope in (BOB, AUDITOR):
                assert (await archive.search(scope, query)).closed == (), query
        for query in ("", "from:x", "to:(x OR y)", "subject:x", "has:attachment date:2026", "-direction:in"):
            assert (await archive.search(headers, query)).closed == (), query

    async def test_list_mail_is_found_by_the_mailbox_that_got_it(self) -> None:
        """C16: would catch an administrator who cannot find, for somebody who lost it, the mail of a list, which names nobody; and one who learns whom people here wrote Bcc, by search or by count."""
        archive = await self.fresh()
        await self.put(archive, mail("Digest", to="dev@lists.test"), recipients=("bob@example.test",))
        await self.put(
            archive,
            mail("Plan", sender="alice@example.test", to="x@else.test"),
            sender="alice@example.test",
            login="alice@example.test",
            recipients=("x@else.test", "bob@example.test"),
            direction=Direction.INTERNAL,
        )
        await archive.flush()
        for query in ("to:bob@example.test", "<Bob@example.test>", "date:2026-05-28 to:bob@example.test"):
            hit = await self.only(archive, query, ADMIN)
            assert hit.recipients == ("dev@lists.test",)
        for query in (
            "to:bob",
            "bcc:bob@example.test",
            "from:bob@example.test",
            "to:carol@example.test",
            "to:bob@example.test* x",
        ):
            assert await self.total(archive, query, ADMIN) == 0, query
        assert await self.total(archive, "to:bob@example.test", Scope(0, None)) == 0
        assert await self.total(archive, "to:bob@example.test", AUDITOR) == 2

    async def test_more_rights_see_no_less(self) -> None:
        """A41: would catch a revisor, or an administrator, who finds by his own address, or by whom he wrote Bcc himself, less than everybody does, or does not see those recipients."""
        archive = await self.fresh()
        await self.put(archive, mail("Digest", to="dev@lists.test"), recipients=("bob@example.test", "carol@example.test"))
        await self.put(
            archive,
            mail("Plan", sender="bob@example.test", to="x@else.test"),
            sender="bob@example.test",
            login="bob@example.test",
            recipients=("x@else.test", "carol@example.test"),
        )
        await archive.flush()
        own = frozenset({"bob@example.test"})
        queries = ("to:bob", "bcc:bob", "bob digest", "carol plan", "to:carol", "bcc:carol", "to:carol digest")
        plain = {query: await self.total(archive, query, BOB) for query in queries}
        assert list(plain.values()) == [1, 1, 1, 1, 1, 1, 0]
        more = Scope(1, None, own=own), Scope(1, None, content=False, own=own)
        for scope in more:
            for query, count in plain.items():
                assert await self.total(archive, query, scope) == count, (scope, query)
            assert (await self.only(archive, "plan", scope)).recipients == ("x@else.test", "carol@example.test")
            assert (await self.only(archive, "digest", scope)).recipients == ("dev@lists.test", "bob@example.test")

    async def test_owner_of_imported_mail(self) -> None:
        """Catches an import whose owner cannot find it (A17)."""
        archive = await self.fresh()
        self.row += 1
        await self.put(archive, mail("Old"), item(self.row, sender="", recipients=(), owners=("Carol@Example.test",)))
        await archive.flush()
        assert await self.total(archive, "old", CAROL) == 1
        assert await self.total(archive, "old", BOB) == 0

    async def test_nobody_sees_nothing(self) -> None:
        """Catches an empty set of addresses that means everything."""
        archive = await self.fresh()
        await self.put(archive, mail())
        await archive.flush()
        assert await self.total(archive, "", Scope(1, frozenset())) == 0
