"""The change of the root key (rule 22): three steps, media out of reach, papers that are too old, and what a crash leaves."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hornetmail.archive.archive import Archive
from hornetmail.archive.care.trust.rootkeys import Pending, PendingFile, RootKeys, settle
from hornetmail.archive.keys import paper
from hornetmail.archive.keys.keyring import KEYRING_NAME, KeyReplaced, Keyring, KeyTrouble, RootFile, new_root, root_id
from hornetmail.archive.keys.keystore import PREVIOUS_NAME, KeyStore
from hornetmail.archive.media.medium import MediumError
from hornetmail.archive.media.roster import Media
from hornetmail.core.archive.archived import ArchiveError, KeyRefused
from hornetmail.disk.files import Disk
from hornetmail.testing.archives import AUDITOR, ROOT, BytesBody, directory_medium, item, mail, make_archive
from hornetmail.testing.faulty_disk import FaultyDisk
from tests.archive.cases import ArchiveCase, told
from tests.archive.changing import OLD, PASSWORD, SERVER, Place, at_once, cheap_paper, check, now_done, secrets_of


@pytest.fixture(autouse=True)
def cheap() -> Iterator[None]:
    with cheap_paper():
        yield


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path / "whole")
    made.make()
    return made


def test_three_steps(place: Place) -> None:
    """Catches a new root that is used before its paper was read, and an old one that is still in use afterwards."""
    text = now_done(place.change.begin(PASSWORD))
    new = paper.restore(text, PASSWORD)
    assert place.change.state.pending == root_id(new).hex()
    assert new.hex() not in (place.top / "keys" / "archive-root.pending").read_bytes().hex()
    assert (place.top / "keys" / "archive-root.pending").stat().st_mode & 0o777 == 0o600
    assert Place(place.top).start() == OLD
    before = secrets_of(place.keys.current())
    state = now_done(place.change.confirm(text, PASSWORD))
    assert (state.key, state.pending, state.waiting) == (root_id(new).hex(), "", ())
    again = Place(place.top)
    assert again.start() == new
    assert secrets_of(again.keys.current()) == before
    for directory in ("archive", "medium1", "medium2"):
        with pytest.raises(KeyReplaced, match=f"{root_id(OLD).hex()} is older .* {root_id(new).hex()} is needed"):
            Keyring.from_bytes((place.top / directory / KEYRING_NAME).read_bytes(), OLD)
        assert not (place.top / directory / PREVIOUS_NAME).exists()


def test_only_its_own_paper_confirms(place: Place) -> None:
    """Catches a confirmation that proves nothing: the present key's paper, a wrong password, a slip, or rubbish."""
    with pytest.raises(KeyRefused, match="no root key is pending"):
        now_done(place.change.confirm("", ""))
    present = now_done(place.change.backup(PASSWORD))
    text = now_done(place.change.begin(PASSWORD))
    for given, password, why in (
        (present, PASSWORD, f"paper of root key {root_id(OLD).hex()}, not of"),
        (text, "something else", "password"),
        (text.replace("  ", "  0", 3), PASSWORD, "line"),
        ("", PASSWORD, "no key in this text"),
    ):
        with pytest.raises(KeyRefused, match=why):
            now_done(place.change.confirm(given, password))
    assert place.change.state.key == root_id(OLD).hex()
    assert Place(place.top).start() == OLD


def test_one_at_a_time_and_cancel(place: Place) -> None:
    """Catches a second new key that leaves the first one's paper without meaning, and a cancelled key that comes back at the next start."""
    with pytest.raises(KeyRefused, match="no root key is pending"):
        now_done(place.change.cancel())
    first = now_done(place.change.begin(PASSWORD))
    with pytest.raises(KeyRefused, match="pending already"):
        now_done(place.change.begin(PASSWORD))
    again = Place(place.top)
    again.start()
    assert again.change.state.pending
    with pytest.raises(KeyRefused, match="pending already"):
        now_done(again.change.begin(PASSWORD))
    now_done(again.change.cancel())
    assert again.change.state.pending == ""
    later = Place(place.top)
    later.start()
    assert later.change.state.pending == ""
    with pytest.raises(KeyRefused, match="no root key is pending"):
        now_done(later.change.confirm(first, PASSWORD))


