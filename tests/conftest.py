"""What all tests share."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from twisted.internet import reactor

from tests import owntime

ROOT = Path(__file__).parent.parent

# What an example may cost is for tests/cost/ to say, by processor time: a busy machine is no fault of it.
settings.register_profile("suite", deadline=None)
# What lands is judged by what it changes: an input that nobody has tried yet is found by a developer's run, and stops nobody else's.
settings.register_profile("landing", deadline=None, derandomize=True)
settings.load_profile("landing" if os.environ.get("LANDING") else "suite")

own_time = owntime.keep(reactor)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Each test begins at the time that it is: certificates and stamps are of now. What a test before put in its place (``steady.keep``) is gone."""
    reactor.seconds = own_time  # type: ignore[attr-defined]
    own_time.reached(time.time())


@pytest.fixture(scope="session", autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tests run in a directory of their own: trial's ``mktemp`` makes its files in the current one. Children find the package all the same."""
    before, path = Path.cwd(), os.environ.get("PYTHONPATH", "")
    there = tmp_path_factory.mktemp("scratch")
    os.chdir(there)
    os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{path}" if path else str(ROOT)
    yield there
    os.chdir(before)
    os.environ["PYTHONPATH"] = path
