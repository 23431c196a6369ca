"""The page of the archive's media: what administrators see and do (A12-A16)."""

from __future__ import annotations

import msgspec
import pytest
from twisted.trial.unittest import TestCase

from hornetmail.core.served import Person, Role
from hornetmail.web.api.archive.media import MediumNumber
from hornetmail.web.api.operations import ApiError, Caller

from .people import House


def test_media_are_shown_and_changed() -> None:
    """Catches a button that does nothing, an error that nobody sees, a place that is taken for markup, and an operator who is not told that archived
    mail lies only there (A31)."""
    house = House()
    admin = house.browser("admin@example.test")
    page = admin.get("/archive/media").text
    assert "/srv/&lt;one&gt;" in page
    assert "Archived mail lies only here, encrypted: back these places up." in page
    new = {"action": "add", "kind": "smb", "place": "nas/mail", "user": "backup", "secret": "share-secret-1", "name": "NAS"}
    refused = admin.post("/archive/media", new)
    assert refused.status == 400
    assert "an absolute path is needed" in refused.text
    for kept in ('value="nas/mail"', 'value="backup"', 'value="NAS"', '<option value="smb" selected>'):
        assert kept in refused.text, "what was typed is gone"
    assert "share-secret-1" not in refused.text
    assert 'value="nas/mail"' not in admin.get("/archive/media").text
    admin.post("/archive/media", new | {"place": "/nas/mail"})
    page = admin.get("/archive/media").text
    assert "Medium 2 is added." in page
    assert house.media.secrets == {2: "share-secret-1"}
    assert "share-secret-1" not in page
    admin.post("/archive/media", {"action": "deactivate", "id": "1"})
    assert "is the active one" in admin.get("/archive/media").text
    admin.post("/archive/media", {"action": "activate", "id": "2"})
    assert [number for number, medium in house.media.media.items() if medium.active] == [2]
    admin.post("/archive/media", {"action": "merge", "id": "1", "into": "2"})
    assert house.media.merged == [((1,), 2)]
    admin.post("/archive/media", {"action": "test", "id": "7"})
    assert "there is no medium 7" in admin.get("/archive/media").text


def test_merging_asks_first() -> None:
    """Catches a button that retires a medium at one click, and an error that cites the place of a field in JSON."""
    house = House()
    admin = house.browser("admin@example.test")
    new = {"action": "add", "kind": "directory", "place": "rel", "name": ""}
    page = admin.post("/archive/media", new).text
    assert "an absolute path is needed" in page
    assert "$.place" not in page
    admin.post("/archive/media", new | {"place": "/srv/two"})
    page = admin.get("/archive/media").text
    assert '<dialog id="merge-2"' in page
    assert page.index('<dialog id="merge-2"') < page.index('value="merge"')


def test_media_are_for_administrators() -> None:
    """Catches a page that an auditor or a user may open."""
    house = House()
    for who in ("alice@example.test", "auditor@example.test"):
        assert house.browser(who).get("/archive/media").status == 403


ROOT = Caller(door="socket", root=True)
TAKEN = "medium 1 (/srv/<one>): another installation writes to it (mx.old.test:/var/lib/hornetmail)"


def test_a_medium_that_another_installation_has() -> None:
    """ADR 38: catches a medium that is shown as out of reach, or as up, though another installation writes there; one that is taken over at one click; and an offer to take over what is ours."""
    house = House()
    media = house.media.media
    media[1] = msgspec.structs.replace(media[1], up=False, taken=True, why=TAKEN)
    admin = house.browser("admin@example.test")
    admin.post("/archive/media", {"action": "add", "kind": "directory", "place": "/srv/two", "name": ""})
    page = admin.get("/archive/media").text
    assert page.count("another installation writes there") == 1
    assert "out of reach" not in page
    assert "mx.old.test:/var/lib/hornetmail" in page
    assert '<dialog id="take-1"' in page
    assert page.index('<dialog id="take-1"') < page.index('value="take"'), "it is asked first"
    assert 'id="take-2"' not in page
    for who in ("alice@example.test", "auditor@example.test"):
        assert house.browser(who).post("/archive/media", {"action": "take", "id": "1"}).status == 403
    assert media[1].taken
    admin.post("/archive/media", {"action": "take", "id": "1"})
    page = admin.get("/archive/media").text
    assert "This installation writes there now." in page
    assert "another installation writes there" not in page
    assert "take-1" not in page
    admin.post("/archive/media", {"action": "take", "id": "7"})
    assert "there is no medium 7" in admin.get("/archive/media").text


class ByTheApi(TestCase):
    async def test_a_medium_that_another_installation_has(self) -> None:
        """ADR 38, rule 25: catches a script that cannot see whose a medium is, one that takes it without the right to, another tenant's administrator who does, and a refusal that is a 500."""
        house = House()
        media = house.media.media
        media[1] = msgspec.structs.replace(media[1], up=False, taken=True, why=TAKEN)
        said = await house.api.call(ROOT, "media.list")
        assert (said.media[0].up, said.media[0].taken, said.media[0].why) == (False, True, TAKEN)
        zoe = Caller(Person(9, "zoe@other.test", 2, (Role.ADMIN,), ("zoe@other.test",), "Zoe"))
        auditor = Caller(Person(8, "auditor@example.test", 1, (Role.AUDITOR,), ("auditor@example.test",), "Aud"))
        for who in (zoe, auditor):
            assert (await self.refused(house, who, 1)).status == 403
        assert media[1].taken
        house.media.refuses = "medium 1 cannot be taken over: who wrote there meanwhile went on with the archive"
        refused = await self.refused(house, ROOT, 1)
        assert (refused.status, refused.text) == (409, house.media.refuses)
        house.media.refuses = ""
        await house.api.call(ROOT, "media.take", MediumNumber(id=1))
        assert not media[1].taken
        assert (await self.refused(house, ROOT, 7)).status == 409

    async def refused(self, house: House, who: Caller, number: int) -> ApiError:
        with pytest.raises(ApiError) as caught:
            await house.api.call(who, "media.take", MediumNumber(id=number))
        return caught.value
