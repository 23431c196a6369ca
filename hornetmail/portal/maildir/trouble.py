"""Trouble with disk or index in the words of folders."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hornetmail.core.folder import FolderError
from hornetmail.db.engines import DatabaseError, DatabaseFull
from hornetmail.disk.files import DiskFull


@contextlib.contextmanager
def told() -> Iterator[None]:
    """OSError and DatabaseError become FolderError: OVERQUOTA when there is no room, else UNAVAILABLE. The cause is kept for the log."""
    try:
        yield
    except (DiskFull, DatabaseFull) as error:
        raise FolderError("OVERQUOTA", "no room left on the server") from error
    except (OSError, DatabaseError) as error:
        raise FolderError("UNAVAILABLE", "the mail store has trouble; try again later") from error
