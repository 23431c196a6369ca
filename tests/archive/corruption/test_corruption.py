"""See the package."""

from __future__ import annotations

import base64
import hashlib
import random
import shutil
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hornetmail.archive.archive import Archive
from hornetmail.archive.care.copies.mirror import Mirror, Sources, take_mirror
from hornetmail.archive.care.copies.repair import Repair
from hornetmail.archive.media.directory import DirectoryPlace
from hornetmail.archive.media.medium import Identity
from hornetmail.archive.media.roster import Media
from hornetmail.archive.store.packs import open_pack
from hornetmail.archive.store.records import Kind, RecordCodec
from hornetmail.core.archive.archived import ArchiveError, Finding
from hornetmail.core.delivery.backoff import DAY
from hornetmail.disk.files import Disk
from hornetmail.testing.archives import AUDITOR, FOLLOWER, ROOT, directory_medium, item, mail
from tests.archive.cases import told
from tests.archive.corruption.wrecking import WRECKERS, Wreck
from tests.archive.test_backup import offload
from tests.archive.test_stamping import StampCase

READER = Path(__file__).parents[3] / "etc" / "read_archive.py"
SHORT = 20
"""Damages of a short run."""


class Kept:
    """What was put into the archive: bytes by subject, and where each lies: pack, span, and those of the parts that it uses."""

    def __init__(self) -> None:
        self.mails: dict[str, bytes] = {}
        self.places: dict[str, list[tuple[str, int, int]]] = {}


def attached(subject: str, block: bytes) -> bytes:
    """A mail with an attachment that is large enough to be shared."""
    encoded = base64.encodebytes(block).replace(b"\n", b"\r\n").rstrip()
    head = mail(subject).partition(b"\r\n\r\n")[0].replace(b"text/plain; charset=utf-8", b"multipart/mixed; boundary=b")
    return head + b"\r\n\r\n--b\r\n\r\ntext\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n" + encoded + b"\r\n--b--\r\n"


