"""Dashboard, queue, archive, key and playground: what administrators, auditors and users see and do."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from hornetmail.core.archive.archived import ArchivedMail, Came, Hit, Page, Stretch
from hornetmail.core.archive.guidance import Count, Guidance
from hornetmail.core.delivery.queued import Message, Row, RowKind, RowState
from hornetmail.core.events import Alarm, HealthChanged, MessageAccepted
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.served import PortalOn
from hornetmail.testing.rooms import Kept
from hornetmail.web.pages.people import directory
from hornetmail.web.visit import Form

from .people import NOW, House

MAIL = b"From: x@example.com\r\nTo: alice@example.test\r\nSubject: <i>Offer</i>\r\n\r\nthe secret text\r\n"


def fill(house: House, identifier: int, owner: str) -> None:
    """A mail of somebody's in the archive."""
    hit = Hit(identifier, NOW - 60, "x@example.com", (owner,), "<i>Offer</i>", len(MAIL), Direction.IN, NOW - 60)
    mail = ArchivedMail(hit, 1, "inline", "", "<1@x>", b"\x01" * 32, 1, NOW + 86400, (owner,), (owner,), "the secret text")
    house.archive.kept[identifier] = Kept(mail, MAIL, frozenset({owner}))


def test_the_dashboard_shows_mode_health_rates_and_news() -> None:
    """Catches figures that stand still, and events that reach nobody."""
    house = House()
    house.modes.primaries["example.test"] = [{"host": "primary.example.test:25", "up": False, "reason": "<refused>"}]
    admin = house.browser("admin@example.test")
    for _ in range(7):
        house.bus.publish(MessageAccepted(1, "example.test"))
    house.bus.publish(HealthChanged("example.test", "primary.example.test:25", False, "refused"))
    house.bus.publish(Alarm("disk", "Disk <b>full</b>"))
    page = admin.get("/dashboard").text
    assert "7 <small>" in page
    assert "&lt;refused&gt;" in page
    assert "does not answer" in page
    assert "Disk &lt;b&gt;full&lt;/b&gt;" in page
    house.clock.advance(120)
    assert "7 <small>" not in admin.get("/dashboard").text


def test_one_click_switches_and_a_second_says_what_is_wrong() -> None:
    """Catches a switch that does not switch, and an error that is swallowed."""
    house = House()
    admin = house.browser("admin@example.test")
    assert admin.post("/domains/example.test/mode", {"mode": "emergency"}).header("location") == "/dashboard"
    assert house.modes.mode("example.test") == "emergency"
    assert "is in emergency mode" in admin.get("/dashboard").text
    admin.post("/domains/example.test/mode", {"mode": "emergency"})
    assert "already" in admin.get("/dashboard").text
    admin.post("/domains/example.test/mode", {"mode": "normal"})
    assert house.modes.mode("example.test") == "normal"
    assert admin.get("/domains/example.test/mode").status == 200
    assert admin.get("/domains/nowhere.test/mode").status == 404


def queued(house: House, state: RowState = RowState.QUEUED) -> None:
    """A message in the queue."""
    envelope = Envelope("s<b>@example.com", (Recipient("alice@example.test"),))
    message = Message(500, 1, envelope, Origin(Door.MX), Direction.IN, NOW - 600, 1000, b"", b"", domain="example.test")
    house.queue.add(
        message, Row(501, 500, RowKind.DELIVER, state, address="alice@example.test", due=NOW + 300, attempts=2, reason="why <x>")
    )


def test_the_queue_is_shown_held_released_and_deleted() -> None:
    """Catches buttons without effect, and senders' markup in the list."""
    house = House()
    queued(house)
    admin = house.browser("admin@example.test")
    page = admin.get("/queue").text
    assert "s&lt;b&gt;@example.com" in page
    assert "why &lt;x&gt;" in page
    assert admin.get("/queue/500").status == 200
    for action, state in (("hold", RowState.HELD), ("release", RowState.QUEUED), ("delete", RowState.REMOVED)):
        assert admin.post("/queue", {"action": action, "message": "500"}).status == 303
        assert house.queue.held[501][1].state is state
    assert "Nothing waits here" in admin.get("/queue").text


