"""A visit: one request with who makes it, and the answer it gets. Pages see nothing of Twisted or Klein."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import msgspec
import multipart

from hornetmail.access.rights import Right
from hornetmail.core.served import Person
from hornetmail.web.api.operations import ApiError, Caller
from hornetmail.web.security import PAGE_POLICY, Cookie

MAX_FORM_FIELDS = 5000
MAX_FORM_FILES = 100


class Upload(msgspec.Struct, frozen=True):
    """A file that came with a form."""

    name: str
    content_type: str
    data: bytes


class Form:
    """Fields of a query or a body; a field may come more than once."""

    def __init__(self, pairs: Sequence[tuple[str, str]] = (), files: Sequence[tuple[str, Upload]] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)
        self._files: dict[str, list[Upload]] = {}
        for name, file in files:
            self._files.setdefault(name, []).append(file)

    def get(self, name: str, default: str = "") -> str:
        """The first value, as it was typed."""
        return self._values.get(name, [default])[0]

    def text(self, name: str) -> str:
        """The first value without white space at its ends."""
        return self.get(name).strip()

    def all(self, name: str) -> list[str]:
        """All values."""
        return list(self._values.get(name, ()))

    def lines(self, name: str) -> list[str]:
        """Values separated by commas or line ends, without empty ones."""
        return [part for line in self.get(name).replace(",", "\n").splitlines() if (part := line.strip())]

    def number(self, name: str, default: int = 0) -> int:
        """A whole number of at most 18 digits, or ``default``."""
        text = self.text(name)
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else default

    def ticked(self, name: str) -> bool:
        """Whether a check box was on."""
        return name in self._values

    def files(self, name: str) -> list[Upload]:
        """Files that were chosen for a field."""
        return list(self._files.get(name, ()))

    def __contains__(self, name: object) -> bool:
        return name in self._values


def read_query(text: str) -> Form:
    """A query string. Raises ApiError 400."""
    try:
        return Form(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS, errors="replace"))
    except ValueError:
        raise ApiError(400, "invalid", "the address has too many parts") from None


def read_form(content_type: str, body: bytes) -> Form:
    """A body of type urlencoded or multipart (RFC 7578), pure and bounded. Raises ApiError 400."""
    kind, options = multipart.parse_options_header(content_type)
    if kind == "application/x-www-form-urlencoded":
        return read_query(body.decode("utf-8", "replace"))
    if kind != "multipart/form-data":
        raise ApiError(415, "invalid", "that is no form")
    pairs: list[tuple[str, str]] = []
    files: list[tuple[str, Upload]] = []
    try:
        with multipart.PushMultipartParser(options.get("boundary", ""), max_segment_count=MAX_FORM_FIELDS) as parser:
            collected = bytearray()
            segment: Any = None
            for event in parser.parse(body):
                if isinstance(event, multipart.MultipartSegment):
                    segment = event
                elif event:
                    collected += event
                else:
                    _take_segment(segment, bytes(collected), pairs, files)
                    collected.clear()
    except multipart.MultipartError:
        raise ApiError(400, "invalid", "the form arrived damaged; send it again") from None
    return Form(pairs, files)


def _take_segment(segment: Any, data: bytes, pairs: list[tuple[str, str]], files: list[tuple[str, Upload]]) -> None:
    if segment.filename is None:
        pairs.append((segment.name, data.decode("utf-8", "replace")))
    elif segment.filename or data:
        if len(files) >= MAX_FORM_FILES:
            raise ApiError(413, "invalid", f"more than {MAX_FORM_FILES} files")
        files.append(
            (segment.name, Upload(segment.filename.replace("\\", "/").rpartition("/")[2], segment.content_type or "", data))
        )


class Answer(msgspec.Struct, frozen=True):
    """What goes back. ``policy`` is its Content-Security-Policy, ``cache`` its Cache-Control."""

    body: bytes = b""
    status: int = 200
    content_type: str = "text/html; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    cookies: tuple[Cookie, ...] = ()
    policy: str = PAGE_POLICY
    cache: str = "no-store"


class Asked(msgspec.Struct, frozen=True):
    """What the browser sent besides query and form: which page, and what it says of itself. Names of headers are in small letters; those that nobody looks at are left
    out."""

    path: str
    cookies: Mapping[str, str]
    headers: Mapping[str, str]


class Way(msgspec.Struct, frozen=True):
    """How the browser reaches us. ``prefix``: the path under which a reverse proxy shows the site (A45), ``""`` at the root. ``secure``: encrypted all the way, so
    that cookies may say so. ``may_send_password``: the way is one on which passwords are taken."""

    prefix: str
    secure: bool
    may_send_password: bool


class Visit:
    """One request: what it asks for, on which way it came, and who makes it. ``token`` is what forms must carry; ``must_change``: first another password. ``query`` and
    ``form`` are read once it is known where it goes."""

    def __init__(self, asked: Asked, way: Way, caller: Caller, token: str, must_change: bool) -> None:
        self.asked = asked
        self.way = way
        self.caller = caller
        self.token = token
        self.must_change = must_change
        self.query = Form()
        self.form = Form()
        self.flashed = False

    @property
    def path(self) -> str:
        """Which page."""
        return self.asked.path

    @property
    def person(self) -> Person:
        """Who is logged in. Raises ApiError 401 for nobody."""
        if self.caller.person is None:
            raise ApiError(401, "login_needed", "log in first")
        return self.caller.person

    def url(self, path: str, **query: Any) -> str:
        """The address of a page as the browser must ask for it; query fields that are None or ``""`` are left out."""
        fields = [(name.rstrip("_"), str(value)) for name, value in query.items() if value is not None and value != ""]
        return f"{self.way.prefix}{quote(path, safe='/:@-._~')}" + (f"?{urlencode(fields)}" if fields else "")


class Route(msgspec.Struct, frozen=True):
    """A page: what it answers to, the right it takes, and who answers. ``path`` is a Klein (Werkzeug) rule; parts of it are keywords of ``run``."""

    method: str
    path: str
    right: Right
    run: Callable[..., Awaitable[Answer]]
