"""Attachments that are kept once, and come back byte for byte (rules 20, 21)."""

from __future__ import annotations

import base64
import contextlib
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornetmail.archive.archive import Archive
from hornetmail.archive.media.medium import MediumAway
from hornetmail.archive.media.roster import Media
from hornetmail.archive.store.packs import open_pack
from hornetmail.archive.store.parts import MIN_PART, split
from hornetmail.archive.store.records import Kind, Segment, base64_lines
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.testing.archives import AUDITOR, directory_medium, make_archive
from tests.archive.cases import ArchiveCase, told

BLOB = random.Random(1).randbytes(120_000)


def with_attachment(subject: str, encoded: bytes) -> bytes:
    return (
        f"From: a@x.test\r\nTo: bob@example.test\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n".encode()
        + b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nsee attached\r\n'
        + b'--b\r\nContent-Type: application/zip; name="a.zip"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        + encoded
        + b"\r\n--b--\r\n"
    )


def rejoined(raw: bytes) -> bytes:
    return b"".join(base64_lines(p.data) if p.kind == Segment.BASE64 else p.data for p in split(raw)) or raw


ENCODED = base64_lines(BLOB)
FORMS = {
    "lines of 76": ENCODED,
    "lines of 72": b"\r\n".join(base64.b64encode(BLOB)[i : i + 72] for i in range(0, 160_000, 72)),
    "one line": base64.b64encode(BLOB),
    "bare LF": ENCODED.replace(b"\r\n", b"\n"),
    "rubbish inside": ENCODED[:50_000] + b"!" + ENCODED[50_000:],
    "bad padding": ENCODED.rstrip(b"=") + b"A",
    "trailing blank lines": ENCODED + b"\r\n\r\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_split_is_exact(form: str) -> None:
    """Catches an encoding whose bytes are not the ones that came."""
    raw = with_attachment("x", FORMS[form])
    pieces = split(raw)
    assert sum(p.length for p in pieces) == len(raw)
    assert rejoined(raw) == raw
    wanted = Segment.BASE64 if form in ("lines of 76", "trailing blank lines") else Segment.SHARED
    assert wanted in {p.kind for p in pieces}


@settings(max_examples=60)
@given(
    st.lists(
        st.sampled_from(
            [b"base64", b"\r\n\r\n", b"\r\n--", b"\r\n", b"--b", ENCODED[: MIN_PART + 78], b"x" * (MIN_PART + 3), b"\n", b"="]
        ),
        max_size=25,
    )
)
def test_split_of_anything(pieces: list[bytes]) -> None:
    """Catches bytes lost or doubled at the seams, whatever a mail looks like."""
    raw = b"".join(pieces)
    assert rejoined(raw) == raw


def test_small_mail_is_not_split() -> None:
    """Catches a record for every little image."""
    assert split(with_attachment("x", ENCODED[: MIN_PART - 100])) == []


class Sharing(ArchiveCase):
    def stored(self) -> int:
        return sum(p.stat().st_size for p in (*self.packs(), *Path(self.top / "archive" / "staging").glob("*")))

    async def test_kept_once_within_a_group(self) -> None:
        """Catches an attachment stored for each of the mails that carry it, across seals and restarts; and one shared between tenants."""
        archive = await self.fresh()
        await self.put(archive, with_attachment("one", ENCODED))
        await self.put(archive, with_attachment("two", ENCODED))
        await archive.flush()
        await self.put(archive, with_attachment("three", ENCODED))
        await archive.flush(seal=True)
        await self.put(archive, with_attachment("four", ENCODED))
        await archive.stop()
        archive = await self.reopened()
        await self.put(archive, with_attachment("five", ENCODED))
        await archive.flush(seal=True)
        assert self.stored() < 1.3 * len(BLOB)
        assert await archive.verify(True) == ()
        await self.put(archive, with_attachment("six", ENCODED), tenant=2)
        await self.put(archive, with_attachment("seven", ENCODED), retention_days=300)
        await archive.flush(seal=True)
        assert 2.9 * len(BLOB) < self.stored() < 3.4 * len(BLOB)
        for hit in (await archive.search(AUDITOR, "")).results:
            assert await archive.read(AUDITOR, hit.id) == with_attachment(hit.subject, ENCODED)
            assert hit.attachments == 1
        assert await archive.verify(True) == ()

    async def test_rebuilt(self) -> None:
        """Catches shared parts that only the index knew of (L3)."""
        archive = await self.fresh()
        for subject in ("one", "two"):
            await self.put(archive, with_attachment(subject, ENCODED))
            await archive.flush(seal=True)
        await archive.stop()
        self.wipe_local()
        again = make_archive(self.clock, self.top)
        again.restore()
        await self.started(again)
        assert await again.rebuild() == ()
        for hit in (await again.search(AUDITOR, "")).results:
            assert await again.read(AUDITOR, hit.id) == with_attachment(hit.subject, ENCODED)
        await self.put(again, with_attachment("three", ENCODED))
        await again.flush(seal=True)
        assert self.stored() < 1.3 * len(BLOB)
        assert await again.verify(True) == ()

    async def test_lost_part_is_named(self) -> None:
        """Catches a reference to a part that is gone which verify does not follow (rule 21)."""
        archive = await self.fresh()
        await self.put(archive, with_attachment("one", ENCODED))
        await archive.flush(seal=True)
        first = self.packs()
        await self.put(archive, with_attachment("two", ENCODED))
        await archive.flush(seal=True)
        first[0].unlink()
        found = await archive.verify(True)
        assert told(found, first[0].name, "missing")
        assert told(found, "record", "has no packs/"), found
        hit = await self.only(archive, "two")
        with pytest.raises(ArchiveError):
            await archive.read(AUDITOR, hit.id)

    async def sealed(self, archive: Archive, subject: str) -> None:
        await self.put(archive, with_attachment(subject, ENCODED))
        await archive.flush(seal=True)

    async def readable(self, archive: Archive) -> set[str]:
        found = set()
        for hit in (await archive.search(AUDITOR, "")).results:
            with contextlib.suppress(ArchiveError):
                assert await archive.read(AUDITOR, hit.id) == with_attachment(hit.subject, ENCODED)
                found.add(hit.subject)
        return found

    async def test_new_mail_does_not_depend_on_what_does_not_read(self) -> None:
        """Catches new mail, whose bytes were all there, that shares an attachment with a record on a bad sector or in a lost pack and is unreadable from its first day on. What it brings mends the mail
        from before as well; a rebuild finds the same."""
        archive = await self.fresh()
        await self.sealed(archive, "one")
        (first,) = self.packs()
        data = first.read_bytes()
        part = next(m for m in open_pack(data, archive.keys.current()).members if m.kind == Kind.PART)
        at = part.offset + part.length // 2
        first.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert await self.readable(archive) == set()
        await self.sealed(archive, "two")
        assert await self.readable(archive) == {"one", "two"}
        assert self.stored() < 2.3 * len(BLOB)
        first.unlink()
        await self.sealed(archive, "three")
        assert await self.readable(archive) == {"two", "three"}, "the record of one is lost"
        assert self.stored() < 1.3 * len(BLOB)
        await archive.stop()
        self.wipe_local()
        again = make_archive(self.clock, self.top)
        again.restore()
        await self.started(again)
        await again.rebuild()
        assert await self.readable(again) == {"two", "three"}

    async def test_a_medium_that_hangs_is_asked_once(self) -> None:
        """Catches indexing that waits for a medium which does not answer once for each attachment that new mail shares; that mail needs it no more."""
        archive = await self.fresh()
        others = [base64_lines(random.Random(n).randbytes(50_000)) for n in range(4)]
        for n, other in enumerate(others):
            await self.put(archive, with_attachment(f"old{n}", other))
        await archive.flush(seal=True)
        [before] = self.packs()
        medium, asked = archive.media.active, []
        get = medium.get

        def hangs(name: str, *more: Any) -> bytes:
            asked.append(name)
            raise MediumAway("no answer in time")

        self.patch(medium, "get", hangs)
        for n, other in enumerate(others):
            await self.put(archive, with_attachment(f"new{n}", other))
        await archive.flush()
        assert len(asked) == 1
        self.patch(medium, "get", get)
        await archive.flush(seal=True)
        before.unlink()
        for n, other in enumerate(others):
            hit = await self.only(archive, f"new{n}")
            assert await archive.read(AUDITOR, hit.id) == with_attachment(f"new{n}", other)

    async def test_only_parts_on_the_active_medium_are_shared(self) -> None:
        """Rule 21: catches mail on one medium that goes when another is lost."""
        media = Media([directory_medium(number, self.top / name) for number, name in ((1, "medium"), (2, "second"))], 1)
        archive = await self.fresh(media=media)
        media.any(2).claim(archive.keys.current().archive)
        archive.keys.publish(media.any(2))
        await self.sealed(archive, "one")
        media.change([media.any(1), media.any(2)], 2, frozenset(), {})
        await self.sealed(archive, "two")
        await self.sealed(archive, "three")
        assert sum(p.stat().st_size for p in (self.top / "second").rglob("*.pack")) < 1.3 * len(BLOB)
        shutil.rmtree(self.medium)
        assert await self.readable(archive) == {"two", "three"}

    async def test_part_outlives_the_mail_that_brought_it(self) -> None:
        """Catches a purge that takes a part from mail that still needs it."""
        archive = await self.fresh()
        await self.put(archive, with_attachment("short", ENCODED), retention_days=1)
        await archive.flush(seal=True)
        await self.put(archive, with_attachment("long", ENCODED), retention_days=3)
        for n in range(30):
            await self.put(archive, f"Subject: other{n}\r\n\r\nx\r\n".encode(), retention_days=300)
        await archive.flush(seal=True)
        gone = 0
        for days in (1.5, 2.6):
            gone += (await self.night(archive, days))[1]
        assert gone == 1
        hit = await self.only(archive, "long")
        assert await archive.read(AUDITOR, hit.id) == with_attachment("long", ENCODED)
        assert await archive.verify(True) == ()
        assert await self.night(archive, 3.5) == (1, 0)
        assert await self.night(archive, 4.6) == (0, 1)
        await self.night(archive, 40)
        assert await archive.verify(True) == ()
        assert self.stored() < len(BLOB)
