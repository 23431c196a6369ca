"""The mode machine of one domain (C2-C7, C20, L6, rule 5): ``step(state, event, now) -> Decision``.

    NORMAL ──outage proved──▶ EMERGENCY ──primary back──▶ DRAINING ──nothing left──▶ NORMAL
                                  ▲                            │
                                  └────────outage again────────┘

Hysteresis: an outage is several signs of different recipients or connections that span some seconds and no delivered mail between
them; a return is several answered probes in a row after a minimum stay. Both demands grow while a primary flaps. Before the
machine believes in an outage it asks this primary itself, and how the others are (``Survey``): if none answers, the fault is ours (rule 5).
An emergency ordered by hand ends by hand. Every decision says why.

What strangers send must not switch a healthy domain (rule 8c), and they choose addresses, senders, sizes, texts and how often. So a sign
counts for what it can prove (``Proof``), and the question of our own, in which nobody else has a say, decides: an answered greeting and EHLO
is proof for the primary against all signs that it does not answer, a recipient taken from us against all that it defers envelopes. What is
deferred at DATA or later no question shows; it becomes an outage only together with a message of our own side that met the same, and
such a one is sent (``Letter``).
"""

from __future__ import annotations

import enum

import msgspec

from hornetmail.core.failover.mode import Mode

HEALTH = "health"
"""Who switched, when nobody did it by hand."""


class Policy(msgspec.Struct, frozen=True, gc=False):
    """Thresholds. ``signs`` different ones within ``window`` s that span ``span`` s make an outage; ``probes`` answered in a row after
    ``stay`` s end it. A survey is repeated after ``ask_again`` s, an alarm after ``alarm_again`` s. Each emergency that follows
    another within ``flap_window`` s doubles ``probes`` and ``stay``, at most ``most_flaps`` times. A primary that defers texts is offered one again
    after ``trial`` s, doubled by each that fails, at most ``most_trials`` times."""

    signs: int = 3
    window: float = 180.0
    span: float = 4.0
    probes: int = 3
    stay: float = 30.0
    ask_again: float = 30.0
    alarm_again: float = 900.0
    flap_window: float = 3600.0
    most_flaps: int = 4
    trial: float = 30.0
    most_trials: int = 4


class Proof(enum.StrEnum):
    """What a sign is about, and so what disproves it: that the primary does not answer at all (``CONNECTION``), that it answers and defers
    known recipients (``ENVELOPE``) or their messages (``TEXT``)."""

    CONNECTION = "connection"
    ENVELOPE = "envelope"
    TEXT = "text"


class Own(enum.StrEnum):
    """What our own question to the primary met: no greeting or EHLO; those, but no known recipient was taken; one was taken; or it could not
    be put for a reason of ours."""

    SILENT = "silent"
    DEFERS = "defers"
    TAKES = "takes"
    UNASKED = "unasked"


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """One sign of an outage. ``key`` tells apart what counts once: a recipient, a connection, a probe; ``at``: when it was met first, ``last``
    when last. ``ours``: no stranger had a say in it. ``nameless``: DNS says that there is no host of that name."""

    at: float
    key: str
    text: str
    dns: bool = False
    proof: Proof = Proof.CONNECTION
    ours: bool = False
    last: float = 0.0
    nameless: bool = False


class State(msgspec.Struct, frozen=True, gc=False):
    """What a domain's machine remembers; kept across restarts. Times are Unix seconds; 0 is never."""

    mode: Mode = Mode.NORMAL
    since: float = 0.0
    by: str = ""
    reason: str = ""
    evidence: tuple[Evidence, ...] = ()
    streak: int = 0
    asked: float = 0.0
    alarmed: float = 0.0
    flaps: int = 0
    ended: float = 0.0
    back_told: bool = False
    written: float = 0.0
    strict: bool = False
    """This emergency is one of a primary that greets: it ends by recipients taken, not by greetings."""
    texts: bool = False
    """It is one of a primary that takes recipients and defers what it is sent: it ends by a message taken."""
    tried: float = 0.0
    trials: int = 0
    """When such a primary was offered a message last, and how often that failed in this emergency."""


class Trouble(msgspec.Struct, frozen=True, gc=False):
    """A delivery or a probe met a sign of an outage. ``key``: see Evidence."""

    key: str
    text: str
    dns: bool = False
    probe: bool = False
    proof: Proof = Proof.CONNECTION
    ours: bool = False
    nameless: bool = False


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """The primary took a message: whatever was held against it is void."""

    host: str = ""


