"""Places of media as people write them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hornetmail.archive.media.directory import DirectoryPlace
from hornetmail.archive.media.medium import PlaceTrouble
from hornetmail.archive.media.settings import (
    BadPlace,
    BucketSettings,
    DirectorySettings,
    Settings,
    ShareSettings,
    settings_for,
)
from hornetmail.disk.files import Disk


@pytest.mark.parametrize(
    ("kind", "place", "settings", "where"),
    [
        ("directory", "/srv/archive", DirectorySettings("/srv/archive"), "/srv/archive"),
        ("smb", "//nas/mail", ShareSettings("nas", "mail"), "//nas/mail"),
        ("smb", r"\\nas\mail\of//us", ShareSettings("nas", "mail", "of/us"), "//nas/mail/of/us"),
        ("smb", "//nas:1445/mail/", ShareSettings("nas", "mail", port=1445), "//nas:1445/mail"),
        ("smb", "//[2001:db8::1]:446/mail", ShareSettings("2001:db8::1", "mail", port=446), "//[2001:db8::1]:446/mail"),
        ("smb", "//2001:db8::1/mail", ShareSettings("2001:db8::1", "mail"), "//[2001:db8::1]/mail"),
        ("s3", "https://store.test/mail", BucketSettings("https://store.test", "mail"), "https://store.test/mail"),
        ("s3", "http://[::1]:9000/b/of//us/", BucketSettings("http://[::1]:9000", "b", "of/us"), "http://[::1]:9000/b/of/us"),
    ],
)
def test_places(kind: str, place: str, settings: Settings, where: str) -> None:
    """Would catch a share or bucket that is looked for elsewhere than somebody wrote, and a page that shows another place than the one in use."""
    assert settings_for(kind, place, {}) == settings
    assert settings.where == where
    assert settings_for(kind, where, {}) == settings, "what is shown can be written"


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("directory", "srv/archive"),
        ("directory", ""),
        ("tape", "/srv"),
        ("smb", "//nas"),
        ("smb", "//nas/"),
        ("smb", "///mail"),
        ("smb", "/nas/mail"),
        ("smb", "//nas/mail/../other"),
        ("smb", "//nas:/mail:x/../y"),
        ("smb", "//nas:x/mail"),
        ("smb", "//nas:\u0664/mail"),
        ("smb", "//nas:0/mail"),
        ("smb", "//nas:65536/mail"),
        ("smb", f"//{'n' * 1001}/mail"),
        ("s3", "https://store.test"),
        ("s3", "https://store.test/"),
        ("s3", "ftp://store.test/mail"),
        ("s3", "https:///mail"),
        ("s3", "https://me@store.test/mail"),
        ("s3", "https://store.test/mail?versioning"),
        ("s3", "https://me:secret@store.test/mail"),
        ("s3", "https://store.test:x/mail"),
        ("s3", "https://store.test:0/mail"),
        ("s3", "https://store.test:65536/mail"),
        ("s3", "https://[store/mail"),
    ],
)
def test_places_that_cannot_be(kind: str, place: str) -> None:
    """Would catch a medium that is registered and never answers, or is another port's than the one that was written."""
    with pytest.raises(BadPlace):
        settings_for(kind, place, {})


def test_options() -> None:
    """Would catch an option that is lost, taken by the wrong kind, or believed beyond what it can be."""
    share = settings_for("smb", "//nas/mail", {"user": "hm", "domain": "", "encrypted": True, "lock_days": None})
    assert share == ShareSettings("nas", "mail", user="hm", encrypted=True)
    for days in (0, 36_500):
        assert settings_for("s3", "https://s/b", {"lock_days": days}) == BucketSettings("https://s", "b", lock_days=days)
    wrong: list[tuple[str, str, dict[str, object]]] = [
        ("s3", "https://s/b", {"lock_days": -1}),
        ("s3", "https://s/b", {"lock_days": 36_501}),
        ("s3", "https://s/b", {"style": "odd"}),
        ("directory", "/srv", {"user": "hm"}),
    ]
    for kind, place, options in wrong:
        with pytest.raises(BadPlace):
            settings_for(kind, place, options)
    assert settings_for("smb", f"//{'n' * 1000}/mail", {})


class ClosedDisk(Disk):
    """Makes no directory, and says why."""

    def __init__(self, why: int) -> None:
        self._why = why

    def make_directory(self, path: Path) -> None:
        raise OSError(self._why, os.strerror(self._why), str(path))


@pytest.mark.parametrize(
    ("why", "hint"), [(errno.EACCES, "service's user"), (errno.EROFS, "ReadWritePaths"), (errno.ENOTDIR, "Not a directory")]
)
def test_a_closed_place_says_to_whom(why: int, hint: str) -> None:
    """Catches *Permission denied* told to root, who may write there: it is the service's user who may not, or systemd that does not let it."""
    with pytest.raises(PlaceTrouble, match=hint):
        DirectoryPlace(Path("/srv/archive"), ClosedDisk(why)).make()
