"""Log-in for every door: SMTP, IMAP, POP, web and API (C22)."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from hornetmail.access import rights
from hornetmail.access.passwords import MAX_LENGTH, Passwords, WeakPassword, check, normal, one_time
from hornetmail.access.sessions import Sessions
from hornetmail.access.throttle import Throttle
from hornetmail.core.served import Mailbox, Person, Scope, Suspension
from hornetmail.db.engines import DatabaseError
from hornetmail.directory.store import Credential, DirectoryStore
from hornetmail.interfaces.access import IAccess
from hornetmail.net.serving.limits import network_of
from hornetmail.wire.sasl import ScramKeys

__all__ = ["Access", "AccessRefused", "NewSecret", "WeakPassword"]

REMEMBER = 300.0
"""Seconds that a verified, or refused, pair of name and password is remembered."""

MOST = 10_000
FREE_BY_ACCOUNT = 6
FREE_BY_NETWORK = 20
KNOWN_NETWORK = 30 * 86_400.0


class AccessRefused(Exception):
    """No entry. ``reason``: ``credentials`` (name or password wrong; never says which), ``throttled`` (come again in ``wait`` seconds)
    or ``disabled`` (told only to who knows the password)."""

    def __init__(self, reason: str, text: str, wait: float = 0.0) -> None:
        super().__init__(text)
        self.reason = reason
        self.wait = wait


class NewSecret(msgspec.Struct, frozen=True):
    """A credential to store; ``shown``: the one-time password to tell, or ``""`` if the password was given."""

    credential: Credential
    shown: str = ""


class _Seen(msgspec.Struct, frozen=True, gc=False):
    hashed: str
    right: bool
    expires: float


@implementer(IAccess)
class Access:
    """``clock`` is an ``IReactorTime``. A verified log-in is remembered for five minutes under a hash keyed for this process, and forgotten
    as soon as the password or the mailbox changes, because what is remembered names the password's hash."""

    log = Logger()

    def __init__(self, directory: DirectoryStore, passwords: Passwords, sessions: Sessions, clock: Any) -> None:
        self._directory = directory
        self._passwords = passwords
        self._sessions = sessions
        self._clock = clock
        self._throttle = Throttle(clock)
        self._key = secrets.token_bytes(32)
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()
        self._running: dict[bytes, list[Deferred[bool]]] = {}
        self._known: OrderedDict[tuple[int, str], float] = OrderedDict()

    async def login(self, user: str, password: str, door: str, peer: str) -> Person:
        """The person, by full address in any case (C22, C25). ``door`` names the entrance for the log (``etc/fail2ban`` reads that line); guesses
        count alike through every door. ``peer`` is an IP address or ``""``. Raises AccessRefused."""
        try:
            return self.person_of(await self._verified(user, password, network_of(peer)))
        except AccessRefused as refused:
            self._tell_refused(refused, user, door, peer)
            raise

    def _tell_refused(self, refused: AccessRefused, user: str, door: str, peer: str) -> None:
        self.log.info(
            "login refused: user={user} peer={peer} door={door} reason={why}",
            user=_shown(user),
            peer=peer,
            door=door,
            why=refused.reason,
        )

    # --- SCRAM: what the password is proved by, without it

    def offers_scram(self) -> bool:
        """See IAccess."""
        return not self._directory.snapshot.without_scram

    def scram_keys(self, user: str) -> ScramKeys:
        """See IAccess. Names that are the same to the directory have the same keys, whoever exists."""
        scram = self._passwords.scram
        name = self._name(user[:320])
        mailbox = self._directory.mailbox(user)
        credential = self._directory.credential(mailbox.id) if mailbox is not None else None
        decoy = scram.decoy(name)
        return decoy if credential is None else scram.keys(credential.scram, credential.hash) or decoy

    async def proved(self, user: str, keys: ScramKeys, right: bool, door: str, peer: str) -> Person:
        """See IAccess. A wrong proof counts like a wrong password."""
        try:
            return self.person_of(self._proved(user, keys, right, network_of(peer)))
        except AccessRefused as refused:
            self._tell_refused(refused, user, door, peer)
            raise

    def _proved(self, user: str, keys: ScramKeys, right: bool, network: str) -> Mailbox:
        mailbox = self._directory.mailbox(user)
        charged = self._throttle_keys(self._name(user[:320]), mailbox, network)
        self._need_patience(charged)
        if not right or mailbox is None or self.scram_keys(user) != keys:
            for key, free in charged.items():
                self._throttle.charge(key, free)
            raise _wrong()
        self._throttle.clear(next(iter(charged)))
        return self._admitted(mailbox.id, network)

    def _need_patience(self, keys: dict[str, int]) -> None:
        wait = self._throttle.wait(tuple(keys))
        if wait > 0:
            raise AccessRefused("throttled", f"too many failed log-ins, try again in {int(wait) + 1} s", wait)

    def _name(self, user: str) -> str:
        return self._directory.snapshot.key(user) or user.casefold()

    # --- passwords that are told

    async def _verified(self, user: str, password: str, network: str) -> Mailbox:
        if len(user) > 320 or len(password) > MAX_LENGTH:
            raise _wrong()
        name = self._name(user)
        mailbox = self._directory.mailbox(user)
        credential = self._directory.credential(mailbox.id) if mailbox is not None else None
        hashed = credential.hash if credential is not None else ""
        digest = self._digest(name, hashed, password)
        right = self._remembered(digest)
        if right is None:
            if digest not in self._running:
                self._start(digest, hashed, password, self._throttle_keys(name, mailbox, network))
            waiter: Deferred[bool] = Deferred()
            self._running[digest].append(waiter)
            right = await waiter
        if not right or mailbox is None or credential is None:
            raise _wrong()
        mailbox = self._admitted(mailbox.id, network)
        await self._renew(mailbox, credential, password)
        return mailbox

    def _admitted(self, identifier: int, network: str) -> Mailbox:
        """The mailbox of somebody whose password was right, as it is now. Raises AccessRefused."""
        mailbox = self._directory.mailbox_by_id(identifier)
        if mailbox is None:
            raise _wrong()
        if not mailbox.enabled:
            raise AccessRefused("disabled", "this mailbox is switched off")
        if network:
            self._known[mailbox.id, network] = self._clock.seconds()
            self._known.move_to_end((mailbox.id, network))
            if len(self._known) > MOST:
                self._known.popitem(last=False)
        return mailbox

    def _start(self, digest: bytes, hashed: str, password: str, keys: dict[str, int]) -> None:
        """Begin to verify, for everybody who waits for that pair. It goes on when a connection is lost, so that hanging up saves nobody the
        charge. Raises AccessRefused."""
        self._need_patience(keys)
        if self._passwords.busy:
            raise AccessRefused("throttled", "too many log-ins at once, try again in a moment", 2.0)
        for key, free in keys.items():
            self._throttle.charge(key, free)
        self._running[digest] = []
        verified = Deferred.fromCoroutine(self._passwords.verify(hashed, password))
        verified.addCallback(self._verdict, digest, hashed, keys).addBoth(self._tell, digest)

    def _verdict(self, right: bool, digest: bytes, hashed: str, keys: dict[str, int]) -> bool:
        """Keep what was found out, and give the charge back if it was no guess."""
        if right:
            for key in keys:
                self._throttle.give_back(key)
            self._throttle.clear(next(iter(keys)))
        self._seen[digest] = _Seen(hashed, right, self._clock.seconds() + REMEMBER)
        self._seen.move_to_end(digest)
        if len(self._seen) > MOST:
            self._seen.popitem(last=False)
        return right

    def _tell(self, result: Any, digest: bytes) -> None:
        for waiter in self._running.pop(digest):
            waiter.callback(result)

    def _throttle_keys(self, name: str, mailbox: Mailbox | None, network: str) -> dict[str, int]:
        """By account and by network. An account seen from a network before has a count of its own there, so that strangers who guess at it
        cannot lock its owner out (L5)."""
        since = self._known.get((mailbox.id, network)) if mailbox is not None else None
        known = since is not None and self._clock.seconds() - since < KNOWN_NETWORK
        keys = {f"account {name} {network if known else ''}": FREE_BY_ACCOUNT}
        if network:
            keys[f"network {network}"] = FREE_BY_NETWORK
        return keys

    def _digest(self, name: str, hashed: str, password: str) -> bytes:
        parts = (name.encode("utf-8", "surrogatepass"), hashed.encode(), normal(password).encode("utf-8", "surrogatepass"))
        return hashlib.blake2b(
            b"".join(len(part).to_bytes(4, "big") + part for part in parts), key=self._key, digest_size=32
        ).digest()

    def _remembered(self, digest: bytes) -> bool | None:
        seen = self._seen.get(digest)
        if seen is None:
            return None
        if seen.expires < self._clock.seconds():
            del self._seen[digest]
            return None
        return seen.right

    async def _renew(self, mailbox: Mailbox, credential: Credential, password: str) -> None:
        """Hash anew what was hashed with other parameters, or has no SCRAM keys; the password stays as old as it is."""
        if self._passwords.stale(credential.hash, credential.scram):
            hashed, scram = await self._passwords.secret(password)
            renewed = msgspec.structs.replace(credential, hash=hashed, scram=scram)
            try:
                await self._directory.set_credential(mailbox.id, renewed, instead_of=credential)
            except DatabaseError:
                self.log.failure("the password of {address} keeps its old hash", address=mailbox.address)

    # --- who somebody is and what that person may see

    def person_of(self, mailbox: Mailbox) -> Person:
        """The person of a mailbox, with every own address (A43)."""
        return Person(
            mailbox=mailbox.id,
            address=mailbox.address,
            tenant=mailbox.tenant,
            roles=mailbox.roles,
            addresses=self._directory.addresses_of(mailbox),
            name=mailbox.name,
        )

    def person(self, identifier: int) -> Person | None:
        """The person of a mailbox by ID, as long as it is registered and enabled."""
        mailbox = self._directory.mailbox_by_id(identifier)
        return self.person_of(mailbox) if mailbox is not None and mailbox.enabled else None

    def scope(self, person: Person) -> Scope:
        """What of the archive that person may see (rules 14 and 15); settings ``administrators_search`` and
        ``administrators_see_subjects`` (``yes`` or ``no``) take away from administrators. Raises Suspended."""
        self._need_archive(person)
        return rights.scope(
            person,
            administrators_search=self._directory.setting("administrators_search", "yes", person.tenant) == "yes",
            administrators_see_subjects=self._directory.setting("administrators_see_subjects", "yes", person.tenant) == "yes",
        )

    def own_scope(self, person: Person) -> Scope:
        """That person's own mail alone. Raises Suspended."""
        self._need_archive(person)
        return rights.own_scope(person)

    def suspension(self, person: Person) -> str:
        """Why the archive is closed to that person for now, as a sentence, or ``""``."""
        mailbox = self._directory.mailbox_by_id(person.mailbox)
        if mailbox is None or mailbox.suspended is None:
            return ""
        return rights.suspended_text(mailbox.address, mailbox.suspended)

    def _need_archive(self, person: Person) -> None:
        if text := self.suspension(person):
            raise rights.Suspended(text)

    def must_change(self, person: Person) -> bool:
        """Whether the password was chosen by somebody else and should be replaced."""
        credential = self._directory.credential(person.mailbox)
        return credential is not None and credential.must_change

    # --- passwords

    async def new_secret(self, password: str = "") -> NewSecret:
        """A credential for the password, or for a one-time password made here. Raises WeakPassword."""
        shown = "" if password else one_time()
        check(password or shown)
        hashed, scram = await self._passwords.secret(password or shown)
        return NewSecret(Credential(hashed, must_change=bool(shown), changed=self._clock.seconds(), scram=scram), shown)

    async def set_password(self, identifier: int, password: str = "", *, suspended: Suspension | None = None) -> str:
        """By an administrator (C23): the one-time password made if none is given. All web sessions of that person end; with ``suspended``, the
        archive is closed to that person (rule 15). Raises WeakPassword, DirectoryMissing."""
        secret = await self.new_secret(password)
        await self._directory.set_credential(identifier, secret.credential, suspended=suspended)
        await self._sessions.revoke_all(identifier)
        return secret.shown

    async def change_password(self, person: Person, old: str, new: str, *, door: str, peer: str, keep: str = "") -> None:
        """By the person (C23). The other web sessions end; ``keep`` names the one that stays. Raises AccessRefused, WeakPassword."""
        check(new, chosen=True, address=person.address)
        await self.login(person.address, old, door, peer)
        if normal(old) == normal(new):
            raise WeakPassword("that is the present password")
        hashed, scram = await self._passwords.secret(new)
        credential = Credential(hashed, changed=self._clock.seconds(), scram=scram)
        await self._directory.set_credential(person.mailbox, credential)
        await self._sessions.revoke_all(person.mailbox, keep=keep)


def _wrong() -> AccessRefused:
    return AccessRefused("credentials", "wrong address or password")


def _shown(user: str) -> str:
    """A user name for the log. What is no address may be a password typed into the wrong field."""
    if "@" not in user:
        return "(not an address)"
    return "".join(c if c.isprintable() and c != " " else "?" for c in user[:254])
