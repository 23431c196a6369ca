"""What goes wrong in the spool."""

from __future__ import annotations


class SpoolError(Exception):
    """The queue cannot do it now; nothing was lost. Answer 4xx. After a failed sync it stays so until a restart."""


class SpoolBroken(SpoolError):
    """The journal failed for good: this process takes and settles nothing more. Stop and restart."""


class BodyLost(SpoolError):
    """A message's body is gone for good: missing, damaged, or on a sector that cannot be read. Hold its rows; trying again is of no use."""
