"""What the root key lies under between two starts (A2, rule 22): each source, each way in which it fails, changes of it, and crashes on the way."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from twisted.internet.defer import DeferredLock

from hornetmail.archive.care.trust.rootkeys import Pending, PendingFile, settle
from hornetmail.archive.care.trust.unlocking import Unlocking
from hornetmail.archive.keys import paper, rootstore, sealedroot
from hornetmail.archive.keys.keyring import Keyring, KeyTrouble, RootFile
from hornetmail.archive.keys.keystore import KeyStore
from hornetmail.archive.keys.rootstore import RootStore
from hornetmail.archive.keys.sources import Command, Credential, Passphrase, Source
from hornetmail.core.archive.archived import KeyRefused
from hornetmail.disk.files import Disk
from hornetmail.testing.archives import AUDITOR, ROOT, BytesBody, item, mail
from tests.archive.cases import ArchiveCase
from tests.archive.changing import OLD, SERVER, at_once

SECRET = b"open sesame, 32 bytes or so"
NEW = bytes(range(9, 41))


class Fixed:
    """A source that says what it is told to say."""

    name = "the fixed one"
    typed = False

    def __init__(self, secret: bytes | KeyTrouble = SECRET) -> None:
        self.answer = secret

    def secret(self) -> bytes | None:
        if isinstance(self.answer, KeyTrouble):
            raise self.answer
        return self.answer


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealed without stretching: each try would cost a fifth of a second."""
    whole = sealedroot.close
    monkeypatch.setattr(rootstore.sealedroot, "close", lambda root, secret, **_: whole(root, secret, memory_kib=64, time=1))


def store(top: Path, chosen: Source | None = None, others: Sequence[Source] = (), disk: Disk | None = None) -> RootStore:
    disk = disk or Disk()
    return RootStore(
        RootFile(top / "keys" / "archive-root.key", disk), top / "keys" / "archive-root.sealed", disk, chosen, others
    )


def files(top: Path) -> set[str]:
    return {path.name for path in (top / "keys").iterdir()}


def script(top: Path, text: str) -> list[str]:
    file = top / "give.py"
    file.write_text(text)
    return [sys.executable, str(file)]


# -- a command


def test_a_command_gives_the_secret(tmp_path: Path) -> None:
    """Catches arguments that a shell sees, a line end that becomes part of the secret, and an input that a command waits for."""
    argv = script(tmp_path, "import sys\nassert sys.stdin.read() == ''\nsys.stdout.write(sys.argv[1] + '\\r\\n')\n")
    assert Command([*argv, "$HOME; `id` two  spaces"], 30.0).secret() == b"$HOME; `id` two  spaces"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import sys\nprint('SESAME-1234', flush=True)\nsys.exit('no such vault')", "ended with 1: no such vault"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "ended with -9"),
        ("pass", "gives 0 bytes: a secret has 8 to 4096"),
        ("print('short')", "gives 5 bytes"),
        ("while True: print('SESAME-1234' * 1000)", "prints more than 4096 bytes"),
    ],
)
def test_a_command_that_fails_is_told(tmp_path: Path, text: str, told: str) -> None:
    """Catches an error that does not say what failed and why, or that says what the command printed, which is the secret."""
    argv = script(tmp_path, text)
    with pytest.raises(KeyTrouble) as caught:
        Command(argv, 60.0).secret()
    assert told in str(caught.value)
    assert f"the command {sys.executable}" in str(caught.value)
    assert "SESAME" not in str(caught.value)


def test_a_command_that_cannot_be_started() -> None:
    """Catches a traceback in place of a line that names the program."""
    with pytest.raises(KeyTrouble, match="the command /nowhere/vault cannot be started: No such file"):
        Command(["/nowhere/vault"], 5.0).secret()