def test_users_find_open_and_redeliver_their_own_mail_only() -> None:
    """Catches the archive of one person open to another (C18, A43)."""
    house = House()
    fill(house, 900, "alice@example.test")
    fill(house, 901, "bob@example.test")
    alice = house.browser("alice@example.test")
    page = alice.get("/archive?q=offer").text
    assert "/archive/900" in page
    assert "/archive/901" not in page
    assert "<i>Offer" not in page
    assert "the secret text" in alice.get("/archive/900").text
    assert alice.get("/archive/900/raw").body == MAIL
    for path in ("/archive/901", "/archive/901/raw", "/archive/901/html", "/archive/901/part?n=1"):
        assert alice.get(path).status == 404
    assert alice.post("/archive/redeliver", {"id": ["900"], "once": "1"}).status == 303
    assert house.redelivery.asked == [("alice@example.test", (900,), "alice@example.test")]
    alice.post("/archive/redeliver", {"id": ["901"], "once": "2"})
    assert len(house.redelivery.asked) == 1
    assert 'name="attached"' in page
    assert 'name="attached"' in alice.get("/archive/900").text
    assert alice.post("/archive/redeliver", {"id": ["900"], "once": "3", "attached": "1"}).status == 303
    assert house.redelivery.attached == [False, True]


def test_administrators_redeliver_and_do_not_read() -> None:
    """Catches content shown to an administrator (A39, rule 15)."""
    house = House()
    fill(house, 900, "alice@example.test")
    admin = house.browser("admin@example.test")
    page = admin.get("/archive/900")
    assert page.status == 200
    assert "the secret text" not in page.text
    assert "Closed to administrators" in page.text
    assert admin.get("/archive/900/raw").status == 403
    assert admin.get("/archive/900/html").status == 403
    assert admin.post("/archive/redeliver", {"id": ["900"], "once": "1"}).status == 303
    assert house.redelivery.asked == [("admin@example.test", (900,), "alice@example.test")]


def test_whom_a_page_has_redelivered_to() -> None:
    """Catches a field for an address that refuses every one (auditors redeliver to themselves alone, C17), and an administrator's *My mail* that goes to everybody who got it."""
    house = House()
    fill(house, 900, "alice@example.test")
    fill(house, 901, "admin@example.test")
    field = '<input id="give"'
    for address, chooses in (
        ("alice@example.test", False),
        ("auditor@example.test", False),
        ("admin@example.test", True),
    ):
        for path in ("/archive", "/archive/900"):
            assert (field in house.browser(address).get(path).text) is chooses, (address, path)
    admin = house.browser("admin@example.test")
    for path in ("/archive?own=1", "/archive/901?own=1"):
        page = admin.get(path).text
        assert field not in page
        assert 'name="to" value="admin@example.test"' in page
    back = admin.post("/archive/redeliver", {"id": ["901"], "once": "1", "to": "admin@example.test", "own": "1", "q": "offer"})
    assert "own=1" in back.header("Location")


def test_an_administrator_is_told_what_is_not_searched() -> None:
    """Rule 15: catches *Nothing found* for words that were not looked for in any text, and a page that says so to those whose texts were searched."""
    house = House()
    fill(house, 900, "alice@example.test")
    counted = house.archive.search

    async def search(scope: Any, *args: Any, **more: Any) -> Page:
        found = await counted(scope, *args, **more)
        return msgspec.structs.replace(found, closed=() if scope.content else ("content",))

    house.archive.search = search  # type: ignore[method-assign]
    told = "not in what mail and its files say"
    page = house.browser("admin@example.test").get("/archive?q=zebra").text
    assert told in page
    assert "Only people, dates, sizes and IDs" in page
    assert told not in house.browser("admin@example.test").get("/archive?q=zebra&own=1").text
    assert told not in house.browser("auditor@example.test").get("/archive?q=zebra").text


def test_more_hits_than_are_counted() -> None:
    """Catches a result list that states the bound of counting as the number of mails."""
    house = House()
    fill(house, 900, "alice@example.test")
    counted = house.archive.search

    async def search(*args: Any, **more: Any) -> Page:
        return msgspec.structs.replace(await counted(*args, **more), total=10_000, exact=False)

    house.archive.search = search  # type: ignore[method-assign]
    assert "More than 10\N{NARROW NO-BREAK SPACE}000 mails" in house.browser("auditor@example.test").get("/archive").text


