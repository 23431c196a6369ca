"""The mode machine at its thresholds: what is so at the very second, and what one second before (rules 5 and 8c, C7)."""

from __future__ import annotations

import msgspec
import pytest

from hornetmail.core.failover import machine as m
from hornetmail.core.failover.mode import Mode

T = 1_800_000_000.0
POLICY = m.Policy()
EMERGENCY = m.State(Mode.EMERGENCY, T, m.HEALTH, "down")


def sign(at: float, key: str = "a", **fields: object) -> m.Evidence:
    return msgspec.structs.replace(m.Evidence(at, key, "refused", last=at), **fields)


def step(state: m.State, event: m.Event, now: float, *, automatic: bool = True) -> m.Decision:
    return m.step(state, event, now, automatic=automatic, policy=POLICY)


def suspicious(**fields: object) -> m.State:
    """Two signs, 100 s old: a third one is enough."""
    return msgspec.structs.replace(m.State(evidence=(sign(T - 100), sign(T - 90, "b"))), **fields)


def proved(**fields: object) -> m.State:
    return msgspec.structs.replace(m.State(evidence=(sign(T - 20), sign(T - 10, "b"), sign(T, "c"))), **fields)


def test_the_thresholds() -> None:
    """What ``docs/operations.rst`` promises of an outage and of a return, and what is so where a sign or an answer says nothing of itself."""
    assert m.Policy(3, 180.0, 4.0, 3, 30.0, 30.0, 900.0, 3600.0, 4) == POLICY
    assert m.State(Mode.NORMAL, 0.0, "", "", (), 0, 0.0, 0.0, 0, 0.0, False, 0.0, False) == m.State()
    assert m.Trouble("k", "t", False, False, m.Proof.CONNECTION, False) == m.Trouble("k", "t")
    assert m.Evidence(1.0, "k", "t", False, m.Proof.CONNECTION, False, 0.0) == m.Evidence(1.0, "k", "t")
    assert m.Surveyed(0, 0, m.Own.SILENT) == m.Surveyed()


@pytest.mark.parametrize(("span", "asks"), [(3.9, False), (4.0, True)])
def test_signs_must_span_some_seconds(span: float, asks: bool) -> None:
    """Would catch a reload of the primary that is taken for an outage."""
    state = m.State(evidence=(sign(T), sign(T, "b")))
    assert bool(step(state, m.Trouble("c", "refused"), T + span).actions) is asks
    assert not step(m.State(evidence=(sign(T),)), m.Trouble("b", "refused"), T + span).actions, "two are too few"


@pytest.mark.parametrize(("age", "kept"), [(180.0, 2), (180.1, 1)])
def test_the_window_of_signs(age: float, kept: int) -> None:
    """Would catch signs of yesterday that count today."""
    state = step(m.State(evidence=(sign(T - age),)), m.Trouble("b", "refused"), T).state
    assert len(state.evidence) == kept


def test_a_sign_met_again() -> None:
    """Would catch one recipient that counts as many, one whose trouble does not seem to last, and our own side's word that is forgotten."""
    before = m.State(evidence=(sign(T), sign(T, "b")))
    state = step(before, m.Trouble("a", "refused", ours=True), T + 50).state
    assert [(e.key, e.at, e.last, e.ours) for e in state.evidence] == [("a", T, T + 50, True), ("b", T, T, False)]
    assert step(state, m.Trouble("a", "refused"), T + 60).state.evidence[0].ours


def test_the_oldest_and_the_newest_signs_are_kept() -> None:
    """Memory is bounded; the first signs prove the span, the last ones the present."""
    state = m.State(asked=T)
    for number in range(40):
        state = step(state, m.Trouble(str(number), "refused"), T + number * 0.5).state
        assert len(state.evidence) == min(number + 1, 16)
    assert [e.key for e in state.evidence] == ["0", "1", "2", "3", *(str(number) for number in range(28, 40))]


@pytest.mark.parametrize(("ago", "asks"), [(29.9, False), (30.0, True)])
def test_others_are_not_asked_all_the_time(ago: float, asks: bool) -> None:
    """Would catch a survey with each mail that fails; and none before a sign of our own side, which decides."""
    state = suspicious(asked=T - ago)
    decision = step(state, m.Trouble("c", "refused"), T)
    assert bool(decision.actions) is asks
    assert decision.state.asked == (T if asks else T - ago)
    assert step(state, m.Trouble("c", "refused", ours=True), T).actions == (m.Survey(),)
    known = suspicious(asked=T - ago, evidence=(sign(T - 100, ours=True), sign(T - 90, "b")))
    assert bool(step(known, m.Trouble("c", "refused", ours=True), T).actions) is asks, "it said so before"


