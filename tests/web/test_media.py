"""The page of the archive's media: what administrators see and do (A12-A16)."""

from __future__ import annotations

from .people import House


def test_media_are_shown_and_changed() -> None:
    """Catches a button that does nothing, an error that nobody sees, and a place that is taken for markup."""
    house = House()
    admin = house.browser("admin@example.test")
    page = admin.get("/archive/media").text
    assert "/srv/&lt;one&gt;" in page
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
