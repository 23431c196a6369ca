"""The mode machine (C2-C7, C20, L6, rule 5)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hornetmail.core.failover import machine as m
from hornetmail.core.failover.mode import Mode

POLICY = m.Policy(signs=3, window=60, span=4, probes=3, stay=30, ask_again=30, alarm_again=900)


class Domain:
    """A machine with its clock; answers surveys as told."""

    def __init__(self, *, automatic: bool = True, others: tuple[int, int] = (1, 0), own: m.Own = m.Own.SILENT) -> None:
        self.own = own
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
            done += self.give(m.Surveyed(*self.others, self.own))
        return done

    def outage(self, dns: bool = False, nameless: bool = False) -> None:
        for number in range(4):
            self.give(m.Trouble(f"message {number}", "refused", dns=dns, nameless=nameless), after=2)

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


def test_trouble_that_lasts() -> None:
    """Three recipients deferred in one second and again for minutes never span the seconds that an outage needs."""
    domain = Domain(own=m.Own.DEFERS)
    for _ in range(10):
        for number in range(3):
            domain.give(m.Trouble(f"recipient {number}", "452", proof=m.Proof.ENVELOPE), after=0.2)
        domain.now += 1
    assert domain.state.mode is Mode.EMERGENCY


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


def test_reasons_are_for_people() -> None:
    """Catches a reason that cites a rule of this project, or counts 'sign 16 of 3'."""
    domain = Domain(others=(0, 2))
    said = []
    for event in (*(m.Trouble(f"message {number}", "refused") for number in range(4)), m.Surveyed(*domain.others, domain.own)):
        domain.now += 2
        decision = m.step(domain.state, event, domain.now, automatic=True, policy=POLICY)
        domain.state = decision.state
        said.append(decision.why)
    assert "no change of mode" in said[-1]
    assert "rule" not in " ".join(said)
    assert f"signs: 1 (it takes {POLICY.signs})" in said[0]


def test_dns_down_is_ours() -> None:
    """Rule 5: DNS that fails looks like an outage of the only primary."""
    domain = Domain(others=(0, 0))
    domain.outage(dns=True)
    assert domain.state.mode is Mode.NORMAL
    assert domain.alarms() == ["dns-down"]


def test_a_name_that_is_wrong() -> None:
    """DNS that says that there is no such host works: whoever hears that it is down looks in the wrong place."""
    domain = Domain(others=(0, 0))
    domain.outage(dns=True, nameless=True)
    assert domain.state.mode is Mode.NORMAL
    assert domain.alarms() == ["primary-unknown"]


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


# ---- rule 8c: what strangers bring about


STRANGERS = st.one_of(
    # What a primary that greets says to their mail and to questions about addresses of their choosing, known ones among them.
    st.builds(
        m.Trouble,
        st.sampled_from([f"recipient r{number}@example.test" for number in range(30)]),
        st.just("rcpt: 451"),
        proof=st.sampled_from([m.Proof.ENVELOPE, m.Proof.TEXT]),
    ),
    # Connections that failed for their number.
    st.builds(m.Trouble, st.sampled_from([f"message {number}" for number in range(30)]), st.just("greeting: 421 too many")),
    st.just(m.Delivered()),
)


@given(
    st.lists(st.tuples(STRANGERS, st.floats(0, 20)), max_size=80),
    st.booleans(),
    st.sampled_from([m.Mode.NORMAL, m.Mode.DRAINING]),
)
def test_strangers_switch_nothing(events: list[tuple[m.Event, float]], automatic: bool, mode: m.Mode) -> None:
    """Rule 8c: a domain is switched by what strangers send, although its primary greets, takes a known recipient and answers its probes."""
    domain = Domain(automatic=automatic, own=m.Own.TAKES)
    domain.state = m.State(mode)
    probed = domain.now
    for event, after in events:
        domain.give(event, after)
        if domain.now - probed >= 60:
            probed = domain.now
            domain.give(m.ProbeAnswered("h"))
        assert domain.state.mode is mode
    assert not [action for action in domain.actions if isinstance(action, m.Switch)]


@given(st.lists(st.tuples(STRANGERS, st.floats(0, 20)), max_size=80))
def test_strangers_keep_no_emergency(events: list[tuple[m.Event, float]]) -> None:
    """Rule 8c in an emergency: what strangers' mail meets takes away the answered probes that end it."""
    domain = Domain()
    domain.outage()
    domain.give(m.ProbeAnswered("h"), after=31)
    domain.give(m.ProbeAnswered("h"), after=15)
    for event, _ in events:
        if not isinstance(event, m.Trouble) or event.proof is not m.Proof.CONNECTION:
            domain.give(event)
    domain.give(m.ProbeAnswered("h"), after=15)
    assert domain.state.mode is Mode.DRAINING


def defers(domain: Domain, proof: m.Proof, *, ours: bool = False) -> None:
    for number in range(4):
        domain.give(m.Trouble(f"recipient r{number}", "452 disk full", proof=proof, ours=ours and number == 3), after=2)


def test_an_answered_probe_is_proof() -> None:
    """Connections that fail one by one add up to an outage although the probes between them are answered."""
    domain = Domain()
    for number in range(20):
        domain.give(m.Trouble(f"message {number}", "refused"), after=3)
        if number % 2:
            domain.give(m.ProbeAnswered("h"))
    assert domain.state.mode is Mode.NORMAL


def test_a_primary_that_greets_and_defers() -> None:
    """Rules 1 and 2 stay: a primary whose disk is full greets, and defers every MAIL or RCPT. Ours too: that is an outage."""
    domain = Domain(own=m.Own.DEFERS)
    defers(domain, m.Proof.ENVELOPE)
    assert domain.state.mode is Mode.EMERGENCY
    assert domain.state.strict, "a greeting does not end it"
    assert "takes no mail" in domain.state.reason