@pytest.mark.parametrize("last", ["time.sleep(3600)", "os.close(1); os.close(2); time.sleep(3600)"])
def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path, last: str) -> None:
    """Catches a start that waits for ever: for a command that sleeps, that closes its output, or whose child holds it open. Time is the test's own:
    after the first look at the clock it is over."""
    pids = tmp_path / "pids"
    text = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'])\n"
        f"open({str(tmp_path / 'part')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        f"os.rename({str(tmp_path / 'part')!r}, {str(pids)!r})\n"
        "print('waiting for the vault', file=sys.stderr, flush=True)\n"
        f"{last}\n"
    )
    began = time.monotonic()

    def now() -> float:
        return began + (100.0 if pids.exists() else 0.0)

    with pytest.raises(KeyTrouble, match="did not end within 1 s"):
        _patient(Command(script(tmp_path, text), 1.0, now))
    for pid in map(int, pids.read_text().split()):
        assert _is_gone(pid)


def test_a_command_that_leaves_something_running(tmp_path: Path) -> None:
    """Catches an archive that stays locked because what the command needed for its answer (an agent, the master of a connection) goes on, and holds the pipes open: it was waited for until the
    time was over, and the answer thrown away."""
    text = (
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'])\n"
        "print('open sesame, 32 bytes', flush=True)\n"
    )
    assert Command(script(tmp_path, text), 60.0).secret() == b"open sesame, 32 bytes"


def _patient(command: Command) -> None:
    command.secret()


def _is_gone(pid: int) -> bool:
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        os.sched_yield()
    return False


# -- a credential


def test_a_credential(tmp_path: Path) -> None:
    """Catches a credential of systemd that is not found where systemd says it is, and errors that do not name what and where."""
    (tmp_path / "archive-key").write_bytes(SECRET + b"\n")
    assert Credential("archive-key", str(tmp_path)).secret() == SECRET
    with pytest.raises(KeyTrouble, match=r"credential 'archive-key': \$CREDENTIALS_DIRECTORY is not set"):
        Credential("archive-key", "").secret()
    with pytest.raises(KeyTrouble, match=f"{tmp_path}/other: No such file or directory"):
        Credential("other", str(tmp_path)).secret()
    (tmp_path / "empty").write_bytes(b"\n")
    with pytest.raises(KeyTrouble, match=f"{tmp_path}/empty gives 0 bytes"):
        Credential("empty", str(tmp_path)).secret()
    (tmp_path / "large").write_bytes(b"x" * 10_000_000)
    with pytest.raises(KeyTrouble, match="a secret has 8 to 4096"):
        Credential("large", str(tmp_path)).secret()


# -- where the key lies


def test_sealed_under_a_source(tmp_path: Path) -> None:
    """Catches a key that lies open although a source was chosen, or that another secret opens."""
    store(tmp_path).write(ROOT)
    assert files(tmp_path) == {"archive-root.key"}
    there = store(tmp_path, Fixed())
    assert there.read() == ROOT
    assert there.elsewhere
    there.write(ROOT)
    assert files(tmp_path) == {"archive-root.sealed"}
    sealed = tmp_path / "keys" / "archive-root.sealed"
    assert stat.S_IMODE(sealed.stat().st_mode) == 0o600
    assert ROOT.hex().encode() not in sealed.read_bytes()
    again = store(tmp_path, Fixed())
    assert (again.read(), again.elsewhere) == (ROOT, False)
    with pytest.raises(
        KeyTrouble, match=r"the fixed one does not open .*archive-root.sealed: it was sealed under another secret"
    ):
        store(tmp_path, Fixed(b"another secret")).read()
    with pytest.raises(KeyTrouble, match=r"not in .*archive-root.key, but sealed in .*archive-root.sealed"):
        store(tmp_path).read()
    sealed.write_bytes(sealed.read_bytes()[:-4])
    with pytest.raises(KeyTrouble, match=r"archive-root.sealed is damaged"):
        store(tmp_path, Fixed()).read()


