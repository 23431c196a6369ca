"""``hornetmail home`` against the API over a real UNIX socket."""

from __future__ import annotations

from typing import Any

import msgspec

from hornetmail.core.served import Host
from tests.cli.test_cli import CliCase
from tests.web.test_homeward import filing_on


class TestHome(CliCase):
    async def test_set_show_test_and_remove(self) -> None:
        """Options that do not reach the operation, and a password on the command line or in an answer."""
        site = await self.open()
        await site.control.directory.change_domain("example.test", primaries=(Host("primary.example.test"),))
        filing = await filing_on(site.control)
        site.api.rooms = msgspec.structs.replace(site.rooms, filing=filing)
        assert "by SMTP" in (await self.cli("home", "show", "example.test")).out
        done = await self.cli(
            "home",
            "set",
            "example.test",
            "--host",
            "mail.test",
            "--service",
            "m",
            "--form",
            "star",
            "--no-own",
            "--password-stdin",
            stdin=b"very-secret\n",
        )
        assert "mail.test:993" in done.out, done.err
        assert "m (star)" in done.out
        assert "not taken" in done.out
        alice = site.control.directory.mailbox("alice@example.test")
        assert alice is not None
        way = filing.ways.way(alice)
        assert way is not None
        assert (way.account.user, way.account.password) == ("alice@example.test*m", "very-secret")
        assert (
            await self.cli("home", "set", "example.test", "--host", "mail.test", "--service", "m", "--keep-password")
        ).code == 0
        await self._by_file(filing)
        shown = await self.cli("home", "mailbox", "alice@example.test")
        assert "no room" in shown.out
        assert "virus" in shown.out
        assert (await self.cli("home", "test", "alice@example.test")).out == "INBOX\nSent\n"
        assert (await self.cli("home", "retry", "alice@example.test")).out == "1 messages are tried again\n"
        await self.cli("home", "remove", "example.test")
        assert filing.ways.server("example.test") is None
        assert "not served" in await self.refused("home", "show", "nowhere.test")

    async def _by_file(self, filing: Any) -> None:
        """A password from a file that is not the one used, one that nobody uses and nobody says so, and a file without any."""
        secret = self.directory / "secret.txt"
        secret.write_text("out of a file\nits second line\n")
        place = ("home", "set", "example.test", "--host", "mail.test", "--secret-file", str(secret))
        assert (await self.cli(*place, "--service", "m")).code == 0
        alice = self.site.control.directory.mailbox("alice@example.test")
        assert filing.ways.way(alice).account.password == "out of a file"
        assert "--service" in await self.refused(*place, code=2)
        assert "--keep-password" in await self.refused(*place, "--service", "m", "--keep-password", code=2)
        assert "not both" in await self.refused(*place, "--service", "m", "--password-stdin", code=2)
        secret.write_text("\n")
        assert "no password in its first line" in await self.refused(*place, "--service", "m")
