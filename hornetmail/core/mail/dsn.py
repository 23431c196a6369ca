"""Delivery status notifications as bytes (RFC 3464, RFC 3461 section 6, RFC 6533 for addresses beyond ASCII) and plain notices."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from hornetmail.core.mail.reply import Reply

HEAD_BYTES = 65_536
"""No more of the original's header goes into a notification."""


class Action(enum.StrEnum):
    """RFC 3464 section 2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"


class Fate(msgspec.Struct, frozen=True, gc=False):
    """What became of one recipient. ``host``: who said so. ``until``: an RFC 5322 date after which we give up, for delays."""

    recipient: str
    reply: Reply
    host: str = ""
    orcpt: str = ""
    until: str = ""


class Notification(msgspec.Struct, frozen=True, gc=False):
    """What a notification says. ``date``, ``arrived``: RFC 5322 dates. ``unique``: for the Message-ID and the boundary; must not occur
    in the original. ``head``: the original's header as received; ``b""`` if it cannot be read any more."""

    action: Action
    hostname: str
    to: str
    date: str
    unique: str
    arrived: str
    fates: tuple[Fate, ...]
    head: bytes
    envid: str = ""


def enhanced_of(reply: Reply, action: Action) -> str:
    """The status code for RFC 3464's Status field; a reply without one gets the general one of its class (RFC 3463)."""
    want = "4" if action is Action.DELAYED else "5"
    if reply.enhanced[:2] == want + ".":
        return reply.enhanced
    if reply.enhanced and action is Action.FAILED:
        # Gave up on a transient failure: the class changes, the reason stays.
        return "5" + reply.enhanced[1:]
    return f"{want}.0.0"


def header_of(message: bytes) -> bytes:
    """The header section of the start of a message, with CRLF line ends, cut at a line's end."""
    head = message[:HEAD_BYTES]
    for blank in (b"\r\n\r\n", b"\n\n"):
        at = head.find(blank)
        if at >= 0:
            return head[: at + len(blank) // 2]
    cut = head.rfind(b"\n")
    return head[: cut + 1] if cut >= 0 else head


def compose(note: Notification) -> bytes:
    """The whole message, CRLF line ends, multipart/report of three parts; without a header of the original of two (RFC 6522 section 3)."""
    wide = not (note.to.isascii() and all(f.recipient.isascii() for f in note.fates))
    status_type = "message/global-delivery-status" if wide else "message/delivery-status"
    head_type = "text/rfc822-headers" if note.head.isascii() else "message/global-headers"
    eight = "8bit" if wide or not note.head.isascii() else "7bit"
    boundary = f"=_{note.unique}"
    failed = note.action is Action.FAILED
    top = [
        f"From: Mail Delivery System <MAILER-DAEMON@{note.hostname}>",
        f"To: <{note.to}>",
        f"Subject: {'Your message could not be delivered' if failed else 'Your message is delayed'}",
        f"Date: {note.date}",
        f"Message-ID: <{note.unique}@{note.hostname}>",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status; boundary="{boundary}"',
        f"Content-Transfer-Encoding: {eight}",
        "",
        f"--{boundary}",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit" if eight == "8bit" else "Content-Transfer-Encoding: 7bit",
        "",
        *_words(note),
        f"--{boundary}",
        f"Content-Type: {status_type}",
        f"Content-Transfer-Encoding: {eight}",
        "",
        f"Reporting-MTA: dns; {note.hostname}",
        *([f"Original-Envelope-Id: {_one_line(note.envid)}"] if note.envid else []),
        f"Arrival-Date: {note.arrived}",
    ]
    for fate in note.fates:
        top += ["", *_fields(note.action, fate)]
    if note.head:
        top += [f"--{boundary}", f"Content-Type: {head_type}", f"Content-Transfer-Encoding: {eight}", ""]
    top.append("")
    text = "\r\n".join(top).encode("utf-8")
    original = note.head.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return text + original + f"--{boundary}--\r\n".encode()


def _words(note: Notification) -> list[str]:
    lines = [f"This is the mail server at {note.hostname}.", ""]
    if note.action is Action.FAILED:
        lines += ["Your message could not be delivered to:", ""]
    else:
        lines += [
            "Your message has not been delivered yet to the recipients below.",
            "Nothing needs to be done: delivery is tried again.",
            "",
        ]
    for fate in note.fates:
        lines.append(f"  <{fate.recipient}>")
        said = f"{fate.host} said: " if fate.host else ""
        lines += _fold(f"    {said}{fate.reply}", "    ")
        if fate.until:
            lines.append(f"    tried until {fate.until}")
    follows = "The header of your message follows below." if note.head else "Your message itself cannot be read any more."
    lines += ["", follows, ""]
    # 7bit says ASCII: what a remote server said may be anything.
    return [line if not _narrow(note) else line.encode("ascii", "replace").decode() for line in lines]


def _narrow(note: Notification) -> bool:
    return note.to.isascii() and note.head.isascii() and all(f.recipient.isascii() for f in note.fates)


def _fields(action: Action, fate: Fate) -> list[str]:
    kind = "rfc822" if fate.recipient.isascii() else "utf-8"
    fields = [f"Original-Recipient: {_one_line(fate.orcpt)}"] if fate.orcpt else []
    fields += [f"Final-Recipient: {kind}; {fate.recipient}", f"Action: {action}", f"Status: {enhanced_of(fate.reply, action)}"]
    if fate.host:
        fields.append(f"Remote-MTA: dns; {_one_line(fate.host)}")
    fields += _fold(f"Diagnostic-Code: smtp; {_ascii(str(fate.reply))}", " ")
    if fate.until and action is Action.DELAYED:
        fields.append(f"Will-Retry-Until: {fate.until}")
    return fields


def _one_line(text: str) -> str:
    return " ".join(_ascii(text).split())


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def _fold(text: str, indent: str) -> list[str]:
    """Lines of at most 200 characters at spaces; a longer word is cut (RFC 5322 allows 998)."""
    lines: list[str] = []
    current = ""
    for word in text.replace("\r", " ").replace("\n", " ").split(" "):
        piece = word[:180]
        if current and len(current) + 1 + len(piece) > 200:
            lines.append(current)
            current = indent + piece
        else:
            current = f"{current} {piece}" if current or not word else piece
    lines.append(current)
    return [line for line in lines if line.strip()]


def plain_notice(*, hostname: str, to: str, subject: str, date: str, unique: str, lines: Sequence[str]) -> bytes:
    """A short mail of ours in plain text, CRLF line ends; ``subject`` is ASCII."""
    top = [
        f"From: HornetMail <postmaster@{hostname}>",
        f"To: <{to}>",
        f"Subject: {_one_line(subject)}",
        f"Date: {date}",
        f"Message-ID: <{unique}@{hostname}>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        *lines,
        "",
    ]
    return "\r\n".join(top).encode("utf-8")