def test_locked(place: Place) -> None:
    """Catches a change begun without the key that could finish it."""
    place.keys.open(None)
    with pytest.raises(KeyRefused, match="locked"):
        now_done(place.change.begin(PASSWORD))
    place.keys.open(OLD)
    text = now_done(place.change.begin(PASSWORD))
    place.keys.open(None)
    with pytest.raises(KeyRefused, match="locked"):
        now_done(place.change.confirm(text, PASSWORD))


def test_medium_out_of_reach(place: Place) -> None:
    """Catches a medium that was away during the change and is forgotten, also across a restart; the keys from before must stay until it is back."""
    text = now_done(place.change.begin(PASSWORD))
    away = place.top / "away"
    (place.top / "medium2").rename(away)
    assert now_done(place.change.confirm(text, PASSWORD)).waiting == (2,)
    again = Place(place.top)
    again.start()
    assert again.change.state.waiting == (2,)
    (place.top / "medium2").mkdir()  # where nothing is mounted
    assert "medium 2" in again.keys.publish_all(again.all)[0]
    assert list((place.top / "medium2").iterdir()) == []
    assert (place.top / "archive" / PREVIOUS_NAME).exists()
    assert (place.top / "medium1" / PREVIOUS_NAME).exists()
    (place.top / "medium2").rmdir()
    away.rename(place.top / "medium2")
    assert again.keys.publish_all(again.all) == []
    assert again.change.state.waiting == ()
    assert not list(place.top.rglob(PREVIOUS_NAME))
    assert (place.top / "medium2" / KEYRING_NAME).read_bytes() == (place.top / "archive" / KEYRING_NAME).read_bytes()


def test_changed_twice_while_a_medium_is_away(place: Place) -> None:
    """Catches a second change that loses what the first one still owed, and a first paper that is not known as older any more."""
    away = place.top / "away"
    (place.top / "medium2").rename(away)
    for _ in range(2):
        now_done(place.change.confirm(now_done(place.change.begin(PASSWORD)), PASSWORD))
    again = Place(place.top)
    again.start()
    assert again.change.state.waiting == (2,)
    away.rename(place.top / "medium2")
    assert again.keys.publish_all(again.all) == []
    with pytest.raises(KeyReplaced, match="is older"):
        Keyring.from_bytes((place.top / "medium2" / KEYRING_NAME).read_bytes(), OLD)
    assert not list(place.top.rglob(PREVIOUS_NAME))


def test_medium_taken_out_of_the_configuration(place: Place) -> None:
    """Catches a change that never ends because a medium was given up."""
    text = now_done(place.change.begin(PASSWORD))
    (place.top / "medium2").rename(place.top / "gone")
    now_done(place.change.confirm(text, PASSWORD))
    place.keys.known(frozenset({1}))
    assert place.keys.publish_all(place.all[:1]) == []
    assert not (place.top / "archive" / PREVIOUS_NAME).exists()
    assert place.change.state.waiting == ()


def test_newer_keyring_on_a_medium_is_not_replaced(place: Place) -> None:
    """Catches an old copy of the data directory, put back, that takes newer keys off the media: their mail would be lost."""
    shutil.copytree(place.top / "archive", place.top / "old")
    now_done(place.change.confirm(now_done(place.change.begin(PASSWORD)), PASSWORD))
    newest = (place.top / "medium1" / KEYRING_NAME).read_bytes()
    store = KeyStore(place.top / "old", Disk())
    store.open(OLD)
    with pytest.raises(MediumError, match="newer keyring"):
        store.publish(place.all[0])
    assert (place.top / "medium1" / KEYRING_NAME).read_bytes() == newest


def test_a_keyring_of_the_same_age_under_another_root_key(place: Place) -> None:
    """Catches a medium that takes no keys any more because it has those of a twin: a change of the root key that was made twice, on two copies of one directory."""
    shutil.copytree(place.top / "archive", place.top / "twin")
    now_done(place.change.confirm(now_done(place.change.begin(PASSWORD)), PASSWORD))
    ours = place.keys.current()
    twin = KeyStore(place.top / "twin", Disk())
    twin.open(OLD)
    while twin.current().serial < ours.serial:
        twin.ensure([(1, 2030 + twin.current().serial)])
    assert (twin.current().serial, twin.current().root != ours.root) == (ours.serial, True)
    theirs = (place.top / "medium1" / KEYRING_NAME).read_bytes()
    twin.publish(place.all[0])
    assert (place.top / "medium1" / PREVIOUS_NAME).read_bytes() == theirs, "either is kept"