def test_what_helps_to_search() -> None:
    """Catches facets, another word, suggestions, and what is not searched fully, that the API knows and no page shows; and a person's name that ends a query."""
    house = House()
    fill(house, 900, "alice@example.test")
    counted = house.archive.search

    async def search(*args: Any, **more: Any) -> Page:
        return msgspec.structs.replace(await counted(*args, **more), partly=(Stretch(NOW - 9e7, NOW - 8e7),))

    async def guidance(scope: Any, query: str) -> Guidance:
        people = (Count('"X" <x@example.com>', 3), Count("y@example.com", 1))
        return Guidance(4, people, (Count("2026-05", 3), Count("2026-04", 1)), (Count("pdf", 2),), "offers")

    async def suggestions(scope: Any, text: str) -> tuple[str, ...]:
        return (f"{text}@example.com",)

    house.archive.search = search  # type: ignore[method-assign]
    house.archive.guidance = guidance  # type: ignore[method-assign]
    house.archive.suggestions = suggestions  # type: ignore[method-assign]
    browser = house.browser("alice@example.test")
    page = browser.get("/archive?q=offer").text
    for link in ("type%3Apdf+offer", "date%3A2026-05+offer", "q=offers", "from%3A%22X+%3Cx%40example.com%3E%22"):
        assert link in page, link
    assert "earlier version" in page
    assert "earlier version" not in browser.get("/archive").text, "all mail is listed"
    assert msgspec.json.decode(browser.get("/archive/suggest?text=ali").body) == ["ali@example.com"]


def test_a_mail_that_came_in_several_forms() -> None:
    """Catches arrivals, other mail of its Message-ID and a conversation that no page shows."""
    house = House()
    fill(house, 900, "alice@example.test")
    kept = house.archive.kept[900]
    hit = msgspec.structs.replace(kept.mail.hit, renditions=2, namesake=True)
    arrivals = (Came(900, "inline", NOW - 60, ("alice@example.test",), 9), Came(902, "journal", NOW - 50, (), 9))
    answer = msgspec.structs.replace(hit, id=903, subject="Answer <b>")
    mail = msgspec.structs.replace(kept.mail, hit=hit, came=arrivals, namesakes=(904,), conversation=(hit, answer))
    house.archive.kept[900] = msgspec.structs.replace(kept, mail=mail)
    auditor = house.browser("auditor@example.test")
    page = auditor.get("/archive/900").text
    for shown in ("/archive/902", "/archive/903", "/archive/904", "Answer &lt;b&gt;", "by journal report", "thread%3A900"):
        assert shown in page, shown
    listed = auditor.get("/archive?q=offer").text
    assert "2×" in listed
    assert "same ID" in listed


def test_auditors_read_everything() -> None:
    """Catches an auditor who sees less than all (A40)."""
    house = House()
    fill(house, 900, "alice@example.test")
    assert "the secret text" in house.browser("auditor@example.test").get("/archive/900").text


def test_the_key_backup_is_a_download_and_says_what_is_at_stake() -> None:
    """Catches a backup that a browser shows and keeps, or one without the warning (A3-A6)."""
    house = House()
    admin = house.browser("admin@example.test")
    assert "The archive key has no backup yet." in admin.get("/dashboard").text
    assert "The archive key has no backup yet." not in house.browser("alice@example.test").get("/mail").text
    assert "Key lost means archive lost." in admin.get("/archive-key").text
    assert admin.post("/archive-key", {"password": "long enough", "again": "different!"}).status == 400
    assert admin.post("/archive-key", {"password": "short", "again": "short"}).status == 400
    made = admin.post("/archive-key", {"password": "long enough", "again": "long enough"})
    assert made.body == b"KEY PAPER of 11 characters\n"
    assert made.header("content-disposition").startswith("attachment;")
    assert made.header("cache-control") == "no-store"
    assert "The archive key has no backup yet." not in admin.get("/dashboard").text


