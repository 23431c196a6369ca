"""Snapshots derived change by change are what a fresh start would make of the same directory."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hornetmail.core.served import Domain, Mailbox, Role
from hornetmail.directory.changes import (
    NewMailbox,
    added_domain,
    added_mailbox,
    changed_domain,
    changed_mailbox,
    removed_domain,
    removed_mailbox,
)
from hornetmail.directory.checks import DirectoryConflict, DirectoryError
from hornetmail.directory.persistent import PersistentMap
from hornetmail.directory.snapshot import Snapshot

NAMES = ("a.test", "b.test", "c.test", "d.test")
PEOPLE = ("ann", "bob", "cid", "dan")

names = st.sampled_from(NAMES)
addresses = st.builds("{}@{}".format, st.sampled_from((*PEOPLE, "Ann")), names)
numbers = st.integers(1, 6)
few_names = st.lists(names, max_size=2)
few_addresses = st.lists(addresses, max_size=3)
few_roles = st.lists(st.sampled_from([Role.ADMIN, Role.AUDITOR]), max_size=2)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("add domain"), names, few_names),
        st.tuples(st.just("rename"), names, few_names),
        st.tuples(st.just("remove domain"), names),
        st.tuples(st.just("add"), numbers, addresses, few_addresses, few_roles),
        st.tuples(st.just("aliases"), numbers, few_addresses, few_roles),
        st.tuples(st.just("remove"), numbers),
    ),
    max_size=40,
)


def followed(snapshot: Snapshot, step: tuple[Any, ...]) -> Snapshot:
    """The snapshot after a step; the same if it is refused."""
    try:
        match step:
            case ("add domain", name, aliases):
                return added_domain(snapshot, Domain(name, aliases=tuple(aliases))).snapshot
            case ("rename", name, aliases):
                return changed_domain(snapshot, name, aliases=tuple(aliases)).snapshot
            case ("remove domain", name):
                return removed_domain(snapshot, name).snapshot
            case ("add", number, address, aliases, roles) if snapshot.mailbox_by_id(number) is None:
                new = NewMailbox(address=address, aliases=aliases, roles=roles)
                return added_mailbox(snapshot, number, new).snapshot
            case ("aliases", number, aliases, roles):
                return changed_mailbox(snapshot, number, aliases=tuple(aliases), roles=tuple(roles)).snapshot
            case ("remove", number):
                return removed_mailbox(snapshot, number).snapshot
    except DirectoryError:
        pass
    return snapshot


def seen(snapshot: Snapshot) -> dict[str, Any]:
    """All that it answers."""
    every = [f"{person}@{name}" for person in PEOPLE for name in NAMES]
    return {
        "domains": snapshot.domains,
        "named": [snapshot.domain(name) for name in NAMES],
        "all": tuple(snapshot.mailboxes()),
        "in": [tuple(snapshot.mailboxes(name)) for name in NAMES],
        "counts": [len(snapshot.mailboxes(name)) for name in NAMES],
        "at": [snapshot.mailbox(text) for text in every],
        "covered": [snapshot.covered(text) for text in every],
        "roles": list(snapshot.with_roles(1)),
        "aliased": [{one.id for one in snapshot.aliased_in(name)} for name in NAMES],
        "registered": [tuple(snapshot.registered_at(name)) for name in NAMES],
    }


@given(steps)
def test_derived_is_what_a_restart_reads(steps: list[tuple[Any, ...]]) -> None:
    """Catches an index that a change forgets: an address that finds nobody, or the wrong person, until the process is restarted. And a snapshot
    in force that changes under those who read it."""
    snapshot = Snapshot(tenants={1: "first"})
    for step in steps:
        before = seen(snapshot)
        after = followed(snapshot, step)
        assert seen(snapshot) == before
        snapshot = after
        whole = Snapshot(
            tenants={1: "first"},
            domains={domain.name: domain for domain in snapshot.domains},
            mailboxes={mailbox.id: mailbox for mailbox in snapshot.mailboxes()},
        )
        assert seen(snapshot) == seen(whole)


def test_an_alias_in_use_stays() -> None:
    """A domain's alias that people have addresses in cannot go: their mail would be refused, and the address could be given to somebody else."""
    snapshot = added_domain(Snapshot(tenants={1: "first"}), Domain("a.test", aliases=("b.test", "c.test"))).snapshot
    snapshot = added_mailbox(snapshot, 1, NewMailbox(address="ann@a.test", aliases=("office@b.test",))).snapshot
    with pytest.raises(DirectoryConflict, match=r'mailbox "ann@a\.test" still has an alias in "b\.test"'):
        changed_domain(snapshot, "a.test", aliases=("c.test",))
    snapshot = changed_domain(snapshot, "a.test", aliases=("b.test",)).snapshot
    snapshot = changed_mailbox(snapshot, 1, aliases=()).snapshot
    assert changed_domain(snapshot, "a.test", aliases=()).answer.aliases == ()


