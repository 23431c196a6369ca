"""What a change of the directory costs, however large it is."""

from __future__ import annotations

import time

from hornetmail.core.served import Domain, Mailbox, Role
from hornetmail.directory.changes import NewMailbox, added_domain, added_mailbox, changed_domain, changed_mailbox
from hornetmail.directory.snapshot import Snapshot

ROUNDS = 5
CHANGES = 200


def directory(domains: int, people: int) -> Snapshot:
    """``people`` mailboxes in each domain, the first of each an administrator."""
    served = {name: Domain(name, aliases=(f"also-{name}",)) for name in (f"d{number}.test" for number in range(domains))}
    mailboxes = {}
    for place, name in enumerate(served):
        for number in range(people):
            identifier = place * people + number + 1
            roles = () if number else (Role.ADMIN,)
            mailboxes[identifier] = Mailbox(identifier, f"user{number}@{name}", name, aliases=(f"u{number}@{name}",), roles=roles)
    return Snapshot(tenants={1: "first"}, domains=served, mailboxes=mailboxes)


def changes(snapshot: Snapshot) -> float:
    """Seconds of CPU for a round of all kinds of changes, each on the one before, and what is asked after each; the best of some rounds."""
    taken = []
    for _ in range(ROUNDS):
        now = snapshot
        began = time.thread_time()
        for number in range(CHANGES):
            now = added_mailbox(now, 10_000_000 + number, NewMailbox(address=f"new{number}@d0.test")).snapshot
            now = changed_mailbox(now, 1 + number % 50, name=f"somebody {number}").snapshot.in_force(number)
            assert now.mailbox(f"new{number}@also-d0.test") is not None
            assert len(now.mailboxes("d0.test")) > number
            if number % 10 == 0:
                now = changed_domain(now, "d1.test", retention_days=1 + number).snapshot
                now = added_domain(now, Domain(f"x{number}.test")).snapshot
        taken.append(time.thread_time() - began)
    return min(taken)


def compared(small: Snapshot, large: Snapshot) -> float:
    """The larger one's cost as a multiple of the smaller one's, the best of three comparisons: others use the machine too."""
    return min(changes(large) / changes(small) for _ in range(3))


def test_a_change_costs_the_same_with_more_domains() -> None:
    """Catches a change that copies or scans the whole directory: four times as many domains, each with as many people, cost four times as much."""
    assert compared(directory(50, 100), directory(200, 100)) < 2


def test_a_change_costs_the_same_in_a_larger_domain() -> None:
    """The same for one large domain: its people are not copied, and not sorted until somebody wants them in order."""
    assert compared(directory(2, 2_500), directory(2, 10_000)) < 2


def test_approvers_are_found_without_looking_at_everybody() -> None:
    """Asked before each change that a second person has to do with: catches a search through all mailboxes."""

    def asked(snapshot: Snapshot) -> float:
        taken = []
        for _ in range(ROUNDS):
            began = time.thread_time()
            for _ in range(CHANGES):
                assert len(snapshot.with_roles(1)) == 2
            taken.append(time.thread_time() - began)
        return min(taken)

    small, large = directory(2, 2_500), directory(2, 10_000)
    assert min(asked(large) / asked(small) for _ in range(3)) < 2
