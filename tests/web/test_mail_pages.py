"""Webmail in an outage: read, answer, write, move, delete, search, attachments (C21, C26)."""

from __future__ import annotations

import email
import email.policy
from typing import Any

import pytest

from hornetmail.testing.folders import MemoryFolder

from .people import Browser, House

PLAIN = (
    b"From: Jonas <jonas@example.com>\r\nTo: alice@example.test\r\nSubject: Thursday <script>alert(1)</script>\r\n"
    b"Date: Mon, 16 Nov 2026 10:00:00 +0000\r\nMessage-ID: <q@example.com>\r\n\r\nDoes Thursday <b>suit</b> you?\r\n"
)
RICH = (
    b"From: Jonas <jonas@example.com>\r\nTo: alice@example.test\r\nSubject: Rich\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/html\r\n\r\n<p>hello</p><script>alert(1)</script>"
    b'<img src="https://t.example/p.gif">\r\n--x\r\nContent-Type: text/html; name="evil.html"\r\n'
    b"Content-Disposition: attachment\r\n\r\n<script>alert(1)</script>\r\n--x--\r\n"
)


class Desk:
    """Alice at her mail."""

    def __init__(self) -> None:
        self.house = House()
        self.browser: Browser = self.house.browser("alice@example.test")
        self.tree = self.house.portal.tree(2)

    def folder(self, name: str = "INBOX") -> MemoryFolder:
        return self.tree.found(name)

    def subjects(self, name: str) -> list[str]:
        return [str(self.message(data)["Subject"]) for data in (kept.data for kept in self.folder(name).messages.values())]

    def message(self, data: bytes) -> Any:
        return email.message_from_bytes(data, policy=email.policy.default)


def test_reading_shows_text_escaped_and_marks_it_read() -> None:
    """Catches markup from a stranger coming alive in our page, and mail that stays unread."""
    desk = Desk()
    uid = desk.folder().add(PLAIN)
    page = desk.browser.get(f"/mail?uid={uid}")
    assert page.status == 200
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert "Does Thursday &lt;b&gt;suit&lt;/b&gt; you?" in page.text
    assert "\\Seen" in desk.folder().messages[uid].entry.flags


def test_html_has_a_document_of_its_own_under_its_own_policy() -> None:
    """Catches HTML mail inside our page, scripts allowed in it, and remote images without being asked."""
    desk = Desk()
    uid = desk.folder().add(RICH)
    page = desk.browser.get(f"/mail?uid={uid}")
    assert '<iframe class="sheet" sandbox="allow-popups allow-popups-to-escape-sandbox"' in page.text
    assert "1 image elsewhere was not loaded" in page.text
    document = desk.browser.get(f"/mail/html?folder=INBOX&uid={uid}")
    policy = document.header("content-security-policy")
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "sandbox" in policy
    assert "img-src data:;" in policy
    assert "allow-scripts" not in policy + page.text
    assert "allow-same-origin" not in policy + page.text
    assert "alert(1)" not in document.text
    assert "t.example" not in document.text
    shown = desk.browser.get(f"/mail/html?folder=INBOX&uid={uid}&images=1")
    assert "https://t.example/p.gif" in shown.text
    assert "img-src data: https:" in shown.header("content-security-policy")


def test_attachments_are_downloads() -> None:
    """Catches an attached page that opens in our origin."""
    desk = Desk()
    uid = desk.folder().add(RICH)
    part = desk.browser.get(f"/mail/part?folder=INBOX&uid={uid}&n=2")
    assert part.body == b"<script>alert(1)</script>"
    assert part.header("content-type") == "application/octet-stream"
    assert part.header("content-disposition").startswith("attachment;")
    assert "sandbox" in part.header("content-security-policy")
    assert desk.browser.get(f"/mail/part?folder=INBOX&uid={uid}&n=9").status == 404
    assert desk.browser.get(f"/mail/raw?folder=INBOX&uid={uid}").body == RICH