class ProbeAnswered(msgspec.Struct, frozen=True, gc=False):
    """A host of the primary greeted and answered EHLO, or, where ``State.strict`` wants that, took a recipient."""

    host: str = ""


class Surveyed(msgspec.Struct, frozen=True, gc=False):
    """How many primaries on other hosts answered, and how many did not, when asked just now; and what this one did (``own``)."""

    answered: int = 0
    failed: int = 0
    own: Own = Own.SILENT


class Tried(msgspec.Struct, frozen=True, gc=False):
    """What came of ``Trial``: a message was taken, or deferred; None: there was none to offer."""

    taken: bool | None


class Ordered(msgspec.Struct, frozen=True, gc=False):
    """Somebody switched by hand; ``mode`` is NORMAL or EMERGENCY."""

    mode: Mode
    by: str
    reason: str = ""


class Drained(msgspec.Struct, frozen=True, gc=False):
    """Nothing of the domain is left to drain."""


class Survey(msgspec.Struct, frozen=True, gc=False):
    """Action: ask this primary for a known recipient and probe those on other hosts, answer with ``Surveyed``."""


class Letter(msgspec.Struct, frozen=True, gc=False):
    """Action: send the domain's postmaster a message of our own through the primary. It tells what the primary does, and what becomes of it
    is a sign that no stranger had a say in."""

    text: str


class Trial(msgspec.Struct, frozen=True, gc=False):
    """Action: offer the primary one message of those that have to get home, and answer with ``Tried``."""


class Switch(msgspec.Struct, frozen=True, gc=False):
    """Action: the mode changed; adopt, park, un-park or drain accordingly."""

    mode: Mode
    by: str
    reason: str


class Warn(msgspec.Struct, frozen=True, gc=False):
    """Action: raise an alarm."""

    code: str
    text: str


Event = Trouble | Delivered | ProbeAnswered | Surveyed | Tried | Ordered | Drained
Action = Survey | Switch | Warn | Letter | Trial


class Decision(msgspec.Struct, frozen=True, gc=False):
    """The new state, what to do, and why, for log and panel."""

    state: State
    actions: tuple[Action, ...]
    why: str


class OrderRefused(ValueError):
    """An order that makes no sense; the text says why."""


def step(state: State, event: Event, now: float, *, automatic: bool = True, policy: Policy | None = None) -> Decision:
    """One step. ``automatic``: the domain may switch by itself (C7). Raises OrderRefused for ``Ordered`` alone."""
    rules = policy or Policy()
    match event:
        case Trouble():
            return _trouble(state, event, now, rules)
        case Delivered():
            return _delivered(state)
        case ProbeAnswered():
            return _answered(state, event, now, automatic, rules)
        case Surveyed():
            return _surveyed(state, event, now, automatic, rules)
        case Tried():
            return _tried(state, event, now, automatic)
        case Ordered():
            return _ordered(state, event, now, rules)
        case Drained():
            return _drained(state, now)


def probes_needed(state: State, policy: Policy) -> int:
    """How many probes in a row must be answered before the emergency ends by itself."""
    return policy.probes << min(state.flaps, policy.most_flaps)


def _lately(at: float, now: float, seconds: float) -> bool:
    """Less than ``seconds`` ago. A time that is still to come was taken from a clock that has been put back since, and tells nothing."""
    return bool(at) and 0 <= now - at < seconds


def _change(state: State, **fields: object) -> State:
    return msgspec.structs.replace(state, **fields)


def _trouble(state: State, event: Trouble, now: float, policy: Policy) -> Decision:
    if state.mode is Mode.EMERGENCY:
        why = f"the emergency goes on: {event.text}"
        if event.proof is not Proof.CONNECTION and not event.probe:
            return Decision(state, (), why)
        return Decision(_change(state, streak=0, back_told=False), (), why)
    witness = event.ours and not any(e.ours for e in state.evidence)
    evidence = _gathered(state, event, now, policy)
    state = _change(state, evidence=evidence)
    if not _enough(evidence, policy):
        span = _span(evidence)
        why = f"no outage yet, signs: {len(evidence)} (it takes {policy.signs}) over {span:.0f} s (it takes {policy.span:.0f}): {event.text}"
        return Decision(state, (), why)
    if _lately(state.asked, now, policy.ask_again) and not witness:
        return Decision(
            state, (), f"outage suspected, this and the other primaries were asked {now - state.asked:.0f} s ago: {event.text}"
        )
    why = f"outage suspected after {len(evidence)} signs, asking this and the other primaries first: {event.text}"
    return Decision(_change(state, asked=now), (Survey(),), why)


