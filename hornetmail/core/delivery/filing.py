"""Home with flags and folders (L13), as values: how a primary's IMAP is reached, what the ledger knows of a message, and which folder there stands for which here. Pure."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Collection, Iterable
from operator import attrgetter

import msgspec

from hornetmail.core.folder import Entry
from hornetmail.core.served import Host, TLSPolicy

Encoder = Callable[[str], bytes]
"""A folder's name as it goes over the wire."""


class Closed(Exception):
    """There is no way now. ``lasting``: not before somebody changes something, for the password is wrong."""

    def __init__(self, text: str, *, lasting: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.lasting = lasting


class WayRefused(Exception):
    """It cannot be set so; the message says why."""


class Form(enum.StrEnum):
    """How a service account says whose mailbox it wants: as SASL's authorization identity (RFC 4616), or in the name, as Dovecot's master users do (``user*master``)."""

    AUTHZID = "authzid"
    STAR = "star"


class HomeServer(msgspec.Struct, frozen=True, gc=False):
    """A domain's primary by IMAP. ``service``: an account that may open all mailboxes, or ``""``: then people give passwords of their own. ``own``: whether they may."""

    host: Host
    tls: TLSPolicy = TLSPolicy.VERIFY
    service: str = ""
    form: Form = Form.AUTHZID
    own: bool = True


class Progress(msgspec.Struct, frozen=True):
    """Of one mailbox: what the ledger counts, what is in the way now, and what does not go, name and reason."""

    home: int
    going: int
    stuck: tuple[tuple[str, str], ...]
    trouble: str


class Standing(enum.StrEnum):
    """What the ledger says of a message. ``GOING``: an APPEND of it was begun and its end is not known; ``HOME``: the primary has it; ``STUCK``: it is refused, and stays."""

    GOING = "going"
    HOME = "home"
    STUCK = "stuck"


class Filed(msgspec.Struct, frozen=True, gc=False):
    """A message in the ledger. ``folder``: its name at the primary as on the wire; ``uidvalidity``, ``uidnext``: of that folder before it came; ``uid``: its own, 0 if that is not
    known. ``lost``: flags that the primary does not keep. ``at``: Unix seconds. ``tries``: how often an APPEND of it was begun."""

    standing: Standing
    folder: str
    uidvalidity: int = 0
    uidnext: int = 0
    uid: int = 0
    reason: str = ""
    lost: tuple[str, ...] = ()
    at: float = 0.0
    tries: int = 0


class Remote(msgspec.Struct, frozen=True, gc=False):
    """A mailbox of the primary: its name on the wire, and its special use, in lower case, or ``""``."""

    name: bytes
    use: str = ""


class Tree(msgspec.Struct, frozen=True):
    """What the primary has. ``prefix``: of the personal namespace; ``delimiter``: one byte, or empty."""

    remotes: tuple[Remote, ...]
    prefix: bytes = b""
    delimiter: bytes = b"/"


KNOWN: dict[str, tuple[str, ...]] = {
    "\\sent": (
        "sent",
        "sent items",
        "sent messages",
        "sent mail",
        "gesendet",
        "gesendete elemente",
        "gesendete objekte",
        "éléments envoyés",
        "elementos enviados",
    ),
    "\\drafts": ("drafts", "draft", "entwürfe", "brouillons", "borradores"),
    "\\junk": ("junk", "spam", "junk e-mail", "junk email", "bulk mail", "spamverdacht"),
    "\\archive": ("archive", "archives", "archiv"),
}
"""How servers without SPECIAL-USE name these folders."""

STAYS = ("\\Trash", "\\All", "\\Flagged")
"""Folders of these uses do not go home: what was thrown away was taken out (C6), and the others hold nothing of their own."""


def stays(name: str, staying: Collection[str]) -> bool:
    """Whether a folder is one of those, or lies below one: programs throw a folder away by moving it below Trash."""
    parts = name.split("/")
    return any("/".join(parts[:level]) in staying for level in range(1, len(parts) + 1))


_ODD = re.compile(r"[^\w /-]")

OWN_KEYWORDS = frozenset({"$DrainFailed"})
"""Ours, which say nothing at the primary."""


def target(name: str, use: str, tree: Tree, encode: Encoder) -> bytes:
    """The name on the wire of the folder that stands for ours of that ``name`` (levels divided by ``/``) and special ``use``: the one with that use, or of a name that is known for it,
    else of the same name, below the personal namespace. It need not exist."""
    if name == "INBOX":
        return b"INBOX"
    wanted = use.lower()
    if wanted:
        by_use = [each.name for each in tree.remotes if each.use == wanted]
        if by_use:
            return by_use[0]
        known = KNOWN.get(wanted, ())
        for guess in known:
            for each in tree.remotes:
                if _last(each.name, tree).lower() in (encode(guess).lower(), encode(guess.title()).lower()):
                    return each.name
    parts = [part for part in name.split("/") if part]
    divider = tree.delimiter.decode("ascii", "replace")
    if divider:
        clean = [part.replace(divider, "_") for part in parts]
        made = tree.delimiter.join(map(encode, clean))
    else:
        made = encode("_".join(parts))
    if parts and parts[0].upper() == "INBOX" and tree.prefix.upper().rstrip(tree.delimiter) == b"INBOX":
        return made
    return tree.prefix + made


def plainly(name: str) -> str:
    """A folder's name for servers that do not take every sign: Maildir++ no dot, others no ``~`` in front or no ``%``."""
    return _ODD.sub("_", name)


def _last(name: bytes, tree: Tree) -> bytes:
    bare = name[len(tree.prefix) :] if tree.prefix and name.startswith(tree.prefix) else name
    return bare if not tree.delimiter or tree.delimiter not in bare else b""


def marked(entry: Entry) -> bool:
    """Whether its owner did something with it: read, flagged, answered it, or gave it a keyword."""
    return bool(entry.flags - OWN_KEYWORDS - {"\\Recent", "\\Deleted"})


def flags_for(entry: Entry, permanent: Collection[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What to give it at a folder that keeps the ``permanent`` flags (None: it did not say), and what is lost. ``\\*`` keeps all keywords."""
    wished = sorted(entry.flags - OWN_KEYWORDS - {"\\Recent", "\\Deleted"})
    if permanent is None or "\\*" in permanent:
        return tuple(wished), ()
    kept = {each.lower() for each in permanent}
    return tuple(each for each in wished if each.lower() in kept), tuple(each for each in wished if each.lower() not in kept)


def newest_first(entries: Iterable[Entry]) -> list[Entry]:
    """In the order in which they go (L13)."""
    found = sorted(entries, key=attrgetter("uid"), reverse=True)
    # By one number and then by the other: pairs of them, of which each is a value of its own, take several times as long.
    found.sort(key=attrgetter("date"), reverse=True)
    return found
