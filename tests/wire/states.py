"""The diagrams of ``docs/states.rst``, made from the tables: ``.venv/bin/python -m tests.wire.states`` writes them anew."""

from __future__ import annotations

import enum
import inspect
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

from hornetmail.wire.imap.client import state as imap_client
from hornetmail.wire.imap.server import state as imap
from hornetmail.wire.pop3 import state as pop3
from hornetmail.wire.smtp import client_state as smtp_client
from hornetmail.wire.smtp import state as smtp
from hornetmail.wire.states import States

PATH = Path(__file__).parent.parent.parent / "docs" / "states.rst"

PROTOCOLS: dict[str, ModuleType] = {
    "SMTP and LMTP, the server's side": smtp,
    "SMTP, the client's side": smtp_client,
    "POP3": pop3,
    "IMAP": imap,
    "IMAP, the client's side": imap_client,
}

HEAD = """\
The states of the protocols
===========================

Made from the tables in ``hornetmail/wire/*/state.py`` by ``python -m tests.wire.states``; a test holds one to the other. Below each phase stands what
leads away from it: what the one side asks, and behind the colon how the other meets it.
"""


def name(by: Any) -> str:
    """As the diagram has it."""
    return by.value if isinstance(by, enum.Enum) else by if isinstance(by, str) else by.__name__


def leading(states: States[Any], phase: enum.Enum) -> dict[enum.Enum, list[str]]:
    """From ``phase``: where to, and what leads there; itself for what stays."""
    found: dict[enum.Enum, list[str]] = {}
    alike: dict[tuple[enum.Enum, tuple[str, ...]], list[str]] = {}
    for phases, asked, ways in states.table:
        if phase in phases:
            for to in dict.fromkeys(ways.values()):
                met = tuple(name(by) for by, target in ways.items() if target is to)
                alike.setdefault((to or phase, met), []).append("the connection" if asked is None else asked.__name__)
    for (to, met), asked_names in alike.items():
        found.setdefault(to, []).append(f"{', '.join(asked_names)}: {' or '.join(met)}")
    for phases, cause, to in states.exceptions:
        if phase in phases:
            found.setdefault(to, []).append(name(cause))
    return found


def diagram(states: States[Any]) -> str:
    """All phases of one protocol."""
    phases = [*type(states.begin)]
    width = max(len(phase.value) for phase in phases)
    lines: list[str] = []
    for phase in phases:
        lines.append(f"  {phase.value}")
        if phase is states.over:
            lines.append("    it is over")
        for to, ways in leading(states, phase).items():
            arrow = f"    {'stays' if to is phase else '--> ' + to.value:<{width + 6}}"
            lines += textwrap.wrap("; ".join(ways), 130, initial_indent=arrow, subsequent_indent=" " * len(arrow))
    return "\n".join(lines)


def document() -> str:
    """The whole of ``docs/states.rst``."""
    out = [HEAD]
    for title, module in PROTOCOLS.items():
        theory = inspect.getdoc(module)
        assert theory is not None
        out.append(f"{title}\n{'-' * len(title)}\n\n{theory}\n\n::\n\n{diagram(module.STATES)}\n")
    return "\n".join(out)


if __name__ == "__main__":
    PATH.write_text(document())
