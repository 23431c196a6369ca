"""What the unchanged tests of a room do: which of them run which lines, and how long each takes.

Kept between runs in a directory, if one is named: a test file is measured anew once it changed, and all are once anything else did that they may run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import coverage
import msgspec

from tests.mutants.running import pytest


class Map(msgspec.Struct):
    """For each module, for each line, the tests that run it; the seconds that each test takes; and of which source and test files that is."""

    source: str = ""
    files: dict[str, str] = {}
    lines: dict[str, dict[int, list[str]]] = {}
    seconds: dict[str, float] = {}

    def add(self, other: Map) -> None:
        """Puts another's tests beside those of this one."""
        self.files.update(other.files)
        self.seconds.update(other.seconds)
        for path, lines in other.lines.items():
            mine = self.lines.setdefault(path, {})
            for line, tests in lines.items():
                mine[line] = sorted({*mine.get(line, ()), *tests})

    def of(self, files: Iterable[str]) -> Map:
        """What it says of some test files."""
        kept = set(files)
        return Map(
            self.source,
            {file: known for file, known in self.files.items() if file in kept},
            {
                path: {line: [test for test in tests if test.split("::")[0] in kept] for line, tests in lines.items()}
                for path, lines in self.lines.items()
            },
            {test: took for test, took in self.seconds.items() if test.split("::")[0] in kept},
        )


def _hash(paths: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(path.read_bytes() + b"\0")
    return found.hexdigest()


def measured(tree: Path, room: str, tests: list[Path], kept: Path | None) -> Map:
    """The map of a room's test files. Raises SystemExit if they do not pass unchanged; one may fail once, on a busy machine."""
    files = {str(file.relative_to(tree)): _hash([file]) for file in tests}
    others = (*(tree / "hornetmail").rglob("*.py"), *(path for path in (tree / "tests").rglob("*.py") if path not in set(tests)))
    found = Map(source=_hash(path for path in others if not path.name.startswith("test_")))
    place = kept / f"{room.replace('/', '-')}.json" if kept else None
    if place and place.exists():
        known = msgspec.json.decode(place.read_bytes(), type=Map)
        if known.source == found.source:
            found = known.of(file for file, was in known.files.items() if files.get(file) == was)
    missing = sorted(files.keys() - found.files.keys())
    if missing:
        found.add(_measured(tree, room, missing))
        found.files.update({file: files[file] for file in missing})
        if place:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(msgspec.json.encode(found))
    return found


def _measured(tree: Path, room: str, files: list[str]) -> Map:
    options = (f"--cov=hornetmail/{room}", "--cov-context=test", "--cov-report=", "-p", "tests.mutants.durations")
    ended = pytest(tree, *files, *options, first=True)
    if ended.status and (ended.status != 1 or pytest(tree, *ended.failed).status):
        raise SystemExit(
            f"the tests of {room} do not pass as they are (pytest ended with {ended.status}): {' '.join(ended.failed)}"
        )
    read = coverage.CoverageData(str(tree / ".coverage"))
    read.read()
    lines: dict[str, dict[int, list[str]]] = {}
    for name in read.measured_files():
        contexts = read.contexts_by_lineno(name)
        lines[str(Path(name).relative_to(tree))] = {
            line: sorted({each.rpartition("|")[0] for each in all_of if each}) for line, all_of in contexts.items()
        }
    return Map(lines=lines, seconds=json.loads((tree / ".durations").read_text()))
