"""Commands that work on the archive without the service."""

from __future__ import annotations

from pathlib import Path

from hornetmail import config as configuration
from hornetmail.compose.ground.foundations import Foundations
from hornetmail.compose.rooms.people import control_database
from hornetmail.compose.rooms.rooms import archive_of, register_of, root_of
from hornetmail.compose.setting_up.setup import init, rebuild, root_store, with_foundations
from hornetmail.testing.archives import BytesBody, item
from tests.archive.test_file_words import with_file


def test_files_wait_for_the_service(tmp_path: Path) -> None:
    """Would catch a rebuild without the service that begins to read the files of the mail, and waits for ever for processes whose end nobody tells it."""
    init(tmp_path, "mx.hornet.test", 23_000)
    config = configuration.load(tmp_path / "hornetmail.toml")

    async def archived(base: Foundations) -> None:
        register = register_of(base, await control_database(base))
        archive = archive_of(base, await root_of(base, root_store(config, base.disk)), await register.open())
        await archive.start()
        await archive.stage(item(1), BytesBody(with_file("a.pdf", b"%PDF- Biene")))
        await archive.flush(seal=True)
        await archive.stop()
        await base.offload(register.close)

    with_foundations(config, archived)
    assert rebuild(config) == {"mails": 1, "unreadable": []}
