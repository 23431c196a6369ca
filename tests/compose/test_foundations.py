"""What every room stands on, where it does not hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from hornetmail import config as configuration
from hornetmail.compose.ground.foundations import Foundations
from hornetmail.compose.setting_up.setup import init
from hornetmail.db.engines import DatabaseError
from hornetmail.directory.schema import CONTROL
from hornetmail.disk.files import Disk


class _Full(Disk):
    def free_fraction(self, path: Path) -> float:
        return 0.0


class DatabasesCase(TestCase):
    async def said(self, disk: Disk) -> str:
        top = Path(self.mktemp())
        init(top, "mx.hornet.test", 23_000)

        async def refused(*_: Any, **__: Any) -> Any:
            raise DatabaseError("disk I/O error")

        base = Foundations(reactor, configuration.load(top / "hornetmail.toml"))
        base.disk = disk
        base.open_database = refused  # type: ignore[assignment]
        try:
            with pytest.raises(DatabaseError) as caught:
                await base.database("control", CONTROL)
        finally:
            await base.close()
        return str(caught.value)

    async def test_a_full_disk_is_named(self) -> None:
        """A start on a full disk ended with ``disk I/O error``: somebody looked for a broken disk."""
        assert (await self.said(Disk())).endswith("the control database cannot be opened: disk I/O error")
        assert "its disk is full" in await self.said(_Full())
