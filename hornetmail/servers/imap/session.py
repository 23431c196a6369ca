"""One IMAP conversation: log-in, and which command is done by whom. Runs in ``net/serving/pump``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from hornetmail.core.folder import FolderError
from hornetmail.core.served import Person
from hornetmail.interfaces.folders import ISharedFolder
from hornetmail.net.serving.pump import Answer, Result, Session, Wire
from hornetmail.servers.imap import login
from hornetmail.servers.imap.enabled import Enabled
from hornetmail.servers.imap.finding.search import search
from hornetmail.servers.imap.finding.sort import sort, thread
from hornetmail.servers.imap.folders import mailboxes, metadata, quotas, selecting, sharing
from hornetmail.servers.imap.messages import append, messages
from hornetmail.servers.imap.messages.append import Appending
from hornetmail.servers.imap.messages.fetch import fetch
from hornetmail.servers.imap.mounts import Mounts
from hornetmail.servers.imap.site import ImapSite
from hornetmail.servers.imap.view import View
from hornetmail.servers.imap.watch import Place
from hornetmail.servers.sasl import LogIn, mechanisms
from hornetmail.wire.engine import Broken, Chunk, End, Event, Out
from hornetmail.wire.imap.answers.answers import Bye, Continuation, Greeting, Tagged, Untagged
from hornetmail.wire.imap.answers.render import string
from hornetmail.wire.imap.requests import commands as c

STRANGER = "IMAP4rev2 IMAP4rev1 SASL-IR LITERAL- ID ENABLE IDLE"
"""Before log-in no literal may be larger than LITERAL- lets it be."""

INSIDE = (
    "IMAP4rev2 IMAP4rev1 LITERAL+ ID ENABLE IDLE NAMESPACE UIDPLUS MOVE UNSELECT CHILDREN SPECIAL-USE CREATE-SPECIAL-USE "
    "LIST-EXTENDED LIST-STATUS ESEARCH STATUS=SIZE CONDSTORE QRESYNC SEARCHRES WITHIN PARTIAL SORT SORT=DISPLAY ESORT "
    "THREAD=ORDEREDSUBJECT THREAD=REFERENCES PREVIEW QUOTA QUOTA=RES-STORAGE QUOTA=RES-MESSAGE MULTIAPPEND REPLACE BINARY "
    "UTF8=ACCEPT OBJECTID SAVEDATE ACL RIGHTS=kxte METADATA"
)
REREAD_SECONDS = 30.0
"""NOOP looks at the folder anew without a hint when it did not for so long: hints may be lost, and other programs give none."""


STILL_SECONDS = 120.0
"""An IDLE that has nothing to tell says so."""


class ImapSession(Session):
    """See ``net.pump.Session``. Attributes are for the modules beside this one."""

    log = Logger()

    def __init__(self, site: ImapSite) -> None:
        self.site = site
        self.person: Person | None = None
        self.mounts = Mounts(())
        self.view: View | None = None
        self.exchange: LogIn | None = None
        self.tries = 0
        self._compressed = False
        self.enabled = Enabled()
        self._broken = 0
        self._early = 0
        self.appending: Appending | None = None
        self._idle_read: Deferred[None] | None = None
        self._still: IDelayedCall | None = None
        self._annotations: metadata.Annotations | None = None

    # ---- the pump's side

    def attach(self, wire: Wire) -> Result:
        """Keeps the wire and greets."""
        self.wire = wire
        return Greeting(f"{self.site.policy.hostname} HornetMail", "CAPABILITY " + self.capabilities())

    def on(self, event: Event) -> Result:
        """The answer to an event."""
        if self.person is None and isinstance(event, c.Command):
            self._early += 1
            if self._early > self.site.policy.early:
                return Bye("Too many commands before log-in")
        result = _ON[type(event)](self, event)
        if result is None or isinstance(result, (Out, list, tuple)):
            return result
        return self._guarded(cast("Awaitable[Answer]", result))

    async def _guarded(self, answer: Awaitable[Answer]) -> Answer:
        try:
            return await answer
        except FolderError as error:
            return refusal(error)

    def failed(self, event: Event, failure: Failure) -> Answer:
        """Ours is the fault: the command may be tried again."""
        if self.appending is not None:
            self.appending.forget()
            self.appending = None
        if isinstance(event, Chunk):
            return Bye("Internal error")
        return Tagged("NO", "Internal error, try again later", "UNAVAILABLE")

    def lost(self, reason: Failure) -> None:
        """Let go of everything."""
        self._idle_ends()
        self.deselect()
        if self._annotations is not None:
            self._annotations.close()
        if self._idle_read is not None:
            self._idle_read.cancel()
        if self.appending is not None:
            self.appending.forget()
            self.appending = None

    def timed_out(self) -> Answer:
        """RFC 3501 section 5.4."""
        return Bye("Idle for too long")

    def goodbye(self) -> Answer:
        """We go down."""
        return Bye("Server shutting down", "UNAVAILABLE")

    def busy(self) -> bool:
        """A message is arriving."""
        return self.appending is not None

    # ---- any state

    def capabilities(self) -> str:
        """What is spoken in the present state."""
        if self.person is not None:
            more = "" if self._compressed else " COMPRESS=DEFLATE"
            return f"{INSIDE} APPENDLIMIT={self.site.policy.append_bytes}{more}"
        policy = self.site.policy
        words = STRANGER
        if self.wire.tls is None and policy.starttls:
            words += " STARTTLS"
        if not self.may_log_in():
            return words + " LOGINDISABLED"
        return words + "".join(f" AUTH={name}" for name in mechanisms(self.site.access, self.wire))

    def _capability(self, event: c.Capability) -> Result:
        return Tagged("OK", "Done", data=f"* CAPABILITY {self.capabilities()}\r\n".encode("ascii"))

    def _noop(self, event: c.Noop) -> Result:
        view = self.view
        if view is not None and self.site.reactor.seconds() - view.checked > REREAD_SECONDS:
            return self._look(view)
        return self.done("Done")

    def _check(self, event: c.Check) -> Result:
        return self._look(self.selected)

    async def _look(self, view: View) -> Answer:
        """Opening the folder again takes in what other programs did to it."""
        view.dirty = view.thorough = True
        try:
            await view.tree.open(view.folder.info.name)
        except FolderError as error:
            if error.code != "NONEXISTENT":
                raise
        return await self.finish("Done")

    def _logout(self, event: c.Logout) -> Result:
        self.deselect()
        return Tagged("OK", "Logged out", data=b"* BYE Logging out\r\n")

    def _id(self, event: c.Id) -> Result:
        return Tagged("OK", "Done", data=b'* ID ("name" "HornetMail")\r\n')

    def _literal(self, event: c.LiteralWanted) -> Result:
        return Continuation("Ready")

    def _on_broken(self, event: Broken) -> Result:
        self._idle_ends()
        if self.view is not None:
            self.view.wake = None
        if self.appending is not None:
            self.appending.forget()
            self.appending = None
        if event.fatal:
            return event.suggested
        self._broken += 1
        if self._broken > self.site.policy.broken_commands * (1 if self.person is None else 10):
            return Bye("Too many broken commands")
        return event.suggested

    # ---- log-in

    def may_log_in(self) -> bool:
        """Whether passwords are taken here and now."""
        return self.wire.tls is not None or self.site.policy.plaintext_login

    def _starttls(self, event: c.Starttls) -> Result:
        if not self.site.policy.starttls:
            return Tagged("NO", "There is no certificate")
        return Tagged("OK", "Begin TLS now")

    def _enable(self, event: c.Enable) -> Result:
        before = self.enabled.condstore
        known = [name for word in event.capabilities if (name := self.enabled.add(word))]
        data = f"* {' '.join(['ENABLED', *known])}\r\n".encode("ascii")
        if self.enabled.metadata and self._annotations is None:
            self._annotations = metadata.Annotations(self)
        if self.enabled.condstore and not before and self.view is not None:
            data += self.view.highest()
        return Tagged("OK", "Done", data=data)

    def condstore(self) -> bytes:
        """The client uses mod-sequences from now on (RFC 7162 section 3.1); what it has to be told at the first time."""
        if self.enabled.condstore:
            return b""
        self.enabled.condstore = True
        return self.view.highest() if self.view is not None else b""

    def _compress(self, event: c.Compress) -> Result:
        if event.algorithm != "DEFLATE":
            return Tagged("NO", "Only DEFLATE is understood", "CANNOT")
        if self._compressed:
            return Tagged("NO", "What is compressed already gains nothing", "COMPRESSIONACTIVE")
        self._compressed = True
        return Tagged("OK", "DEFLATE from here on")

    def _passed(self, event: c.Passed) -> Result:
        return None

    def _namespace(self, event: c.Namespace) -> Result:
        kinds = [
            b"".join(b'(%b "/")' % string(prefix.encode("ascii")) for prefix in prefixes) for prefixes in self.mounts.namespaces
        ]
        return Tagged("OK", "Done", data=b"* NAMESPACE %b\r\n" % b" ".join(b"(%b)" % kind if kind else b"NIL" for kind in kinds))

    # ---- the selected folder

    @property
    def selected(self) -> View:
        """The view. Raises FolderError when its folder has gone."""
        if self.view is None:
            raise FolderError("UNAVAILABLE", "The selected mailbox has gone")
        return self.view

    def select(self, view: View) -> None:
        """Look at a folder from now on."""
        self.view = view
        view.checked = self.site.reactor.seconds()
        view.place = self._place(view)
        self.site.watch.add(view.place, view.touch)

    def _place(self, view: View) -> Place:
        folder = view.folder
        if ISharedFolder.providedBy(folder):
            place: Place = folder.place
            return place
        assert self.person is not None
        return self.person.mailbox, folder.info.name

    def deselect(self) -> View | None:
        """Look at none; the view that was."""
        view, self.view = self.view, None
        if view is not None:
            view.wake = None
            self.site.watch.remove(view.place, view.touch)
        return view

    def done(self, text: str, code: str = "", data: bytes = b"", *, expunge: bool = True) -> Result:
        """The tagged OK, behind ``data`` and what else the client has to be told."""
        view = self.view
        if self._annotations is not None and self._annotations.news:
            return self._done_annotated(self._annotations, text, code, data, expunge)
        if view is None or not view.waiting:
            return Tagged("OK", text, code, data)
        if not view.dirty:
            return Tagged("OK", text, code, data + view.news(expunge))
        return self._done_read(view, text, code, data, expunge)

    async def finish(self, text: str, code: str = "", data: bytes = b"", *, expunge: bool = True) -> Answer:
        """The same, inside a coroutine."""
        answer = self.done(text, code, data, expunge=expunge)
        if answer is None or isinstance(answer, (Out, list, tuple)):
            return answer
        return await cast("Awaitable[Answer]", answer)

    async def _done_annotated(
        self, annotations: metadata.Annotations, text: str, code: str, data: bytes, expunge: bool
    ) -> Answer:
        return await self.finish(text, code, data + await annotations.lines(), expunge=expunge)

    async def _done_read(self, view: View, text: str, code: str, data: bytes, expunge: bool) -> Answer:
        try:
            await self.read(view)
        except FolderError as error:
            if error.code != "NONEXISTENT":
                raise
            self.deselect()
            return [Untagged(data), Tagged("OK", text, code), Bye("The selected mailbox has gone")]
        return Tagged("OK", text, code, data + view.news(expunge))

    async def read(self, view: View) -> None:
        """Take in what changed."""
        view.checked = self.site.reactor.seconds()
        place = self._place(view)
        if place != view.place:  # it was renamed meanwhile
            self.site.watch.remove(view.place, view.touch)
            view.place = place
            self.site.watch.add(view.place, view.touch)
        await view.read()

    # ---- IDLE

    def _idle(self, event: c.Idle) -> Result:
        self._still = self.site.reactor.callLater(STILL_SECONDS, self._still_here)
        if self._annotations is not None:
            self._annotations.wake()
        view = self.view
        if view is None:
            return Continuation("idling")
        view.wake = self._woken
        if view.waiting:
            self._woken()
        return Continuation("idling")

    @property
    def idling(self) -> bool:
        """IDLE is under way."""
        return self._still is not None

    def _still_here(self) -> None:
        """Clients and the routers between see that the line lives; and a client that is gone is noticed."""
        self._still = self.site.reactor.callLater(STILL_SECONDS, self._still_here)
        self.wire.remark(Untagged(b"* OK Still here\r\n"))

    def _idle_ends(self) -> None:
        if self._still is not None:
            self._still.cancel()
            self._still = None

    def _woken(self) -> None:
        """Something changed while the client idles; one reading at a time."""
        if self._idle_read is None and self.view is not None:
            reading = Deferred.fromCoroutine(self._tell_idler(self.view))
            if not reading.called:
                self._idle_read = reading
                reading.addBoth(self._idle_over)
            reading.addErrback(self._idle_failed)

    def _idle_over(self, result: Any) -> Any:
        self._idle_read = None
        return result

    def _idle_failed(self, failure: Failure) -> None:
        if isinstance(failure.value, ConnectionLost | CancelledError):
            return
        if not isinstance(failure.value, FolderError):
            self.log.failure("IDLE failed", failure)
        if self.view is not None:
            self.deselect()
            self.wire.send(Bye("The selected mailbox is out of reach"))

    async def _tell_idler(self, view: View) -> None:
        await deferLater(self.site.reactor, 0)
        while view.waiting and view is self.view:
            if view.dirty:
                await self.read(view)
            data = view.news(True) if view is self.view else b""
            if data:
                self.wire.send(Untagged(data))
                await self.wire.drained()

    def _idle_done(self, event: c.Done) -> Result:
        self._idle_ends()
        if self.view is not None:
            self.view.wake = None
        if self._idle_read is not None:
            return self._after_reading(self._idle_read)
        return self.done("IDLE done")

    async def _after_reading(self, reading: Deferred[None]) -> Answer:
        waiting: Deferred[None] = Deferred()

        def over(result: Any) -> Any:
            waiting.callback(None)
            return result

        reading.addBoth(over)
        await waiting
        return await self.finish("IDLE done")


def refusal(error: FolderError) -> Tagged:
    """What a folder's error is on the wire."""
    return Tagged("NO", error.text, error.code)


