"""Runs a scenario once for each step and each way in which that step may end."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from twisted.internet.defer import CancelledError
from twisted.logger import globalLogPublisher

from hornetmail.testing.faults.reactor import ProcessDied, Stuck
from hornetmail.testing.faults.steps import DEATHS, ENDINGS, WHILE, Ending, Plan, Step
from tests.faults.filing import Offered, judge_filed
from tests.faults.house import House
from tests.faults.judge import judge
from tests.faults.ledger import Ledger
from tests.faults.restoring import MIRROR, judge_mirror, judge_restored
from tests.faults.scenarios import Scenario

LIFE = 4 * 86_400.0
SHUTDOWN = 600.0
TAKEN = "250 2.0.0 taken"
"""What the primary says to a final dot."""


class Run(NamedTuple):
    """One run: its steps, what was wrong after it, and what the world knows of it."""

    scenario: str
    plan: Plan | None
    met: Step | None
    steps: list[Step]
    found: list[str]
    ledger: Ledger

    def __str__(self) -> str:
        return f"{self.scenario}: {self.met}, {self.plan and self.plan.ending.name}: {'; '.join(self.found)}"


class _Life:
    """The life in which the fault is."""

    def __init__(self, scenario: Scenario, house: House, ledger: Ledger) -> None:
        self.scenario = scenario
        self.house = house
        self.ledger = ledger
        self.found: list[str] = []
        self.cut = 0

    async def play(self) -> None:
        house, steps = self.house, self.house.steps
        try:
            if self.scenario.opens:
                await house.open()
        except CancelledError:
            house.grace = 0.0
        except Exception as error:  # noqa: BLE001  the process ends with a message
            house.notes.append(f"could not start: {error!r}")
        else:
            steps.counting = True
            try:
                await self.scenario.play(house, self.ledger)
            except CancelledError:
                house.grace = 0.0
            except Exception:
                if steps.dead:
                    raise  # a dead process's coroutine, on its way to the collector
                self.found.append(f"the scenario failed: {traceback.format_exc(limit=-3)}")

    async def end(self) -> None:
        network = self.house.network
        self.cut, before = network.dialled(), network.unheard
        try:
            await self.house.shut()
        except Exception as error:  # noqa: BLE001  the process ends with a message
            self.house.notes.append(f"the stop failed: {error!r}")
        # What was under way may have dialled meanwhile, and then been given up, or be left to the end of the process.
        self.cut = max(self.cut, network.unheard - before + network.dialled())


def run(scenario: Scenario, template: Path, plan: Plan | None) -> Run:
    """One run with one fault, a restart, and the verdict."""
    house = House(template, scenario.unpacked)
    house.planned = scenario.planned
    house.shares = scenario.shares
    house.offered = Offered(house.network) if scenario.files else None
    ledger = Ledger(house)
    life = _Life(scenario, house, ledger)
    found = life.found
    try:
        lent = 0
        if scenario.before is not None:
            lent = _before(scenario, house, ledger)
        house.awake(plan, counting=scenario.starting)
        steps = house.steps
        try:
            house.run(life.play(), LIFE, "the scenario")
            house.run(life.end(), SHUTDOWN, "the stop")
        except ProcessDied:
            if plan is None or plan.ending not in DEATHS:
                raise
        except Stuck as error:
            found.append(f"stuck: {error}")
        except CancelledError:
            house.notes.append("cancelled")
        if plan is None or plan.ending is not Ending.CANCELLED:
            found += [f"not by itself: {what}" for what in ledger.never]
        allowed = lent + _second_copies(house, plan, life.cut)
        ledger.told = bool(house.alarms)
        ledger.alarms, unwritten = house.book()
        if unwritten and not steps.dead and steps.met is not None and "control.db" not in steps.met.what and not _lasts(plan):
            found.append(f"alarms that nobody wrote down: {unwritten}")
        if plan is not None and plan.ending is Ending.LOSES:
            ledger.stays.clear()  # a mark is durable with the removal that follows it
        house.over()
        house.alarms.clear()
        house.awake()
        house.medium_away = False
        try:
            found += house.run(_verdict(scenario, house, ledger, allowed), LIFE, "the restart")
        except (Exception, Stuck):  # noqa: BLE001
            found.append(f"after the restart: {traceback.format_exc(limit=-4)}")
        return Run(scenario.name, plan, steps.met, steps.taken, found, ledger)
    finally:
        house.close()


def _lasts(plan: Plan | None) -> bool:
    """Whether the fault meets other places too, ``control.db`` among them."""
    return plan is not None and plan.ending in WHILE


async def _verdict(scenario: Scenario, house: House, ledger: Ledger, allowed: int) -> list[str]:
    """In the life after: what is not as it should be."""
    found: list[str] = []
    if scenario.opens:
        await house.open()
        await house.primary.listen()
        found += await judge(ledger, allowed)
        if scenario.files:
            found += await judge_filed(ledger)
        if scenario.restores == MIRROR:
            found += await judge_mirror(ledger)
        await house.shut()
    if scenario.restores:
        found += await judge_restored(ledger, scenario.restores)
    return found


def _before(scenario: Scenario, house: House, ledger: Ledger) -> int:
    """The life before; how many connections were open when it died."""
    house.awake()
    begin = scenario.before
    assert begin is not None

    async def play() -> None:
        await house.open()
        await begin(house, ledger)

    die = house.steps.die

    def count() -> None:
        house.steps.connections = house.steps.open_connections()
        die()

    house.steps.die = count
    with suppress(ProcessDied):
        house.run(play(), LIFE, "the life before")
    house.over()
    return house.steps.connections


def _second_copies(house: House, plan: Plan | None, cut: int) -> int:
    """Rule 11: one for each connection that was open when the process died, was cut off, or could record nothing any more, and for each final dot
    whose answer did not come."""
    met = house.steps.met
    if plan is None or met is None:
        return 0
    if plan.ending in DEATHS:
        return house.steps.connections
    if plan.ending is Ending.CANCELLED:
        return max(house.steps.connections, cut)
    if house.queue_broken():
        # What was claimed before goes on, and may dial only now.
        return max(house.steps.connections, 1)
    if plan.ending is Ending.HANGS:
        # Nobody waits for such a long answer when the service is stopped.
        return max(house.steps.unanswered, cut)
    return house.steps.unanswered


def plans(steps: Iterable[Step]) -> Iterator[Plan]:
    """Each step with each ending that its kind can have."""
    for step in steps:
        for ending in ENDINGS[step.kind]:
            yield Plan(step.number, ending)


@contextmanager
def quietly() -> Iterator[None]:
    """Abandoned coroutines and jobs of dead processes protest when they are collected; nobody hears them, nor what is logged. What is there already is not
    looked at by the collector again and again."""
    observers = list(globalLogPublisher._observers)
    for each in observers:
        globalLogPublisher.removeObserver(each)
    hook = sys.unraisablehook
    sys.unraisablehook = lambda unraisable: None
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()
        sys.unraisablehook = hook
        for each in observers:
            globalLogPublisher.addObserver(each)
