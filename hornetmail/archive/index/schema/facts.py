"""Names of facts that the index holds of itself."""

from __future__ import annotations

UNKNOWN_LEAVES = "leaves from before"
"""Fact: the index was begun by a version that did not note the leaves of what arrived again or went."""

UNKNOWN_USES = "part uses from before"
"""Fact: the index was begun by a version that did not note which mail uses which part, so that no part may be taken for unused."""

UNNUMBERED = "arrivals without numbers"
"""Fact: the index was begun by a version that did not note which arrival of a mail brought whom: a rebuild may number folders of people anew."""

UID_BASE = "uids since"
"""Fact: what the UIDVALIDITY of all folders begins at, Unix seconds."""
