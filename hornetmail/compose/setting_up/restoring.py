"""A restore from the browser into an installation whose service runs and has taken nothing yet (A11): the same steps as the command's.

The service gives way: everything that runs is stopped, the restore has the data directory to itself while a page shows how far it is, and the service
starts anew on what came back. If nothing was changed yet, a restore that fails gives the service back as it was.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable

import msgspec
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.compose.ground.foundations import Foundations
from hornetmail.compose.setting_up import restore as restores
from hornetmail.compose.setting_up.restore import Restored, Source, Wanted
from hornetmail.compose.setting_up.setup import SetupError
from hornetmail.core.archive.archived import ArchiveError
from hornetmail.interfaces.restoring import Found, IRestoring, RestoreRefused, RestoreSource, RestoreState

_TROUBLE = (SetupError, ArchiveError, OSError, ValueError)


@implementer(IRestoring)
class Restoring:
    """``give_way``: stops the service, has ``run`` done, and starts it again; it returns at once."""

    log = Logger()

    def __init__(self, give_way: Callable[[], None]) -> None:
        self._give_way = give_way
        self._token = secrets.token_hex(16)
        self._base: Foundations | None = None
        self._empty: Callable[[], bool] = lambda: False
        self._still_empty: Callable[[], Awaitable[bool]] | None = None
        self._wanted: Wanted | None = None
        self._lines: list[str] = []
        self._problem = ""
        self._phase = ""

    def offer(self, base: Foundations, empty: Callable[[], bool], still_empty: Callable[[], Awaitable[bool]], where: str) -> None:
        """The service is up. ``empty``: whether it has taken nothing, as far as that is known at once; ``still_empty``: looked up. ``where``: the page."""
        self._base, self._empty, self._still_empty = base, empty, still_empty
        if empty():
            self.log.info(
                "this installation is empty: to restore a backup here, open {where} and give the token {token}",
                where=where,
                token=self._token,
            )

    @property
    def state(self) -> RestoreState:
        """See IRestoring."""
        phase = self._phase or ("open" if self._empty() else "closed")
        return RestoreState(phase, tuple(self._lines), self._problem)

    def trusts(self, token: str) -> bool:
        """See IRestoring. Nobody guesses 128 bits; if wrong ones shut the page, strangers could, and a page from before a restart that still asks how far it is."""
        return hmac.compare_digest(token.strip().encode("utf-8", "replace"), self._token.encode())

    async def look(self, source: RestoreSource) -> Found:
        """See IRestoring."""
        base = self._base
        self._wanted = None
        if base is None or not await self._open():
            raise RestoreRefused("this installation is not empty: nothing is restored over what it holds")
        if not source.text.strip():
            raise RestoreRefused("the text of the key's paper is missing")
        wanted = Wanted(
            Source(source.kind, source.place, source.options, source.secret),
            source.text,
            source.password,
            used=True,
            without=source.without,
            take_over=source.take_over,
        )
        try:
            found = await restores.look(base, wanted)
            if found.writer and not source.take_over:
                raise RestoreRefused(
                    f"another installation writes to medium {found.medium} ({found.writer}), and has not said that it ended: stop it, and look again; or say below that it is lost for good"
                )
        except _TROUBLE as error:
            raise RestoreRefused(" ".join(str(error).split()) or type(error).__name__) from error
        self._wanted = wanted
        return Found(found.where, found.archive, found.key, found.medium, found.backups)

    async def begin(self, backup: str) -> None:
        """See IRestoring."""
        wanted = self._wanted
        if wanted is None:
            raise RestoreRefused("nothing was looked at yet")
        if not await self._open():
            raise RestoreRefused("this installation is not empty: nothing is restored over what it holds")
        if self._phase == "running":
            raise RestoreRefused("a restore is under way already")
        self._wanted = msgspec.structs.replace(wanted, backup=backup)
        self._phase, self._problem = "running", ""
        self._lines = ["The service gives way."]
        self._give_way()

    async def _open(self) -> bool:
        if self._phase == "failed":
            return True
        return self.state.phase == "open" and self._still_empty is not None and await self._still_empty()

    async def run(self, base: Foundations) -> bool:
        """On foundations of its own. Whether it is done; if not, ``state`` says why."""
        wanted = self._wanted
        assert wanted is not None
        self._base = base
        try:
            done = await restores.restore_into(base, wanted, self._lines.append)
        except _TROUBLE as error:
            self._problem = " ".join(str(error).split()) or type(error).__name__
            self.log.error("the restore failed: {problem}", problem=self._problem)
            return False
        self._lines += _result(done)
        for line in self._lines:
            self.log.info("restore: {line}", line=line)
        return True

    def late(self) -> None:
        """Something came while the service gave way: it stays, and nothing is restored over it."""
        self._phase, self._wanted = "", None
        self._problem = (
            "mail came, or somebody set something up here, just before the service had given way: nothing was restored"
        )
        self.log.error("the restore was not begun: {problem}", problem=self._problem)

    def over(self, done: bool, begun: bool) -> None:
        """After ``run``. ``begun``: something was changed already, so that no service can start here before it is ended."""
        if done:
            self._phase, self._wanted = "done", None
        else:
            self._phase = "failed" if begun else ""


def _result(done: Restored) -> list[str]:
    people = (
        f"People and settings are those of backup {done.control}."
        if done.control
        else "There was no backup of people and settings."
    )
    lines = [f"{done.mails} mails on medium {done.medium}.", people]
    if done.findings:
        first = done.findings[0]
        lines.append(f"{len(done.findings)} things could not be read, the first: {first.where}: {first.what}")
    lines.append("Purging is off: look at the clock and at what you see, then confirm it (archive confirm-purge).")
    return lines
