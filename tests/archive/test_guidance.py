"""Facets, suggestions and another word: of use, and never of mail that is not one's own."""

from __future__ import annotations

from hornetmail.core.archive.guidance import FAR, Count, distance, nearest
from hornetmail.testing.archives import ADMIN, AUDITOR, NOW, mail, user
from tests.archive.cases import ArchiveCase

BOB = user("bob@example.test")
CAROL = user("carol@example.test")
DAY = 86_400.0


def with_file(subject: str, name: str, to: str) -> bytes:
    return (
        f"From: Alice <alice@example.test>\r\nTo: {to}\r\nSubject: {subject}\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsee\r\n"
        f'--b\r\nContent-Disposition: attachment; filename="{name}"\r\nContent-Type: application/octet-stream\r\n\r\nx\r\n--b--\r\n'
    ).encode()


def test_words_that_are_near() -> None:
    """Catches a slip that is not seen as one, and words that are taken for another though they are two words."""
    for one, other, far in (
        ("invoice", "invioce", 1),
        ("invoice", "invoce", 1),
        ("a", "abcdef", FAR),
        ("offer", "other", 2),
        ("same", "same", 0),
    ):
        assert distance(one, other) == distance(other, one) == far
    assert nearest("invioce", ["invoice", "invite", "voice"]) == "invoice"
    assert nearest("ofer", ["offer", "over", "offer"]) == "offer", "the more frequent"
    assert nearest("plan", ["plan", "travel"]) == ""
    assert nearest("plam", ["clay"]) == ""


class Guidance(ArchiveCase):
    async def test_facets(self) -> None:
        """Catches figures that are those of other mail than the search finds."""
        archive = await self.fresh()
        for n in range(5):
            name = "a.pdf" if n < 3 else "b.zip"
            to = "bob@example.test" if n % 2 else "Carol <carol@example.test>"
            await self.put(archive, with_file(f"Offer {n}", name, to), received=NOW + 40 * n * DAY)
        await self.put(archive, mail("Other"), received=NOW)
        await archive.flush()
        found = await archive.guidance(AUDITOR, "offer")
        assert found.looked == 5
        assert found.types == (Count("pdf", 3), Count("zip", 2))
        assert [one.mails for one in found.months] == [1] * 5
        assert [one.value for one in found.months] == sorted((one.value for one in found.months), reverse=True)
        assert found.people[0].mails == 5
        for person in found.people:
            assert await self.total(archive, f'offer (from:"{person.value}" OR to:"{person.value}")') == person.mails
        for kind in found.types:
            assert await self.total(archive, f"offer type:{kind.value}") == kind.mails
        for month in found.months:
            assert await self.total(archive, f"offer date:{month.value}") == month.mails

    async def test_another_word(self) -> None:
        """Catches a word that finds nothing and nobody helps, and one that finds something and is taken for another."""
        archive = await self.fresh()
        await self.put(archive, mail("Invoice for Miriam", "paid", sender="Miriam <miriam@example.test>"))
        await archive.flush()
        assert (await archive.guidance(AUDITOR, "invioce paid")).meant == "invoice paid"
        assert (await archive.guidance(AUDITOR, "from:mirjam")).meant == "from:miriam"
        assert (await archive.guidance(AUDITOR, "invoice nothing")).meant == ""
        assert (await archive.guidance(AUDITOR, "invoice")).meant == ""

    async def test_people(self) -> None:
        """Catches a name that is known and not suggested, and one that is suggested before those of most mail."""
        archive = await self.fresh()
        for n in range(3):
            await self.put(archive, mail(f"M{n}", sender="Miriam Weber <miriam@example.test>"), received=NOW + n)
        await self.put(archive, mail("M", sender="Mirko <mirko@example.test>"), received=NOW + 9)
        await archive.flush()
        assert await archive.suggestions(BOB, "mir") == ("Miriam Weber <miriam@example.test>", "Mirko <mirko@example.test>")
        assert await archive.suggestions(BOB, "miriam web") == ("Miriam Weber <miriam@example.test>",)
        assert await archive.suggestions(BOB, "zzz") == await archive.suggestions(BOB, " ") == ()

    async def test_nothing_of_mail_of_others(self) -> None:
        """Catches a word, a person, a file or a count of mail that one may not see: by suggestion, facet or another word; hidden recipients and, for administrators, what mail says included."""
        archive = await self.fresh()
        await self.put(archive, with_file("Zeppelin merger", "secret.pdf", "bob@example.test"), recipients=("bob@example.test",))
        await self.put(
            archive,
            mail("Picnic", "the meadow", to="bob@example.test"),
            recipients=("bob@example.test", "carol@example.test", "wilhelmine@example.test"),
            login="alice@example.test",
        )
        await self.put(archive, mail("Lunch", "noon", to="carol@example.test"), recipients=("carol@example.test",))
        await archive.flush()
        carols = await archive.guidance(CAROL, "")
        assert carols.looked == 2
        assert carols.types == ()
        for query in ("zepelin", "merfer", "subject:zeppelim", "from:wilhelmime", "to:wilhelmime"):
            assert (await archive.guidance(CAROL, query)).meant == "", query
        for text in ("wil", "zep", "mer"):
            assert await archive.suggestions(CAROL, text) == await archive.suggestions(BOB, text) == (), text
        bobs = await archive.guidance(BOB, "")
        assert not [one for one in (*carols.people, *bobs.people) if "wilhelmine" in one.value]
        assert [one for one in (await archive.guidance(user("alice@example.test"), "")).people if "wilhelmine" in one.value]
        headers_only = await archive.guidance(ADMIN, "from:alice")
        assert headers_only.types == ()
        assert (await archive.guidance(ADMIN, "from:alyce")).meant == "from:alice"
