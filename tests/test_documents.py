"""The documents can be read as what they are."""

from __future__ import annotations

import io
from pathlib import Path

import docutils.core
import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.rst"), *(ROOT / "docs").rglob("*.rst")])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_well_formed(path: Path) -> None:
    """Would catch a table, list or heading that shows as an error, or not at all, where people read it."""
    said = io.StringIO()
    docutils.core.publish_string(
        path.read_text(), source_path=str(path), settings_overrides={"report_level": 2, "warning_stream": said, "halt_level": 5}
    )
    assert said.getvalue() == ""
