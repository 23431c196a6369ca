"""Key papers as pages, and where the key was found."""

from __future__ import annotations

import binascii
import re
from html import unescape
from pathlib import Path

import pytest

from hornetmail.archive.keys.keyring import Keyring, KeyTrouble, RootFile
from hornetmail.archive.keys.paper import backup, restore
from hornetmail.archive.keys.printed import document
from hornetmail.disk.files import Disk
from tests.archive.test_key_sources import OLD, Fixed, store

PASSWORD = "correct horse"


def test_papers_that_print() -> None:
    """L12: would catch a page without its code, one that asks for something from elsewhere, and a text on it that is not the key's."""
    text = backup(OLD, PASSWORD, 0.0, parts=3, need=2, memory_kib=64, time=1)
    page = document(text)
    assert page.count("<section>") == page.count("<svg") == 3
    assert "script" not in page
    assert not re.search(r"(src|href)=", page)
    said = [unescape(one) for one in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)]
    assert len(said) == 3
    assert restore("\n".join(said[:2]), PASSWORD) == OLD
    assert restore("\n".join(said[1:]), PASSWORD) == OLD
    for image in re.findall(r"<svg[^>]*>", page):
        assert "viewBox" in image
        assert "width=" not in image, "its size is the page's to say"


def test_where_it_was_found_last(tmp_path: Path) -> None:
    """Would catch a key that is moved into the chosen form each time anew, or a form removed although it is the only one that there is."""
    (tmp_path / "keys").mkdir()
    plain = store(tmp_path)
    plain.write(OLD)
    sealed = store(tmp_path, Fixed())
    assert sealed.read() == OLD
    assert sealed.elsewhere
    sealed.tidy()
    assert plain.read() == OLD, "the only one that there is stays"
    (tmp_path / "keys" / "archive-root.key").unlink()
    assert sealed.read() is None
    assert not sealed.elsewhere
    sealed.write(OLD)
    assert sealed.read() == OLD
    assert not sealed.elsewhere
    RootFile(tmp_path / "keys" / "archive-root.key", Disk()).write(OLD)  # as a crash leaves it
    assert sealed.read() == OLD
    sealed.tidy()
    assert not (tmp_path / "keys" / "archive-root.key").exists()


@pytest.mark.parametrize("wrong", ["tag", "short", "long", "check", "hex", "words"])
def test_a_key_file_that_is_damaged(tmp_path: Path, wrong: str) -> None:
    """L12: would catch a key of other bytes believed, that opens nothing and says the archive is damaged; each of its signs stands by itself."""
    path = tmp_path / "archive-root.key"
    file = RootFile(path, Disk())
    assert file.read() is None
    file.write(OLD)
    assert file.read() == OLD
    assert path.stat().st_mode & 0o777 == 0o600
    root = {"short": OLD[:-1], "long": OLD + b"x"}.get(wrong, OLD)
    tag = "hornetmail-root-2" if wrong == "tag" else "hornetmail-root-1"
    check = binascii.crc32(root) ^ (wrong == "check")
    text = "zz" + root.hex()[2:] if wrong == "hex" else root.hex()
    path.write_text(f"{tag} {text} {check:08x}{' more' if wrong == 'words' else ''}\n")
    with pytest.raises(KeyTrouble, match="is damaged: type the key in again"):
        file.read()


def test_what_was_before_a_change_of_the_root_key() -> None:
    """Rule 22: would catch another archive's keyring, a later one, or one under a root key that was never ours, taken for the one from before and thrown away."""
    before = Keyring.create(OLD).with_data([(1, 2026)])
    after = before.rewrapped(bytes(32))
    assert after.follows(before.to_bytes())
    assert not before.follows(after.to_bytes()), "the later one"
    assert not after.follows(after.to_bytes()), "its root key is the one in force"
    assert not after.follows(before.rewrapped(bytes(range(5, 37))).to_bytes()), "a root key that was never ours"
    assert not after.follows(Keyring.create(OLD).to_bytes()), "another archive's"
    ahead = before
    while ahead.serial < after.serial:
        ahead = ahead.with_data([(1, 2030 + ahead.serial)])
    assert not after.follows(ahead.to_bytes()), "it has keys that this one lacks"
    with pytest.raises(KeyTrouble):
        after.follows(b"rubbish")
