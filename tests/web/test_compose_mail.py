"""Mail that people write: it must read back as it was typed, and nothing typed may become a header."""

from __future__ import annotations

import email
import email.policy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornetmail.web import mailview
from hornetmail.web.compose_mail import (
    Draft,
    DraftError,
    File,
    answer,
    compose,
    forward,
    read_addresses,
    recipients,
    reply_subject,
)

SENDER = mailview.Named("Alice Ärcher", "alice@example.test")
ID = "<1@example.test>"


def made(draft: Draft, **more: Any) -> Any:
    """Composed and read by the standard library."""
    data = compose(draft, SENDER, message_id=ID, date=1.79e9, **more)
    assert b"\n" not in data.replace(b"\r\n", b"")
    assert data.isascii()
    assert max(map(len, data.split(b"\r\n"))) <= 998
    return email.message_from_bytes(data, policy=email.policy.default)


def test_what_was_typed_reads_back() -> None:
    """Catches wrong charsets, lost attachments, and broken names."""
    draft = Draft(
        to='"Núñez, Clara" <clara@example.com>; bob@example.org',
        cc="Jörg <j@example.com>",
        subject="Grüße – 你好",
        text="Zeile ä\n.\nFrom here\n" + "x" * 2000,
        files=(File("Übersicht.xlsx", "application/vnd.ms-excel", bytes(range(256)) * 20), File("a.eml", "message/rfc822", b"x")),
    )
    message = made(draft)
    assert message["Subject"] == "Grüße – 你好"
    assert [(one.display_name, one.addr_spec) for one in message["To"].addresses] == [
        ("Núñez, Clara", "clara@example.com"),
        ("", "bob@example.org"),
    ]
    assert message["From"].addresses[0].display_name == "Alice Ärcher"
    assert message["Message-ID"] == ID
    assert message.get_body().get_content().replace("\r\n", "\n") == draft.text + "\n"
    files = list(message.iter_attachments())
    assert [file.get_filename() for file in files] == ["Übersicht.xlsx", "a.eml"]
    assert files[0].get_content() == draft.files[0].data
    assert files[1].get_content_type() == "application/octet-stream"


def test_bcc_is_in_nobodys_copy_but_the_writers() -> None:
    """Catches blind copies that everybody can see (rule 14)."""
    draft = Draft(to="a@example.com", bcc="secret@example.com", text="x")
    assert recipients(draft) == ["a@example.com", "secret@example.com"]
    assert made(draft)["Bcc"] is None
    assert "secret" in made(draft, with_bcc=True)["Bcc"]


@pytest.mark.parametrize(
    "text",
    ["nobody", "a@", "@b.example", "a b@c.example x", "a b@c.example", "a@b.example c@d.example", "a@b@c.example", "Müller"],
)
def test_what_is_no_address_is_named(text: str) -> None:
    """Catches mail to nowhere, and an error that does not say which of many is wrong."""
    with pytest.raises(DraftError) as caught:
        recipients(Draft(to=f"ok@example.com, {text}"))
    assert caught.value.field == "to"


def test_no_recipient_is_told() -> None:
    """Catches sending to nobody."""
    with pytest.raises(DraftError):
        recipients(Draft(subject="x"))


def test_recipients_come_once() -> None:
    """Catches two copies for one who stands in To and Cc."""
    assert recipients(Draft(to="A@example.com, a@example.com", cc="a@EXAMPLE.com; b@example.com\nc@example.com")) == [
        "a@example.com",
        "b@example.com",
        "c@example.com",
    ]


@given(subject=st.text(max_size=120), to=st.text(max_size=60), text=st.text(max_size=200), ids=st.text(max_size=80))
@settings(max_examples=100, deadline=None)
def test_no_field_becomes_another(subject: str, to: str, text: str, ids: str) -> None:
    """Catches header injection and text that makes a message nobody can read."""
    message = made(
        Draft(to=to, subject=subject + "\r\nBcc: x@example.com", text=text, in_reply_to=ids, references=ids), lenient=True
    )
    assert message["Bcc"] is None
    assert set(map(str.lower, message.keys())) <= {
        *("date", "from", "to", "subject", "message-id", "in-reply-to", "references", "user-agent"),
        *("content-type", "content-transfer-encoding", "mime-version"),
    }


def _shown(**fields: Any) -> mailview.Shown:
    return mailview.Shown(mailview.Head(**fields), "one\n> two", False, (), "<0@x>")


def test_an_answer_goes_to_who_asked() -> None:
    """Catches answers to oneself, people left out or asked twice, and threads that fall apart."""
    named = mailview.Named
    shown = _shown(
        subject="Re: Offer",
        sender=(named("Jonas", "jonas@example.com"),),
        to=(named("", "alice@example.test"), named("Bob", "bob@example.test")),
        cc=(named("C", "c@example.com"), named("Jonas", "Jonas@example.com")),
        message_id="<1@x>",
    )
    own = ("alice@example.test",)
    draft = answer(shown, own, everybody=False, said="Jonas wrote:")
    assert (draft.to, draft.cc, draft.subject) == ("Jonas <jonas@example.com>", "", "Re: Offer")
    assert draft.text == "\n\nJonas wrote:\n> one\n>> two\n"
    assert (draft.in_reply_to, draft.references) == ("<1@x>", "<0@x> <1@x>")
    assert answer(shown, own, everybody=True, said="").cc == "Bob <bob@example.test>, C <c@example.com>"


def test_an_answer_to_my_own_mail_goes_to_its_recipients() -> None:
    """Catches writing to oneself when following up."""
    named = mailview.Named
    shown = _shown(sender=(named("", "alice@example.test"),), to=(named("", "bob@example.org"),))
    assert answer(shown, ("alice@example.test",), everybody=False, said="").to == "bob@example.org"


def test_subjects_do_not_grow() -> None:
    """Catches Re: Re: Re:."""
    assert reply_subject("AW: x") == "AW: x"
    assert reply_subject("x") == "Re: x"
    assert forward(_shown(subject="x"), "today").subject == "Fwd: x"


def test_names_with_commas_survive() -> None:
    """Catches one person taken for two."""
    assert [str(one) for one in read_addresses('"Weber, Jonas" <j@example.com>', "to")] == ["Weber, Jonas <j@example.com>"]
