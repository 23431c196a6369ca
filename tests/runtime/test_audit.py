"""The audit log."""

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from hornetmail.testing.control import Control


class AuditOnSQLite(TestCase):
    """On SQLite; ``AuditOnPostgreSQL`` runs the same."""

    engine = "sqlite"

    async def fill(self) -> Control:
        control = await Control.open(self, self.engine)
        first = await control.audit.begin("alice@example.test", "domain.add", "example.test", '{"tls":"verify"}', 2)
        await control.audit.outcome(first, "done")
        control.clock.advance(1.2345678)
        await control.audit.begin("local administrator", "mailbox.add", "bob\0@example.test \udcff")
        return control

    async def test_actions_with_outcomes(self) -> None:
        """An action that was cut short must show as such, an outcome beside its action, and tenants apart."""
        control = await self.fill()
        newest, oldest = await control.audit.entries()
        assert (newest.actor, newest.action, newest.result, newest.tenant) == ("local administrator", "mailbox.add", "", 0)
        assert (oldest.subject, oldest.detail, oldest.result, oldest.tenant) == ("example.test", '{"tls":"verify"}', "done", 2)
        assert [row.number for row in await control.audit.entries(tenant=2)] == [oldest.number]
        # What was done on the machine itself must not be hidden from everybody.
        assert [row.number for row in await control.audit.entries(tenant=1)] == [newest.number]
        assert [row.number for row in await control.audit.entries(before=newest.number)] == [oldest.number]
        assert len(await control.audit.entries(limit=1)) == 1

    async def test_chain_holds_and_goes_on_after_a_restart(self) -> None:
        """A chain that begins anew with each start would prove nothing."""
        control = await self.fill()
        assert await control.audit.verify() == ""
        await control.reopen(self)
        await control.audit.begin("x", "y", "z")
        assert await control.audit.verify() == ""

    async def test_alteration_is_found(self) -> None:
        """Whoever changes, drops or appends a row by hand must be found, and where."""
        for statement, words in (
            ("UPDATE audit SET actor = 'mallory' WHERE number = 1", "audit row 1 was altered"),
            ("UPDATE audit SET at = at + 60 WHERE number = 2", "audit row 2 was altered"),
            ("UPDATE audit SET tenant = 9 WHERE number = 3", "audit row 3 was altered"),
            ("DELETE FROM audit WHERE number = 2", "audit row 2 is missing"),
            ("DELETE FROM audit WHERE number = 1", "audit row 1 is missing"),
        ):
            control = await self.fill()
            await control.database.run(_do, statement)
            assert await control.audit.verify() == words

    async def test_from_a_row_on(self) -> None:
        """Catches a look at what is new that does not hold on to the row before it, or that sees no farther than its first page."""
        control = await self.fill()
        assert [await control.audit.verify(since) for since in range(4)] == [""] * 4
        assert await control.audit.verify(9) == "audit row 9 is missing"
        await control.database.run(_do, "UPDATE audit SET actor = 'mallory' WHERE number = 2")
        assert [await control.audit.verify(since) for since in range(4)] == ["audit row 2 was altered"] * 2 + [""] * 2
        await control.database.run(_do, "UPDATE audit SET hash = previous WHERE number = 1")
        assert await control.audit.verify(1) == "audit row 2 was altered"

    async def test_many_at_once(self) -> None:
        """Rows written in one batch must still form one chain without gaps."""
        control = await self.fill()
        numbers = await gatherResults([Deferred.fromCoroutine(control.audit.begin("a", "b", str(n))) for n in range(100)])
        assert sorted(numbers) == list(range(4, 104))
        assert await control.audit.verify() == ""


class AuditOnPostgreSQL(AuditOnSQLite):
    """The same on PostgreSQL."""

    engine = "postgresql"


def _do(cursor: object, statement: str) -> None:
    cursor.execute(statement)  # type: ignore[attr-defined]
