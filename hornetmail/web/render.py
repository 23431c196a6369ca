"""Templates into pages: Jinja2 with autoescape, dates in the reader's time zone, sizes, icons, texts in the reader's language."""

from __future__ import annotations

import datetime
import hashlib
import urllib.parse
import zoneinfo
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

import jinja2
import msgspec

from hornetmail.access.rights import Right
from hornetmail.core.served import Role
from hornetmail.web.languages import Languages
from hornetmail.web.security import PAGE_POLICY, Cookie
from hornetmail.web.visit import Answer, Visit

CONTENT_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "woff2": "font/woff2",
}


class Asset(msgspec.Struct, frozen=True):
    """A static file in memory. ``version`` changes with its content."""

    body: bytes
    content_type: str
    version: str


def load_assets() -> dict[str, Asset]:
    """Everything under ``web/static`` by file name."""
    assets = {}
    for entry in resources.files("hornetmail.web").joinpath("static").iterdir():
        ending = entry.name.rpartition(".")[2]
        if entry.is_file() and ending in CONTENT_TYPES:
            body = entry.read_bytes()
            assets[entry.name] = Asset(body, CONTENT_TYPES[ending], hashlib.sha256(body).hexdigest()[:12])
    return assets


def size_text(size: float) -> str:
    """Bytes for people: ``412 B``, ``1.4 MB``; powers of 1000."""
    if size < 1000:
        return f"{int(size)} B"
    for unit in ("KB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.5 or unit == "TB":
            return f"{size:.1f} {unit}" if size < 9.95 else f"{size:.0f} {unit}"
    raise AssertionError("unreachable")


def span_text(seconds: float) -> str:
    """A span of time for people: ``42 s``, ``7 min``, ``3 h``, ``5 d``."""
    for limit, unit, length in ((100, "s", 1), (5400, "min", 60), (129600, "h", 3600)):
        if seconds < limit:
            return f"{max(seconds, 0) / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def number_text(value: float) -> str:
    """A count with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


class Clock:
    """Dates as one reader sees them: ``zone`` from the browser, ``now`` in Unix seconds."""

    def __init__(self, zone: datetime.tzinfo, now: float) -> None:
        self._zone = zone
        self._now = now

    def local(self, at: float) -> datetime.datetime:
        """That moment in the reader's zone."""
        return datetime.datetime.fromtimestamp(min(max(at, 0.0), 253402214400.0), self._zone)

    def day(self, at: float) -> str:
        """As in a list: the time today, weekday and time this week, else the date."""
        then, now = self.local(at), self.local(self._now)
        if then.date() == now.date():
            return then.strftime("%H:%M")
        if 0 < (now.date() - then.date()).days < 6:
            return then.strftime("%a %H:%M")
        return then.strftime("%-d %b") if then.year == now.year else then.strftime("%Y-%m-%d")

    def date(self, at: float) -> str:
        """The date of a day that was counted in UTC, as it is called everywhere."""
        return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%a, %-d %b %Y")

    def full(self, at: float) -> str:
        """Date and time."""
        return self.local(at).strftime("%a, %-d %b %Y, %H:%M %Z")

    def iso(self, at: float) -> str:
        """For ``<time datetime>``."""
        return self.local(at).isoformat(timespec="seconds")

    def stamp(self) -> str:
        """This moment, for marks that make a form count once."""
        return f"{self._now * 1000:.0f}"

    def ago(self, at: float) -> str:
        """How long ago."""
        return span_text(self._now - at)

    def until(self, at: float) -> str:
        """How long until then, ``now`` if it has passed."""
        return span_text(at - self._now) if at > self._now + 1 else "now"


def zone_of(name: str) -> datetime.tzinfo:
    """The zone that the browser named, UTC if it named none that exists."""
    if name and len(name) < 50 and not name.startswith(("/", ".")):
        try:
            return zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            pass
    return datetime.UTC


class Renderer:
    """Makes pages. ``now`` gives Unix seconds; ``common`` adds what every page shows (alarms, counts)."""

    def __init__(self, now: Callable[[], float], assets: Mapping[str, Asset], languages: Languages) -> None:
        self._now = now
        self._assets = assets
        self._languages = languages
        self.hostname = ""
        self.common: Callable[[Visit], dict[str, Any]] = lambda visit: {}
        self._environment = jinja2.Environment(
            loader=jinja2.PackageLoader("hornetmail.web", "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(size=size_text, span=span_text, count=number_text)
        self._environment.globals.update(Right=Right, Role=Role)

    def page(self, visit: Visit, template: str, *, status: int = 200, policy: str = PAGE_POLICY, **values: Any) -> Answer:
        """A page of a template; a message kept for this visit is shown once and then forgotten."""
        language = self._languages.choose(visit.asked.cookies.get("language", ""), visit.asked.headers.get("accept-language", ""))
        flash = read_flash(visit.asked.cookies.get("flash", "")) if not visit.flashed else None
        theme = visit.asked.cookies.get("theme", "")
        text = self._environment.get_template(template).render(
            visit=visit,
            url=visit.url,
            static=lambda name: visit.url(f"/static/{name}", v=self._assets[name].version),
            clock=Clock(zone_of(visit.asked.cookies.get("zone", "").replace("%2F", "/")), self._now()),
            theme=theme if theme in ("light", "dark") else "",
            flash=flash,
            hostname=self.hostname,
            language=language.code,
            _=language.gettext,
            ngettext=language.ngettext,
            **{**self.common(visit), **values},
        )
        return Answer(text.encode(), status, cookies=(Cookie("flash", ""),) if flash else (), policy=policy)


def read_flash(cookie: str) -> tuple[str, str] | None:
    """Tone and text of a message kept for the next page."""
    tone, _, text = urllib.parse.unquote(cookie[:2000]).partition(":")
    return (tone, text) if text and tone in ("ok", "bad", "warn", "info") else None


def redirect(
    visit: Visit, path: str, *, tone: str = "ok", say: str = "", cookies: tuple[Cookie, ...] = (), **query: Any
) -> Answer:
    """On to another page after a form (303), with a message for it."""
    if say:
        cookies = (*cookies, Cookie("flash", urllib.parse.quote(f"{tone}:{say[:500]}", safe=""), seconds=60))
    return Answer(status=303, headers=(("Location", visit.url(path, **query)),), cookies=cookies)
