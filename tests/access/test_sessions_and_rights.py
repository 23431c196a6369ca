"""Web sessions, and who may see what of the archive."""

import pytest
from twisted.trial.unittest import TestCase

from hornetmail.access.rights import LOCAL_ADMINISTRATOR, Right, may, own_scope, scope
from hornetmail.access.sessions import IDLE, LIFETIME, csrf_matches, csrf_token
from hornetmail.core.served import Domain, Person, Role, Scope
from hornetmail.db.engines import DatabaseFull
from hornetmail.testing.control import Control


class SessionsOnSQLite(TestCase):
    """On SQLite; ``SessionsOnPostgreSQL`` runs the same."""

    engine = "sqlite"

    async def open(self) -> tuple[Control, Person]:
        control = await Control.open(self, self.engine)
        await control.directory.add_domain(Domain("example.test"))
        return control, control.access.person_of(await control.person("alice@example.test"))

    async def test_survive_a_restart(self) -> None:
        """A restart in the middle of an outage must not log everybody out of webmail."""
        control, person = await self.open()
        token, session = await control.sessions.create(person, "192.0.2.1", "Browser/1.0\n\0")
        await control.reopen(self)
        found = await control.sessions.find(token)
        assert found is not None
        assert (found.id, found.mailbox, found.peer, found.agent) == (session.id, person.mailbox, "192.0.2.1", "Browser/1.0")

    async def test_nothing_of_it_changes_by_a_restart(self) -> None:
        """Would catch a session that is told as newer, or lives longer, than it is."""
        control, person = await self.open()
        token, session = await control.sessions.create(person, "192.0.2.1", "Browser/1.0")
        control.clock.advance(3600.0)
        before = await control.sessions.find(token)
        assert before is not None
        assert (before.created, before.seen, before.expires) == (session.created, session.created + 3600.0, session.expires)
        await control.reopen(self)
        assert await control.sessions.find(token) == before

    async def test_only_a_hash_is_stored(self) -> None:
        """Whoever reads a backup of control.db must not be able to take sessions over."""
        control, person = await self.open()
        token, session = await control.sessions.create(person)
        stored = await control.database.read(_everything)
        assert session.id in stored
        assert token not in stored

    async def test_end_by_age_and_by_idleness(self) -> None:
        """A forgotten browser must not stay logged in; one in use must, up to a week."""
        control, person = await self.open()
        idle, _ = await control.sessions.create(person)
        used, _ = await control.sessions.create(person)
        control.clock.advance(IDLE - 1)
        assert await control.sessions.find(used) is not None
        control.clock.advance(2)
        assert await control.sessions.find(idle) is None
        await control.reopen(self)
        elapsed = IDLE + 1
        while elapsed + IDLE / 2 < LIFETIME:
            assert await control.sessions.find(used) is not None
            control.clock.advance(IDLE / 2)
            elapsed += IDLE / 2
        control.clock.advance(IDLE / 2)
        assert await control.sessions.find(used) is None

    async def test_revoke(self) -> None:
        """A person ends own sessions only; what is ended stays so after a restart."""
        control, person = await self.open()
        token, session = await control.sessions.create(person)
        other, kept = await control.sessions.create(person)
        assert not await control.sessions.revoke(session.id, person.mailbox + 1)
        assert {one.id for one in await control.sessions.of(person.mailbox)} == {session.id, kept.id}
        assert await control.sessions.revoke(session.id, person.mailbox)
        await control.reopen(self)
        assert await control.sessions.find(token) is None
        assert await control.sessions.find(other) is not None
        assert await control.sessions.revoke_all(person.mailbox) == 1
        assert await control.sessions.find(other) is None

    async def test_a_full_disk_locks_nobody_out(self) -> None:
        """L5: people must get at their mail even when control.db cannot be written."""
        control, person = await self.open()

        async def full(*args: object) -> object:
            raise DatabaseFull("disk full")

        control.sessions._database.run = full  # type: ignore[method-assign, assignment]
        token, _ = await control.sessions.create(person)
        control.clock.advance(61)
        assert await control.sessions.find(token) is not None
        assert len(self.flushLoggedErrors(DatabaseFull)) == 2

    async def test_garbage_tokens(self) -> None:
        """Whatever a browser sends as cookie must be nobody."""
        control, _ = await self.open()
        for token in ("", "x", "\udcff\0", "a" * 100_000):
            assert await control.sessions.find(token) is None

    async def test_csrf(self) -> None:
        """The token of one session must not serve another, nor an empty one anybody."""
        control, person = await self.open()
        token, _ = await control.sessions.create(person)
        other, _ = await control.sessions.create(person)
        assert csrf_matches(token, csrf_token(token))
        assert not csrf_matches(token, csrf_token(other))
        assert not csrf_matches(token, "")
        assert not csrf_matches(token, "\udcff")
        assert token not in csrf_token(token)


