"""The mode machine (C2-C7, C20, L6, rule 5)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hornetmail.core import machine as m
from hornetmail.core.mode import Mode

POLICY = m.Policy(signs=3, window=60, span=4, probes=3, stay=30, ask_again=30, alarm_again=900)


class Domain:
    """A machine with its clock; answers surveys as told."""

    def __init__(self, *, automatic: bool = True, others: tuple[int, int] = (1, 0)) -> None:
        self.state = m.State()
        self.now = 1000.0
        self.automatic = automatic
        self.others = others
        self.actions: list[m.Action] = []

    def give(self, event: m.Event, after: float = 0.0) -> Sequence[m.Action]:
        self.now += after
        decision = m.step(self.state, event, self.now, automatic=self.automatic, policy=POLICY)
        assert decision.why
        self.state = decision.state
        done = list(decision.actions)
        self.actions += decision.actions
        if any(isinstance(each, m.Survey) for each in decision.actions):
            done += self.give(m.Surveyed(*self.others))
        return done

    def outage(self, dns: bool = False) -> None:
        for number in range(4):
            self.give(m.Trouble(f"message {number}", "refused", dns=dns), after=2)

    def alarms(self) -> list[str]:
        return [each.code for each in self.actions if isinstance(each, m.Warn)]


def test_outage_and_return() -> None:
    """C7: by itself into the emergency, back through draining, with a reason at each step."""
    domain = Domain()
    domain.outage()
    assert domain.state.mode is Mode.EMERGENCY
    assert domain.state.by == m.HEALTH
    assert "refused" in domain.state.reason
    for _ in range(3):
        assert domain.state.mode is Mode.EMERGENCY
        domain.give(m.ProbeAnswered("h"), after=15)
    assert domain.state.mode is Mode.DRAINING
    domain.give(m.Drained(), after=1)
    assert domain.state.mode is Mode.NORMAL


def test_one_recipient_is_no_outage() -> None:
    """L6: one mailbox that is refused over and over switches the whole domain."""
    domain = Domain()
    for _ in range(100):
        domain.give(m.Trouble("recipient bob@example.test", "452"), after=3)
    assert domain.state.mode is Mode.NORMAL


def test_a_blip_is_no_outage() -> None:
    """Hysteresis: twenty connections refused within a second (a reload) switch the domain."""
    domain = Domain()
    for number in range(20):
        domain.give(m.Trouble(f"message {number}", "refused"), after=0.05)
    assert domain.state.mode is Mode.NORMAL
    domain.give(m.Delivered())
    domain.give(m.Trouble("message x", "refused"), after=5)
    assert domain.state.mode is Mode.NORMAL
    assert len(domain.state.evidence) == 1


def test_signs_get_old() -> None:
    """Three failures spread over a day are added up."""
    domain = Domain()
    for number in range(10):
        domain.give(m.Trouble(f"message {number}", "refused"), after=59)
    assert domain.state.mode is Mode.NORMAL


def test_probes_alone_prove_an_outage() -> None:
    """A domain without traffic stays in normal mode while its primary is down."""
    domain = Domain()
    for number in range(3):
        domain.give(m.Trouble(f"probe at {number}", "refused", probe=True), after=5)
    assert domain.state.mode is Mode.EMERGENCY


def test_all_primaries_down_is_our_network() -> None:
    """Rule 5: an alarm and no change of mode, however long it lasts."""
    domain = Domain(others=(0, 2))
    for _ in range(20):
        domain.outage()
    assert domain.state.mode is Mode.NORMAL
    assert "network-down" in domain.alarms()
    assert len(domain.alarms()) < 3
    domain.others = (1, 1)
    domain.give(m.Trouble("message later", "refused"), after=31)
    assert domain.state.mode is Mode.EMERGENCY


def test_dns_down_is_ours() -> None:
    """Rule 5: DNS that fails looks like an outage of the only primary."""
    domain = Domain(others=(0, 0))
    domain.outage(dns=True)
    assert domain.state.mode is Mode.NORMAL
    assert domain.alarms() == ["dns-down"]


def test_dns_of_one_primary_down() -> None:
    """Another primary that answers shows that our DNS works."""
    domain = Domain(others=(1, 0))
    domain.outage(dns=True)
    assert domain.state.mode is Mode.EMERGENCY


def test_by_hand_ends_by_hand() -> None:
    """Rule 5: probes end an emergency that a person set."""
    domain = Domain()
    domain.give(m.Ordered(Mode.EMERGENCY, "admin@example.test", "moving house"))
    for _ in range(50):
        domain.give(m.ProbeAnswered("h"), after=60)
    assert domain.state.mode is Mode.EMERGENCY
    assert domain.alarms() == ["primary-back"]
    domain.give(m.Ordered(Mode.NORMAL, "admin@example.test"))
    assert domain.state.mode is Mode.DRAINING


def test_taken_over_by_hand() -> None:
    """An order during an automatic emergency makes it one that ends by hand."""
    domain = Domain()
    domain.outage()
    domain.give(m.Ordered(Mode.EMERGENCY, "admin", "stay there"))
    for _ in range(50):
        domain.give(m.ProbeAnswered("h"), after=60)
    assert domain.state.mode is Mode.EMERGENCY


def test_manual_domain_never_switches() -> None:
    """C7: a domain set to manual is switched by evidence, or nobody is told."""
    domain = Domain(automatic=False)
    domain.outage()
    assert domain.state.mode is Mode.NORMAL
    assert domain.alarms() == ["primary-down"]


def test_a_failed_probe_starts_the_count_anew() -> None:
    """A primary that answers every other time counts as back."""
    domain = Domain()
    domain.outage()
    for number in range(30):
        domain.give(m.ProbeAnswered("h"), after=15)
        domain.give(m.ProbeAnswered("h"), after=15)
        domain.give(m.Trouble(f"probe at {number}", "refused", probe=True), after=15)
    assert domain.state.mode is Mode.EMERGENCY


def test_flapping_gets_harder() -> None:
    """A primary that comes and goes drags the domain along at full speed."""
    domain = Domain()
    stays = []
    for _ in range(4):
        domain.outage()
        assert domain.state.mode is Mode.EMERGENCY
        entered = domain.now
        while domain.state.mode is Mode.EMERGENCY:
            domain.give(m.ProbeAnswered("h"), after=10)
        stays.append(domain.now - entered)
    assert stays == sorted(stays)
    assert stays[-1] >= 4 * stays[0]


def test_outage_while_draining() -> None:
    """A primary that fails again during the drain is hammered on."""
    domain = Domain()
    domain.outage()
    for _ in range(3):
        domain.give(m.ProbeAnswered("h"), after=15)
    domain.outage()
    assert domain.state.mode is Mode.EMERGENCY


@pytest.mark.parametrize("mode", [Mode.NORMAL, Mode.DRAINING])
def test_senseless_orders(mode: Mode) -> None:
    """An order that makes no sense is taken silently, or changes the state."""
    domain = Domain()
    with pytest.raises(m.OrderRefused):
        domain.give(m.Ordered(mode, "admin"))
    assert domain.state == m.State()


EVENTS = st.one_of(
    st.builds(m.Trouble, st.sampled_from("abcdefgh"), st.just("x"), st.booleans(), st.booleans()),
    st.just(m.Delivered()),
    st.just(m.ProbeAnswered("h")),
    st.just(m.Drained()),
)


@given(st.lists(st.tuples(EVENTS, st.floats(0, 100)), max_size=60))
def test_never_without_a_survey(events: list[tuple[m.Event, float]]) -> None:
    """Any history: no emergency without a survey that allowed it, bounded memory, an outage never ends in one step."""
    domain = Domain(others=(0, 1))
    for event, after in events:
        domain.give(event, after)
        assert domain.state.mode is Mode.NORMAL
        assert len(domain.state.evidence) <= 16
