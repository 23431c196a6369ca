"""The planned jobs of a whole service, against the table that people read."""

from __future__ import annotations

import re
from pathlib import Path

from hornetmail import config as configuration
from hornetmail.compose.ground.foundations import Foundations
from hornetmail.compose.rooms.people import People
from hornetmail.compose.rooms.rooms import MailRooms
from hornetmail.compose.setting_up.setup import init, with_foundations

DUE = {
    "index": "5,35 * * * *",
    "renewal": "40 * * * *",
    "backup": "12 0,2-23 * * *",
    "backup-full": "12 1 * * *",
    "mirror": "12 * * * *",
    "mark": "30 2 * * *",
    "purge": "40 3 * * *",
    "merge": "10 4 * * *",
    "restore-drill": "30 4 * * 0",
    "statistics": "30 6 * * *",
    "time-stamp": "57 23 * * *",
    "time-stamp-of-many": "0,15,30,45 * * * *",
}


def test_each_job_of_the_requirements_is_planned(tmp_path: Path) -> None:
    """A50 to A60: catches a job that was written and is joined to nothing, at another time than promised, or unknown to the page that explains them."""
    init(tmp_path / "data", "mx.hornet.test", 23_000)

    async def task(base: Foundations) -> dict[str, str]:
        await MailRooms.open(base, await People.open(base))
        return {job.name: job.when for job in base.planned}

    assert with_foundations(configuration.load(tmp_path / "data" / "hornetmail.toml"), task) == DUE
    text = (Path(__file__).parents[2] / "docs" / "operations.rst").read_text()
    table = text[text.index("\nJobs\n----") : text.index("\nAlarms\n----")]
    assert set(re.findall(r"^``([a-z-]+)``  ", table, re.MULTILINE)) == set(DUE) - {"time-stamp-of-many"}
    assert "\n``time-stamp-of-many`` " in table
