"""Mail addresses: the parts of one, and the keys they are looked up by (RFC 5321 section 4.1.2, RFC 6531)."""

from __future__ import annotations

import functools

import msgspec


class AddressError(ValueError):
    """The text is no mailbox; the message says why."""


class Address(msgspec.Struct, frozen=True, gc=False):
    """``local`` as written (quotes taken off), ``domain`` in lower case A-labels or an address literal."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{quote_local(self.local)}@{self.domain}"

    @property
    def key(self) -> str:
        """What directories and caches look an address up by: all lower case, unquoted."""
        return f"{self.local.casefold()}@{self.domain}"


_ATEXT = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~")


def quote_local(local: str) -> str:
    """The local part in the form that goes on the wire: a dot-string if it is one, quoted otherwise."""
    if local and all(part and all(c in _ATEXT or ord(c) > 127 for c in part) for part in local.split(".")):
        return local
    return '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'


def fold_domain(domain: str) -> str:
    """Lower case, no root dot, U-labels as A-labels. Raises AddressError."""
    text = domain.rstrip(".").lower()
    if not text or len(text) > 255:
        raise AddressError(f"not a domain: {domain!r}")
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise AddressError(f"not a domain: {domain!r}: {error}") from None
    if text.startswith("["):
        if not text.endswith("]"):
            raise AddressError(f"not an address literal: {domain!r}")
        return text
    for label in text.split("."):
        if not label or len(label) > 63 or label[0] == "-" or label[-1] == "-":
            raise AddressError(f"not a domain: {domain!r}")
        if not all(c.isalnum() or c in "-_" for c in label):
            raise AddressError(f"not a domain: {domain!r}")
    return text


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> Address:
    """A bare mailbox (no angle brackets, no display name). Raises AddressError saying what is wrong."""
    local, at, domain = text.rpartition("@")
    if not at:
        raise AddressError(f"no @ in {text!r}")
    if local.startswith('"'):
        if len(local) < 2 or not local.endswith('"'):
            raise AddressError(f"unbalanced quotes in {text!r}")
        local = _unquote(local[1:-1], text)
    elif not all(part and all(c in _ATEXT or ord(c) > 127 for c in part) for part in local.split(".")):
        raise AddressError(f"not a local part: {local!r}")
    if len(local.encode()) > 255:
        raise AddressError(f"local part longer than 255 octets: {local[:40]!r}…")
    return Address(local, fold_domain(domain))


def _unquote(text: str, whole: str) -> str:
    out: list[str] = []
    escaped = False
    for c in text:
        if c < " " or c == "\x7f" or (c == '"' and not escaped):
            raise AddressError(f"not a quoted local part: {whole!r}")
        if c == "\\" and not escaped:
            escaped = True
            continue
        out.append(c)
        escaped = False
    if escaped:
        raise AddressError(f"unbalanced quotes in {whole!r}")
    return "".join(out)


def in_a_labels(text: str) -> str:
    """The mailbox in ASCII if only its domain keeps it from that (RFC 6531 section 3.2), else the text as it is. Never raises."""
    local, at, domain = text.rpartition("@")
    if not at or domain.isascii() or not local.isascii():
        return text
    try:
        return f"{local}@{fold_domain(domain)}"
    except AddressError:
        return text


def key_of(text: str) -> str:
    """``Address.key`` of a mailbox given as text; text that is no mailbox is only folded in case. Never raises."""
    try:
        return parse(text).key
    except AddressError:
        return text.casefold()


def domain_of(text: str) -> str:
    """The folded domain of a mailbox given as text, or ``""``. Never raises."""
    try:
        return parse(text).domain
    except AddressError:
        return ""
