"""The API's socket in the data directory: whoever may open it is the local administrator, so it is nobody else's (mode 0600)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.interfaces import IListeningPort
from twisted.web.server import Site

from hornetmail.disk.files import Disk

LONGEST = 107
"""Bytes that the path of a UNIX socket may have (sun_path of unix(7), less its NUL)."""


async def listen_locally(reactor: Any, disk: Disk, path: Path, site: Site) -> IListeningPort:
    """Listen at ``path``, in place of what an earlier process left there: the caller holds the lock on the data directory. Longer paths go
    through a descriptor of the directory, which stays open."""
    disk.unlink(path, missing_ok=True)
    name = os.fspath(path)
    if len(os.fsencode(name)) > LONGEST:
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        name = f"/proc/self/fd/{directory}/{path.name}"
    endpoint = UNIXServerEndpoint(reactor, name, mode=0o600)
    port: IListeningPort = await endpoint.listen(site)
    return port