def test_a_changed_source_takes_the_key_along(tmp_path: Path) -> None:
    """Catches a change of the source that locks the archive although the source before is still configured."""
    store(tmp_path, Fixed()).write(ROOT)
    other = Fixed(b"the other source")
    moved = store(tmp_path, other, [Fixed()])
    assert (moved.read(), moved.elsewhere) == (ROOT, True)
    moved.write(ROOT)
    assert store(tmp_path, other).read() == ROOT
    back = store(tmp_path, None, [other])
    assert (back.read(), back.elsewhere) == (ROOT, True)
    back.write(ROOT)
    assert files(tmp_path) == {"archive-root.key"}
    silent = store(tmp_path, Fixed(KeyTrouble("the vault is away")), [])
    assert (silent.read(), silent.elsewhere) == (ROOT, True)
    with pytest.raises(KeyTrouble, match="the vault is away"):
        silent.write(ROOT)
    assert store(tmp_path).read() == ROOT


class Fickle(Fixed):
    """A command that makes a new secret each time it is asked."""

    asked = 0

    def secret(self) -> bytes | None:
        self.asked += 1
        return SECRET + str(self.asked).encode()


@pytest.mark.parametrize("before", [None, Fixed()])
def test_a_source_that_gives_something_else_each_time(tmp_path: Path, before: Source | None) -> None:
    """Catches a key that is sealed under what never comes again, and whose other form is then removed: an archive that nobody opens any more, if its paper was not made yet (A3)."""
    store(tmp_path, before).write(ROOT)
    there = files(tmp_path)
    with pytest.raises(KeyTrouble, match="gives something else each time it is asked"):
        store(tmp_path, Fickle(), [before] if before else []).write(ROOT)
    assert files(tmp_path) == there
    assert store(tmp_path, before).read() == ROOT


class Stops(Disk):
    """Its process ends at the step with that number, before or after it."""

    def __init__(self, at: int) -> None:
        self.left = at

    def _step(self) -> None:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        self._step()
        super().write(fd, data, offset)

    def sync_file(self, fd: int) -> None:
        self._step()
        super().sync_file(fd)

    def rename_unsynced(self, source: Path, target: Path) -> None:
        self._step()
        super().rename_unsynced(source, target)

    def unlink(self, path: Path, missing_ok: bool = False) -> None:
        self._step()
        super().unlink(path, missing_ok)


@pytest.mark.parametrize("direction", ["to source", "to file", "other secret"])
def test_a_crash_while_the_source_changes(tmp_path: Path, direction: str) -> None:
    """Catches a moment between the old form and the new one in which neither opens the archive, and litter that stays for good."""
    other = Fixed(b"the other source")
    before, after, around = {
        "to source": (None, other, []),
        "to file": (other, None, [other]),
        "other secret": (Fixed(), other, [Fixed()]),
    }[direction]
    for at in range(30):
        top = tmp_path / str(at)
        (top / "keys").mkdir(parents=True)
        store(top, before).write(ROOT)
        crashed = False
        try:
            store(top, after, around, Stops(at)).write(ROOT)
        except KeyboardInterrupt:
            crashed = True
        start = store(top, after, around)
        assert start.read() == ROOT, at
        if start.elsewhere:
            start.write(ROOT)
        start.tidy()
        assert store(top, after).read() == ROOT
        assert len([name for name in files(top) if not name.endswith(".tmp")]) == 1
        if not crashed:
            assert at >= 4
            return
    raise AssertionError("it never ended")


