"""The modes of a domain (C2)."""

from __future__ import annotations

import enum


class Mode(enum.StrEnum):
    """``DRAINING`` is normal delivery while the portal's inboxes go home (C5)."""

    NORMAL = "normal"
    EMERGENCY = "emergency"
    DRAINING = "draining"
