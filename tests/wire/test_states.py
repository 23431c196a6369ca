"""The states of the protocols are their tables: the documents show them, and nothing else sets a phase."""

from __future__ import annotations

import ast
import enum
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hornetmail.wire
from hornetmail.wire.engine import Event, LocalProtocolError, TLSPeer
from hornetmail.wire.pop3 import events as p
from hornetmail.wire.pop3.server import POP3Policy, POP3ServerEngine
from hornetmail.wire.states import States
from tests.wire.states import PATH, PROTOCOLS, document, leading

WIRE = Path(hornetmail.wire.__file__).parent


def targets(node: ast.AST) -> list[ast.expr]:
    """What a statement assigns to."""
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, (ast.AugAssign, ast.AnnAssign)) else []


def test_documented() -> None:
    """A table was changed, and ``docs/states.rst`` tells of another; ``python -m tests.wire.states`` writes it anew."""
    assert PATH.read_text() == document()


def test_set_in_one_place() -> None:
    """An engine that sets its phase past the table: the table is no longer the whole of it."""
    set_in = {
        path.relative_to(WIRE).as_posix()
        for path in WIRE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for target in targets(node)
        for part in ast.walk(target)
        if isinstance(part, ast.Attribute) and part.attr == "phase"
    }
    assert set_in == {"states.py"}


@pytest.mark.parametrize("module", PROTOCOLS.values(), ids=lambda module: module.__name__)
def test_whole(module: ModuleType) -> None:
    """A phase that nothing leads to, or that has no way to the end: a connection would hang in it. And no row is written twice, one over the other."""
    states: States[Any] = module.STATES
    phases = [*type(states.begin)]
    ways: dict[enum.Enum, set[enum.Enum]] = {phase: set(leading(states, phase)) for phase in phases}
    reached, found = {states.begin}, [states.begin]
    while found:
        for to in ways[found.pop()] - reached:
            reached.add(to)
            found.append(to)
    assert reached == set(phases)
    assert all(states.over in ways[phase] for phase in phases if phase is not states.over)
    assert not ways[states.over]
    assert sum(len(row[0]) for row in states.table) == len(states.moves)
    assert sum(len(row[0]) for row in states.exceptions) == len(states.turns)


ANSWERS = [
    p.Ok(),
    p.Welcome(),
    p.Err("no"),
    p.Challenge(b""),
    p.Listing("", b""),
    p.Begin(),
    p.Body(b"x"),
    p.Finish(),
    p.Capabilities(),
]
SAID = [
    b"USER a\r\n",
    b"PASS b\r\n",
    b"AUTH PLAIN\r\n",
    b"AGEAYg==\r\n",
    b"STLS\r\n",
    b"RETR 1\r\n",
    b"CAPA\r\n",
    b"x\r\n",
    b"GET /\r\n",
    b"QUIT\r\n",
]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(SAID), st.lists(st.sampled_from([*ANSWERS, p.Farewell("bye")]), max_size=3)), max_size=12)
)
def test_any_conversation_keeps_to_it(conversation: list[tuple[bytes, list[Any]]]) -> None:
    """Whatever a client says and a session answers, each step is one of the table; an answer that the table lacks changes nothing."""
    engine = POP3ServerEngine(POP3Policy(plaintext_login=True, starttls=True))
    engine.send(p.Greeting())
    known = {phase: set(leading(engine.STATES, phase)) | {phase} for phase in type(engine.phase)}
    for said, outs in conversation:
        engine.receive(said)
        before = engine.phase
        event = engine.next_event()
        assert engine.phase in known[before]
        for out in [*outs, event.suggested if isinstance(event, Event) and hasattr(event, "suggested") else p.Ok()]:
            before = engine.phase
            try:
                engine.send(out)
            except LocalProtocolError:
                assert engine.phase is before
            assert engine.phase in known[before]


def test_a_turn_elsewhere_changes_nothing() -> None:
    """A handshake that ends when we have said goodbye already brought the conversation back to life."""
    engine = POP3ServerEngine(POP3Policy(starttls=True))
    engine.send(p.Greeting())
    engine.receive(b"STLS\r\n")
    engine.next_event()
    engine.send(p.Ok())
    engine.send(p.Farewell("going down"))
    assert engine.closing
    engine.tls_started(TLSPeer())
    assert engine.closing