def test_a_change_of_the_root_key_that_was_cut_off_while_nobody_can_open_it(tmp_path: Path) -> None:
    """Catches a change of the root key under a passphrase that a crash cut off, and that locks the archive for good: the key in force then is in the
    pending file alone."""
    typed = Passphrase()
    roots = store(tmp_path, typed)
    roots.choose("first words")
    roots.write(OLD)
    keys = KeyStore(tmp_path / "archive", Disk())
    keys.create(OLD)
    pendings = PendingFile(tmp_path / "keys" / "archive-root.pending", Disk(), SERVER)
    pendings.write(Pending(NEW, 1.0))
    keys.rewrap(NEW, [])
    fresh = store(tmp_path, Passphrase())
    keyring = tmp_path / "archive" / "keyring"
    assert settle(fresh, pendings, keyring) == NEW
    assert pendings.read() is not None
    fresh.choose("first words")
    assert settle(fresh, pendings, keyring) == NEW
    assert pendings.read() is None
    assert store(tmp_path).open_typed("first words") == NEW


# -- locked and unlocked


class TestUnlocking(ArchiveCase):
    """An archive that starts locked."""

    def setUp(self) -> None:
        super().setUp()
        self.said: list[tuple[str, str]] = []
        (self.top / "keys").mkdir()

    def unlocking(self, roots: RootStore, archive: object, why: str = "") -> Unlocking:
        return Unlocking(
            roots,
            archive.keys,  # type: ignore[attr-defined]
            archive.unlock,  # type: ignore[attr-defined]
            at_once,
            lambda code, text: self.said.append((code, text)),
            lambda code, why: self.said.append((code, "")),
            DeferredLock(),
            why,
        )

    async def test_by_passphrase(self) -> None:
        """Catches mail that is lost or not found after an unlock, a wrong passphrase that opens, and a locked archive that nobody is told of."""
        archive = await self.fresh()
        await self.put(archive, mail("Before"))
        await archive.stop()
        roots = store(self.top, Passphrase())
        roots.choose("Schl\u00fcssel zum Archiv")
        roots.write(ROOT)
        fresh = store(self.top, Passphrase())
        assert fresh.read() is None
        locked = await self.reopened(root=None)
        unlocking = self.unlocking(fresh, locked)
        await unlocking.look()
        assert self.said[-1] == (
            "archive-locked", "mail is archived and cannot be searched: nobody has typed the passphrase",
        )  # fmt: skip
        await locked.stage(item(7), BytesBody(mail("Meanwhile")))
        try:
            await unlocking.unlock("Schluessel zum Archiv")
        except KeyRefused as error:
            assert "does not open the archive's key" in str(error)
        else:
            raise AssertionError("a wrong passphrase opened it")
        assert unlocking.locked
        await unlocking.unlock(" Schlu\u0308ssel zum Archiv ")
        assert ("archive-locked", "") in self.said
        await locked.flush()
        assert await self.total(locked, "") == 2
        assert unlocking.state.trouble == ""
        await unlocking.choose("other words")
        assert store(self.top, Passphrase()).open_typed("other words") == ROOT
        with pytest.raises(KeyTrouble):
            store(self.top, Passphrase()).open_typed("Schl\u00fcssel zum Archiv")
        assert await locked.verify(True) == ()
        assert (await locked.search(AUDITOR, "meanwhile")).total == 1

    async def test_by_paper_and_then_where_it_shall_lie(self) -> None:
        """Catches an unlock by paper that has to be repeated after each start, and the paper of another archive that opens or breaks this one."""
        archive = await self.fresh()
        await archive.stop()
        locked = await self.reopened(root=None)
        unlocking = self.unlocking(store(self.top, Fixed()), locked)
        foreign = paper.backup(NEW, "words enough", 0.0, memory_kib=64, time=1)
        with pytest.raises(KeyRefused, match="belongs to root key"):
            await unlocking.unlock_by_paper(foreign, "words enough")
        parts = paper.backup(ROOT, "words enough", 0.0, parts=3, need=2, memory_kib=64, time=1).split(paper.PAGE)
        with pytest.raises(KeyRefused, match="2 of the 3 parts"):
            await unlocking.unlock_by_paper(parts[0], "words enough")
        await unlocking.unlock_by_paper(parts[0] + parts[2], "words enough")
        assert not unlocking.locked
        assert store(self.top, Fixed()).read() == ROOT
        with pytest.raises(KeyRefused, match="not locked"):
            await unlocking.unlock("x")

    async def test_by_an_earlier_passphrase_while_the_source_is_away(self) -> None:
        """Catches a key that stays under the passphrase of before for good, and nobody who is told, because the source that it shall lie under could not be asked when somebody
        typed that passphrase."""
        archive = await self.fresh()
        await archive.stop()
        before = store(self.top, Passphrase())
        before.choose("the words of before")
        before.write(ROOT)
        away = Fixed(KeyTrouble("the vault is away"))
        locked = await self.reopened(root=None)
        unlocking = self.unlocking(store(self.top, away), locked)
        await unlocking.unlock("the words of before")
        assert not unlocking.locked
        assert self.said[-1][0] == "archive-key-source"
        assert "the vault is away" in self.said[-1][1]
        away.answer = SECRET
        await unlocking.look()
        assert self.said[-1] == ("archive-key-source", "")
        assert store(self.top, Fixed()).read() == ROOT

    async def test_without_its_keyring(self) -> None:
        """Catches a locked archive whose lost keyring ends the service, and a wrong paper that leaves it half open."""
        archive = await self.fresh()
        await self.put(archive, mail("Before"))
        await archive.flush(seal=True)
        await archive.stop()
        (self.top / "archive" / "keyring").unlink()
        locked = await self.reopened(root=None)
        assert "the keyring is missing" in locked.trouble
        unlocking = self.unlocking(store(self.top), locked)
        foreign = paper.backup(NEW, "words enough", 0.0)
        with pytest.raises(KeyRefused, match="belongs to root key"):
            await unlocking.unlock_by_paper(foreign, "words enough")
        assert "the keyring is missing" in locked.trouble
        await unlocking.unlock_by_paper(paper.backup(ROOT, "words enough", 0.0), "words enough")
        assert locked.trouble == ""
        assert await self.total(locked, "before") == 1

    async def test_a_source_that_answers_later(self) -> None:
        """Catches an archive that stays locked until a restart, because its source was away when the service started."""
        archive = await self.fresh()
        await archive.stop()
        store(self.top, Fixed()).write(ROOT)
        away = Fixed(KeyTrouble("the vault is away"))
        locked = await self.reopened(root=None)
        unlocking = self.unlocking(store(self.top, away), locked, "the vault is away")
        await unlocking.look()
        assert self.said[-1] == ("archive-locked", "mail is archived and cannot be searched: the vault is away")
        away.answer = SECRET
        await unlocking.look()
        assert not unlocking.locked
        assert self.said[-2:] == [("archive-locked", ""), ("archive-key-source", "")]

    async def test_a_key_that_lies_open_is_put_where_it_shall_lie(self) -> None:
        """Catches a file with the key in the clear that stays although a source was chosen, and nobody who is told that it does."""
        archive = await self.fresh()
        store(self.top).write(ROOT)
        source = Fixed(KeyTrouble("the vault is away"))
        roots = store(self.top, source)
        assert roots.read() == ROOT
        unlocking = self.unlocking(roots, archive)
        await unlocking.look()
        assert self.said[-1] == (
            "archive-key-source", "the archive's key does not lie under the fixed one yet: the vault is away",
        )  # fmt: skip
        source.answer = SECRET
        await unlocking.look()
        assert self.said[-1] == ("archive-key-source", "")
        assert files(self.top) == {"archive-root.sealed"}


def test_the_keyring_gives_no_key_while_locked() -> None:
    """Catches a locked keyring that hands the root key out, or None for it."""
    ring = Keyring.create(ROOT)
    assert ring.root_key == ROOT
    with pytest.raises(KeyTrouble, match="locked"):
        _ = Keyring.from_bytes(ring.to_bytes(), None).root_key
