"""The programs in ``bench/``: nothing else runs them, so they are the last to hear of a module that moved."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", sorted(path.stem for path in (Path(__file__).parent.parent / "bench").glob("[!_]*.py")))
def test_programs_begin(name: str) -> None:
    """Catches a figure of the documentation that nobody can measure again, because what its program imports is not there any more."""
    importlib.import_module(f"bench.{name}")