def test_a_survey_that_comes_too_late() -> None:
    """Would catch a switch by an answer to what nobody asks any more: mail was taken meanwhile, or the emergency is there."""
    for state in (suspicious(), m.State(), EMERGENCY, msgspec.structs.replace(EMERGENCY, evidence=proved().evidence)):
        decision = step(state, m.Surveyed(1, 0), T)
        assert decision.state == state
        assert decision.actions == ()


def test_whose_fault_it_is() -> None:
    """Rule 5: others that answer show that it is not our network; nobody to compare with is no proof against us."""
    assert step(proved(), m.Surveyed(0, 1), T).state.mode is Mode.NORMAL
    assert step(proved(), m.Surveyed(1, 1), T).state.mode is Mode.EMERGENCY
    assert step(proved(), m.Surveyed(0, 0), T).state.mode is Mode.EMERGENCY
    dns = tuple(msgspec.structs.replace(e, dns=True) for e in proved().evidence)
    assert step(m.State(evidence=dns), m.Surveyed(0, 0), T).state.mode is Mode.NORMAL
    assert step(m.State(evidence=(*dns[:2], sign(T, "c"))), m.Surveyed(0, 0), T).state.mode is Mode.EMERGENCY, "not by DNS alone"


def test_what_an_emergency_begins_with() -> None:
    """Would catch an emergency that takes the answered probes, the told ends or the signs of the one before along."""
    state = proved(streak=2, back_told=True, asked=T - 1, alarmed=T - 5, written=T - 6, by="ada")
    entered = step(state, m.Surveyed(1, 0), T).state
    assert entered == m.State(Mode.EMERGENCY, T, m.HEALTH, entered.reason, alarmed=T - 5)
    assert step(state, m.Surveyed(1, 0, m.Own.DEFERS), T).state.mode is Mode.NORMAL, "it greets: those signs are void"


@pytest.mark.parametrize(("ago", "flaps"), [(3599.0, 2), (3600.0, 0), (0.0, 0)])
def test_what_flapping_is(ago: float, flaps: int) -> None:
    """Would catch a primary's second outage of the year that is held against it, and the fifth of the hour that is not."""
    state = proved(flaps=1, ended=T - ago if ago else 0.0)
    entered = step(state, m.Surveyed(1, 0), T).state
    assert (entered.mode, entered.flaps) == (Mode.EMERGENCY, flaps)


@pytest.mark.parametrize(("flaps", "probes"), [(0, 3), (1, 6), (4, 48), (5, 48)])
def test_a_flapping_primary_must_prove_more(flaps: int, probes: int) -> None:
    """Each emergency within the hour doubles probes and stay, at most four times: never for good."""
    assert m.probes_needed(m.State(flaps=flaps), POLICY) == probes
    stay = 30.0 * 2 ** min(flaps, 4)
    state = msgspec.structs.replace(EMERGENCY, flaps=flaps, streak=probes - 2)
    assert step(state, m.ProbeAnswered("h"), T + stay).state.mode is Mode.EMERGENCY
    state = msgspec.structs.replace(state, streak=probes - 1)
    assert step(state, m.ProbeAnswered("h"), T + stay - 1).state.mode is Mode.EMERGENCY
    back = step(state, m.ProbeAnswered("h"), T + stay).state
    assert back == m.State(Mode.DRAINING, T + stay, m.HEALTH, back.reason, flaps=flaps, ended=T + stay)


@pytest.mark.parametrize(
    ("event", "streak"),
    [
        (m.Trouble("k", "refused"), 0),
        (m.Trouble("k", "451", proof=m.Proof.ENVELOPE), 2),
        (m.Trouble("k", "451", proof=m.Proof.TEXT), 2),
        (m.Trouble("k", "451", probe=True, proof=m.Proof.ENVELOPE), 0),
    ],
)
def test_what_takes_answered_probes_away(event: m.Trouble, streak: int) -> None:
    """Rule 8c: what the primary says of strangers' mail keeps no emergency; a probe that fails, and no connection, do."""
    state = msgspec.structs.replace(EMERGENCY, streak=2, back_told=True)
    after = step(state, event, T + 5).state
    assert (after.streak, after.back_told) == (streak, bool(streak))


def test_a_probe_outside_of_an_emergency() -> None:
    """Would catch a probe that ends what never began, or voids what it says nothing of."""
    state = m.State(evidence=(sign(T), sign(T, "b", proof=m.Proof.ENVELOPE)), asked=T)
    after = step(state, m.ProbeAnswered("h"), T + 1)
    assert [e.key for e in after.state.evidence] == ["b"]
    assert "1 signs" in after.why
    assert (after.state.streak, after.state.asked) == (0, T)


