"""What pages say of the archive's search, and of the archive in mail programs."""

from __future__ import annotations

import html
import re

from hornetmail.archive.index.query.language import parse_query
from hornetmail.compose.doors.mailboxes import ARCHIVE

from .people import House


def test_examples_are_searches() -> None:
    """Catches a page that teaches people searches which are errors or find everything, and an administrator who is offered fields that are closed to him (rule 15)."""
    house = House()
    examples = {}
    for who in ("alice", "admin"):
        page = house.browser(f"{who}@example.test").get("/archive").text
        examples[who] = [html.unescape(each) for each in re.findall(r"<code>(.*?)</code>", page)]
    assert len(examples["alice"]) > 8
    for each in examples["alice"]:
        query = parse_query(each, 1_795_867_200.0)
        assert query != parse_query("", 1_795_867_200.0), each
    assert set(examples["admin"]) < set(examples["alice"])
    assert not [each for each in examples["admin"] if "subject:" in each or "filename:" in each]


def test_mail_programs_are_told_of_it() -> None:
    """Catches an archive in mail programs that nobody knows of, or one of another name than it has there (L1)."""
    assert f"“{ARCHIVE.rstrip('/')}”" in html.unescape(House().browser("alice@example.test").get("/account").text)
