"""What must hold, side by side: ``python tests/lanes.py check programs unit pythons`` (``make test`` leaves out the last).

``check``     style, types, import contract
``programs``  tests that start other programs, in Python's development mode
``unit``      the other tests, in Python's development mode
``pythons``   the same with each other supported Python that the machine has, in virtual environments that stay (``.venv/pythons/3.X``)

As many at once as there are cores, the longest first. What each says is printed in one piece when all have ended, what failed last: then comes the list of
failed tests. The exit code is 0 if all of them passed. Ended early (SIGTERM, SIGINT), it says how far each one came.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parent.parent
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
OURS = f"{sys.version_info.major}.{sys.version_info.minor}"
DEVELOPMENT = "DEV=-X dev"
MEMORY = Path("/dev/shm")
ROOM = 8 << 30
"""Bytes that are free in ``MEMORY`` and of memory itself, so that the unit tests' files are there: a run of them makes two gigabytes, PostgreSQL most of it."""
WORDS = ("check", "programs", "unit", "pythons")
MOST_LINES = 2000
"""Of what each says."""
NAMED = re.compile(r"(FAILED|ERROR) |\S+\.py:\d+: error|\d+ (passed|failed)|make: \*\*\*")
"""Lines that name what failed: pytest's, mypy's, make's."""


@dataclass
class Lane:
    """A command and what became of it; ``builds``: what is made before any lane runs, since it writes into the source's folder, from which programs run;
    ``patience``: seconds to end in when it is told to (trial's reactor takes SIGTERM for itself), before it is killed; ``place``: where
    it puts its temporary files, if not where everybody does."""

    name: str
    command: Sequence[str]
    log: Path
    builds: Sequence[str] | None = None
    outcome: str = "NOT BEGUN"
    passed: bool = False
    stopped: bool = False
    patience: float = 10.0
    place: Path | None = None
    running: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    built: bool = True

    def build(self) -> None:
        if self.builds is None or self.stopped:
            return
        say(f"{self.name}: built")
        with self.log.open("wb") as log:
            self.built = self._one(self.builds, log.fileno()) == 0

    def run(self) -> None:
        if self.stopped:
            return
        say(f"{self.name}: begun")
        began = time.monotonic()
        with self.log.open("ab") as log:
            self.passed = self.built and self._one(self.command, log.fileno()) == 0
        word = "passed" if self.passed else "STOPPED" if self.stopped else "FAILED"
        self.outcome = f"{word} after {time.monotonic() - began:.0f} s"
        say(f"{self.name}: {self.outcome}")

    def _one(self, command: Sequence[str], log: int) -> int:
        if self.stopped:
            return 1
        os.write(log, f"$ {' '.join(command)}\n".encode())
        # a session of its own, so that what it started can be ended with it
        place = {"TMPDIR": str(self.place)} if self.place is not None else {}
        self.running = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | place, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        return self.running.wait()

    def stop(self) -> None:
        self.stopped = True
        self._signal(signal.SIGTERM)
        last = threading.Timer(self.patience, self._signal, (signal.SIGKILL,))
        last.daemon = True
        last.start()

    def _signal(self, number: signal.Signals) -> None:
        if self.running is not None and self.running.poll() is None:
            os.killpg(self.running.pid, number)

    def said(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines() if self.log.exists() else []


def say(line: str) -> None:
    print(line, flush=True)


def has_room() -> bool:
    """Whether the unit tests' files go into memory. What a power cut leaves is shown by disks that fail on purpose, and there is no power cut here:
    two thirds of the time these tests would wait for a disk."""
    available = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    if available is None or not os.access(MEMORY, os.W_OK):
        return False
    return min(int(available[1]) << 10, shutil.disk_usage(MEMORY).free) >= ROOM


def chosen(words: Sequence[str], folder: Path, place: Path) -> list[Lane]:
    """In the order in which they begin. A supported Python that is not here is named. ``place``: for the unit tests' files."""

    def lane(name: str, *command: str, builds: Sequence[str] | None = None) -> Lane:
        return Lane(name, ["make", *command], folder / name, builds, place=place if command[0] == "unit" else None)

    lanes = []
    if "programs" in words:
        lanes.append(lane(f"programs {OURS}", "programs", DEVELOPMENT))
    if "unit" in words:
        lanes.append(lane(f"unit {OURS}", "unit", DEVELOPMENT))
    if "pythons" in words:
        for version in SUPPORTED:
            if version == OURS:
                continue
            python = found(version)
            if python is None:
                say(f"Python {version}: not on this machine, left out")
                continue
            choice = [f"PYTHON={python}", f"VENV=.venv/pythons/{version}"]
            lanes.append(lane(f"unit {version}", "unit", *choice, builds=["make", f".venv/pythons/{version}/.test", *choice]))
    if "check" in words:
        lanes.append(lane("check", "check"))
    return lanes


def found(version: str) -> Path | None:
    """An interpreter that can make virtual environments: Debian's, or one of pyenv's (whose shims are there for versions that are not)."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    places = [Path(folder) / f"python{version}" for folder in os.get_exec_path()] + sorted(pyenv.glob(f"{version}.*/bin/python"))
    for place in places:
        if (
            os.access(place, os.X_OK)
            and subprocess.run([place, "-c", "import ensurepip"], capture_output=True, check=False).returncode == 0
        ):
            return place
    return None


def report(lanes: Sequence[Lane]) -> int:
    """What they said, those last that did not pass, then which tests did not; the exit code."""
    in_order = sorted(lanes, key=lambda lane: not lane.passed)
    for lane in in_order:
        lines = lane.said()
        say(f"\n======== {lane.name}: {lane.outcome}")
        if len(lines) > MOST_LINES:
            say(f"({len(lines) - MOST_LINES} lines before)")
        say("\n".join(lines[-MOST_LINES:]))
    say("\n========")
    for lane in in_order:
        say(f"{lane.name}: {lane.outcome}")
    for lane in in_order:
        for line in lane.said():
            if not lane.passed and NAMED.match(line):
                say(f"{lane.name}: {line}")
    return 0 if all(lane.passed for lane in lanes) else 1


def side_by_side(lanes: Sequence[Lane]) -> int:
    """What is built first, one after the other; then as many as there are cores, until all have ended; the exit code."""
    for each in lanes:
        each.build()
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as cores:
        list(cores.map(Lane.run, lanes))
    return report(lanes)


def main(words: Sequence[str]) -> int:
    if not words or set(words) - set(WORDS):
        print(f"which of {', '.join(WORDS)}?", file=sys.stderr)
        return 2
    memory = MEMORY if has_room() else None
    with tempfile.TemporaryDirectory(prefix="lanes-") as name, tempfile.TemporaryDirectory(prefix="lanes-", dir=memory) as files:
        # PostgreSQL is another user
        os.chmod(files, 0o755)
        lanes = chosen(words, Path(name), Path(files))

        def early(number: int, frame: FrameType | None) -> None:
            say(f"{signal.Signals(number).name}: ended early")
            for lane in lanes:
                lane.stop()

        signal.signal(signal.SIGTERM, early)
        signal.signal(signal.SIGINT, early)
        return side_by_side(lanes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
