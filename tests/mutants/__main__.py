"""Draws changes of the source, makes each alone, and runs the tests of its room that pass over the changed line.

``python -m tests.mutants [--seed 1] [--count 300] [--rooms core,spool,…] [--jobs 2] [--quick] [--report FILE] [--maps DIRECTORY]``. An inner room may be named
(``archive/keys``): then only those of the room's test files count that import from it. Ends with the counts by room; exit
code 1 if fewer than ``--least`` per cent were noticed. The room's tests are run once unchanged, to learn which of them run which lines and how long each
takes. For each change those that run the line go first, quick ones before slow ones, and the first that fails ends it; only if none does, the files
follow of which the map does not say all, since they start processes or share what they set up (not with ``--quick``). The room's other tests do not
come to the line. A change that no test runs at all counts as unnoticed; what a module does when it is imported (its constants, the defaults of its
values) is run by the tests that run its functions, and by the room's test files that import from it. Answers to survivors that change nothing anybody
could notice are kept in ``tests/mutants/answered.txt``, a line each: path, a part of the line that is told, why.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.mutants.changes import Change, changes
from tests.mutants.maps import Map, measured
from tests.mutants.running import HUNG, Ended, pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("core", "spool", "delivery", "portal", "archive", "access")


def _copy(into: Path) -> Path:
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in names.stdout.splitlines():
        source = ROOT / name
        if source.is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, into / name)
    return into


def _is_in_function(source: bytes, line: int) -> bool:
    """Whether a line is run by a call, not by the import of its module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.body[0].lineno <= line <= (node.end_lineno or 0):
            return True
    return False


def _files_naming(tree: Path, path: str) -> list[str]:
    """The room's test files in a tree that import from a module."""
    package, _, module = path.removesuffix(".py").replace("/", ".").rpartition(".")
    names = re.compile(rf"^from {re.escape(package)}(\.{module} import | import .*\b{module}\b)", re.MULTILINE)
    return sorted(
        str(file.relative_to(tree))
        for file in (tree / "tests" / path.split("/")[1]).rglob("test_*.py")
        if names.search(file.read_text())
    )


def _tests(tree: Path, room: str) -> list[Path]:
    """A room's test files in a tree; an inner room's are those that import from it."""
    if "/" not in room:
        return sorted((tree / "tests" / room).rglob("test_*.py"))
    paths = (str(path.relative_to(tree)) for path in (tree / "hornetmail" / room).rglob("*.py"))
    return sorted({tree / file for path in paths for file in _files_naming(tree, path)})


_BEYOND = re.compile(r"sys\.executable|setUpClass|fixture\(scope=")


def _files_beyond(tree: Path, room: str) -> set[str]:
    """The room's test files in a tree of which the map does not say all: they start Python anew, or something runs for several tests at once."""
    files = (tree / "tests" / room).rglob("test_*.py")
    return {str(file.relative_to(tree)) for file in files if _BEYOND.search(file.read_text())}


def answers() -> list[tuple[str, str]]:
    """Of changes that nobody can notice: path, and a part of what is told of them."""
    path = Path(__file__).with_name("answered.txt")
    lines = path.read_text().splitlines() if path.exists() else []
    return [(parts[0], parts[1]) for line in lines if line and not line.startswith("#") for parts in [line.split(" | ")]]


