"""A change of the root key on files alone, and what must hold wherever it was cut off. As a program: killed at each step of the disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from hornetmail.archive.care.trust.rootkeys import PendingFile, RootKeys, settle
from hornetmail.archive.keys import paper
from hornetmail.archive.keys.keyring import KEYRING_NAME, KeyReplaced, Keyring, KeyTrouble, RootFile, root_id
from hornetmail.archive.keys.keystore import KeyStore
from hornetmail.archive.media.roster import Media
from hornetmail.disk.files import Disk
from hornetmail.disk.seal import Seal
from hornetmail.testing.archives import directory_medium

OLD = bytes(range(32))
SERVER = Seal(bytes(32))
PASSWORD = "paper-secret-1"
WANTED = [(1, 2026), (2, 2026)]
FIRST_DATA = (4, 5)
"""The numbers of their keys: three others come first."""


def now_done(step: Awaitable[Any]) -> Any:
    """The answer of something that waits for nothing; raises what it raised."""
    results: list[Any] = []

    async def whole() -> Any:
        return await step

    Deferred.fromCoroutine(whole()).addBoth(results.append)
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
    return result


async def at_once(call: Callable[..., Any], *args: Any) -> Any:
    """In place of a thread."""
    return call(*args)


@contextlib.contextmanager
def cheap_paper() -> Iterator[None]:
    """Papers whose password costs nothing to try; read like all others."""
    whole = paper.backup

    def backup(root: bytes, password: str, now: float, *, parts: int = 1, need: int = 1) -> str:
        return whole(root, password, now, parts=parts, need=need, memory_kib=64, time=1)

    paper.backup = backup  # type: ignore[assignment]
    try:
        yield
    finally:
        paper.backup = whole


class Place:
    """The keys of an archive with two media below ``top``, as a start finds them."""

    def __init__(self, top: Path, disk: Disk | None = None) -> None:
        self.top = top
        self.disk = disk or Disk()
        self.roots = RootFile(top / "keys" / "archive-root.key", self.disk)
        self.pendings = PendingFile(top / "keys" / "archive-root.pending", self.disk, SERVER)
        self.keys = KeyStore(top / "archive", self.disk)
        self.all = [directory_medium(n, top / f"medium{n}", self.disk) for n in (1, 2)]
        self.media = Media(self.all, 1)
        self.change = RootKeys(self.roots, self.pendings, self.keys, self.media, at_once, lambda: 1_780_000_000.0)

    def make(self) -> None:
        """A new archive with data keys, published."""
        self.roots.write(OLD)
        self.keys.create(OLD)
        for medium in self.all:
            medium.claim(self.keys.current().archive)
        self.keys.ensure(WANTED)
        assert self.keys.publish_all(self.all) == []

    def start(self) -> bytes:
        """As the service does; the root key it starts with."""
        root = settle(self.roots, self.pendings, self.top / "archive" / KEYRING_NAME)
        assert root is not None
        self.keys.open(root)
        now_done(self.change.open())
        return root


def check(top: Path, text: str, secrets: list[bytes]) -> bool:
    """A start after the crash opens the archive with the root key that is there, the media open with the old or the new one, and the change ends
    well from here. Whether the new key was in force."""
    new = paper.restore(text, PASSWORD)
    place = Place(top)
    root = place.start()
    assert root in (OLD, new)
    assert secrets_of(place.keys.current()) == secrets
    for number in (1, 2):
        away = top.with_name(f"{top.name}-away{number}")
        shutil.copytree(top / f"medium{number}", away / f"medium{number}")
        opened = [one for one in (OLD, new) if _restores(away, number, one, secrets)]
        assert len(opened) == 1, (number, opened)
        assert not (root == OLD and opened == [new])
        shutil.rmtree(away)
    if place.change.state.pending:
        assert root == OLD
        now_done(place.change.confirm(text, PASSWORD))
    assert place.keys.publish_all(place.all) == []
    again = Place(top)
    assert again.start() == new
    assert again.change.state.waiting == ()
    assert again.change.state.pending == ""
    assert secrets_of(again.keys.current()) == secrets
    left = {p.name for p in top.rglob("*") if p.is_file()}
    assert left == {"archive-root.key", "keyring", "medium"}, left
    assert len({p.read_bytes() for p in top.rglob("keyring")}) == 1
    return root == new


def secrets_of(keyring: Keyring) -> list[bytes]:
    """Something of each key, private half included."""
    return [keyring.database_key(), keyring.lookup_key(), keyring.private.private_bytes_raw()] + [
        keyring.seal(number).mark() for number in FIRST_DATA
    ]


def _restores(away: Path, number: int, root: bytes, secrets: list[bytes]) -> bool:
    store = KeyStore(away / root_id(root).hex(), Disk())
    try:
        ring = store.restore([directory_medium(number, away / f"medium{number}", Disk())], root)
    except KeyReplaced:
        return False
    except KeyTrouble as error:
        assert "belongs to root key" in str(error), error
        return False
    assert secrets_of(ring) == secrets
    return True


class Mortal(Disk):
    """Its process dies by SIGKILL before the step with that number; every call that changes the disk is a step."""

    def __init__(self, at: int) -> None:
        self.left = at

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def open(self, path: Path | str, flags: int, mode: int = 0o600) -> int:
        self._step()
        return super().open(path, flags, mode)

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        self._step()
        super().write(fd, memoryview(data)[: len(data) // 2], offset)
        self._step()
        super().write(fd, data, offset)

    def sync_file(self, fd: int) -> None:
        self._step()
        super().sync_file(fd)

    def close(self, fd: int) -> None:
        super().close(fd)
        self._step()

    def unlink(self, path: Path, missing_ok: bool = False) -> None:
        self._step()
        super().unlink(path, missing_ok)


def main(top: Path) -> None:
    """Print how many times a change was killed, and how many of these left the new key in force."""
    with cheap_paper():
        (top / "whole").mkdir(parents=True)
        place = Place(top / "whole")
        place.make()
        text = now_done(place.change.begin(PASSWORD))
        secrets = secrets_of(place.keys.current())
        forward = step = 0
        while True:
            here = top / str(step)
            shutil.copytree(top / "whole", here)
            child = os.fork()
            if child == 0:
                victim = Place(here, Mortal(step))
                victim.start()
                now_done(victim.change.confirm(text, PASSWORD))
                os._exit(0)
            _, status = os.waitpid(child, 0)
            for litter in here.rglob(".*.tmp"):
                litter.unlink()
            forward += check(here, text, secrets)
            shutil.rmtree(here)
            if status == 0:
                print(step, forward - 1)
                return
            assert os.WTERMSIG(status) == signal.SIGKILL, status
            step += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
