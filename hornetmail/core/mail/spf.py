"""What an SPF record says: its terms and its macros (RFC 7208 sections 4.5, 4.6, 7 and 12). Looking things up is not done here."""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

import msgspec

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAME_BYTES = 253
"""The longest name that DNS takes, as text without the root's dot."""


class SPF(enum.StrEnum):
    """The results of RFC 7208 section 2.6."""

    NONE = "none"
    NEUTRAL = "neutral"
    PASS = "pass"
    FAIL = "fail"
    SOFTFAIL = "softfail"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


class SPFVerdict(msgspec.Struct, frozen=True, gc=False):
    """A result, and one sentence for people that names domain and address."""

    result: SPF
    why: str


class SPFSyntaxError(ValueError):
    """The record is no SPF record by its grammar; the message says where. The result is permerror."""


class Kind(enum.StrEnum):
    """The mechanisms of section 5."""

    ALL = "all"
    INCLUDE = "include"
    A = "a"
    MX = "mx"
    PTR = "ptr"
    IP4 = "ip4"
    IP6 = "ip6"
    EXISTS = "exists"


class Directive(msgspec.Struct, frozen=True, gc=False):
    """A mechanism and the result of its match. ``domain`` still has its macros, ``""`` stands for the current domain. ``four`` and ``six``: prefix
    lengths by family. ``network`` is set for ip4 and ip6."""

    result: SPF
    kind: Kind
    domain: str = ""
    four: int = 32
    six: int = 128
    network: Network | None = None


class Record(msgspec.Struct, frozen=True, gc=False):
    """A whole record. ``redirect`` still has its macros, ``""``: none."""

    directives: tuple[Directive, ...]
    redirect: str = ""


QUALIFIERS = {"+": SPF.PASS, "-": SPF.FAIL, "~": SPF.SOFTFAIL, "?": SPF.NEUTRAL}

_KINDS = {each.value: each for each in Kind}
_VERSION = "v=spf1"
_TOKEN = re.compile(r"%\{([slodiphv])([0-9]*)(r?)([.\-+,/_=]*)\}|%([%_\-])|([!-$&-~]+)", re.IGNORECASE)
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.\-]*)=(.*)")
_DIRECTIVE = re.compile(r"([+\-?~]?)([A-Za-z0-9]+)(.*)")
_CIDR = re.compile(r"(.*?)(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?")
_TOP = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9\-]*[A-Za-z0-9])?")


def select(texts: Iterable[bytes]) -> str | None:
    """The SPF record among a name's TXT records, None if there is none. Raises SPFSyntaxError if there are several, or it is not ASCII."""
    found = [
        text for text in texts if text[: len(_VERSION)].lower() == _VERSION.encode() and text[len(_VERSION) :][:1] in (b"", b" ")
    ]
    if len(found) > 1:
        raise SPFSyntaxError(f"there are {len(found)} SPF records")
    if not found:
        return None
    if not found[0].isascii():
        raise SPFSyntaxError("it is not ASCII")
    return found[0].decode("ascii")


def parse(text: str) -> Record:
    """A record that ``select`` found. All of it is looked at before any of it counts (section 4.6). Raises SPFSyntaxError."""
    directives: list[Directive] = []
    modifiers: dict[str, str] = {}
    for word in text[len(_VERSION) :].split(" "):
        if not word:
            continue
        modifier = _MODIFIER.fullmatch(word)
        if modifier is None:
            directives.append(_directive(word))
            continue
        name, value = modifier[1].lower(), modifier[2]
        if name not in ("redirect", "exp"):
            _tokens(value, word)
            continue
        if name in modifiers:
            raise SPFSyntaxError(f"{name}= occurs twice")
        modifiers[name] = _domain_spec(value, word)
    return Record(tuple(directives), modifiers.get("redirect", ""))


def _bad(word: str) -> SPFSyntaxError:
    return SPFSyntaxError(f"{word[:80]!r} is no term of SPF")