_ON: dict[type[Event], Callable[[Any, Any], Any]] = {
    c.Capability: ImapSession._capability,
    c.Noop: ImapSession._noop,
    c.Check: ImapSession._check,
    c.Logout: ImapSession._logout,
    c.Id: ImapSession._id,
    c.LiteralWanted: ImapSession._literal,
    c.Starttls: ImapSession._starttls,
    c.Login: login.login,
    c.Authenticate: login.authenticate,
    c.Response: login.response,
    c.Enable: ImapSession._enable,
    c.Compress: ImapSession._compress,
    c.Passed: ImapSession._passed,
    c.Namespace: ImapSession._namespace,
    c.GetQuota: quotas.of_root,
    c.GetQuotaRoot: quotas.of_mailbox,
    c.SetAcl: sharing.set_rights,
    c.GetAcl: sharing.get_rights,
    c.ListRights: sharing.list_rights,
    c.MyRights: sharing.my_rights,
    c.GetMetadata: metadata.get_values,
    c.SetMetadata: metadata.set_values,
    c.Idle: ImapSession._idle,
    c.Done: ImapSession._idle_done,
    c.Append: append.append,
    c.Replace: append.append,
    c.Further: append.further,
    Chunk: append.chunk,
    End: append.end,
    Broken: ImapSession._on_broken,
    c.Select: selecting.select,
    c.Close: selecting.close,
    c.Create: mailboxes.create,
    c.Delete: mailboxes.delete,
    c.Rename: mailboxes.rename,
    c.Subscribe: mailboxes.subscribe,
    c.Listing: mailboxes.listing,
    c.Status: mailboxes.status,
    c.Fetch: fetch,
    c.Search: search,
    c.Sort: sort,
    c.Thread: thread,
    c.Store: messages.store,
    c.Copy: messages.copy,
    c.Expunge: messages.expunge,
}
"""Who does what."""
