"""What belongs to the whole installation is for whoever operates it, not for every tenant's administrator (rule 25): over the API, on pages, and by command."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from twisted.trial.unittest import TestCase

from hornetmail.access.rights import LOCAL_ADMINISTRATOR, Right, may
from hornetmail.core.served import Domain, Host, Mailbox, Person, Role
from hornetmail.web.api.operations import ApiError, Caller
from tests.cli.test_cli import CliCase
from tests.web.people import House

WHOLE = (
    "/archive/media",
    "/archive/key",
    "/archive/authorities",
    "/archive/certificates",
    "/archive/stamps",
    "/archive/timestamp",
)
WHOLE += ("/archive/backups", "/archive/mirror", "/archive/verify", "/archive/purge", "/jobs")
"""Below these lie operations on what all tenants share."""

PAGES = ("/archive/media", "/archive/backups", "/archive-stamps", "/archive-key", "/jobs")

ZOE = Person(9, "zoe@other.test", 2, (Role.ADMIN, Role.AUDITOR), ("zoe@other.test",), "Zoe")
ADA = Person(1, "admin@example.test", 1, (Role.ADMIN,), ("admin@example.test",), "Ada")


class Operating(TestCase):
    def house(self) -> House:
        """With a second tenant and its administrator."""
        house = House()
        house.directory.served = [*house.directory.served, Domain("other.test", primaries=(Host("p.other.test"),), tenant=2)]
        house.directory.registered = [
            *house.directory.registered,
            Mailbox(9, "zoe@other.test", "other.test", roles=(Role.ADMIN, Role.AUDITOR), name="Zoe", tenant=2),
        ]
        return house

    def test_who_may(self) -> None:
        """Catches the right to operate given to any administrator, or taken from those of the operator's tenant and from the command line on the machine."""
        assert may(ADA, Right.OPERATE)
        assert may(LOCAL_ADMINISTRATOR, Right.OPERATE)
        assert not may(ZOE, Right.OPERATE)
        assert may(ZOE, Right.ADMINISTER)
        assert not may(msgspec.structs.replace(ADA, roles=(Role.AUDITOR,)), Right.OPERATE)
        assert not may(None, Right.OPERATE)

    async def test_operations(self) -> None:
        """Catches an operation on media, keys, backups, authorities, jobs or the whole archive that a tenant's administrator may call, a new one too."""
        api = self.house().api
        shared = [one for one in api.operations.values() if one.path.startswith(WHOLE)]
        assert len(shared) >= 28
        for operation in shared:
            assert operation.right is Right.OPERATE, operation.name
            with pytest.raises(ApiError) as caught:
                await api.call(Caller(ZOE), operation.name, None)
            assert (caught.value.status, caught.value.code) == (403, "refused"), operation.name
        assert {one.name for one in api.operations.values() if one.right is Right.OPERATE} == {one.name for one in shared}
        assert (await api.call(Caller(ADA), "media.list", None)).media

    def test_pages(self) -> None:
        """Catches a page, or a link to it, that a tenant's administrator gets; and one that the operator's does not."""
        house = self.house()
        for address, allowed in (("zoe@other.test", False), ("admin@example.test", True)):
            browser = house.browser(address)
            shell = browser.get("/dashboard")
            assert shell.status == 200
            for place in PAGES:
                assert (f'href="{place}"' in shell.text) == allowed, (address, place)
                got = browser.get(place).status
                assert (got == 403) != allowed, (address, place, got)
        token = house.browser("zoe@other.test")
        page = token.get("/dashboard")
        for place in (*PAGES[:-1], "/jobs/mirror/run"):
            assert token.post(place, {"csrf": page.token, "action": "activate", "id": "1"}).status == 403, place


class Command(CliCase):
    async def test_commands(self) -> None:
        """Catches a command that a tenant's administrator gives with --as; the local administrator, and the operator's, may."""
        rooms = await self.open()
        tenant = await rooms.control.directory.add_tenant("second")
        await rooms.control.directory.add_domain(Domain("other.test", tenant=tenant))
        await rooms.control.person("zoe@other.test", roles=(Role.ADMIN,))
        await rooms.control.person("ada@example.test", roles=(Role.ADMIN,))
        word: dict[str, Any] = {"password": "correct horse"}
        for command in (("archive", "medium", "list"), ("archive", "verify"), ("archive", "timestamp"), ("jobs", "list")):
            assert "may not" in await self.refused("--as", "zoe@other.test", *command, **word), command
            said = (await self.cli("--as", "ada@example.test", *command, **word)).err + (await self.cli(*command)).err
            assert "may not" not in said, command
        assert (await self.cli("--as", "zoe@other.test", "domain", "list", **word)).code == 0
