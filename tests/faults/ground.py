"""What the rooms stand on: the foundations that ``compose`` lays, on a stepped reactor, disk and databases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hornetmail.compose.ground.foundations import SERVER_KEY, Foundations
from hornetmail.compose.ground.keys import ServerKey
from hornetmail.config import Alarms, Config
from hornetmail.disk.files import Disk
from hornetmail.testing.faults.database import SteppedDatabase

HOSTNAME = "mx.hornet.test"

LOOK = 300.0
"""Seconds between two looks at what alarms are over."""


def prepare(root: Path) -> None:
    """A data directory, as far as ``init`` makes one before anything is opened."""
    for name in ("keys", "queue", "portal", "archive"):
        (root / name).mkdir(parents=True, exist_ok=True)
    ServerKey.create(root / SERVER_KEY, Disk())


class SteppedFoundations(Foundations):
    """Of one life."""

    open_database = SteppedDatabase.open

    def __init__(self, reactor: Any, disk: Disk, root: Path, *, restoring: bool = False) -> None:
        config = Config(hostname=HOSTNAME, directory=str(root), alarms=Alarms(look=LOOK))
        super().__init__(reactor, config, restoring)
        self.disk = disk
        self.start_pool(self.threads)