class CorruptionCase(StampCase):
    """Builds an archive once: two media, packs of two months, shared attachments, second arrivals, a deletion, a legal hold, stamps, a mirror; then works on copies."""

    def opened(self) -> Media:
        return Media([directory_medium(n, self.top / name) for n, name in ((1, "medium"), (2, "second"))], 1)

    async def whole(self) -> Kept:
        """The archive below ``self.top``, stopped."""
        self.use(self.authority())
        archive = await self.fresh(media=self.opened(), **self.more())
        second = archive.media.any(2)
        second.claim(archive.keys.current().archive)
        archive.keys.publish(second)
        kept, chance = Kept(), random.Random(7)
        block = chance.randbytes(9000)

        async def arrive(subject: str, raw: bytes, **more: Any) -> None:
            kept.mails[subject] = raw
            await self.put(archive, raw, received=self.clock.now, **more)

        for n in range(6):
            await arrive(f"plain{n}", mail(f"plain{n}", f"word{n} " * chance.randint(1, 90)))
        for n in range(3):
            await arrive(f"shared{n}", attached(f"shared{n}", block))
        await self.put(archive, kept.mails["plain1"], item(700, received=self.clock.now, recipients=("carol@example.test",)))
        await archive.flush(seal=True)
        for n in range(4):
            await arrive(f"longer{n}", mail(f"longer{n}", f"other{n} " * 30), retention_days=4000)
        await self.put(archive, mail("gone"), received=self.clock.now)
        await archive.flush(seal=True)
        await archive.keeping.hold(1, "case", "an auditor", query="plain0")
        gone = await self.only(archive, "subject:gone")
        await archive.keeping.delete(1, [int(gone.id)], "an officer", "asked for")
        await archive.stamps.stamp()
        archive.media.change([archive.media.any(1), archive.media.any(2)], 2, frozenset(), {})
        for n in range(4):
            await arrive(f"second{n}", mail(f"second{n}", f"more{n} " * 40))
        await archive.flush(seal=True)
        await archive.stamps.stamp()
        assert await archive.verify(full=True) == ()
        self.locate(archive, kept)
        await self.mirror_of(archive)[0].run(self.mirror_of(archive)[1], self.clock.now)
        await archive.stop()
        shutil.copytree(self.top, self.top.with_name("template"))
        return kept

    def mirror_of(self, archive: Archive) -> tuple[Mirror, Any]:
        target = take_mirror(DirectoryPlace(self.top / "mirror", Disk()), archive.keys.current().archive, FOLLOWER)
        return Mirror(self.sources(archive)), target

    def sources(self, archive: Archive) -> Sources:
        return Sources(archive.media, archive.keys, archive.index, offload)

    def locate(self, archive: Archive, kept: Kept) -> None:
        """By opening the packs: what each mail needs."""
        codec = RecordCodec(archive.keys.current)
        subjects = {hashlib.sha256(raw).digest(): subject for subject, raw in kept.mails.items()}
        for path in self.packs_of("medium", "second"):
            data = path.read_bytes()
            members = open_pack(data, archive.keys.current()).members
            spans = {m.record: (path.name, m.offset - 4, m.offset + m.length) for m in members}
            for member in members:
                if member.kind == Kind.MESSAGE:
                    meta = codec.open_mail(data[member.offset : member.offset + member.length])[1]
                    if meta.sha256 in subjects:
                        needs = (member.record, *(stretch.part for stretch in meta.stretches if stretch.part))
                        kept.places[subjects[meta.sha256]] = [spans[record] for record in needs]

    def packs_of(self, *media: str) -> list[Path]:
        return [path for medium in media for path in sorted((self.top / medium / "packs").rglob("*.pack"))]

    def anew(self) -> None:
        """As it was before any damage."""
        shutil.rmtree(self.top)
        shutil.copytree(self.top.with_name("template"), self.top)

    async def begun(self) -> Archive:
        return await self.reopened(media=self.opened(), **self.more())

    def kinds(self) -> dict[str, list[Path]]:
        """All files that are not derived, by what they are."""
        media = [self.top / "medium", self.top / "second"]
        return {
            "pack": self.packs_of("medium", "second"),
            "journal": [p for m in media for p in sorted(m.glob("journal/**/*.pack"))],
            "run": [p for m in media for p in sorted(m.glob("leaves/**/*.run"))],
            "stamp": [p for m in media for p in sorted(m.glob("stamps/**/*.stamp"))],
            "stamp here": sorted((self.top / "archive" / "stamps").glob("*.stamp")),
            "keyring": [m / "keyring" for m in media],
            "leaf log": sorted((self.top / "archive" / "leaves").glob("*.log")),
            "identity": [m / "medium" for m in media],
        }

    # -- what is looked at

    async def readable(self, archive: Archive, kept: Kept) -> set[str]:
        """The subjects of mails that are found and opened, each byte for byte; AssertionError if one comes out as something else."""
        found = set()
        page = await archive.search(AUDITOR, "", limit=200)
        for hit in page.results:
            try:
                raw = await archive.read(AUDITOR, hit.id)
            except ArchiveError:
                continue
            if hit.subject == "gone":
                assert raw == mail("gone")
                continue
            assert raw == kept.mails[hit.subject], f"{hit.subject} came out otherwise than it went in"
            found.add(hit.subject)
        return found

    def may_lose(self, kept: Kept, wreck: Wreck) -> set[str]:
        """Mails that have lost bytes of their own."""
        name = wreck.path.name
        return {
            subject
            for subject, places in kept.places.items()
            if any(pack == name and wreck.touches(first, last) for pack, first, last in places)
        }

    def away(self, kept: Kept, wreck: Wreck) -> set[str]:
        """Mails on the medium that cannot be known any more."""
        packs = {path.name for path in self.packs_of(wreck.path.parent.name)}
        return {subject for subject, places in kept.places.items() if any(pack in packs for pack, _, _ in places)}

    async def judge(self, kept: Kept, kind: str, wrecks: Sequence[Wreck]) -> None:
        """Start, verify, read, follow with the mirror, repair from it, rebuild, read again."""
        everything = set(kept.mails)
        lost = set().union(*(self.may_lose(kept, one) for one in wrecks)) if kind == "pack" else set()
        if kind == "identity":
            lost = set().union(*(self.away(kept, one) for one in wrecks))
        self.alarms.clear()
        archive = await self.begun()
        found = await archive.verify(full=True)
        for one in wrecks:
            assert self.named(kind, one, found) or self.mended(kept, kind, one), f"not named by verify: {found}"
        before = await self.readable(archive, kept)
        if not any(one.moved for one in wrecks):
            assert before >= everything - lost, f"lost {everything - lost - before}"
        if kind in MIRRORED:
            await self.mirrored(archive, kept, wrecks)
        findings = await archive.rebuild()
        after = await self.readable(archive, kept)
        assert after >= everything - lost, f"lost with the rebuild: {everything - lost - after}"
        again = await archive.verify(full=True)
        for one in wrecks if kind not in MENDED else ():
            assert self.named(kind, one, (*findings, *again)) or self.mended(kept, kind, one), (
                f"named no more after the rebuild: {(*findings, *again)}"
            )
        if kind == "keyring":
            assert [one.mended for one in await Repair(self.sources(archive), self.mirror_of(archive)[1], False).run()] == [
                True
            ] * len(wrecks)
            again = await archive.verify(full=True)
        if kind in MENDED:
            assert not again, f"not mended by a rebuild: {again}"
        await archive.stop()

    async def mirrored(self, archive: Archive, kept: Kept, wrecks: Sequence[Wreck]) -> None:
        """The mirror stays as it was; what it repairs is whole; then the damage is there again."""
        mirror, target = self.mirror_of(archive)
        damaged = {one.path: one.path.read_bytes() if one.path.exists() else None for one in wrecks}
        try:
            await mirror.run(target, self.clock.now)
        except ArchiveError as error:
            assert any(path.name in str(error) for path in damaged)
        template = self.top.with_name("template")
        for path in damaged:
            name = path.relative_to(self.top / path.relative_to(self.top).parts[0])
            assert (self.top / "mirror" / name).read_bytes() == (template / "mirror" / name).read_bytes(), "damage was followed"
        repaired = await Repair(self.sources(archive), target, True).run()
        assert [one.mended for one in repaired] == [True] * len(damaged), repaired
        assert await archive.verify(full=True) == ()
        assert await self.readable(archive, kept) == set(kept.mails)
        for path, data in damaged.items():
            if data is not None:
                path.write_bytes(data)
                continue
            for medium in ("medium", "second"):  # what is nowhere comes to the active one
                again = self.top / medium / path.relative_to(self.top / path.relative_to(self.top).parts[0])
                if again == path or not (template / again.relative_to(self.top)).exists():
                    again.unlink(missing_ok=True)

    def reader(self, kept: Kept, wrecks: Sequence[Wreck]) -> None:
        """The program that knows nothing but the documents names what is damaged, and goes on."""
        key, out = self.top / "archive-root.key", self.top / "out"
        key.write_text(f"hornetmail-root-1 {ROOT.hex()} {zlib.crc32(ROOT):08x}\n")
        words = ("extract", self.top / "medium", self.top / "second", "--root", key, "--into", out)
        done = subprocess.run(
            [sys.executable, "-I", READER, *words], capture_output=True, text=True, cwd="/", timeout=60, check=False
        )
        assert done.returncode in (0, 1), done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        lost = set().union(*(self.may_lose(kept, one) for one in wrecks))
        read = {path.read_bytes() for path in out.rglob("*.eml")}
        assert read <= {*kept.mails.values(), mail("gone")}
        assert {raw for subject, raw in kept.mails.items() if subject not in lost} <= read, done.stderr

    def named(self, kind: str, wreck: Wreck, found: Sequence[Finding]) -> bool:
        """Whether somebody is told which thing is damaged: by verify, or by an alarm if the start has mended it."""
        name = wreck.path.name
        if kind == "leaf log":
            return "archive-leaves" in self.codes() or told(found, "leaf log")
        if kind == "run":
            return told(found, name) or told(found, "leaf log", "leaves differ")
        if kind == "keyring":
            return told(found, "keyring") or "archive-keyring" in self.codes()
        if kind == "identity":
            return told(found, "medium 1" if wreck.path.parent.name == "medium" else "medium 2")
        return told(found, name) or ("stamp" in kind and told(found, f"stamp {int(wreck.path.stem)}"))

    def mended(self, kept: Kept, kind: str, wreck: Wreck) -> bool:
        """What needs no name: where no stamp here reads, the start takes all from the media; a label that says the same; bytes behind the last record of a log are what a
        crash leaves, and are cut off; a pack of which nothing lives, and which is to go, is gone."""
        whole = (self.top.with_name("template") / wreck.path.relative_to(self.top)).read_bytes()
        if not wreck.path.exists():
            return kind == "pack" and not self.may_lose(kept, wreck)
        if kind == "identity":
            try:
                return msgspec.json.decode(wreck.path.read_bytes(), type=Identity) == msgspec.json.decode(whole, type=Identity)
            except ValueError:
                return False
        if kind == "leaf log":
            return wreck.moved and wreck.spans[0][1] > len(whole) and wreck.path.read_bytes().startswith(whole)
        return kind == "stamp here" and wreck.path.read_bytes() == whole

    async def damages(self, seed: int, count: int, at_once: int = 1) -> None:
        """So many, each kind of file with each way to damage it in turn; ``at_once``: files of the kind that are damaged together, at most."""
        kept = await self.whole()
        assert set(kept.places) == set(kept.mails)
        chance = random.Random(seed)
        pairs = [(kind, wrecker) for kind in self.kinds() for wrecker in WRECKERS]
        chance.shuffle(pairs)
        for turn in range(count):
            kind, wrecker = pairs[turn % len(pairs)]
            self.anew()
            files = self.kinds()[kind]
            wrecks = []
            for path in chance.sample(files, min(len(files), chance.randint(1, at_once))):
                others = [one for one in files if one != path and one.exists() and one.read_bytes() != path.read_bytes()]
                whole = path.read_bytes()
                wreck = wrecker(path, chance, others)
                if not path.exists() or path.read_bytes() != whole:
                    wrecks.append(wreck)
            about = (
                f"seed {seed}, turn {turn}: {kind}: {', '.join(f'{one.path.relative_to(self.top)} {one.what}' for one in wrecks)}"
            )
            try:
                if kind in MIRRORED and turn % 3 == 0:
                    self.reader(kept, wrecks)
                await self.judge(kept, kind, wrecks)
            except Exception as error:
                raise AssertionError(f"{about}: {error!r}") from error


