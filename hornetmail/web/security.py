"""What every answer carries and every form must bring: headers, cookies, and the proof that a form was ours."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from hornetmail.access.sessions import csrf_matches

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
)
"""Pages: our own assets only, no inline script or style, never inside a frame."""

PRINT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
"""Documents of ours that are made to be printed: they bring their style, and nothing else."""

DOWNLOAD_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"
"""Files that somebody sent: nothing in them runs, wherever a browser shows them."""


def mail_policy(remote_images: bool) -> str:
    """The policy of a mail's own document: shown only inside our sandboxed frame, inline styles yes, anything else no.

    ``remote_images`` is what the reader asked for with a click; without it nothing is fetched from anywhere (no tracking pixels).
    """
    images = "img-src data: https: http:" if remote_images else "img-src data:"
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; {images}; frame-ancestors 'self'; base-uri 'none'; form-action 'none'; "
        "sandbox allow-popups allow-popups-to-escape-sandbox"
    )


class Cookie(msgspec.Struct, frozen=True):
    """A cookie to set. ``value`` ``""`` deletes it. ``seconds`` 0: until the browser closes. ``script``: readable by our own modules."""

    name: str
    value: str
    seconds: int = 0
    script: bool = False


def cookie_header(cookie: Cookie, path: str, secure: bool) -> str:
    """``Set-Cookie`` for it: SameSite=Lax, HttpOnly unless our scripts need it, Secure on TLS (RFC 6265 section 4.1)."""
    parts = [f"{cookie.name}={cookie.value}", f"Path={path}", "SameSite=Lax"]
    if not cookie.value:
        parts.append("Max-Age=0")
    elif cookie.seconds:
        parts.append(f"Max-Age={cookie.seconds}")
    if not cookie.script:
        parts.append("HttpOnly")
    if secure:
        parts.append("Secure")
    return "; ".join(parts)


def safe_headers(policy: str, *, secure: bool, cache: str = "no-store") -> Sequence[tuple[str, str]]:
    """Headers of every answer. ``secure``: the browser came over TLS, so it is told to keep to it."""
    headers = [
        ("Content-Security-Policy", policy),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
        ("Cache-Control", cache),
    ]
    if secure:
        headers.append(("Strict-Transport-Security", "max-age=31536000"))
    return headers


def is_ours(token: str, secret: str, *, origin: str, fetch_site: str, host: str) -> bool:
    """Whether a POST came from one of our own pages: its token fits, and the browser does not name another origin."""
    if fetch_site not in ("", "same-origin", "none"):
        return False
    if origin and urlsplit(origin).netloc.lower() != host.lower():
        return False
    return bool(secret) and csrf_matches(secret, token)


def local_target(wanted: str) -> str:
    """A path of this site to go on to after log-in, or ``"/"`` for anything that could lead elsewhere."""
    split = urlsplit(wanted)
    odd = "\\" in wanted or any(ord(character) < 33 for character in wanted)
    if odd or split.scheme or split.netloc or not wanted.startswith("/") or wanted.startswith("//"):
        return "/"
    return wanted


def encrypted_address(host: str, path: str) -> str:
    """Where ``path`` is over TLS, by the request's Host; ``""`` if it names another port than HTTP's own, so that nobody can know."""
    try:
        parts = urlsplit(f"//{host}")
        return f"https://{parts.netloc.removesuffix(':80')}{path}" if parts.hostname and parts.port in (None, 80) else ""
    except ValueError:
        return ""