def _directive(word: str) -> Directive:
    found = _DIRECTIVE.fullmatch(word)
    if found is None or found[2].lower() not in _KINDS:
        raise _bad(word)
    result, kind, rest = QUALIFIERS[found[1] or "+"], _KINDS[found[2].lower()], found[3]
    match kind:
        case Kind.ALL:
            if rest:
                raise _bad(word)
            return Directive(result, kind)
        case Kind.IP4 | Kind.IP6:
            return Directive(result, kind, network=_network(kind, rest, word))
        case Kind.INCLUDE | Kind.EXISTS:
            if not rest.startswith(":"):
                raise _bad(word)
            return Directive(result, kind, _domain_spec(rest[1:], word))
        case Kind.PTR:
            if rest and not rest.startswith(":"):
                raise _bad(word)
            return Directive(result, kind, _domain_spec(rest[1:], word) if rest else "")
    parts = _CIDR.fullmatch(rest)
    if parts is None or (parts[1] and not parts[1].startswith(":")):
        raise _bad(word)
    four, six = int(parts[2] or 32), int(parts[3] or 128)
    if four > 32 or six > 128:
        raise _bad(word)
    return Directive(result, kind, _domain_spec(parts[1][1:], word) if parts[1] else "", four, six)


def _network(kind: Kind, rest: str, word: str) -> Network:
    """The part behind ``ip4`` or ``ip6``; host bits may be set."""
    address, slash, length = rest[1:].partition("/")
    most = 32 if kind is Kind.IP4 else 128
    if not rest.startswith(":") or "%" in address or (slash and not re.fullmatch("0|[1-9][0-9]{0,2}", length)):
        raise _bad(word)
    try:
        family = ipaddress.IPv4Network if kind is Kind.IP4 else ipaddress.IPv6Network
        return family((address, int(length) if slash else most), strict=False)
    except ValueError:
        raise _bad(word) from None


def _tokens(text: str, word: str) -> list[re.Match[str]]:
    """A macro-string in pieces (section 7.1). Raises SPFSyntaxError."""
    found: list[re.Match[str]] = []
    place = 0
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None or (token[2] and not token[2].strip("0")):
            raise _bad(word)
        found.append(token)
        place = token.end()
    return found


def _domain_spec(text: str, word: str) -> str:
    """The same text, if it is a domain-spec: ends with a macro, or with a dot and a label that is not a number. Raises SPFSyntaxError."""
    tokens = _tokens(text, word)
    if not tokens:
        raise _bad(word)
    if tokens[-1][6]:
        _, dot, top = tokens[-1][6].removesuffix(".").rpartition(".")
        if not dot or not _TOP.fullmatch(top) or top.isdigit():
            raise _bad(word)
    return text


def asks_for(text: str, letter: str) -> bool:
    """Whether a domain-spec has that macro."""
    return any((token[1] or "").lower() == letter for token in _TOKEN.finditer(text))


def expand(text: str, values: Mapping[str, str]) -> str:
    """A domain-spec with its macros replaced by ``values`` (by lower-case letter), without the root's dot, cut from the left to what DNS
    takes (section 7.3)."""
    out = "".join(_expanded(token, values) for token in _TOKEN.finditer(text)).removesuffix(".")
    while len(out) > NAME_BYTES and "." in out:
        out = out.partition(".")[2]
    return out


def _expanded(token: re.Match[str], values: Mapping[str, str]) -> str:
    letter, digits, turned, delimiters, escape, literal = token.groups()
    if literal:
        return str(literal)
    if escape:
        return {"%": "%", "_": " ", "-": "%20"}[escape]
    parts = re.split(f"[{re.escape(delimiters or '.')}]", values[letter.lower()])
    if turned:
        parts.reverse()
    if digits:
        parts = parts[-int(digits.lstrip("0")[:4]) :]
    out = ".".join(parts)
    return quote(out, safe="-._~") if letter.isupper() else out


def macro_address(address: Address) -> str:
    """The ``i`` macro: dotted, IPv6 by nibbles."""
    return str(address) if address.version == 4 else ".".join(address.exploded.replace(":", ""))


def usable_name(name: str) -> bool:
    """Whether DNS can be asked for it: ASCII, labels of 1 to 63 characters (sections 4.3 and 4.8; RFC 8616 section 4)."""
    return name.isascii() and len(name) <= NAME_BYTES and all(0 < len(label) <= 63 for label in name.split("."))