def test_restoring_looks_at_every_medium(place: Place) -> None:
    """Catches an old paper that restores the keys of a medium that was away: mail of later keys would be unreadable, and be reported as damaged."""
    text = now_done(place.change.begin(PASSWORD))
    new = paper.restore(text, PASSWORD)
    shutil.copytree(place.top / "medium2", place.top / "copy")
    now_done(place.change.confirm(text, PASSWORD))
    shutil.rmtree(place.top / "medium2")
    (place.top / "copy").rename(place.top / "medium2")
    for order in (place.all, place.all[::-1]):
        with pytest.raises(KeyReplaced, match="is older"):
            KeyStore(place.top / "fresh", Disk()).restore(order, OLD)
        found = KeyStore(place.top / "fresh", Disk()).restore(order, new)
        assert found.root == root_id(new)
    # A copy made before, alone, still opens with the old paper: what the output says.
    assert KeyStore(place.top / "other", Disk()).restore(place.all[1:], OLD).root == root_id(OLD)
    with pytest.raises(KeyTrouble, match="belongs to root key"):
        KeyStore(place.top / "none", Disk()).restore(place.all, new_root())


def test_damaged_keyring_on_a_medium_during_the_change(place: Place) -> None:
    """Catches the keys from before that are kept and never used: a keyring damaged meanwhile leaves them as the only ones of a medium."""
    text = now_done(place.change.begin(PASSWORD))
    (place.top / "medium2").rename(place.top / "away")
    now_done(place.change.confirm(text, PASSWORD))
    (place.top / "medium1" / KEYRING_NAME).write_bytes(b"rubbish")
    assert KeyStore(place.top / "fresh", Disk()).restore(place.all[:1], OLD).root == root_id(OLD)


@pytest.mark.parametrize("operation", ["open", "write", "sync_file", "unlink"])
@pytest.mark.parametrize("ending", ["crash", "go on", "cancel"])
def test_disk_fails_at_each_step(place: Place, tmp_path: Path, operation: str, ending: str) -> None:
    """Catches a disk error that leaves an archive which neither key opens: after a crash, when the service goes on, when the change is dropped."""
    text = now_done(place.change.begin(PASSWORD))
    new = paper.restore(text, PASSWORD)
    secrets = secrets_of(place.keys.current())
    failed = 0
    while True:
        top = tmp_path / f"{failed}"
        shutil.copytree(place.top, top)
        disk = FaultyDisk()
        trial = Place(top, disk)
        trial.start()
        disk.fail(operation, errno.EIO, after=failed, partial=7)
        try:
            now_done(trial.change.confirm(text, PASSWORD))
        except ArchiveError:
            assert trial.change.state.pending or trial.change.state.key == root_id(new).hex()
        else:
            # A medium that fails is one that is out of reach.
            if not trial.change.state.waiting and not list(top.rglob("root-change")):
                break
        disk.heal()
        if ending == "go on":
            trial.keys.ensure([(3, 2027)])
            trial.keys.publish_all(trial.all)
            assert secrets_of(trial.keys.current()) == secrets
        if ending == "cancel" and trial.change.state.pending and trial.change.state.key == root_id(OLD).hex():
            now_done(trial.change.cancel())
            again = Place(top)
            assert again.start() == OLD
            assert secrets_of(again.keys.current()) == secrets
            assert again.change.state.waiting == ()
        else:
            check(top, text, secrets)
        shutil.rmtree(top)
        failed += 1
    assert failed >= (3 if operation == "unlink" else 10)


