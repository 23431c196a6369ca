"""Faults at every step (``docs/reliability.rst``): in ``make test`` a sample of the runs, in ``make torture`` all of them."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from hornetmail.testing.faults.steps import Ending, Kind, Plan, Step
from tests.faults.driver import Run, plans, quietly, run
from tests.faults.house import PACKED, WHOLE, template
from tests.faults.known import KNOWN, Known
from tests.faults.scenarios import SCENARIOS, Scenario

SAMPLE = 60
"""Runs of each scenario in ``make test``."""

SHOWN = 30
"""Runs that are tried for a known fault to show itself."""


@pytest.fixture(scope="module")
def house() -> Iterator[Path]:
    place = template()
    with quietly():
        yield place
    shutil.rmtree(place.parent)


def counted(scenario: Scenario, house: Path, unpacked: int = WHOLE) -> list[Step]:
    """The scenario's steps when all goes well; which it has to."""
    base = run(scenario, house, None, unpacked)
    assert not base.found, str(base)
    return base.steps


def unexplained(runs: list[Run]) -> list[str]:
    """What is not known yet."""
    return [str(each) for each in runs if each.found and not any(known.explains(each) for known in KNOWN)]


@pytest.mark.parametrize("unpacked", [WHOLE, PACKED])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_sample(scenario: Scenario, unpacked: int, house: Path) -> None:
    """Would catch, at a step chosen by a fixed seed: acknowledged mail that is lost or not archived once, removed mail that comes back, a row that
    nobody works on, and a second copy that rule 11 does not have."""
    todo = list(plans(counted(scenario, house, unpacked)))
    assert len(todo) > 500
    chosen = random.Random(6).sample(todo, SAMPLE)
    wrong = unexplained([run(scenario, house, plan, unpacked) for plan in chosen])
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.reason[:40])
def test_known_faults_are_still_there(known: Known, house: Path) -> None:
    """Would catch an entry of the table whose fault was mended: it would hide the next one of its kind."""
    for scenario in SCENARIOS:
        steps = counted(scenario, house)
        todo = [plan for plan in plans(steps) if known.may(scenario.name, steps[plan.number - 1], plan.ending)]
        for plan in random.Random(6).sample(todo, min(SHOWN, len(todo))):
            tried = run(scenario, house, plan)
            if tried.found and known.explains(tried):
                return
    pytest.fail(f"nothing shows it any more, take it out of the table: {known.reason}")


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("unpacked", [WHOLE, PACKED])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_all(scenario: Scenario, unpacked: int, house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every step with every ending; see ``test_a_sample``."""
    began = time.monotonic()
    steps = counted(scenario, house, unpacked)
    runs: list[Run] = []
    for plan in plans(steps):
        tried = run(scenario, house, plan, unpacked)
        runs.append(tried._replace(steps=[]))
    wrong = unexplained(runs)
    explained = Counter(known.reason for each in runs if each.found for known in KNOWN if known.explains(each))
    with capsys.disabled():
        seconds = time.monotonic() - began
        print(
            f"\n{scenario.name}{'' if unpacked else ', all packed'}: {len(steps)} steps, {len(runs)} runs in {seconds:.0f} s, {len(runs) / seconds:.1f} a second"
        )
        print(f"  by kind: {', '.join(f'{kind} {count}' for kind, count in Counter(step.kind for step in steps).most_common())}")
        for reason, count in explained.items():
            print(f"  known, {count} runs: {reason}")
        for line in wrong:
            print(f"  {line}")
    assert not wrong


MENDED = (
    ("a journal that is broken makes no circle of claims and wake-ups", "deliver", Kind.SYNC_DATA, "queue/journal", Ending.EIO),
    ("a stop that comes while the journal writes ends", "deliver", Kind.SYNC_DATA, "queue/journal", Ending.CANCELLED),
    ("what was removed does not come back after a loss of power", "outage", Kind.COMMIT, "portal.db", Ending.LOSES),
)
"""What was found and mended: the scenario, and at which steps with which ending it showed itself."""


@pytest.mark.parametrize("mended", MENDED, ids=lambda mended: mended[0][:40])
def test_what_was_mended(mended: tuple[str, str, Kind, str, Ending], house: Path) -> None:
    """Would catch that it comes back; one in three of the steps, at least four."""
    _, name, kind, what, ending = mended
    [scenario] = [each for each in SCENARIOS if each.name == name]
    steps = [step for step in counted(scenario, house) if step.kind is kind and what in step.what]
    assert len(steps) > 4
    wrong = unexplained([run(scenario, house, Plan(step.number, ending)) for step in steps[:: max(1, len(steps) // 8)]])
    assert not wrong, "\n".join(wrong)