class SessionsOnPostgreSQL(SessionsOnSQLite):
    """The same on PostgreSQL."""

    engine = "postgresql"


def _everything(cursor: object) -> str:
    cursor.execute("SELECT * FROM sessions")  # type: ignore[attr-defined]
    return repr(cursor.fetchall())  # type: ignore[attr-defined]


def person(*roles: Role) -> Person:
    return Person(7, "alice@example.test", 3, roles, ("alice@example.test", "alice@example.org"))


OWN = Scope(3, frozenset({"alice@example.test", "alice@example.org"}))


@pytest.mark.parametrize(
    ("roles", "expected"),
    [
        ((), OWN),
        ((Role.DATAOFFICER,), OWN),
        ((Role.ADMIN,), Scope(3, None, content=False, own=OWN.mine)),
        ((Role.AUDITOR,), Scope(3, None, all_recipients=True)),
        ((Role.REVISOR,), Scope(3, None, own=OWN.mine)),
        ((Role.ADMIN, Role.AUDITOR), Scope(3, None, all_recipients=True)),
        ((Role.ADMIN, Role.REVISOR), Scope(3, None, own=OWN.mine)),
    ],
)
def test_scopes(roles: tuple[Role, ...], expected: Scope) -> None:
    """Rules 14 and 15: users their own mail, auditors all with Bcc, administrators headers without content, both of these no less of the own mail; never another tenant."""
    assert scope(person(*roles)) == expected
    assert own_scope(person(*roles)) == OWN


def test_settings_take_from_administrators() -> None:
    """A39 against C16: a setting takes even the search by headers away, or only the subjects."""
    assert scope(person(Role.ADMIN), administrators_search=False) == OWN
    assert not scope(person(Role.ADMIN), administrators_see_subjects=False).subjects
    assert scope(person(Role.AUDITOR), administrators_search=False).addresses is None


def test_local_administrator_opens_no_mail() -> None:
    """Rule 15: root at the socket searches every tenant by headers and redelivers; content needs a person."""
    assert scope(LOCAL_ADMINISTRATOR) == Scope(0, None, content=False)
    assert may(LOCAL_ADMINISTRATOR, Right.ADMINISTER)
    assert may(LOCAL_ADMINISTRATOR, Right.REDELIVER)
    assert not may(LOCAL_ADMINISTRATOR, Right.OPEN)


def test_rights() -> None:
    """Plain users administer nothing; nobody may do anything without a log-in."""
    assert [right for right in Right if may(None, right)] == [Right.ANYBODY]
    assert not may(person(), Right.ADMINISTER)
    assert not may(person(Role.AUDITOR), Right.ADMINISTER)
    assert may(person(Role.AUDITOR), Right.AUDIT)
    assert not may(person(Role.REVISOR), Right.AUDIT)
    assert may(person(), Right.OPEN)
    assert may(person(), Right.SEARCH)
