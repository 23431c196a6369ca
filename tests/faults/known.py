"""Faults that are known and not mended yet, each with the runs that show it. An entry that none of them shows any more has to go."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from hornetmail.testing.faults.steps import Ending, Kind, Step


class Known(NamedTuple):
    """``what`` and ``says`` are looked for in the step and in what the judge found; no ``endings``: any."""

    reason: str
    kinds: frozenset[Kind]
    what: str
    endings: frozenset[Ending]
    says: str
    scenarios: tuple[str, ...] = ()

    def may(self, scenario: str, step: Step, ending: Ending) -> bool:
        """Whether a run with this fault is one that may show it."""
        return (
            (not self.scenarios or scenario in self.scenarios)
            and step.kind in self.kinds
            and (not self.endings or ending in self.endings)
            and re.search(self.what, step.what) is not None
        )

    def explains(self, scenario: str, step: Step | None, ending: Ending | None, found: Sequence[str]) -> bool:
        """Whether all that the judge found in a run is this fault."""
        if step is None or ending is None or not self.may(scenario, step, ending):
            return False
        return all(re.search(self.says, each) is not None for each in found)


KNOWN: tuple[Known, ...] = ()
"""To stay empty, or to shrink."""
