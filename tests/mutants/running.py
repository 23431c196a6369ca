"""One run of pytest in a tree of its own."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HUNG = ("hung",)


@dataclass(frozen=True)
class Ended:
    """How a run of pytest ended: its exit code (-9: it hung), and the tests that failed."""

    status: int
    failed: tuple[str, ...] = ()

    @property
    def hung(self) -> bool:
        """Whether it had to be ended, or a test of it."""
        return self.failed == HUNG


def pytest(tree: Path, *arguments: str, limit: float | None = None, first: bool = False) -> Ended:
    """The ``first`` run compiles what all others then need not: they write no bytecode, and a change's has another time of day."""
    command = [sys.executable, "-bb", "-m", "pytest", "-q", *([] if first else ["-p", "tests.mutants.ending"]), *arguments]
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "" if first else "1",
        "DURATIONS": str(tree / ".durations"),
    }
    process = subprocess.Popen(
        command,
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return Ended(-9, HUNG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)  # what it started and left
    failed = re.findall(r"^(?:FAILED|ERROR) (.*?)(?: - |$)", said, re.MULTILINE)
    return Ended(process.returncode, tuple(failed) or (HUNG if "+ Timeout +" in said else ()))
