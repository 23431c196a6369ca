"""Retention at night in a real service (A57, A58, rule 19): its process believes that it is nearly 02:30, and nearly 03:40 a day later."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from hornetmail.archive.index.schema.migrations import MIGRATIONS
from hornetmail.archive.keys.keyring import KEYRING_NAME, Keyring, RootFile
from hornetmail.db.engines import Cursor
from hornetmail.db.pool import Database
from hornetmail.disk.files import Disk
from tests.peers.installation import Installation
from tests.peers.waiting import until
from tests.scenarios.world import AUDITOR, World

USER = "alice@example.test"
DAY = 86400.0


@pytest.fixture
def hornet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    installation = Installation()
    try:
        installation.set(seal_seconds=1)
        installation.start()
        installation.add_domain("example.test", None)
        installation.add_mailbox(USER, "alice-secret-1")
        installation.add_mailbox(AUDITOR[0], AUDITOR[1], "--role", "auditor")
        yield installation
    finally:
        installation.close()


def start_before(hornet: Installation, minute: int, seconds: int) -> None:
    """Start it where the minute of the day comes in so many seconds: as the local time zone has it."""
    now = time.gmtime()
    ahead = (minute * 60 - seconds - (now.tm_hour * 3600 + now.tm_min * 60 + now.tm_sec)) % 86_400
    # POSIX counts west of Greenwich; a zone of up to 24 h is allowed.
    os.environ["TZ"] = f"XXX-{ahead // 3600}:{ahead // 60 % 60:02}:{ahead % 60:02}"
    try:
        hornet.start()
    finally:
        del os.environ["TZ"]


def in_index(hornet: Installation, statement: str, *values: object) -> None:
    """Change the index of the stopped service: the only way to let years go by."""
    from hornetmail.compose.setting_up import offline

    root = RootFile(hornet.dir / "keys" / "archive-root.key", Disk()).read()
    assert root is not None
    key = Keyring.from_bytes((hornet.dir / "archive" / KEYRING_NAME).read_bytes(), root).database_key()

    def change(cursor: Cursor) -> None:
        cursor.execute(statement, values)

    async def whole(reactor: object) -> None:
        database = await Database.open(reactor, f"sqlite://{hornet.dir / 'archive' / 'archive.db'}", MIGRATIONS, key=key)
        try:
            await database.run(change)
        finally:
            await database.close()

    offline.run(whole)


def test_marked_at_half_past_two_gone_at_twenty_to_four(hornet: Installation) -> None:
    """Catches jobs at other minutes, or joined to nothing: a mail that is found after its time, or stays on the medium for ever."""
    for word in ("stays", "goes"):
        hornet.send(
            "a@outside.test", [USER], f"From: <a@outside.test>\r\nTo: <{USER}>\r\nSubject: {word}\r\n\r\n{word}\r\n".encode()
        )
        hornet.until_idle()
        until(lambda: hornet.status()["archive"]["staged"] == 0, "it is on the medium")
    world = World(hornet, None)  # type: ignore[arg-type]
    hornet.command("archive", "confirm-purge")
    assert hornet.stop() == 0
    in_index(hornet, "UPDATE mail SET expires = ? WHERE subject = 'goes'", time.time() - 5 * DAY)

    start_before(hornet, 150, 25)
    assert len(world.archived()) == 2
    until(lambda: hornet.status()["archive"]["marked"] == 1, "02:30 marks it", seconds=75)
    assert [hit["subject"] for hit in world.archived()] == ["stays"]
    assert hornet.status()["archive"]["mails"] == 2
    assert hornet.stop() == 0
    in_index(hornet, "UPDATE mail SET marked = marked - ? WHERE marked IS NOT NULL", DAY)

    start_before(hornet, 220, 25)
    assert hornet.status()["archive"]["mails"] == 2
    until(lambda: hornet.status()["archive"]["mails"] == 1, "03:40 lets it go", seconds=75)
    assert hornet.command("archive", "verify", "--full") == "all is well\n"
