"""The directory: what it takes, what it refuses, what it tells, on both engines."""

from typing import Any

import msgspec
import pytest
from twisted.trial.unittest import TestCase

from hornetmail.core.events import DirectoryChanged
from hornetmail.core.ids import IdSource
from hornetmail.core.served import Coverage, Domain, Host, Role
from hornetmail.db.pool import Database
from hornetmail.directory.checks import DirectoryConflict, DirectoryError, DirectoryMissing, parse_host, parse_network
from hornetmail.directory.schema import CONTROL
from hornetmail.directory.store import DirectoryStore
from hornetmail.testing.control import Control, ListeningBus
from hornetmail.testing.databases import fresh_url


class OnSQLite(TestCase):
    """Everything on SQLite; ``OnPostgreSQL`` runs the same."""

    engine = "sqlite"

    async def open(self) -> Control:
        return await Control.open(self, self.engine)

    async def refused(self, kind: type[Exception], call: object, *words: str) -> None:
        with pytest.raises(kind) as caught:
            await call  # type: ignore[misc]
        for word in words:
            assert word in str(caught.value)
        assert "\n" not in str(caught.value)

    async def test_survives_a_restart(self) -> None:
        """Domains, mailboxes, credentials and settings must all come back as they were."""
        control = await self.open()
        domain = await control.directory.add_domain(
            Domain(
                "Example.TEST.",
                primaries=(Host("10.0.0.1", 2525), Host("mx.example.test")),
                coverage=Coverage.PICKED,
                retention_days=400,
                relay_from=("10.0.0.0/8",),
                smarthost=Host("out.example.net", 587),
                aliases=("EXAMPLE.org", "bücher.example"),
            )
        )
        assert domain.name == "example.test"
        assert domain.aliases == ("example.org", "xn--bcher-kva.example")
        alice = await control.person("Alice@Example.test", roles=(Role.ADMIN, Role.AUDITOR))
        await control.directory.change_mailbox(alice.id, aliases=("office@example.test",), name="Alice", picked=False)
        await control.directory.set_setting("administrators_search", "no", tenant=1)
        before = control.directory
        await control.reopen(self)
        after = control.directory
        assert after.version == before.version > 1
        assert after.domains() == before.domains() == (domain,)
        assert after.mailboxes() == before.mailboxes()
        assert after.credential(alice.id) == before.credential(alice.id)
        assert after.setting("administrators_search", "yes", 1) == "no"
        assert after.setting("administrators_search", "yes", 2) == "yes"
        assert after.mailbox("OFFICE@example.org") == after.mailbox("alice@EXAMPLE.TEST") == after.mailbox_by_id(alice.id)
        assert after.mailbox("alice@example.test").address == "Alice@example.test"

    async def test_case_is_never_ambiguous(self) -> None:
        """C25: any case logs in. Were two mailboxes to differ in case alone, one would read the other's archive (rule 14)."""
        control = await self.open()
        await control.directory.add_domain(Domain("example.test"))
        await control.person("Bob@example.test")
        await self.refused(
            DirectoryConflict, control.directory.add_mailbox("bOB@example.test"), 'mailbox "bOB@example.test": registered already'
        )
        assert control.directory.mailbox("BOB@EXAMPLE.TEST").address == "Bob@example.test"

    async def test_an_address_belongs_to_one_mailbox(self) -> None:
        """An alias must not take mail or archive rights of somebody else, by whatever name of the domain."""
        control = await self.open()
        directory = control.directory
        await directory.add_domain(Domain("example.test", aliases=("example.org",)))
        alice = await control.person("alice@example.test")
        bob = await control.person("bob@example.test")
        await directory.change_mailbox(alice.id, aliases=("office@example.test",))
        await self.refused(
            DirectoryConflict, directory.change_mailbox(bob.id, aliases=("Alice@example.org",)), "alice@example.test"
        )
        await self.refused(
            DirectoryConflict,
            directory.change_mailbox(bob.id, aliases=("office@example.org",)),
            'an address of "alice@example.test"',
        )
        await self.refused(DirectoryConflict, directory.add_mailbox("office@example.test"), 'an address of "alice@example.test"')
        await self.refused(
            DirectoryMissing, directory.change_mailbox(bob.id, aliases=("bob@elsewhere.test",)), '"elsewhere.test" is not served'
        )
        await self.refused(DirectoryConflict, directory.add_mailbox("carol@example.org"), 'register it in "example.test"')
        assert directory.addresses_of(directory.mailbox_by_id(alice.id)) == (
            "alice@example.test", "alice@example.org", "office@example.test", "office@example.org",
        )  # fmt: skip
        await directory.change_mailbox(alice.id, aliases=())
        assert directory.mailbox("office@example.test") is None
        await directory.change_mailbox(bob.id, aliases=("office@example.test",))
        assert directory.mailbox("office@example.test").id == bob.id

    async def test_refusals_change_nothing(self) -> None:
        """A refused change must leave memory, database and version alone, and say what and where."""
        control = await self.open()
        directory = control.directory
        await directory.add_domain(Domain("example.test"))
        await control.person("alice@example.test")
        version, told = directory.version, len(control.bus.published)
        for name in ("x y", "", "a..b", "-a.test", "[127.0.0.1]", "a/b.test"):
            await self.refused(DirectoryError, directory.add_domain(Domain(name)), f'domain "{name}": ')
        await self.refused(
            DirectoryConflict, directory.add_domain(Domain("EXAMPLE.test")), 'domain "example.test": served already'
        )
        await self.refused(
            DirectoryConflict, directory.add_domain(Domain("b.test", aliases=("example.test",))), "belongs to another domain"
        )
        await self.refused(DirectoryConflict, directory.add_domain(Domain("b.test", aliases=("b.test",))), "alias of itself")
        await self.refused(DirectoryError, directory.add_domain(Domain("b.test", relay_from=("10.0.0.1/8",))), "relay_from")
        await self.refused(DirectoryError, directory.add_domain(Domain("b.test", retention_days=0)), "from 1 to")
        for days in (-1.0, 40_000.0, float("nan"), float("inf")):
            await self.refused(DirectoryError, directory.add_domain(Domain("b.test", portal_days=days)), "portal folders kept")
        await self.refused(DirectoryMissing, directory.add_domain(Domain("b.test", tenant=7)), "there is no tenant 7")
        await self.refused(DirectoryError, directory.add_mailbox("nobody"), 'mailbox "nobody": no @')
        await self.refused(
            DirectoryMissing, directory.add_mailbox("a@elsewhere.test"), 'domain "elsewhere.test" is not served here'
        )
        await self.refused(DirectoryConflict, directory.remove_domain("example.test"), "1 mailbox is still registered")
        await self.refused(DirectoryMissing, directory.change_domain("elsewhere.test", active=False), "not served here")
        await self.refused(DirectoryMissing, directory.remove_mailbox(1), "not registered")
        assert (directory.version, len(control.bus.published)) == (version, told)
        await control.reopen(self)
        assert control.directory.version == version
        assert [domain.name for domain in control.directory.domains()] == ["example.test"]

    async def test_tells_the_bus_after_each_change(self) -> None:
        """Doors keep what they derived until DirectoryChanged; a change without it would stay unseen."""
        control = await self.open()
        await control.directory.add_domain(Domain("example.test"))
        await control.person("alice@example.test")
        versions = [event.version for event in control.bus.published if isinstance(event, DirectoryChanged)]
        assert versions == sorted(set(versions))
        assert versions[-1] == control.directory.version

    async def test_concurrent_changes_all_count(self) -> None:
        """Changes that arrive together must not overwrite each other's snapshot."""
        from twisted.internet.defer import Deferred, gatherResults

        control = await self.open()
        await control.directory.add_domain(Domain("example.test"))
        await gatherResults(
            [Deferred.fromCoroutine(control.directory.add_mailbox(f"user{number}@example.test")) for number in range(20)]
        )
        assert len(control.directory.mailboxes("example.test")) == 20
        version = control.directory.version
        await control.reopen(self)
        assert (len(control.directory.mailboxes()), control.directory.version) == (20, version)

    async def test_who_is_covered(self) -> None:
        """C11, C12: an inactive domain covers nobody, a picked one only those who were picked."""
        control = await self.open()
        directory = control.directory
        await directory.add_domain(Domain("example.test"))
        alice = await control.person("alice@example.test")
        assert directory.covered("alice@example.test") == alice
        await directory.change_domain("example.test", active=False)
        assert directory.covered("alice@example.test") is None
        await directory.change_domain("example.test", active=True, coverage=Coverage.PICKED)
        assert directory.covered("alice@example.test") == alice
        await directory.change_mailbox(alice.id, picked=False)
        assert directory.covered("alice@example.test") is None
        assert directory.mailbox("alice@example.test") is not None

    async def test_accounts_of_outsiders(self) -> None:
        """An auditor from elsewhere may log in without a served domain, and never receives mail here."""
        control = await self.open()
        directory = control.directory
        auditor = await directory.add_mailbox("tax@office.test", roles=(Role.REVISOR,))
        assert directory.mailbox("tax@office.test") == auditor
        assert directory.covered("tax@office.test") is None
        await self.refused(DirectoryConflict, directory.change_mailbox(auditor.id, roles=()), "needs a role")
        await self.refused(
            DirectoryConflict, directory.add_domain(Domain("other.test", aliases=("office.test",))), "tax@office.test"
        )

    async def test_removal_leaves_nothing(self) -> None:
        """A removed mailbox's addresses and password must be free, and its domain removable."""
        control = await self.open()
        directory = control.directory
        await directory.add_domain(Domain("example.test", aliases=("example.org",)))
        alice = await control.person("alice@example.test")
        await directory.remove_mailbox(alice.id)
        assert directory.mailbox("alice@example.test") is None
        assert directory.credential(alice.id) is None
        again = await control.person("alice@example.test")
        assert again.id != alice.id
        await directory.remove_mailbox(again.id)
        await directory.remove_domain("example.org")
        assert directory.domains() == ()
        await directory.add_domain(Domain("example.org"))
        await control.reopen(self)
        assert [domain.name for domain in control.directory.domains()] == ["example.org"]

    async def test_changes_by_another_process_are_seen(self) -> None:
        """``reload`` must take over what another process wrote, and do nothing when nobody wrote."""
        control = await self.open()
        first = control.directory
        await control.reopen(self)
        await control.directory.add_domain(Domain("example.test"))
        assert first.domain("example.test") is None
        await first.reload()
        assert first.domain("example.test") is not None
        told = len(control.bus.published)
        await first.reload()
        assert len(control.bus.published) == told

    async def test_a_database_from_before_the_second_person(self) -> None:
        """An installation of the first schema must open, with its people and no request; new ones get numbers from 1."""
        from twisted.internet import reactor

        with fresh_url(self.engine) as url:
            old = await Database.open(reactor, url, CONTROL[:1])
            await old.run(_an_old_mailbox)
            await old.close()
            database = await Database.open(reactor, url, CONTROL)
            directory = await DirectoryStore.open(database, ListeningBus(), IdSource(lambda: 1.0))
            mailbox = directory.mailbox("old@office.test")
            assert mailbox is not None
            assert (mailbox.roles, mailbox.suspended) == ((Role.REVISOR,), None)
            assert (directory.snapshot.requests, directory.snapshot.last_request) == ({}, 0)
            assert list(await directory.requests()) == []
            await database.close()