class Run:
    """One run over all drawn changes; trees are lent to one change at a time. A change has all the time that the tests which pass over it take."""

    def __init__(self, trees: list[Path], measured: Map, sources: dict[str, bytes], *, quick: bool) -> None:
        self._measured = measured
        self._quick = quick
        self._sources = sources
        self._free: SimpleQueue[Path] = SimpleQueue()
        for tree in trees:
            self._free.put(tree)

    def ended(self, change: Change) -> tuple[Change, str, str]:
        """``noticed``, ``survived`` or ``not run``; and the test that noticed it."""
        source = self._sources[change.path]
        tree, ended = self._free.get(), Ended(0)
        first = self._first(change, tree)
        rest = self._rest(change, tree, first)
        file, stamp = tree / change.path, (tree / change.path).stat().st_mtime
        try:
            file.write_bytes(change.made(source))
            os.utime(file, (stamp + 10.0, stamp + 10.0))
            for tests in filter(None, (first, () if self._quick else rest)):
                # What hangs is noticed: it takes far longer than the slowest took. The thread ends it where nothing else does.
                took = [self._measured.seconds.get(test, 0.0) for test in tests]
                options = (f"--timeout={20 + 4 * max(took):.0f}", "--timeout-method=thread")
                ended = pytest(tree, "-x", *tests, *options, limit=60 + 4 * sum(took))
                if ended.status:
                    break
        finally:
            file.write_bytes(source)
            os.utime(file, (stamp, stamp))
            if ended.status in (4, 5) and pytest(tree, "--collect-only", *tests).status in (4, 5):
                raise SystemExit(f"the tests of {change} are not found, with or without it: {tests}")
            self._free.put(tree)
        came = "noticed" if ended.status else "survived" if first else "not run"
        return change, came, " ".join(ended.failed)

    def _first(self, change: Change, tree: Path) -> list[str]:
        """The tests that run a changed line, those of another database last, quick ones before slow ones."""
        source = self._sources[change.path]
        ends = change.line + source[change.start : change.end].count(b"\n")
        near = self._measured.lines.get(change.path, {})
        tests = {test for line in range(change.line, ends + 1) for test in near.get(line, ())}
        if not tests:
            # The later lines of one statement are run with its first.
            earlier = [line for line in near if line <= change.line and near[line]]
            tests = set(near[max(earlier)]) if earlier and change.line - max(earlier) < 12 else set()
        if not _is_in_function(source, change.line) or near.get(change.line) == []:  # a function that the module calls itself
            files = _files_naming(tree, change.path)
            tests = {test for found in near.values() for test in found} | {
                test for test in self._measured.seconds if test.split("::")[0] in files
            }
        return sorted(tests, key=self._cost)

    def _rest(self, change: Change, tree: Path, first: list[str]) -> list[str]:
        """What else may come to it, unseen by the map."""
        files = _files_beyond(tree, change.path.split("/")[1])
        return sorted(
            (test for test in self._measured.seconds if test.split("::")[0] in files and test not in first), key=self._cost
        )

    def _cost(self, test: str) -> tuple[bool, float, str]:
        return "PostgreSQL" in test, self._measured.seconds.get(test, 0.0), test


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="tests.mutants")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--rooms", default=",".join(ROOMS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--least", type=float, default=90.0)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--maps", type=Path, help="where the maps of the tests are kept between runs")
    parser.add_argument(
        "--quick", action="store_true", help="only the tests of the map: some that survive would be noticed otherwise"
    )
    chosen = parser.parse_args()
    rooms = chosen.rooms.split(",")
    # Read once: somebody may work on while this runs.
    paths = [path for room in rooms for path in sorted((ROOT / "hornetmail" / room).rglob("*.py"))]
    sources = {str(path.relative_to(ROOT)): path.read_bytes() for path in paths}
    every = [change for path, source in sources.items() for change in changes(path, source)]
    drawn = random.Random(chosen.seed).sample(every, min(chosen.count, len(every)))
    with tempfile.TemporaryDirectory(prefix="hm-mutants-") as directory:
        trees = [_copy(Path(directory) / str(number)) for number in range(chosen.jobs)]
        with ThreadPoolExecutor(chosen.jobs) as pool:
            free: SimpleQueue[Path] = SimpleQueue()
            for tree in trees:
                free.put(tree)

            def mapped(room: str) -> Map:
                tree = free.get()
                try:
                    return measured(tree, room, _tests(tree, room), chosen.maps)
                finally:
                    free.put(tree)

            whole = Map()
            for part in pool.map(mapped, rooms):
                whole.add(part)
            run = Run(trees, whole, sources, quick=chosen.quick)
            answered = answers()
            counts: Counter[tuple[str, str]] = Counter()
            hung = 0
            for change, came, by in pool.map(run.ended, sorted(drawn)):
                text = change.told(sources[change.path])
                if came != "noticed" and any(change.path == path and part in text for path, part in answered):
                    came = "answered"
                counts[next(room for room in rooms if change.path.startswith(f"hornetmail/{room}/")), came] += 1
                hung += (by,) == HUNG
                line = f"{came:9} {text}" + (f"   ({by})" if by else "")
                if came != "noticed":
                    print(line, flush=True)
                if chosen.report:
                    with chosen.report.open("a") as report:
                        print(line, file=report)
    total: Counter[str] = Counter()
    for room in rooms:
        of = {came: counts[room, came] for came in ("noticed", "answered", "survived", "not run")}
        total.update(of)
        print(room, *(f"{came} {number}" for came, number in of.items()), sep="  ")
    drawn_number = sum(total.values())
    share = 100.0 * (total["noticed"] + total["answered"]) / max(1, drawn_number)
    print(
        f"{drawn_number} changes (seed {chosen.seed}): {total['noticed']} noticed ({hung} of them hung),"
        f" {total['answered']} answered, {share:.1f} %"
    )
    return 0 if share >= chosen.least else 1


if __name__ == "__main__":
    sys.exit(main())