def test_the_key_backup_to_print_and_in_parts() -> None:
    """Catches a page to print that may load or run something, one that the browser keeps, and parts that are fewer than are needed (L12)."""
    house = House()
    admin = house.browser("admin@example.test")
    form = {"password": "long enough", "again": "long enough", "as": "page", "parts": "3", "need": "2"}
    made = admin.post("/archive-key", form)
    assert made.text.count("KEY PAPER") == 3
    assert made.header("content-type").startswith("text/html")
    assert "default-src 'none'; style-src 'unsafe-inline';" in made.header("content-security-policy")
    assert "script" not in made.header("content-security-policy")
    assert made.header("cache-control") == "no-store"
    assert "$.need" in admin.post("/archive-key", {**form, "need": "4"}).text
    assert admin.post("/archive-key", {**form, "parts": "21"}).status == 400
    again = admin.post("/archive-key/page", {"text": "A PAPER"})
    assert "A PAPER" in again.text
    assert again.header("cache-control") == "no-store"
    assert house.browser("alice@example.test").post("/archive-key/page", {"text": "A PAPER"}).status == 403


def test_the_key_is_replaced_in_three_steps() -> None:
    """Catches a key page that loses a step of the change, or a banner that says nothing of a pending key or a medium that waits (rule 22)."""
    house = House()
    admin = house.browser("admin@example.test")
    banner = "A new archive key waits until its paper is confirmed."
    assert banner not in admin.get("/dashboard").text
    assert "Confirm the paper" not in admin.get("/archive-key").text
    assert admin.post("/archive-key/new", {"password": "long enough", "again": "different!"}).status == 400
    assert admin.post("/archive-key/confirm", {"text": "x", "password": "y"}).status == 409
    made = admin.post("/archive-key/new", {"password": "long enough", "again": "long enough"})
    assert "8899aabbccddeeff long enough" in made.text
    assert made.header("cache-control") == "no-store"
    assert "data:text/plain;base64,ODg5OWFhYmJjY2RkZWVmZiBsb25nIGVub3VnaAo=" in made.text
    assert banner in admin.get("/dashboard").text
    assert banner not in house.browser("alice@example.test").get("/mail").text
    shown = admin.get("/archive-key").text
    assert "Confirm the paper" in shown
    assert "long enough" not in shown
    assert admin.post("/archive-key/new", {"password": "long enough", "again": "long enough"}).status == 409
    assert admin.post("/archive-key/cancel", {}).status == 303
    assert banner not in admin.get("/dashboard").text
    admin.post("/archive-key/new", {"password": "long enough", "again": "long enough"})
    wrong = admin.post("/archive-key/confirm", {"text": "8899aabbccddeeff long enough", "password": "wrong"})
    assert (wrong.status, "or the wrong password" in wrong.text) == (409, True)
    done = admin.post("/archive-key/confirm", {"text": "8899aabbccddeeff long enough", "password": "long enough"})
    assert "Key 8899aabbccddeeff is in force." in done.text
    assert "Copies of a medium made before still open with it" in done.text
    after = admin.get("/dashboard").text
    assert banner not in after
    assert "Medium 2 is out of reach and still under the archive key before." in after
    assert "The archive key has no backup yet." not in after


def test_the_playground_is_only_there_when_there_is_one() -> None:
    """Catches its buttons in a real installation."""
    assert House().browser("admin@example.test").get("/playground").status == 404
    house = House(playground=True)
    admin = house.browser("admin@example.test")
    assert "&lt;b&gt;x&lt;/b&gt;" in admin.get("/playground").text
    assert admin.post("/playground", {"action": "stop"}).status == 303
    assert "stopped" in admin.get("/playground").text
    assert house.browser("alice@example.test").get("/playground").status == 403


def test_theme_goes_round_without_scripts() -> None:
    """Catches a switch that needs a script."""
    browser = House().browser("alice@example.test")
    browser.post("/theme", {"back": "/mail"})
    assert 'data-theme="dark"' in browser.get("/mail").text
    browser.post("/theme", {"back": "//evil.example"})
    assert 'data-theme="light"' in browser.get("/mail").text


def test_the_date_on_which_folders_expire_is_shown() -> None:
    """Rule 24: its owner sees it in webmail, the administrator on the mailbox's page; nobody else's page bears it."""
    house = House()
    admin, alice, bob = (house.browser(f"{name}@example.test") for name in ("admin", "alice", "bob"))
    assert "left in" not in alice.get("/mail").text
    house.expiry.dates[2] = NOW + 14 * 86_400
    day = "is removed on"
    assert day in alice.get("/mail").text
    assert day in admin.get("/mailboxes/alice@example.test").text
    assert day not in bob.get("/mail").text
    assert day not in admin.get("/mailboxes/bob@example.test").text
    assert day not in alice.get("/archive").text


