"""The twistd plugin: options and makeService; the one place that fetches the reactor for the service."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

ROLES = ("smtp", "delivery", "portal", "archive", "web")
"""What one process can do; all of it unless told otherwise."""


class Options(usage.Options):
    """Options of ``twistd hornetmail``."""

    synopsis = "[options]"
    longdesc = "Mail that never stops and an archive that can be trusted. Make a data directory with `hornetmail init` first."
    optParameters = [["config", "c", "hornetmail.toml", "The configuration file that `hornetmail init` wrote."]]

    def __init__(self) -> None:
        usage.Options.__init__(self)
        self.roles: list[str] = []

    def opt_role(self, role: str) -> None:
        """Listen for this role only: smtp, delivery, portal, archive or web. Repeatable; all of them by default."""
        if role not in ROLES:
            raise usage.UsageError(f"no role {role!r}; there are {', '.join(ROLES)}")
        self.roles.append(role)

    def postOptions(self) -> None:
        """The configuration file must be there."""
        if not Path(self["config"]).is_file():
            raise usage.UsageError(f"{self['config']}: no such file; make a data directory with `hornetmail init --dir DIR`")


def makeService(options: Options) -> IService:
    """The whole service for these options; raises SystemExit(1) with one line on stderr when it cannot be built."""
    from twisted.internet import reactor

    from hornetmail.compose.service import build

    service = build(reactor, Path(options["config"]), frozenset(options.roles or ROLES))
    above: Mapping[str, Any] = options.parent or {}
    if above.get("nodaemon") and not (above.get("logfile") or above.get("logger") or above.get("syslog")):
        service.standard_output = sys.stdout
    return service
