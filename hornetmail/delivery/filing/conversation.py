"""What is said to a primary about one mailbox: which folders there are, which one stands for ours, whether a message is in it, and the message itself."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Callable, Container

import msgspec

from hornetmail.core.delivery.filing import Filed, Remote, Tree, plainly, target
from hornetmail.core.folder import Entry
from hornetmail.core.mail.dates import MONTHS
from hornetmail.mime import headers
from hornetmail.net.clients.imap import FOLDERS, NAME_BYTES, Broken, IMAPClient, Refused, Trouble
from hornetmail.wire.engine import Event
from hornetmail.wire.imap.client import commands as c
from hornetmail.wire.imap.tokens.names import encode_name

HEADER_BYTES = 65_536
"""So far a Message-ID is looked for."""

ID_BYTES = 900
"""Longer ones are not asked for: servers keep less."""

_OF_NAMES = ("", "CANNOT")
"""Codes of a CREATE that is refused for its name."""

_USES = ("\\sent", "\\drafts", "\\junk", "\\archive", "\\trash")


class Here(msgspec.Struct, frozen=True, gc=False):
    """The folder that is selected. ``permanent``: the flags it keeps, None if it did not say."""

    name: bytes
    uidvalidity: int
    uidnext: int
    permanent: frozenset[str] | None


class Letter(msgspec.Struct, frozen=True):
    """A message to go: ``chunks`` starts its bytes anew each time. ``ident``: its Message-ID, or None."""

    entry: Entry
    size: int
    chunks: Callable[[], AsyncIterator[bytes]]
    ident: bytes | None
    nul: bool


async def letter_of(entry: Entry, size: int, chunks: Callable[[], AsyncIterator[bytes]]) -> Letter:
    """Looked through once: a literal may not hold NUL (RFC 3501 section 4.3), and its Message-ID is what it is found by."""
    head = b""
    nul = False
    async for chunk in chunks():
        nul = nul or b"\0" in chunk
        if len(head) < HEADER_BYTES:
            head += chunk[: HEADER_BYTES - len(head)]
    found = headers.message_id(
        next((head[field.value : field.end] for field in headers.fields(head) if field.name == b"message-id"), None)
    )
    usable = found is not None and found.isascii() and b"\0" not in found and len(found) <= ID_BYTES
    return Letter(entry, size, chunks, found if usable else None, nul)


class AtPrimary:
    """One mailbox at its primary, over one connection. All of it raises Broken."""

    def __init__(self, client: IMAPClient) -> None:
        self.client = client
        self._tree: Tree | None = None
        self._here: Here | None = None
        self._plain: dict[str, str] = {}
        """Names that it did not take, and those that it was offered instead."""

    async def tree(self) -> Tree:
        """Its folders, asked for once. Raises Refused."""
        if self._tree is None:
            prefix, delimiter = b"", b""
            if "NAMESPACE" in self.client.capabilities:
                for event in await self.client.asked(c.Namespace()):
                    if isinstance(event, c.Spaces) and event.personal:
                        prefix, delimiter = event.personal[0]
            remotes: list[Remote] = []

            async def heard(event: Event) -> None:
                nonlocal delimiter
                if isinstance(event, c.Listed) and len(event.name) <= NAME_BYTES:
                    delimiter = delimiter or event.delimiter
                    if "\\noselect" not in event.attributes and "\\nonexistent" not in event.attributes:
                        if len(remotes) >= FOLDERS:
                            raise Broken(Trouble.PROTOCOL, f"it has more than {FOLDERS} folders")
                        remotes.append(Remote(event.name, next((use for use in _USES if use in event.attributes), "")))

            await self.client.ask(c.List(), heard)
            self._tree = Tree(tuple(remotes), prefix, delimiter)
        return self._tree

    async def folder(self, name: str, use: str) -> Here:
        """That one selected which stands for ours, made if it is not there. Raises Refused."""
        tree = await self.tree()
        wanted = target(self._plain.get(name, name), use, tree, encode_name)
        if self._here is not None and self._here.name == wanted:
            return self._here
        known = wanted == b"INBOX" or any(each.name == wanted for each in tree.remotes)
        if not known:
            try:
                here = await self._made(wanted, use)
            except Refused as refused:
                plain = plainly(name)
                if refused.code not in _OF_NAMES or plain in (name, self._plain.get(name)):
                    raise
                self._plain[name] = plain
                return await self.folder(name, use)
            try:
                await self.client.ask(c.Subscribe(wanted))
            except Refused:
                pass  # it is there, and that counts
            self._tree = Tree((*tree.remotes, Remote(wanted, use.lower())), tree.prefix, tree.delimiter)
            if here is not None:
                return here
        return await self.select(wanted)

    async def _made(self, name: bytes, use: str) -> Here | None:
        """A folder that LIST did not name. Selected, if it is there nevertheless: under another case where the server tells none apart, or made meanwhile; few servers have a code for that.
        Raises Refused."""
        try:
            await self.client.ask(c.Create(name, use))
        except Refused as refused:
            try:
                return await self.select(name)
            except Refused:
                raise refused from None
        return None

    async def select(self, name: bytes) -> Here:
        """By its name on the wire. Raises Refused."""
        self._here = None
        uidvalidity = uidnext = 0
        permanent: frozenset[str] | None = None
        for event in await self.client.asked(c.Select(name)):
            if not isinstance(event, c.Noted):
                continue
            if event.code.word in ("UIDVALIDITY", "UIDNEXT"):
                number = (event.code.numbers() or (0,))[0]
                uidvalidity, uidnext = (number, uidnext) if event.code.word == "UIDVALIDITY" else (uidvalidity, number)
            elif event.code.word == "PERMANENTFLAGS":
                permanent = frozenset(event.code.rest.strip(b"()").decode("ascii", "replace").split())
        self._here = Here(name, uidvalidity, uidnext, permanent)
        return self._here

    def forget(self) -> None:
        """A folder was not there after all: everything is asked for anew."""
        self._tree = self._here = None

    async def find(self, here: Here, filed: Filed, letter: Letter, taken: Container[int]) -> int:
        """The UID in the selected folder of what an APPEND that was cut off may have left, by its Message-ID, or else by size and day; 0: it is not there. Not among ``taken``, those known as others, and,
        if the folder is the same still, not among those that were there before. Raises Refused."""
        same = bool(filed.uidvalidity) and here.uidvalidity == filed.uidvalidity
        keys: tuple[str | bytes, ...]
        if letter.ident is not None:
            keys = ("HEADER", b"Message-ID", letter.ident)
        else:
            day = datetime.datetime.fromtimestamp(letter.entry.date, datetime.UTC).date()
            one = datetime.timedelta(days=1)
            size = letter.size
            keys = ("LARGER", str(size - 1), "SMALLER", str(size + 1), "SINCE", _day(day - one), "BEFORE", _day(day + 2 * one))
        for event in await self.client.asked(c.UidSearch(keys)):
            if isinstance(event, c.Found):
                for low, high in event.uids:
                    first = max(low, filed.uidnext) if same else low
                    for uid in range(first, min(high, first + 10_000) + 1):
                        if not (same and uid in taken):
                            return uid
        return 0

    async def append(self, here: Here, letter: Letter, flags: tuple[str, ...]) -> tuple[int, int]:
        """UIDVALIDITY and UID that it was given, (0, 0) without UIDPLUS. Raises Refused; Broken with ``certain``."""
        command = c.Append(here.name, letter.size, flags, letter.entry.date, binary=letter.nul)
        code = await self.client.append(command, letter.chunks)
        numbers = code.numbers() if code.word == "APPENDUID" else ()
        return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)


def _day(day: datetime.date) -> str:
    return f"{day.day}-{MONTHS[day.month - 1]}-{day.year:04d}"