class OnPostgreSQL(OnSQLite):
    """The same on PostgreSQL (L15)."""

    engine = "postgresql"


def _an_old_mailbox(cursor: Any) -> None:
    value = '{"id":5,"address":"old@office.test","domain":"office.test","tenant":1,"roles":["revisor"]}'
    cursor.execute("INSERT INTO mailboxes (id, tenant, domain, value) VALUES (?, ?, ?, ?)", (5, 1, "office.test", value))


def test_every_table_has_a_tenant() -> None:
    """Rule 25, from the first migration on."""
    tables = [sql for migration in CONTROL for sql in migration.sql if sql.startswith("CREATE TABLE")]
    assert len(tables) >= 9
    assert [sql for sql in tables if " tenant INTEGER" not in sql.replace("(tenant", "( tenant")] == []


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("mx.example.test:2525", Host("mx.example.test", 2525)),
        ("MX.example.test", Host("mx.example.test", 25)),
        ("127.0.0.1:10025", Host("127.0.0.1", 10025)),
        ("[2001:DB8::1]:26", Host("2001:db8::1", 26)),
        ("2001:db8::1", Host("2001:db8::1", 25)),
    ],
)
def test_hosts(text: str, host: Host) -> None:
    """``--primary HOST:PORT`` in every form, and back."""
    assert parse_host(text) == host
    assert parse_host(str(host)) == host


@pytest.mark.parametrize("text", ["", ":25", "mx:0", "mx:65536", "mx:smtp", "a b:25", "[::1", "[::1]25", "[mx]:25:25", "mx:²"])
def test_no_hosts(text: str) -> None:
    """What is no host must be refused in one line that names the place."""
    with pytest.raises(DirectoryError, match=r"^\$\.primaries\[0\]: "):
        parse_host(text, "$.primaries[0]")


def test_networks() -> None:
    """Host bits set are a typing error that would open less, or more, than meant."""
    assert parse_network("10.0.0.0/8") == "10.0.0.0/8"
    assert parse_network("192.0.2.7") == "192.0.2.7/32"
    with pytest.raises(DirectoryError, match="host bits"):
        parse_network("10.0.0.1/8")


def test_domain_values_keep_their_json_names() -> None:
    """``control.db`` keeps these structs as JSON: renaming a field would lose it in every installation."""
    assert set(Domain.__struct_fields__) >= {
        "name",
        "tenant",
        "primaries",
        "failover",
        "coverage",
        "tls",
        "active",
        "archive",
        "retention_days",
    }
    assert msgspec.json.decode(msgspec.json.encode(Domain("example.test")), type=Domain) == Domain("example.test")
