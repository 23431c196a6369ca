"""Every await of a delivery, of the archive lane and of the drain × every way in which it can end badly: no row is left claimed, no verdict lost, no second
copy made but where rule 11 has them, and all is over in the end."""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import TestCase

from hornetmail.core.delivery.queued import RowState
from hornetmail.core.failover.mode import Mode
from hornetmail.core.mail.reply import Reply
from tests.delivery.steps import DOMAIN, Ending, Stepper, Steps

ALICE, BOB, NOBODY = (f"{name}@{DOMAIN}" for name in ("alice", "bob", "nobody"))
EXPECTED = Counter({ALICE: 4, BOB: 3})


def play(stepper: Stepper) -> Steps:
    """Deliveries, a bounce, failover of one, its way home; an emergency, mail that is moved away and comes back, the way home."""
    steps = Steps(stepper)
    steps.watch()
    steps.start()
    steps.pass_by(3)
    steps.server.trouble = {BOB: Reply(451, "4.3.0", "not now"), NOBODY: Reply(550, "5.1.1", "unknown")}
    steps.send("alice")
    steps.send("alice", "bob", "nobody")
    steps.pass_by(5)
    del steps.server.trouble[BOB]
    steps.pass_by(150, 5.0)
    steps.switch(Mode.EMERGENCY)
    steps.send("alice")
    steps.send("bob")
    steps.send("alice", "bob")
    steps.pass_by(90, 5.0)
    moved = [copy for copy in steps.portal.inbox(1) if not copy.claimed][:1]
    for copy in moved:
        copy.moved = True
    steps.switch(Mode.NORMAL)
    steps.pass_by(90, 5.0)
    for copy in moved:
        copy.moved = False
    steps.quiet(9 * 3600.0)
    steps.pass_by(130, 5.0)
    steps.quiet(9 * 3600.0)
    return steps


def complaints(steps: Steps) -> list[str]:
    """What must not be, after everything had its time."""
    stepper = steps.stepper
    offered = 0 <= stepper.place < len(stepper.names) and stepper.names[stepper.place] == "line.send"
    found = [f"claimed: {row}" for row in steps.queue.held.values() if row.state is RowState.CLAIMED]
    found += [f"not done: {row.kind} {row.state} {row.address} {row.last}" for row in steps.unfinished()]
    if steps.mode is not Mode.NORMAL:
        found.append(f"mode {steps.mode}")
    if len(steps.delivery.record):
        found.append("something is not recorded")
    for address, count in EXPECTED.items():
        got = len(steps.server.got.get(address, ()))
        if got < count:
            found.append(f"{address} got {got} of {count}")
        if got > count + (1 if steps.uncertain(address) else 0):
            found.append(f"{address} got {got}, not {count}, and nothing was uncertain")
    if steps.portal.copies:
        found.append(f"still in the portal: {list(steps.portal.copies)}")
    bounces = len(steps.outside.got.get("sender@outside.test", ()))
    if bounces != 1 and not (bounces == 2 and offered):
        found.append(f"{bounces} bounces")
    archived = Counter(recipient for item in steps.archive.items.values() for recipient in item.recipients)
    found += [
        f"archived for {address}: {archived[address]}" for address in (ALICE, BOB) if archived[address] != EXPECTED[address]
    ]
    return found


class EveryAwait(TestCase):
    """See the module. The play as it should be has about 200 awaits."""

    def test_as_it_should_be(self) -> None:
        """The play itself: else what follows proves nothing."""
        stepper = Stepper()
        steps = play(stepper)
        assert not complaints(steps)
        assert {alarm.code for alarm in steps.alarms} == {"primary-back"}
        assert len(stepper.names) > 100
        steps.stop()

    def _all(self, ending: Ending) -> None:
        stepper = Stepper()
        first = play(stepper)
        first.stop()
        begun = first.begun
        wrong = []
        seen: Counter[str] = Counter()
        for place, name in enumerate(stepper.names):
            seen[name] += 1
            if place < begun and ending in (Ending.CANCELLED, Ending.CANCELLED_AFTER):
                # A start that is cancelled is no start.
                continue
            if name == "queue.rows" and seen[name] > 12:
                # Looks that come again and again; the first dozen are of every kind.
                continue
            if name == "queue.remember" and ending is Ending.HANGS:
                # A mode's own record, which whoever gives the order waits for.
                continue
            steps = play(Stepper(place, ending))
            wrong += [f"{place} {name} #{seen[name]} {ending}: {each}" for each in complaints(steps)]
            steps.stop()
            self.flushLoggedErrors()
        assert not wrong, "\n".join(wrong)

    def test_raises(self) -> None:
        """A step of ours raises instead of being done."""
        self._all(Ending.RAISES)

    def test_raises_after(self) -> None:
        """It was done, and raises all the same."""
        self._all(Ending.RAISES_AFTER)

    def test_is_cancelled(self) -> None:
        """The wait for it is cancelled before it is done."""
        self._all(Ending.CANCELLED)

    def test_is_cancelled_after(self) -> None:
        """The wait for it is cancelled, and it is done."""
        self._all(Ending.CANCELLED_AFTER)

    def test_hangs(self) -> None:
        """It is never done, and nobody says so."""
        self._all(Ending.HANGS)

    def test_hangs_after(self) -> None:
        """It is done, and nobody ever says so."""
        self._all(Ending.HANGS_AFTER)
