"""What every request passes: log-in, rights, the proof that a form is ours, headers."""

from __future__ import annotations

import pytest

from hornetmail.interfaces.restoring import RestoreState
from hornetmail.web.api.door.visitors import COOKIE
from hornetmail.web.restoring import RestorePages
from hornetmail.web.security import encrypted_address, local_target

from .people import ORIGIN, PASSWORD, House

ADMIN_ONLY = [
    "/dashboard",
    "/queue",
    "/domains",
    "/domains/new",
    "/domains/example.test",
    "/mailboxes",
    "/mailboxes/new",
    "/archive-key",
]
HOST = ORIGIN.partition("//")[2]
EVERYBODY = ["/mail", "/mail/write", "/archive", "/account"]


def test_login_asks_for_the_whole_address_and_sets_a_safe_cookie() -> None:
    """Catches a session cookie that scripts can read or that other sites' forms carry, and a redirect to nowhere (C22)."""
    browser = House().browser()
    page = browser.get("/login")
    answer = browser.post("/login", {"user": "alice@example.test", "password": PASSWORD, "csrf": page.token})
    assert (answer.status, answer.header("location")) == (303, "/")
    cookie = next(line for line in answer.headers["set-cookie"] if line.startswith(COOKIE + "="))
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert browser.get("/").header("location") == "/mail"


@pytest.mark.parametrize(("user", "password"), [("alice@example.test", "wrong"), ("nobody@example.test", PASSWORD)])
def test_wrong_password_and_unknown_address_look_the_same(user: str, password: str) -> None:
    """Catches an answer that tells strangers which addresses exist."""
    browser = House().browser()
    page = browser.get("/login")
    answer = browser.post("/login", {"user": user, "password": password, "csrf": page.token})
    assert answer.status == 401
    assert "Address or password is wrong." in answer.text
    assert COOKIE not in browser.cookies


def test_throttled_login_says_so() -> None:
    """Catches a throttled visitor being told that a right password is wrong."""
    house = House()
    house.access.throttled = True
    browser = house.browser()
    page = browser.get("/login")
    answer = browser.post("/login", {"user": "alice@example.test", "password": PASSWORD, "csrf": page.token})
    assert answer.status == 429
    assert "Too many attempts" in answer.text


@pytest.mark.parametrize("path", [*ADMIN_ONLY, *EVERYBODY, "/audit", "/"])
def test_strangers_are_sent_to_the_login(path: str) -> None:
    """Catches a page that shows itself to nobody in particular."""
    answer = House().browser().get(path)
    assert answer.status == 303
    assert answer.header("location").startswith("/login")


@pytest.mark.parametrize("address", ["alice@example.test", "auditor@example.test"])
@pytest.mark.parametrize("path", ADMIN_ONLY)
def test_administration_is_closed_to_others(path: str, address: str) -> None:
    """Catches a page of the administrator's that a user or auditor can open."""
    assert House().browser(address).get(path).status == 403


@pytest.mark.parametrize("address", ["alice@example.test", "admin@example.test", "auditor@example.test"])
@pytest.mark.parametrize("path", EVERYBODY)
def test_everybody_has_mail_archive_and_account(path: str, address: str) -> None:
    """Catches a page that fails for one of the roles."""
    assert House().browser(address).get(path).status == 200


@pytest.mark.parametrize("path", ADMIN_ONLY)
def test_administrators_open_their_pages(path: str) -> None:
    """Catches a template that asks for something its page does not give (undefined names raise)."""
    answer = House().browser("admin@example.test").get(path)
    assert answer.status == 200
    assert len(answer.body) < 50_000


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"csrf": ""}, {}),
        ({"csrf": "0" * 32}, {}),
        ({}, {"Origin": "https://evil.example"}),
        ({}, {"Sec-Fetch-Site": "cross-site"}),
        ({}, {"Sec-Fetch-Site": "same-site"}),
    ],
)
def test_a_form_that_is_not_ours_changes_nothing(fields: dict[str, str], headers: dict[str, str]) -> None:
    """Catches cross-site request forgery, by token, by origin and by fetch metadata."""
    house = House()
    browser = house.browser("admin@example.test")
    answer = browser.post("/domains/example.test/mode", {"mode": "emergency", **fields}, headers=headers)
    assert answer.status == 403
    assert house.modes.mode("example.test") == "normal"


def test_the_token_of_another_session_does_not_fit() -> None:
    """Catches tokens that are not bound to their session."""
    house = House()
    other = house.browser("alice@example.test").token
    answer = house.browser("admin@example.test").post("/domains/example.test/mode", {"mode": "emergency", "csrf": other})
    assert answer.status == 403


@pytest.mark.parametrize("path", ["/login", "/mail", "/nowhere", "/static/app.css"])
def test_every_answer_carries_its_guards(path: str) -> None:
    """Catches a page without policy: inline script, foreign origin or framing would be let through."""
    answer = House().browser("alice@example.test").get(path)
    policy = answer.header("content-security-policy")
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("referrer-policy")


