"""Faults at every step (``docs/reliability.rst``): in ``make test`` a sample of the runs, in ``make torture`` all of them."""

from __future__ import annotations

import gc
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hornetmail.testing.faults.reactor import SteppedReactor
from hornetmail.testing.faults.steps import Ending, Kind, Plan, Step
from tests.faults.driver import plans, quietly, run
from tests.faults.house import template
from tests.faults.known import KNOWN, Known
from tests.faults.scenarios import ALICE, BOB, SCENARIOS, Scenario
from tests.faults.whole import Result, Results, Work, example, make, one, works

SAMPLE = 6
"""Runs of each scenario in ``make test``."""

SHOWN = 30
"""Runs that are tried for a known fault to show itself."""

DRIFT = 0.05
"""Share of steps by which a page may differ from the code before it has to be written anew."""

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reliability.rst"


class Ground:
    """A house as it is before the stories, and their steps."""

    def __init__(self, template: Path) -> None:
        self.template = template
        self._counted: dict[str, list[Step]] = {}

    def counted(self, scenario: Scenario) -> list[Step]:
        """The scenario's steps when all goes well; which it has to."""
        if scenario.name not in self._counted:
            base = run(scenario, self.template, None)
            assert not base.found, str(base)
            self._counted[scenario.name] = base.steps
        return self._counted[scenario.name]

    def tried(self, scenario: Scenario, chosen: Sequence[Plan]) -> list[Result]:
        """So many runs."""
        steps = self.counted(scenario)
        return [one(Work(scenario, plan, steps[plan.number - 1]), self.template) for plan in chosen]


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    place = template()
    with quietly():
        yield Ground(place)
    shutil.rmtree(place.parent)


def unexplained(results: Sequence[Result]) -> str:
    """What is not known yet, a line each."""
    return "\n".join(example(each) for each in results if each.found and not each.explained)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_sample(scenario: Scenario, ground: Ground) -> None:
    """Would catch, at a step chosen by a fixed seed: acknowledged mail that is lost or not archived once, removed mail that comes back, a row that
    nobody works on, a second copy that rule 11 does not have, an alarm that is lost or outlives its cause, a backup that went through and does not
    restore."""
    todo = list(plans(ground.counted(scenario)))
    assert len(todo) > 500
    wrong = unexplained(ground.tried(scenario, random.Random(6).sample(todo, SAMPLE)))
    assert not wrong, wrong


@pytest.mark.parametrize("name", ["packed deliveries", "packed outage", "packed drain"])
def test_a_sample_of_a_queue_that_packs_everything(name: str, ground: Ground) -> None:
    """Would catch, at the queue's steps: what ``test_a_sample`` would, because a message was packed, and its envelope read again, in between."""
    [scenario] = [each for each in SCENARIOS if each.name == name]
    steps = ground.counted(scenario)
    todo = [plan for plan in plans(steps) if "queue" in steps[plan.number - 1].what]
    wrong = unexplained(ground.tried(scenario, random.Random(7).sample(todo, SAMPLE)))
    assert not wrong, wrong


TOLD = {
    "outage": {("o1", BOB), ("o2", ALICE)},
    "portal": {("p3", ALICE), ("p4", ALICE)},
    "drain": {("g1", ALICE), ("g7", ALICE), ("g2", BOB), ("g5", BOB)},
    "home": {("h4", ALICE)},
    "shared": {("s1", ALICE), ("s2", ALICE), ("s3", ALICE), ("s4", ALICE), ("s5", BOB)},
}
"""What people remove in a story when all goes well."""


@pytest.mark.parametrize("name", TOLD)
def test_people_do_what_the_story_says(name: str, ground: Ground) -> None:
    """Would catch stories in which nothing happens: sessions that are refused, removals that find nothing to remove."""
    [scenario] = [each for each in SCENARIOS if each.name == name]
    assert set(run(scenario, ground.template, None).ledger.removed) == TOLD[name]