def test_killed_at_each_step(tmp_path: Path) -> None:
    """Catches a SIGKILL between two steps of the disk after which neither the old nor the new key opens the archive or a medium."""
    done = subprocess.run(
        [sys.executable, "-bb", "-m", "tests.archive.changing", tmp_path / "kills"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    kills, forward = map(int, done.stdout.split())
    assert kills > 60
    assert 10 < forward < kills - 10


def test_pending_key_of_another_server(place: Place) -> None:
    """Catches a start that fails over a pending key which cannot be opened: the key in force is another file."""
    now_done(place.change.begin(PASSWORD))
    path = place.top / "keys" / "archive-root.pending"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    again = Place(place.top)
    assert again.start() == OLD
    assert again.change.state.pending == ""


def test_settle_without_a_change(place: Place) -> None:
    """Catches a start without any pending key, locked or not, that is taken for something else."""
    keyring = place.top / "archive" / KEYRING_NAME
    assert settle(place.roots, place.pendings, keyring) == OLD
    (place.top / "keys" / "archive-root.key").unlink()
    assert settle(place.roots, place.pendings, keyring) is None
    place.pendings.write(Pending(new_root(), 1.0))
    assert settle(place.roots, place.pendings, keyring) is None
    assert settle(place.roots, place.pendings, place.top / "nothing") is None


class WholeArchive(ArchiveCase):
    """With mail in it."""

    def setUp(self) -> None:
        super().setUp()
        self.roots = RootFile(self.top / "keys" / "root", Disk())
        self.roots.write(ROOT)
        self.pendings = PendingFile(self.top / "keys" / "pending", Disk(), SERVER)

    def change_of(self, archive: Archive) -> RootKeys:
        return RootKeys(self.roots, self.pendings, archive.keys, archive.media, at_once, self.clock.seconds)

    async def changed(self, archive: Archive) -> bytes:
        change = self.change_of(archive)
        text = await change.begin(PASSWORD)
        await change.confirm(text, PASSWORD)
        return paper.restore(text, PASSWORD)

    async def test_mail_before_and_after(self) -> None:
        """Catches mail from before that is lost with the old root, and mail from after that the new one does not open; verify stays green."""
        archive = await self.fresh()
        await self.put(archive, mail("Before"))
        await archive.flush(seal=True)
        await self.put(archive, mail("Staged"))
        new = await self.changed(archive)
        await self.put(archive, mail("After"), received=1_830_000_000.0)
        assert await archive.verify(True) == ()
        await archive.flush(seal=True)
        assert await archive.verify(True) == ()
        await archive.stop()
        with pytest.raises(KeyReplaced):
            await make_archive(self.clock, self.top).start()
        again = await self.reopened(root=new)
        assert await again.verify(True) == ()
        await again.stop()
        self.wipe_local()
        with pytest.raises(KeyReplaced, match=f"{root_id(ROOT).hex()} is older"):
            make_archive(self.clock, self.top).restore()
        fresh = make_archive(self.clock, self.top, root=new)
        fresh.restore()
        await self.started(fresh)
        assert await fresh.rebuild() == ()
        for word in ("before", "staged", "after"):
            hit = await self.only(fresh, word)
            assert await fresh.read(AUDITOR, hit.id) == mail(word.capitalize())
        assert await fresh.verify(True) == ()

    async def test_sealed_while_locked(self) -> None:
        """Catches a private half that does not move along: mail that was sealed to its public half would be lost (rule 22)."""
        archive = await self.fresh()
        new = await self.changed(archive)
        await archive.stop()
        locked = await self.reopened(root=None)
        await locked.stage(item(1), BytesBody(mail("Sealed")))
        with pytest.raises(KeyReplaced):
            await locked.unlock(ROOT)
        await locked.unlock(new)
        await locked.flush(seal=True)
        assert (await self.only(locked, "sealed")).subject == "Sealed"
        assert await locked.verify(True) == ()

    async def test_verify_while_a_medium_waits(self) -> None:
        """Catches a medium that is back and not yet up to date told as damaged, and one that nobody waits for told as well."""

        def with_two(**more: Any) -> Archive:
            media = Media([directory_medium(n, self.top / f"m{n}") for n in (1, 2)], 1)
            return make_archive(self.clock, self.top, media=media, **more)

        archive = with_two(root=ROOT)
        archive.create()
        archive.media.any(2).claim(archive.keys.current().archive)
        assert archive.keys.publish_all(archive.media.all()) == []
        await self.started(archive)
        await self.put(archive, mail("Here"))
        await archive.flush(seal=True)
        (self.top / "m2").rename(self.top / "away")
        await self.changed(archive)
        (self.top / "away").rename(self.top / "m2")
        assert archive.keys.waiting == {2}
        assert await archive.verify(True) == ()
        before = (self.top / "m2" / KEYRING_NAME).read_bytes()
        assert archive.keys.publish_all(archive.media.all()) == []
        assert await archive.verify(True) == ()
        (self.top / "m2" / KEYRING_NAME).write_bytes(before)
        assert told(await archive.verify(True), "medium 2: keyring", "belongs to root key")