@pytest.mark.parametrize(
    "path", ["/login", "/dashboard", "/mail", "/archive", "/domains/new", "/queue", "/account", "/archive-key"]
)
def test_pages_have_no_inline_script_or_style(path: str) -> None:
    """Catches markup that the policy would silently switch off."""
    text = House().browser("admin@example.test" if path != "/login" else "").get(path).text
    assert "<script>" not in text
    assert " style=" not in text
    assert " onclick=" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_a_given_password_must_be_changed_first() -> None:
    """Catches a one-time password that lasts for ever, and a change that does not lead on to where somebody wanted to go in."""
    house = House()
    house.access.to_change.add("alice@example.test")
    browser = house.browser("alice@example.test")
    assert browser.get("/mail").header("location") == "/account"
    assert browser.get("/account").status == 200
    answer = browser.post("/account/password", {"old": PASSWORD, "new": "a secret of my own", "again": "a secret of my own"})
    assert answer.header("location") == "/", answer.text
    answer = browser.post("/account/password", {"old": PASSWORD, "new": "another of my own", "again": "another of my own"})
    assert answer.header("location") == "/account"


class NobodysRestoring:
    """A restore that is open, and that nobody may begin here."""

    state = RestoreState("open")

    def trusts(self, token: str) -> bool:
        raise AssertionError(token)


def test_no_password_is_asked_for_in_the_clear() -> None:
    """Catches a form that sends a password or the key's paper over the wire only to hear that it must not; it is not there, and the way to the other address is."""
    house = House(plain=False)
    restoring = RestorePages(NobodysRestoring(), lambda request: False, lambda request: False)
    there = House()
    there.resource = restoring.resource(alone=True)
    for path, browser in (("/login", house.browser()), ("/restore", there.browser())):
        asked = browser.get(path)
        fields = {"user": "alice@example.test", "password": PASSWORD, "token": "0", "csrf": asked.token}
        for page in (asked, browser.post(path, fields)):
            assert "Passwords are taken over an encrypted connection only" in page.text
            assert 'type="password"' not in page.text
            assert "<textarea" not in page.text
            assert f'href="https://{HOST}{path}"' in page.text
        assert page.status == 403


def test_the_address_over_tls() -> None:
    """Catches a link to a port that does not speak TLS, and a Host that makes the page fail or leads elsewhere than to that host."""
    assert encrypted_address("mx.example.org", "/login") == "https://mx.example.org/login"
    assert encrypted_address("[2001:db8::1]:80", "/login") == "https://[2001:db8::1]/login"
    for host in ("mx.example.org:20080", "", "[", "a:b", ":80"):
        assert encrypted_address(host, "/login") == "", host


def test_logging_out_ends_the_session_itself() -> None:
    """Catches a log-out that only forgets the cookie: a copied one would go on working."""
    house = House()
    browser = house.browser("alice@example.test")
    kept = dict(browser.cookies)
    assert browser.post("/logout", {}).status == 303
    browser.cookies = kept
    assert browser.get("/mail").status == 303
    assert not house.sessions.open


def test_behind_a_prefix_every_link_carries_it() -> None:
    """Catches links and cookies that leave the reverse proxy's path (A45); requests come with and without the prefix."""
    house = House(prefix="/archive-portal")
    browser = house.browser()
    page = browser.get("/archive-portal/login")
    assert page.status == 200
    assert browser.get("/login").status == 200
    assert 'href="/archive-portal/static/app.css' in page.text
    answer = browser.post("/archive-portal/login", {"user": "alice@example.test", "password": PASSWORD, "csrf": page.token})
    assert answer.header("location") == "/archive-portal/"
    assert "Path=/archive-portal/" in answer.header("set-cookie")
    assert browser.get("/archive-portal/mail").status == 200


@pytest.mark.parametrize(
    "wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "", "mail", "/a\nb"]
)
def test_after_login_nobody_is_sent_elsewhere(wanted: str) -> None:
    """Catches an open redirect."""
    assert local_target(wanted) == "/"


def test_local_pages_are_remembered_over_the_login() -> None:
    """Catches the place somebody wanted to go to being lost."""
    assert local_target("/archive?q=a") == "/archive?q=a"


def test_a_form_beyond_the_bound_is_refused() -> None:
    """Catches memory filled by an endless form."""
    browser = House().browser("alice@example.test")
    answer = browser.post("/mail/act", {"folder": "x" * (49 << 20)})
    assert answer.status == 413


def test_damaged_multipart_is_told_and_not_obeyed() -> None:
    """Catches a broken upload raising into a 500."""
    browser = House().browser("alice@example.test")
    answer = browser.ask(
        "POST", "/mail/write", data=b"--x\r\nnonsense", headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert answer.status == 400


def test_unknown_pages_and_methods_get_a_page() -> None:
    """Catches a bare error of the framework."""
    browser = House().browser("alice@example.test")
    assert browser.get("/nowhere").status == 404
    assert browser.post("/dashboard", {}).status == 405
    assert "Go to the start page" in browser.get("/nowhere").text
