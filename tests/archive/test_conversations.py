"""Conversations, holds and namesakes as searches, within the rights of whoever asks."""

from __future__ import annotations

import pytest

from hornetmail.archive.index.finding import search
from hornetmail.archive.index.query.language import parse_query
from hornetmail.core.archive.archived import QueryError
from hornetmail.db.engines import Cursor
from hornetmail.testing.archives import AUDITOR, NOW, mail, user
from tests.archive.cases import ArchiveCase

BOB = user("bob@example.test")
CAROL = user("carol@example.test")


def letter(name: str, *answers: str, reply_to: str = "") -> bytes:
    extra = f"Message-ID: <{name}@x>"
    if answers:
        extra += "\r\nReferences: " + " ".join(f"<{one}@x>" for one in answers)
    if reply_to:
        extra += f"\r\nIn-Reply-To: <{reply_to}@x>"
    return mail(f"Letter {name}", name, extra=extra)


class Conversations(ArchiveCase):
    async def test_in_whatever_order_they_come(self) -> None:
        """Catches an answer that comes before what it answers, or into another month of expiry, and is alone for ever."""
        letters = {
            "a": letter("a"),
            "b": letter("b", "a"),
            "c": letter("c", "a", "b"),
            "d": letter("d", reply_to="c"),
            "z": letter("z"),
        }
        for order in ("abcdz", "dcbaz", "cadbz", "zbdac"):
            self.top = self.top.with_name(f"{order}")
            archive = await self.fresh()
            for n, name in enumerate(order):
                await self.put(archive, letters[name], received=NOW + ord(name), retention_days=30 * (n + 1))
                await archive.flush()
            for name in "abcd":
                hit = await self.only(archive, f"subject:{name}")
                found = await archive.search(AUDITOR, f"thread:{hit.id}")
                assert [one.subject for one in found.results] == [f"Letter {one}" for one in "dcba"], (order, name)
                shown = (await archive.mail(AUDITOR, hit.id)).conversation
                assert [one.subject for one in shown] == [f"Letter {one}" for one in "abcd"]
            alone = await self.only(archive, "subject:z")
            assert (await archive.mail(AUDITOR, alone.id)).conversation == ()
            assert await self.total(archive, f"unterhaltung:{alone.id}") == 1

    async def test_only_what_one_may_see(self) -> None:
        """Catches mail of others that is shown because it is in the same conversation, and a conversation asked for by a mail of others."""
        archive = await self.fresh()
        await self.put(archive, letter("a"), recipients=("bob@example.test",))
        await self.put(archive, letter("b", "a"), recipients=("carol@example.test",), received=NOW + 1)
        await self.put(archive, letter("c", "a", "b"), recipients=("bob@example.test",), received=NOW + 2)
        await self.put(archive, letter("a2", "a"), recipients=("bob@example.test",), tenant=2)
        await archive.flush()
        bobs, carols = await self.only(archive, "subject:c", BOB), await self.only(archive, "subject:b", CAROL)
        assert [one.subject for one in (await archive.mail(BOB, bobs.id)).conversation] == ["Letter a", "Letter c"]
        assert (await archive.mail(CAROL, carols.id)).conversation == ()
        assert await self.total(archive, f"thread:{bobs.id}", BOB) == 2
        assert await self.total(archive, f"thread:{carols.id}", BOB) == 0
        assert await self.total(archive, f"thread:{carols.id} -subject:c") == 2
        assert await self.total(archive, "thread:99") == 0

    async def test_holds_and_namesakes(self) -> None:
        """Catches mail under a hold that a search for the hold does not find, or that is found when it was released; and who learns of holds that may not."""
        archive = await self.fresh()
        await self.put(archive, letter("a"))
        await self.put(archive, letter("b"), received=NOW + 1)
        await self.put(archive, mail("Letter a", "forged", extra="Message-ID: <a@x>"), received=NOW + 2)
        await archive.flush()
        hit = await self.only(archive, "subject:b")
        await archive.keeping.hold(1, "case 7", "auditor", identifiers=[hit.id])
        assert (await self.only(archive, 'hold:"case 7"')).id == hit.id
        assert await self.total(archive, 'sperre:"case 7" letter') == 1
        assert await self.total(archive, "hold:other") == 0
        assert await self.total(archive, "is:namesake") == 2
        for query in ('hold:"case 7"', "is:namesake"):
            with pytest.raises(QueryError, match="everybody's mail"):
                await archive.search(BOB, query)
        await archive.keeping.release(1, "case 7", "auditor")
        assert await self.total(archive, 'hold:"case 7"') == 0

    async def test_errors_say_where(self) -> None:
        """Catches a term that means nothing and is passed over in silence."""
        for query, where in (
            ("thread:x", "thread:x"),
            ("a OR thread:5", "thread:5"),
            ("-hold:x", "-hold:x"),
            ("is:odd", "is:odd"),
            ("hilo:", "hilo:"),
        ):
            with pytest.raises(QueryError, match=where):
                parse_query(query, NOW)

    async def test_questions_use_indices(self) -> None:
        """Catches a look for conversations, renditions, namesakes or holds that reads all mail: each of them is asked at every arrival, or for every page."""
        archive = await self.fresh()
        for n in range(3):
            await self.put(archive, letter(f"m{n}", "root"), received=NOW + n)
            await self.put(archive, letter(f"m{n}", "root") + b"more\r\n", received=NOW + n)
            await self.put(archive, letter(f"m{n}", "root").replace(b"Cc:", b"X:"), received=NOW + n)
        await archive.flush()
        hit = (await archive.search(AUDITOR, "")).results[0]

        def plans(cursor: Cursor) -> list[str]:
            seen: list[tuple[str, tuple[object, ...]]] = []

            class Watched:
                def execute(self, sql: str, params: tuple[object, ...] = ()) -> object:
                    if sql.startswith(("SELECT", "WITH")):
                        seen.append((sql, tuple(params)))
                    return cursor.execute(sql, params)

                def __getattr__(self, name: str) -> object:
                    return getattr(cursor, name)

            watched = Watched()
            for query in ("letter", f"thread:{hit.id}", "hold:x", "is:namesake", f"id:{hit.id}"):
                for after in ("", f"{1 << 60}-9"):
                    search.search_page(watched, AUDITOR, parse_query(query, NOW), 50, after)  # type: ignore[arg-type]
            row = search.find_mail(watched, AUDITOR, hit.id)  # type: ignore[arg-type]
            search.conversation(watched, AUDITOR, row)  # type: ignore[arg-type]
            search.namesakes(watched, AUDITOR, row)  # type: ignore[arg-type]
            return [
                f"{line[3]}: {sql}"
                for sql, params in seen
                for line in cursor.execute(f"EXPLAIN QUERY PLAN {sql}", params).fetchall()
                if line[3].startswith("SCAN") and "VIRTUAL TABLE" not in line[3]
            ]

        scans = await archive.standing.index().read(plans)
        few = (
            "SCAN month",
            "SCAN hold",
            "SCAN mail USING COVERING INDEX mail_rendition",
            "SCAN mail USING COVERING INDEX mail_marked",
            "SCAN mail USING INDEX mail_marked",
            "SCAN mail USING COVERING INDEX mail_namesake",
        )
        assert not [one for one in scans if not one.startswith(few)], scans
