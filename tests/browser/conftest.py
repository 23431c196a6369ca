"""A real HornetMail with its playground in a process of its own, and a real browser."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import smtplib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.peers.installation import Ports
from tests.peers.waiting import until

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


class Playground:
    """``python -m hornetmail.playground``: HornetMail with example.test, four people and a small primary."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="hornetmail-browser-"))
        self.ports = Ports()
        self.base = self.ports.base
        self.url = f"http://127.0.0.1:{self.base + 80}"
        self._log = (self.root / "output").open("wb")
        command = [sys.executable, "-m", "hornetmail.playground", "--dir", str(self.root / "data"), "--ports", str(self.base)]
        self.process = subprocess.Popen(
            command, stdout=self._log, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        until(self._healthy, "the playground is healthy", seconds=90)

    def _healthy(self) -> bool:
        assert self.process.poll() is None, (self.root / "output").read_text()[-4000:]
        connection = http.client.HTTPConnection("127.0.0.1", self.base + 80, timeout=60)
        try:
            connection.request("GET", "/healthz")
            with connection.getresponse() as answer:
                return answer.status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def password(self, name: str) -> str:
        """Of admin, auditor, alice or bob."""
        return f"{name}-playground"

    def send(self, sender: str, to: str, subject: str, text: str) -> None:
        """Mail from outside, through the MX door."""
        data = f"From: <{sender}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nMessage-ID: <{subject.replace(' ', '.')}@outside.test>\r\n\r\n{text}\r\n"
        with smtplib.SMTP("127.0.0.1", self.base + 25, timeout=60) as smtp:
            smtp.sendmail(sender, [to], data.encode())

    def close(self) -> None:
        """End it and remove all of it."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(60)
        self._log.close()
        self.ports.close()
        shutil.rmtree(self.root, ignore_errors=True)


@pytest.fixture(scope="session")
def playground() -> Iterator[Playground]:
    """One for all tests of the browser."""
    ground = Playground()
    yield ground
    ground.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


class Complaints(list[str]):
    """What the browser's console said: a violated policy and a broken script end up here."""


@pytest.fixture
def complaints() -> Complaints:
    """Of all pages of a test."""
    return Complaints()


@pytest.fixture
def person(playground: Playground, chromium: Browser, complaints: Complaints) -> Iterator[Callable[..., Page]]:
    """``person("alice")`` logs in with a browser of her own and answers her page; ``phone`` makes it a small one."""
    contexts: list[BrowserContext] = []

    def log_in(name: str, *, phone: bool = False, dark: bool = False) -> Page:
        size = {"width": 390, "height": 844} if phone else {"width": 1280, "height": 800}
        context = chromium.new_context(viewport=size, color_scheme="dark" if dark else "light", timezone_id="Europe/Berlin")
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{playground.url}/login")
        page.get_by_label("Mail address").fill(f"{name}@example.test")
        page.get_by_label("Password", exact=True).fill(playground.password(name))
        page.get_by_role("button", name="Log in").click()
        expect(page.locator("#main")).to_be_visible()
        return page

    yield log_in
    for context in contexts:
        context.close()