def test_an_answer_is_sent_kept_and_marked() -> None:
    """Catches answers that are not sent, have no thread, leave no copy, or forget the mark (C26)."""
    desk = Desk()
    uid = desk.folder().add(PLAIN)
    page = desk.browser.get(f"/mail/write?folder=INBOX&uid={uid}&how=reply")
    assert "Jonas &lt;jonas@example.com&gt;" in page.text
    assert "&gt; Does Thursday" in page.text
    fields = {
        "do": "send",
        "to": "Jonas <jonas@example.com>",
        "bcc": "boss@example.test",
        "subject": "Re: Thursday",
        "text": "Yes.",
        "in_reply_to": "<q@example.com>",
        "references": "<q@example.com>",
        "about_folder": "INBOX",
        "about_uid": uid,
        "how": "reply",
    }
    answer = desk.browser.post(
        "/mail/write", fields, files=[("files", "a.txt", "text/plain", b"attached"), ("files", "", "", b"")]
    )
    assert answer.status == 303, answer.text
    ((who, data, to),) = desk.house.sent
    assert (who, to) == ("alice@example.test", ("jonas@example.com", "boss@example.test"))
    sent = desk.message(data)
    assert sent["From"].addresses[0].addr_spec == "alice@example.test"
    assert sent["In-Reply-To"] == "<q@example.com>"
    assert sent["Bcc"] is None
    assert [part.get_filename() for part in sent.iter_attachments()] == ["a.txt"]
    (kept,) = desk.folder("Sent").messages.values()
    assert "boss@example.test" in desk.message(kept.data)["Bcc"]
    assert desk.message(kept.data)["Message-ID"] == sent["Message-ID"]
    assert "\\Answered" in desk.folder().messages[uid].entry.flags


def test_a_wrong_address_loses_nothing() -> None:
    """Catches a long answer that is gone because of a typing error."""
    desk = Desk()
    answer = desk.browser.post("/mail/write", {"do": "send", "to": "jonas", "subject": "S", "text": "a long text"})
    assert answer.status == 400
    assert "“jonas” is not a mail address." in answer.text
    assert "a long text" in answer.text
    assert not desk.house.sent


def test_where_nothing_can_be_sent_the_text_stays() -> None:
    """Catches a text lost because this process has no queue."""
    browser = House(send=False).browser("alice@example.test")
    answer = browser.post("/mail/write", {"do": "send", "to": "jonas@example.com", "text": "a long text"})
    assert answer.status == 503
    assert "a long text" in answer.text


def test_a_draft_is_kept_taken_up_and_sent_once() -> None:
    """Catches drafts that multiply or lose their attachments, and Bcc forgotten in between."""
    desk = Desk()
    fields = {"do": "draft", "to": "half an addr", "bcc": "b@example.com", "subject": "D", "text": "so far"}
    answer = desk.browser.post("/mail/write", fields, files=[("files", "ä.bin", "application/x-thing", b"\x00\x01")])
    assert answer.status == 303
    (uid,) = desk.folder("Drafts").messages
    page = desk.browser.get(f"/mail/write?folder=Drafts&uid={uid}&how=draft")
    assert "so far" in page.text
    assert "b@example.com" in page.text
    assert "ä.bin" in page.text
    number = page.text.partition('name="keep" value="')[2].partition('"')[0]
    about = {"about_folder": "Drafts", "about_uid": uid, "how": "draft", "kept_folder": "Drafts", "kept_uid": uid, "keep": number}
    answer = desk.browser.post("/mail/write", {"do": "send", "to": "jonas@example.com", "subject": "D", "text": "done", **about})
    assert answer.status == 303, answer.text
    ((_, data, _),) = desk.house.sent
    assert [(part.get_filename(), part.get_content()) for part in desk.message(data).iter_attachments()] == [
        ("ä.bin", b"\x00\x01")
    ]
    assert not desk.folder("Drafts").messages


