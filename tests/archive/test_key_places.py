"""Key papers as pages, and where the key was found."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

from hornetmail.archive.keys.keyring import RootFile
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