def test_a_primary_that_defers_texts() -> None:
    """Every final dot is deferred: no question shows that. Messages of strangers raise an alarm and a letter of ours; what becomes of the
    letter decides."""
    domain = Domain(own=m.Own.TAKES)
    defers(domain, m.Proof.TEXT)
    assert domain.state.mode is Mode.NORMAL
    assert domain.alarms() == ["primary-defers"]
    assert [action for action in domain.actions if isinstance(action, m.Letter)]
    domain.give(m.Trouble("recipient postmaster", "452 disk full", proof=m.Proof.TEXT, ours=True), after=1)
    assert domain.state.mode is Mode.EMERGENCY, "at once, not when the others may be asked again"


def test_a_letter_that_arrives() -> None:
    """The letter of ours is delivered: what was deferred were single messages."""
    domain = Domain(own=m.Own.TAKES)
    defers(domain, m.Proof.TEXT)
    domain.give(m.Delivered(), after=1)
    assert not domain.state.evidence


def test_what_our_own_question_disproves() -> None:
    """A silent primary and one that takes a recipient are told apart by the question, whatever the signs say."""
    for own, proof, switched in (
        (m.Own.SILENT, m.Proof.CONNECTION, True),
        (m.Own.SILENT, m.Proof.ENVELOPE, True),
        (m.Own.DEFERS, m.Proof.CONNECTION, False),
        (m.Own.DEFERS, m.Proof.TEXT, True),
        (m.Own.TAKES, m.Proof.CONNECTION, False),
        (m.Own.TAKES, m.Proof.ENVELOPE, False),
        (m.Own.UNASKED, m.Proof.CONNECTION, False),
    ):
        domain = Domain(own=own)
        defers(domain, proof)
        assert (domain.state.mode is Mode.EMERGENCY) is switched, (own, proof)


def test_deferred_envelopes_are_disproved() -> None:
    """A recipient that is taken from us leaves signs of deferred envelopes in force: an alarm and a letter for nothing, or a switch when one of
    them was of our own people's."""
    domain = Domain(own=m.Own.TAKES)
    defers(domain, m.Proof.ENVELOPE, ours=True)
    assert domain.state.mode is Mode.NORMAL
    assert len(domain.state.evidence) == 1, "met after the question"
    assert {type(action) for action in domain.actions} == {m.Survey}


def test_old_states_are_read() -> None:
    """A state that an earlier version remembered."""
    old = b'{"mode":"emergency","since":1.0,"by":"health","evidence":[{"at":1.0,"key":"k","text":"t","dns":false}]}'
    state = msgspec.json.decode(old, type=m.State)
    assert state.evidence[0].proof is m.Proof.CONNECTION
    assert not state.strict


def test_a_clock_that_is_put_back_switches_nothing_off() -> None:
    """Would catch times from before the step that hold up failover, the way back and alarms until the clock has come that far again: a sign, a
    survey, an alarm, and the beginning of the emergency."""
    domain = Domain(others=(0, 1))
    domain.outage()
    assert domain.alarms() == ["network-down"]
    domain.now -= 6 * 86400
    domain.outage()
    assert domain.alarms() == ["network-down", "network-down"]
    domain.others = (1, 0)
    domain.now -= 3600
    domain.outage()
    assert domain.state.mode is Mode.EMERGENCY
    domain.now -= 3600
    for _ in range(3):
        domain.give(m.ProbeAnswered("h"), after=15)
    assert domain.state.mode is Mode.DRAINING
    domain.give(m.Drained(), after=1)
    domain.now -= 3600
    domain.outage()
    assert domain.state.mode is Mode.EMERGENCY


def test_texts_deferred_end_by_a_text_taken() -> None:
    """Recipients were taken all along: probes that take them prove nothing new. A message is offered, ever less often, and one taken ends it."""
    domain = Domain(own=m.Own.TAKES)
    defers(domain, m.Proof.TEXT)
    domain.give(m.Trouble("recipient postmaster", "452 disk full", proof=m.Proof.TEXT, ours=True), after=1)
    assert domain.state.mode is Mode.EMERGENCY
    assert domain.state.texts
    at: list[float] = []
    for _ in range(400):
        if any(isinstance(action, m.Trial) for action in domain.give(m.ProbeAnswered("h"), after=5)):
            at.append(domain.now)
            domain.give(m.Tried(False))
    assert [round(after - before) for before, after in itertools.pairwise(at)] == [60, 120, 240, 480, 480, 480]
    assert at[0] - domain.state.since >= POLICY.stay
    domain.give(m.Tried(True))
    assert domain.state.mode is Mode.DRAINING
    assert "took a message" in domain.state.reason
    assert domain.give(m.Tried(False)) == [], "too late: there is nothing any more that it could end"


@pytest.mark.parametrize(("taken", "ends"), [(True, True), (None, True), (False, False)])
def test_what_a_trial_ends(taken: bool | None, ends: bool) -> None:
    """Nothing to offer ends it too; one by hand is ended by nothing but an order."""
    state = m.State(Mode.EMERGENCY, 1.0, m.HEALTH, "why", strict=True, texts=True)
    for by, automatic, expected in ((m.HEALTH, True, ends), ("admin", True, False), (m.HEALTH, False, False)):
        decision = m.step(msgspec.structs.replace(state, by=by), m.Tried(taken), 100.0, automatic=automatic, policy=POLICY)
        assert (decision.state.mode is Mode.DRAINING) is expected
        assert decision.why