def _gathered(state: State, event: Trouble, now: float, policy: Policy) -> tuple[Evidence, ...]:
    """The evidence within the window. A key counts once; met again, it shows that the trouble lasts."""
    kept = [e for e in state.evidence if 0 <= now - e.at <= policy.window]
    if any(e.key == event.key for e in kept):
        return tuple(msgspec.structs.replace(e, last=now, ours=e.ours or event.ours) if e.key == event.key else e for e in kept)
    kept.append(Evidence(now, event.key, event.text, event.dns, event.proof, event.ours, now, event.nameless))
    # The oldest ones prove the span, the newest ones the present; what lies between adds nothing.
    return tuple(kept if len(kept) <= 16 else kept[:4] + kept[-12:])


def _enough(evidence: tuple[Evidence, ...], policy: Policy) -> bool:
    return len(evidence) >= policy.signs and _span(evidence) >= policy.span


def _span(evidence: tuple[Evidence, ...]) -> float:
    return max(e.last for e in evidence) - evidence[0].at


def _surveyed(state: State, event: Surveyed, now: float, automatic: bool, policy: Policy) -> Decision:
    if state.mode is Mode.EMERGENCY or not _enough(state.evidence, policy):
        return Decision(state, (), "asked this and the other primaries; nothing is suspected any more")
    if event.own is Own.UNASKED:
        return Decision(state, (), "the primary could not be asked for a reason of ours, no change of mode")
    state = _disproved(state, event.own)
    if not _enough(state.evidence, policy):
        return Decision(state, (), f"the primary answers our own question ({event.own}): that is no outage")
    newest = state.evidence[-1].text
    if event.own is Own.SILENT:
        if event.failed and not event.answered:
            text = (
                f"no primary answers, this one and {event.failed} more: our own network is at fault, no change of mode: {newest}"
            )
            return _warned(state, now, policy, "network-down", text)
        if not event.answered and all(e.nameless for e in state.evidence):
            text = f"there is no host of the primary's name: correct it here, or in DNS; no change of mode: {newest}"
            return _warned(state, now, policy, "primary-unknown", text)
        if not event.answered and all(e.dns for e in state.evidence):
            return _warned(
                state, now, policy, "dns-down", f"the name of the primary cannot be looked up, no change of mode: {newest}"
            )
        others = f"{event.answered} other primaries answer" if event.answered else "there is no other primary to compare with"
    elif event.own is Own.TAKES and not any(e.ours for e in state.evidence):
        text = (
            f"the primary answers and takes recipients, but deferred {len(state.evidence)} messages of others, which went to the portal one by"
            f" one; no change of mode before a message of our own meets the same: {newest}"
        )
        warned = _warned(state, now, policy, "primary-defers", text)
        if _lately(state.written, now, policy.alarm_again):
            return warned
        return Decision(_change(warned.state, written=now), (*warned.actions, Letter(text)), text)
    else:
        others = "it greets but takes no mail"
    if not automatic:
        text = f"the primary seems to be down ({newest}); the domain is switched by hand"
        return _warned(state, now, policy, "primary-down", text)
    flaps = state.flaps + 1 if _lately(state.ended, now, policy.flap_window) else 0
    reason = f"{len(state.evidence)} signs of an outage, {others}: {newest}"
    strict = event.own is not Own.SILENT
    texts = event.own is Own.TAKES
    entered = State(
        Mode.EMERGENCY, now, HEALTH, reason, flaps=flaps, ended=state.ended, alarmed=state.alarmed, strict=strict, texts=texts
    )
    return Decision(entered, (Switch(Mode.EMERGENCY, HEALTH, reason),), reason)


def _disproved(state: State, own: Own) -> State:
    """Without the evidence that our own question disproves."""
    void = {Own.DEFERS: (Proof.CONNECTION,), Own.TAKES: (Proof.CONNECTION, Proof.ENVELOPE)}.get(own, ())
    return _without(state, void)


def _without(state: State, void: tuple[Proof, ...]) -> State:
    left = tuple(e for e in state.evidence if e.proof not in void)
    return state if len(left) == len(state.evidence) else _change(state, evidence=left)