MIRRORED = ("pack", "journal", "run", "stamp")
"""Kinds of which the mirror has each copy, and which the reader reads."""

MENDED = ("keyring", "leaf log", "stamp here")
"""Kinds that are taken from elsewhere: by the start, by a rebuild, or by a repair."""


class Short(CorruptionCase):
    async def test_damage_anywhere(self) -> None:
        """L3: catches damage that nobody names, that costs more than what was damaged, before or after a rebuild, that the mirror follows or cannot mend, or that comes
        out as mail."""
        await self.damages(1, SHORT)

    async def test_media_change_places(self) -> None:
        """Catches a medium that is believed because it lies where another one is expected: nothing is read from it, written to it, or missed for good."""
        kept = await self.whole()
        medium, second, aside = self.top / "medium", self.top / "second", self.top / "aside"
        for one, other in ((medium, aside), (second, medium), (aside, second)):
            one.rename(other)
        before = {path: path.read_bytes() for top in (medium, second) for path in top.rglob("*") if path.is_file()}
        archive = await self.begun()
        found = await archive.verify(full=True)
        assert told(found, "medium 1", "calls itself medium 2")
        assert told(found, "medium 2", "calls itself medium 1")
        assert await self.readable(archive, kept) == set()
        assert (await archive.search(AUDITOR, "")).total == len(kept.mails)
        mirror, target = self.mirror_of(archive)
        with pytest.raises(ArchiveError):
            await mirror.run(target, self.clock.now)
        assert before == {path: path.read_bytes() for top in (medium, second) for path in top.rglob("*") if path.is_file()}
        for one, other in ((medium, aside), (second, medium), (aside, second)):
            one.rename(other)
        assert await self.readable(archive, kept) == set(kept.mails)
        assert await archive.verify(full=True) == ()

    async def test_an_older_copy_of_a_medium(self) -> None:
        """Catches what a medium lacks, that was put back from a copy of last week, and that nobody misses, also after a rebuild; the mirror has it."""
        kept = await self.whole()
        newest = self.packs_of("second")[0]
        runs = sorted((self.top / "second").glob("leaves/**/*.run"))
        for path in (newest, *runs):
            path.unlink()
        archive = await self.begun()
        here = {subject for subject, places in kept.places.items() if places[0][0] != newest.name}
        found = await archive.verify(full=True)
        assert told(found, newest.name, "missing")
        assert told(found, "leaf log", "missing on the media")
        assert await self.readable(archive, kept) == here
        mirror, target = self.mirror_of(archive)
        await mirror.run(target, self.clock.now)
        assert {one.mended for one in await Repair(self.sources(archive), target, False).run()} == {True}
        assert await self.readable(archive, kept) == set(kept.mails)
        newest.unlink()
        findings = await archive.rebuild()
        assert told(findings, "4 arrivals", "records are missing")
        assert told(await archive.verify(full=True), "4 arrivals", "records are missing")
        assert await self.readable(archive, kept) == here

    async def test_objects_that_are_there_twice(self) -> None:
        """Catches mail that is found twice, or a rebuild that fails, because an object lies under another name, on another medium or under a month that is not its own."""
        kept = await self.whole()
        pack = self.packs_of("medium")[0]
        copies = [
            self.top / "second" / pack.relative_to(self.top / "medium"),
            pack.with_name(f"{'ab' * 16}.pack"),
            pack.parent.with_name("2031-07") / pack.name,
            pack.with_name(f"{pack.name}.bak"),
        ]
        for copy in copies:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(pack, copy)
        archive = await self.begun()
        found = await archive.verify(full=True)
        for copy in copies[:3]:
            assert told(found, copy.name, "does not know"), copy
        assert await self.readable(archive, kept) == set(kept.mails)
        await archive.rebuild()
        assert await self.readable(archive, kept) == set(kept.mails)
        assert (await archive.search(AUDITOR, "")).total == len(kept.mails)

    async def test_a_clock_that_is_wrong(self) -> None:
        """Rule 19: catches mail that goes because the clock of a start is years ahead, or behind, and an archive that needs mending once it is right again."""
        kept = await self.whole()
        right = self.clock.now
        for years in (-30, -6, 6, 30):
            self.clock.now = right + years * 365 * DAY
            archive = await self.begun()
            with pytest.raises(ArchiveError, match="until confirmed"):
                await archive.mark(self.clock.seconds())
            try:
                assert await archive.purge(self.clock.seconds()) == 0
            except ArchiveError as error:
                assert "until confirmed" in str(error)
            assert await self.readable(archive, kept) == set(kept.mails)
            await archive.stop()
        self.clock.now = right
        archive = await self.begun()
        assert await archive.verify(full=True) == ()
        assert await self.readable(archive, kept) == set(kept.mails)


@pytest.mark.long
@pytest.mark.timeout(3600)
class Long(CorruptionCase):
    timeout = 3600
    """Seconds that trial lets a test run."""

    async def test_many(self) -> None:
        """The same with other places, and with several files of a kind damaged together."""
        await self.damages(2, 300)

    async def test_many_together(self) -> None:
        """Catches a cost that is more than the sum."""
        await self.damages(3, 300, at_once=3)


def test_each_way_changes_what_it_says(tmp_path: Path) -> None:
    """Catches a way to damage that damages nothing, or elsewhere than it says: the test would pass for the wrong reason."""
    chance = random.Random(5)
    for turn in range(180):
        wrecker = WRECKERS[turn % len(WRECKERS)]
        data = chance.randbytes(chance.randint(40, 900))
        path, other = tmp_path / "a", tmp_path / "b"
        path.write_bytes(data)
        other.write_bytes(data[::-1])
        wreck = wrecker(path, chance, [other])
        now = path.read_bytes() if path.exists() else b""
        assert now != data, wreck
        for at in range(len(data)):
            if not wreck.moved and not wreck.touches(at, at + 1):
                assert now[at] == data[at], (wreck, at)