def test_forwarding_takes_the_attachments_along() -> None:
    """Catches a forwarded mail without what it was about."""
    desk = Desk()
    uid = desk.folder().add(RICH)
    page = desk.browser.get(f"/mail/write?folder=INBOX&uid={uid}&how=forward")
    assert "evil.html" in page.text
    kept = {"kept_folder": "INBOX", "kept_uid": uid, "keep": "2", "about_folder": "INBOX", "about_uid": uid, "how": "forward"}
    assert desk.browser.post("/mail/write", {"do": "send", "to": "c@example.com", "text": "see", **kept}).status == 303
    assert [part.get_filename() for part in desk.message(desk.house.sent[0][1]).iter_attachments()] == ["evil.html"]


def test_messages_are_moved_deleted_and_marked() -> None:
    """Catches buttons that do something else, and a deletion for good at the first click (C6 counts both as removed)."""
    desk = Desk()
    uids = [desk.folder().add(PLAIN) for _ in range(3)]
    desk.tree.make("Projects")

    def act(folder: str, action: str, *picked: int) -> int:
        return desk.browser.post("/mail/act", {"folder": folder, "action": action, "uid": [str(uid) for uid in picked]}).status

    assert act("INBOX", "flag", uids[0]) == 303
    assert "\\Flagged" in desk.folder().messages[uids[0]].entry.flags
    assert act("INBOX", "move:Projects", uids[0], uids[1]) == 303
    assert len(desk.subjects("Projects")) == 2
    assert act("INBOX", "delete", uids[2]) == 303
    assert not desk.folder().messages
    (gone,) = desk.folder("Trash").messages
    assert act("Trash", "delete", gone) == 303
    assert not desk.folder("Trash").messages


def test_a_message_that_is_being_drained_says_so() -> None:
    """Catches a bare failure where the primary is taking the message at this moment (rule 10)."""
    desk = Desk()
    uid = desk.folder().add(PLAIN)
    desk.folder().inuse.add(uid)
    desk.browser.post("/mail/act", {"folder": "INBOX", "action": "delete", "uid": uid})
    assert "being delivered to your mail server right now" in desk.browser.get("/mail").text
    assert uid in desk.folder().messages


def test_a_message_that_has_gone_home_meanwhile_is_explained() -> None:
    """Catches an error page where a drain was faster than the reader."""
    desk = Desk()
    assert "delivered to your mail server" in desk.browser.get("/mail?uid=99").text


@pytest.mark.parametrize(("query", "found"), [("thursday", True), ("jonas SUIT", True), ("friday", False)])
def test_search_looks_at_headers_and_text(query: str, found: bool) -> None:
    """Catches a search that misses the text or finds everything."""
    desk = Desk()
    desk.folder().add(PLAIN)
    assert ("1 found" in desk.browser.get(f"/mail?q={query.replace(' ', '+')}").text) is found


def test_long_folders_have_pages() -> None:
    """Catches a folder shown whole, and pages that skip or repeat."""
    desk = Desk()
    for number in range(120):
        desk.folder().add(PLAIN.replace(b"Thursday <", b"N%03d <" % number))
    first, last = desk.browser.get("/mail").text, desk.browser.get("/mail?page=3").text
    assert first.count('class="line') == 50 + 1
    assert "N119" in first
    assert "N000" in last
    assert "N020" not in last


def test_nobody_reads_the_folders_of_another() -> None:
    """Catches a mailbox chosen by what the browser says."""
    desk = Desk()
    uid = desk.folder().add(PLAIN)
    bob = desk.house.browser("bob@example.test")
    assert "Thursday" not in bob.get("/mail").text
    assert bob.get(f"/mail/raw?folder=INBOX&uid={uid}").status == 404


def test_users_are_told_of_the_emergency_of_their_domain() -> None:
    """Catches people wondering where their mail is, and where that of before is."""
    desk = Desk()
    assert "What came before is in your archive" not in desk.browser.get("/mail").text
    admin = desk.house.browser("admin@example.test")
    assert admin.post("/domains/example.test/mode", {"mode": "emergency", "reason": "test"}).status == 303
    told = desk.browser.get("/mail").text
    assert "Your mail server is unavailable" in told
    assert '<a href="/archive">What came before is in your archive</a>' in told
    assert "Emergency mode: example.test" in admin.get("/dashboard").text