def test_the_page_is_about_these_stories(ground: Ground) -> None:
    """Would catch a page that tells of stories which are not told any more, or of fewer steps than there are."""
    rows = re.findall(r"^([a-z][a-z ]*?) {2,}([\d,]+) +([\d,]+)$", DOCUMENT.read_text(), re.MULTILINE)
    told = {name: (int(steps.replace(",", "")), int(runs.replace(",", ""))) for name, steps, runs in rows}
    assert set(told) == {scenario.name for scenario in SCENARIOS}
    for scenario in SCENARIOS:
        steps = ground.counted(scenario)
        for said, counted in zip(told[scenario.name], (len(steps), len(list(plans(steps)))), strict=True):
            assert abs(said - counted) <= DRIFT * counted, (
                f"{scenario.name}: {said} in the page, {counted} counted: python -m tests.faults --count"
            )
    total = sum(runs for _, runs in told.values())
    assert f"{total:,} runs in all" in DOCUMENT.read_text()


def test_nothing_of_a_run_is_left(ground: Ground) -> None:
    """Would catch what keeps a house after its run: thousands of runs in one process would take gigabytes."""
    scenario = SCENARIOS[0]
    chosen = list(plans(ground.counted(scenario)))[:4]

    def reactors() -> int:
        gc.collect()
        return sum(isinstance(each, SteppedReactor) for each in gc.get_objects())

    ground.tried(scenario, chosen)
    before = reactors()
    ground.tried(scenario, chosen)
    assert reactors() <= before


def test_it_goes_on_where_it_was_stopped(ground: Ground, tmp_path: Path) -> None:
    """Would catch runs that are made again, or left out, after a long run was interrupted; and results of another program that are taken for its own."""
    scenario = SCENARIOS[0]
    counts = {scenario.name: ground.counted(scenario)}
    todo = works([scenario], counts)[:6]
    path = tmp_path / "results"
    make(todo[:2], ground.template, Results(path, counts), 1)
    with path.open("ab") as file:
        file.write(b'{"story": "cut')  # the machine died here
    whole = Results(path, counts)
    first = whole.all()
    assert [(each.number, each.ending) for each in first] == [work.plan for work in todo[:2]]
    make(todo, ground.template, whole, 2)
    again = whole.all()
    assert again[:2] == first
    assert sorted((each.number, each.ending) for each in again) == sorted(work.plan for work in todo)
    assert not unexplained(again)
    assert not Results(path, {scenario.name: counts[scenario.name][1:]}).all()


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.reason[:40])
def test_known_faults_are_still_there(known: Known, ground: Ground) -> None:
    """Would catch an entry of the table whose fault was mended: it would hide the next one of its kind."""
    for scenario in SCENARIOS:
        steps = ground.counted(scenario)
        todo = [plan for plan in plans(steps) if known.may(scenario.name, steps[plan.number - 1], plan.ending)]
        for plan in random.Random(6).sample(todo, min(SHOWN, len(todo))):
            [tried] = ground.tried(scenario, [plan])
            if tried.found and tried.explained == known.reason:
                return
    pytest.fail(f"nothing shows it any more, take it out of the table: {known.reason}")


MENDED = (
    ("a journal that is broken makes no circle of claims and wake-ups", "deliver", Kind.SYNC_DATA, "queue/journal", Ending.EIO),
    ("a stop that comes while the journal writes ends", "deliver", Kind.SYNC_DATA, "queue/journal", Ending.CANCELLED),
    ("a disk that cannot be read for a moment costs no staged mail", "archive", Kind.READ, "archive/staging", Ending.EIO),
    ("a purge that died between medium and index is no damage", "archive", Kind.SYNC_FILE, "packs/t1", Ending.DIES),
    (
        "a staged segment that went and could not be synced holds nothing up",
        "away",
        Kind.SYNC_FILE,
        "0/archive/staging",
        Ending.EIO,
    ),
    ("read mail does not go home unread for a read of ours that failed once", "home", Kind.OPEN, ":2,FS", Ending.EACCES),
    ("what was removed does not come back after a loss of power", "outage", Kind.COMMIT, "portal.db", Ending.LOSES),
)
"""What was found and mended: the scenario, and at which steps with which ending it showed itself."""


@pytest.mark.parametrize("mended", MENDED, ids=lambda mended: mended[0][:40])
def test_what_was_mended(mended: tuple[str, str, Kind, str, Ending], ground: Ground) -> None:
    """Would catch that it comes back; some of the steps."""
    _, name, kind, what, ending = mended
    [scenario] = [each for each in SCENARIOS if each.name == name]
    steps = [step for step in ground.counted(scenario) if step.kind is kind and what in step.what]
    assert len(steps) > 1
    wrong = unexplained(ground.tried(scenario, [Plan(step.number, ending) for step in steps[:: max(1, len(steps) // 3)]]))
    assert not wrong, wrong