def _delivered(state: State) -> Decision:
    if state.mode is Mode.EMERGENCY or not state.evidence:
        return Decision(state, (), "the primary took a message")
    return Decision(
        _change(state, evidence=(), asked=0.0), (), f"the primary took a message: {len(state.evidence)} signs of trouble are void"
    )


def _answered(state: State, event: ProbeAnswered, now: float, automatic: bool, policy: Policy) -> Decision:
    if state.mode is not Mode.EMERGENCY:
        left = _without(state, (Proof.CONNECTION,))
        void = len(state.evidence) - len(left.evidence)
        why = f": {void} signs that it does not are void" if void else ""
        return Decision(left, (), f"probe answered by {event.host}{why}")
    state = _change(state, streak=state.streak + 1)
    needed = probes_needed(state, policy)
    stay = policy.stay * 2.0 ** min(state.flaps, policy.most_flaps)
    if state.streak < needed:
        return Decision(state, (), f"probe {state.streak} of {needed} answered by {event.host}")
    if state.by != HEALTH or not automatic:
        # without a count: each further probe would be a decision of its own, and push away why the domain switched
        text = "the primary answers again; this emergency ends by hand only"
        if state.back_told:
            return Decision(state, (), text)
        return Decision(_change(state, back_told=True), (Warn("primary-back", text),), text)
    if _lately(state.since, now, stay):
        return Decision(state, (), f"the primary answers again; the emergency lasts at least {stay:.0f} s")
    reason = f"the primary answered {state.streak} probes in a row"
    if state.texts:
        rest = policy.trial * 2.0 ** min(state.trials, policy.most_trials)
        if _lately(state.tried, now, rest):
            return Decision(
                state, (), f"{reason}; a message was offered to it {now - state.tried:.0f} s ago, the next after {rest:.0f}"
            )
        return Decision(
            _change(state, tried=now), (Trial(),), f"{reason}, as it did while it deferred messages: it is offered one"
        )
    return _back(state, now, HEALTH, reason)


def _tried(state: State, event: Tried, now: float, automatic: bool) -> Decision:
    if state.mode is not Mode.EMERGENCY or not state.texts:
        return Decision(state, (), "a message was offered to the primary; there is no emergency any more that it could end")
    if event.taken is False:
        return Decision(_change(state, trials=state.trials + 1), (), "the primary deferred the message that it was offered")
    if state.by != HEALTH or not automatic:
        return Decision(state, (), "the primary took a message; this emergency ends by hand only")
    return _back(
        state,
        now,
        HEALTH,
        "the primary took a message" if event.taken else "the primary takes recipients, and nothing waits for it",
    )


def _ordered(state: State, event: Ordered, now: float, policy: Policy) -> Decision:
    if event.mode is Mode.EMERGENCY:
        reason = event.reason or "switched by hand"
        entered = State(Mode.EMERGENCY, now, event.by, reason, ended=state.ended)
        if state.mode is Mode.EMERGENCY:
            # Already there: it only becomes an emergency that ends by hand.
            return Decision(_change(state, by=event.by, reason=reason), (Switch(Mode.EMERGENCY, event.by, reason),), reason)
        return Decision(entered, (Switch(Mode.EMERGENCY, event.by, reason),), reason)
    if event.mode is Mode.DRAINING:
        raise OrderRefused("draining follows from going back to normal; it cannot be ordered")
    if state.mode is not Mode.EMERGENCY:
        raise OrderRefused(f"the domain is not in emergency mode, it is {state.mode}")
    return _back(state, now, event.by, event.reason or "switched by hand")


def _back(state: State, now: float, by: str, reason: str) -> Decision:
    draining = State(Mode.DRAINING, now, by, reason, flaps=state.flaps, ended=now, alarmed=state.alarmed)
    return Decision(draining, (Switch(Mode.DRAINING, by, reason),), reason)


def _drained(state: State, now: float) -> Decision:
    if state.mode is not Mode.DRAINING:
        return Decision(state, (), "nothing to drain")
    reason = "everything went home"
    normal = _change(state, mode=Mode.NORMAL, since=now, reason=reason)
    return Decision(normal, (Switch(Mode.NORMAL, state.by, reason),), reason)


def _warned(state: State, now: float, policy: Policy, code: str, text: str) -> Decision:
    if _lately(state.alarmed, now, policy.alarm_again):
        return Decision(state, (), text)
    return Decision(_change(state, alarmed=now), (Warn(code, text),), text)