def test_delivered_mail_voids_all() -> None:
    """Would catch suspicion that outlives a mail that the primary took, and an emergency that one such mail ends."""
    after = step(proved(asked=T), m.Delivered(), T).state
    assert (after.evidence, after.asked) == ((), 0.0)
    assert step(EMERGENCY, m.Delivered(), T).state == EMERGENCY
    known = msgspec.structs.replace(EMERGENCY, evidence=(sign(T),))
    assert step(known, m.Delivered(), T).state == known


def test_by_hand_only() -> None:
    """Rule 5: would catch an emergency of a person's, or of a domain that is switched by hand, that ends by itself; and one told over and over."""
    for state, automatic in ((msgspec.structs.replace(EMERGENCY, by="ada"), True), (EMERGENCY, False)):
        ready = msgspec.structs.replace(state, streak=2)
        told = step(ready, m.ProbeAnswered("h"), T + 500, automatic=automatic)
        assert [type(action) for action in told.actions] == [m.Warn]
        assert told.state.mode is Mode.EMERGENCY
        assert told.state.back_told
        assert step(told.state, m.ProbeAnswered("h"), T + 501, automatic=automatic).actions == ()


@pytest.mark.parametrize(("ago", "told"), [(899.0, False), (900.0, True), (0.0, True)])
def test_alarms_and_letters_are_not_repeated_at_once(ago: float, told: bool) -> None:
    """Would catch an alarm, or a letter to the postmaster, with each sign; and one that comes once and never again."""
    at = T - ago if ago else 0.0
    assert bool(step(proved(alarmed=at), m.Surveyed(0, 1), T).actions) is told
    texts = tuple(msgspec.structs.replace(e, proof=m.Proof.TEXT) for e in proved().evidence)
    decision = step(m.State(evidence=texts, alarmed=T, written=at), m.Surveyed(1, 0, m.Own.TAKES), T)
    assert [type(action) for action in decision.actions] == ([m.Letter] if told else [])
    assert decision.state.written == (T if told else at)
    assert decision.state.mode is Mode.NORMAL
    ours = (*texts[:2], msgspec.structs.replace(texts[2], ours=True))
    assert step(m.State(evidence=ours), m.Surveyed(1, 0, m.Own.TAKES), T).state.strict
    assert not step(proved(), m.Surveyed(1, 0), T).state.strict, "one that is silent ends by greetings"


def test_orders() -> None:
    """Would catch an order that loses who gave it and why, one that forgets how an emergency began, and a drain ordered by hand."""
    entered = step(m.State(ended=T - 5), m.Ordered(Mode.EMERGENCY, "ada"), T)
    assert entered.state == m.State(Mode.EMERGENCY, T, "ada", "switched by hand", ended=T - 5)
    taken = step(msgspec.structs.replace(EMERGENCY, streak=1), m.Ordered(Mode.EMERGENCY, "ada", "stay"), T + 9).state
    assert taken == msgspec.structs.replace(EMERGENCY, streak=1, by="ada", reason="stay")
    back = step(EMERGENCY, m.Ordered(Mode.NORMAL, "ada"), T + 9)
    assert back.state == m.State(Mode.DRAINING, T + 9, "ada", "switched by hand", ended=T + 9)
    for state in (EMERGENCY, m.State()):
        with pytest.raises(m.OrderRefused):
            step(state, m.Ordered(Mode.DRAINING, "ada"), T)


def test_the_end_of_draining() -> None:
    """Would catch normal mode that is announced twice, or before."""
    draining = m.State(Mode.DRAINING, T, "ada", "over", ended=T)
    normal = step(draining, m.Drained(), T + 9)
    assert (normal.state.mode, normal.state.since, normal.state.by, normal.state.ended) == (Mode.NORMAL, T + 9, "ada", T)
    assert normal.actions == (m.Switch(Mode.NORMAL, "ada", "everything went home"),)
    for state in (EMERGENCY, m.State()):
        assert step(state, m.Drained(), T).actions == ()


@pytest.mark.parametrize(("answered", "failed", "fields"), [(0, 2, {}), (0, 0, {"nameless": True}), (0, 0, {"dns": True}), (2, 0, {}), (0, 0, {})])  # fmt: skip
def test_the_newest_sign_is_told(answered: int, failed: int, fields: dict[str, object]) -> None:
    """Would catch an alarm, or the reason of an emergency, that says what was wrong some minutes ago and not what is wrong now."""
    signs = [sign(T - 20, **fields), sign(T - 10, "b", **fields), sign(T, "c", **fields)]
    evidence = tuple(msgspec.structs.replace(each, text=f"said at {each.key}") for each in signs)
    decision = step(m.State(evidence=evidence), m.Surveyed(answered, failed, m.Own.SILENT), T)
    assert decision.actions
    assert decision.why.endswith(": said at c")