def test_the_days_of_portal_folders_are_on_the_domain_page() -> None:
    """Catches a field that is not shown or not saved, and words saved as days."""
    page = House().browser("admin@example.test").get("/domains/example.test").text
    assert 'name="portal_days" type="number" min="0" max="36500" step="any" value="90"' in page
    for typed, days in (("0", 0.0), ("12.5", 12.5), ("soon", 90.0), ("", 90.0)):
        assert directory._domain_fields(Form([("portal_days", typed)]))["portal_days"] == days


def test_quotas_are_on_the_pages() -> None:
    """Catches a quota that is shown and not saved, one in bytes where MB are asked for, and an empty field of a mailbox taken for no limit at all."""
    admin = House().browser("admin@example.test")
    assert 'name="quota_mb" type="number" min="0" step="any" value="0"' in admin.get("/domains/example.test").text
    fields = directory._domain_fields(Form([("quota_mb", "12.5"), ("quota_messages", "700"), ("over_quota", "refuse")]))
    assert (fields["quota_bytes"], fields["quota_messages"], fields["over_quota"].value) == (12_500_000, 700, "refuse")
    assert directory._domain_fields(Form([]))["quota_bytes"] == 0
    assert [directory._megabytes(text) for text in ("", "much", "0", "2", "1e400")] == [None, None, 0, 2_000_000, None]
    assert 'name="quota_mb" type="number" min="0" step="any" value=""' in admin.get("/mailboxes/bob@example.test").text


def test_the_account_page_says_what_a_mail_program_needs() -> None:
    """Catches a page for people whose mail program asks for a port and an encryption that they have to guess (C25)."""
    page = House().browser("alice@example.test").get("/account").text
    assert "<dt>IMAP</dt><dd>mx.example.test, port 993, TLS</dd>" in page
    assert "<dt>SMTP</dt><dd>mx.example.test, port 587, STARTTLS</dd>" in page


def test_decisions_that_repeat_are_one_line() -> None:
    """Catches a page that shows the same sentence a dozen times and hides the others."""
    house = House()
    explain = house.modes.explain
    made = [{"at": NOW, "why": "the same again", "count": 40}]
    house.modes.explain = lambda domain: {**explain(domain), "decisions": made}  # type: ignore[method-assign]
    page = house.browser("admin@example.test").get("/domains/example.test").text
    assert page.count("the same again") == 1
    assert "(40 times)" in page


def test_the_domain_page_explains_the_mode() -> None:
    """Catches decisions that stand only in a log (L6), and markup in a server's answer coming alive."""
    house = House()
    explain = house.modes.explain
    house.modes.explain = lambda domain: {
        **explain(domain),
        "decisions": [{"at": NOW, "why": "sign 3 of 3: 451 <b>no</b>", "count": 1}],
    }  # type: ignore[method-assign]
    page = house.browser("admin@example.test").get("/domains/example.test").text
    assert "sign 3 of 3: 451 &lt;b&gt;no&lt;/b&gt;" in page


def test_a_domain_may_wait_for_greylisting_primaries() -> None:
    """Catches a choice (C20's finer rule) that the form shows and does not save, or saves and does not show."""
    house = House()
    admin = house.browser("admin@example.test")
    assert re.search('name="portal_on" value="any" checked', admin.get("/domains/example.test").text)
    fields = {"primaries": "mx.example.test:25", "failover": "auto", "scope": "all", "tls": "may", "retention_days": "90"}
    assert admin.post("/domains/example.test", {**fields, "portal_on": "outage", "active": "1", "archive": "1"}).status == 303
    domain = house.directory.domain("example.test")
    assert domain is not None
    assert domain.portal_on is PortalOn.OUTAGE
    assert re.search('name="portal_on" value="outage" checked', admin.get("/domains/example.test").text)


def test_the_dashboard_stands_without_delivery() -> None:
    """Catches a start page that fails where a role is off."""
    house = House()
    house.modes.explain = lambda domain: {}  # type: ignore[method-assign]
    assert house.browser("admin@example.test").get("/dashboard").status == 200