def test_an_address_in_a_name_that_is_served_again_is_found() -> None:
    """Directories from before that refusal may have people with addresses in a name that is served no more: once it is an alias again, they
    are found under it, and a change of such a mailbox leaves nothing behind."""
    served, ann = Domain("a.test"), Mailbox(1, "ann@a.test", "a.test", aliases=("office@b.test",))
    lost = Snapshot(tenants={1: "first"}, domains={"a.test": served}, mailboxes={1: ann})
    again = lost.with_domain(Domain("a.test", aliases=("b.test",)))
    assert again.mailbox("office@a.test") == again.mailbox("OFFICE@b.test") == ann
    assert changed_mailbox(again, 1, aliases=()).snapshot.mailbox("office@a.test") is None
    assert again.with_domain(served).mailbox("office@a.test") is None


def test_who_is_told_of_what() -> None:
    """The event names the domains whose settings changed, and apart from them those whose people did, by whichever name of the domain."""
    snapshot = added_domain(Snapshot(tenants={1: "first"}), Domain("a.test", aliases=("b.test",))).snapshot
    assert (snapshot.domains_changed, snapshot.people_changed) == ({"a.test"}, frozenset())
    snapshot = added_domain(snapshot.in_force(2), Domain("c.test")).snapshot.in_force(3)
    assert (snapshot.domains_changed, snapshot.people_changed) == (frozenset(), frozenset())
    added = added_mailbox(snapshot, 1, NewMailbox(address="ann@a.test", aliases=("ann@c.test", "x@b.test"))).snapshot
    assert (added.domains_changed, added.people_changed) == (frozenset(), {"a.test", "c.test"})


@given(
    st.dictionaries(st.integers(), st.integers(), max_size=400),
    st.lists(st.tuples(st.booleans(), st.integers(-300, 300)), max_size=600),
)
def test_a_persistent_map_is_a_mapping(entries: dict[int, int], changes: list[tuple[bool, int]]) -> None:
    """Against a dict, above and below the size at which leaves split."""
    model, made = dict(entries), PersistentMap.of(entries)
    for place, (put, key) in enumerate(changes):
        before = made
        made = made.including(key, place) if put else made.without(key)
        assert before.get(key) == model.get(key)
        if put:
            model[key] = place
        else:
            model.pop(key, None)
    assert made == model
    assert len(made) == len(model) == len(list(made))
    assert all(key in made for key in model)


class _Same:
    """Keys of one hash."""

    def __hash__(self) -> int:
        return 7


def test_keys_of_one_hash_are_kept_apart() -> None:
    """Hashes that cannot be told apart must not split for ever, or lose an entry."""
    keys = [_Same() for _ in range(500)]
    made = PersistentMap[_Same, int]()
    for place, key in enumerate(keys):
        made = made.including(key, place)
    assert [made[key] for key in keys] == list(range(500))
    for key in keys[:499]:
        made = made.without(key)
    assert dict(made) == {keys[499]: 499}
