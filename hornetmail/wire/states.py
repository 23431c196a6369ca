"""How the states of a protocol are written down, and the one place that moves a conversation along them.

Each protocol has a ``state.py``: its phases, a ``TABLE`` of what leads from one to another, and ``EXCEPTIONS``, the little that a table of questions and
answers cannot say (TLS came up, a mistake was answered, the text ended). An engine inherits from ``Conversation`` and says what happened with
``_answered`` and ``_befell``; it never sets its phase itself (``tests/wire/test_states.py``). ``docs/states.rst`` is made from the tables.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from hornetmail.wire.engine import Event, LocalProtocolError, Out

P = TypeVar("P", bound=enum.Enum)

Asked = type[Event] | type[Out] | None
"""What one side asked; None: the connection itself."""

By = type[Out] | enum.Enum | str
"""How it was met."""

Table = tuple[tuple[tuple[P, ...], Asked, Mapping[Any, P | None]], ...]
"""In these phases, this may be asked, and met so, each leading to that phase (None: it stays)."""

Exceptions = tuple[tuple[tuple[P, ...], enum.Enum, P], ...]
"""In these phases, when this happens, that phase follows. Where it happens in another phase, it changes nothing."""


class Cause(enum.Enum):
    """What moves a conversation besides question and answer, in every protocol. The values are what ``docs/states.rst`` calls it."""

    TLS = "TLS is up"
    FAREWELL = "we say goodbye"
    MISTAKE = "a mistake was answered"
    FATAL = "a fatal mistake was answered"


class States(Generic[P]):
    """One protocol's: where a conversation begins, where it is over, and what leads from phase to phase."""

    __slots__ = ("begin", "exceptions", "moves", "over", "table", "turns")

    def __init__(self, begin: P, over: P, table: Table[P], exceptions: Exceptions[P]) -> None:
        self.begin = begin
        self.over = over
        self.table = table
        self.exceptions = exceptions
        self.moves = {(phase, asked): by for phases, asked, by in table for phase in phases}
        self.turns = {(phase, cause): to for phases, cause, to in exceptions for phase in phases}


class Conversation(Generic[P]):
    """An engine's place in ``STATES``. ``phase`` is set here, by the table, and nowhere else."""

    STATES: States[P]

    def __init__(self) -> None:
        self.phase: P = self.STATES.begin

    @property
    def closing(self) -> bool:
        """Nothing more will be said."""
        return self.phase is self.STATES.over

    def _understood(self, asked: Asked) -> bool:
        """Whether that may be asked in this phase."""
        return (self.phase, asked) in self.STATES.moves

    def _leads(self, asked: Asked, by: By) -> P | None:
        """The phase that follows when it is met so, None if this one stays. Raises LocalProtocolError for what the table does not have."""
        moves = self.STATES.moves.get((self.phase, asked))
        if moves is None or by not in moves:
            met = by.__name__ if isinstance(by, type) else str(by)
            name = "nothing" if asked is None else asked.__name__
            raise LocalProtocolError(f"{met} does not answer {name} in phase {self.phase.value}")
        return moves[by]

    def _answered(self, asked: Asked, by: By) -> None:
        """It was asked and met: on to where the table leads. Raises LocalProtocolError, phase unchanged."""
        to = self._leads(asked, by)
        if to is not None:
            self.phase = to

    def _possible(self, cause: enum.Enum) -> bool:
        """Whether the exceptions know it in this phase."""
        return (self.phase, cause) in self.STATES.turns

    def _befell(self, cause: enum.Enum) -> None:
        """It happened: on to where the exceptions lead; elsewhere the phase stays."""
        to = self.STATES.turns.get((self.phase, cause))
        if to is not None:
            self.phase = to
