"""Every step of every story with every ending: by several processes that share one list, and go on where they were stopped."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import re
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from hornetmail.testing.faults.steps import Ending, Kind, Plan, Step
from tests.faults.driver import plans, run
from tests.faults.known import KNOWN
from tests.faults.scenarios import Scenario

ROOT = Path(__file__).resolve().parents[2]

Counts = Mapping[str, Sequence[Step]]
"""The steps of each story when all goes well."""


class Result(msgspec.Struct, frozen=True):
    """What came of one run. ``kind`` and ``what``: of the step that ended as planned; ``cpu`` in seconds."""

    story: str
    number: int
    ending: Ending
    kind: Kind
    what: str
    found: list[str]
    cpu: float

    @property
    def explained(self) -> str:
        """Which known fault it is, ``""`` for none."""
        return next((known.reason for known in KNOWN if known.explains(self.story, self.step, self.ending, self.found)), "")

    @property
    def step(self) -> Step:
        """The one that ended as planned."""
        return Step(self.number, self.kind, self.what)

    @property
    def sort(self) -> str:
        """What is common to findings of one kind: names and numbers left out."""
        texts = sorted({re.sub(r"[0-9a-f]{8,}|\d+", "N", re.sub(r"/\S+", "…", each))[:160] for each in self.found})
        return f"{self.story}, {self.kind} of {re.sub(r'[0-9a-f]{8,}|[0-9]+', 'N', self.what)}: {'; '.join(texts)}"


class _Head(msgspec.Struct, frozen=True):
    """The first line of a file of results: what they are results of."""

    source: str
    steps: dict[str, int]


class Work(NamedTuple):
    """A run that is to be made."""

    story: Scenario
    plan: Plan
    step: Step


def works(stories: Sequence[Scenario], counts: Counts) -> list[Work]:
    """All of them, in no order, so that the first hour already tells of each kind."""
    found = [Work(story, plan, counts[story.name][plan.number - 1]) for story in stories for plan in plans(counts[story.name])]
    random.Random(6).shuffle(found)
    return found


def source() -> str:
    """A digest of all that a result depends on."""
    digest = hashlib.sha256(sys.version.encode())
    for folder in ("hornetmail", "tests/faults", "tests/delivery"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


class Results:
    """A file of results, a line each; those of another source, or of other steps, are thrown away."""

    def __init__(self, path: Path, counts: Counts) -> None:
        self._path = path
        head = _Head(source(), {name: len(steps) for name, steps in counts.items()})
        kept = list(self._read(head))
        path.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in (head, *kept)))

    def _read(self, head: _Head | None) -> Iterator[Result]:
        if not self._path.exists():
            return
        with self._path.open("rb") as lines:
            if head is not None and msgspec.json.decode(next(lines, b"null"), type=_Head | None) != head:
                return
            if head is None:
                next(lines)
            for line in lines:
                if line.endswith(b"\n"):  # the last one may have been cut off
                    yield msgspec.json.decode(line, type=Result)

    def all(self) -> list[Result]:
        """What there is."""
        return list(self._read(None))

    def add(self, result: Result) -> None:
        """In any process."""
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, msgspec.json.encode(result) + b"\n")
        finally:
            os.close(fd)


def one(work: Work, template: Path) -> Result:
    """One run; whatever it raises is what it found."""
    began = os.times()
    try:
        tried = run(work.story, template, work.plan)
        found = tried.found
        if tried.met is not None and tried.met.kind is not work.step.kind:
            found = [*found, f"the run differs from the one that was counted: {tried.met}"]
    except Exception:  # noqa: BLE001  the others go on
        found = [f"the run failed: {traceback.format_exc(limit=-4)}"]
    ended = os.times()
    cpu = ended.user + ended.system - began.user - began.system
    return Result(work.story.name, work.plan.number, work.plan.ending, work.step.kind, work.step.what, found, round(cpu, 3))


def make(todo: Sequence[Work], template: Path, results: Results, jobs: int) -> None:
    """All that is not there yet, by so many processes, which share the list: each takes the next."""
    done = {(result.story, result.number, result.ending) for result in results.all()}
    left = [work for work in todo if (work.story.name, work.plan.number, work.plan.ending) not in done]
    context = multiprocessing.get_context("fork")
    following = context.Value("l", 0)
    starter = os.getpid()

    def work_off() -> None:
        while os.getppid() == starter:  # who was stopped in the middle takes them along
            with following.get_lock():
                index = following.value
                following.value += 1
            if index >= len(left):
                return
            results.add(one(left[index], template))

    workers: list[Any] = [context.Process(target=work_off) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def table(counts: Counts, results: Sequence[Result]) -> str:
    """Story, steps, runs, as ``docs/reliability.rst`` has them."""
    made = Counter(result.story for result in results)
    lines = [f"{name:<14} {len(steps):>6} {sum(1 for _ in plans(steps)):>8,}" for name, steps in counts.items()]
    total = sum(sum(1 for _ in plans(steps)) for steps in counts.values())
    return "\n".join([*lines, f"{total:,} runs in all, {sum(made.values()):,} made"])


def report(results: Sequence[Result], say: Callable[[str], object]) -> bool:
    """Say what was found, by kind; whether any of it is not known."""
    cpu = sum(result.cpu for result in results)
    say(f"{len(results):,} runs, {cpu:.0f} s of processor time, {1000 * cpu / max(1, len(results)):.0f} ms each")
    wrong = [result for result in results if result.found and not result.explained]
    for reason, count in Counter(result.explained for result in results if result.found and result.explained).items():
        say(f"known, {count} runs: {reason}")
    by_sort: dict[str, list[Result]] = {}
    for result in wrong:
        by_sort.setdefault(result.sort, []).append(result)
    for text, those in sorted(by_sort.items(), key=lambda item: -len(item[1])):
        say(f"{len(those)} runs: {text}; the first: step {those[0].number}, {those[0].ending.name}")
    return bool(wrong)


def example(result: Result) -> str:
    """For whoever wants to make it again."""
    return json.dumps({"story": result.story, "step": result.number, "ending": result.ending.name, "found": result.found})
