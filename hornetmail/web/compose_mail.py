"""Mail that people write in the webmail, as MIME (RFC 5322, 2045): pure, nothing is invented here that is not handed in."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterable, Sequence
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage
from email.policy import SMTP

import msgspec

from hornetmail.core.mail.address import AddressError, parse
from hornetmail.core.mail.dates import rfc5322_date
from hornetmail.mime import headers
from hornetmail.web.mailview import Head, Named, Shown, named

POLICY = SMTP.clone(cte_type="7bit", max_line_length=78)
MAX_RECIPIENTS = 500
MAX_REFERENCES = 3000


class DraftError(ValueError):
    """What somebody wrote cannot be sent as it is. ``field`` names the field of the form, the message says what to do."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


class File(msgspec.Struct, frozen=True):
    """An attachment."""

    name: str
    content_type: str
    data: bytes


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A mail being written. Addresses as typed; ``in_reply_to`` and ``references`` with their angle brackets."""

    to: str = ""
    cc: str = ""
    bcc: str = ""
    subject: str = ""
    text: str = ""
    in_reply_to: str = ""
    references: str = ""
    files: tuple[File, ...] = ()


def read_addresses(text: str, field: str) -> list[Named]:
    """Addresses separated by commas, semicolons or line ends. Raises DraftError that names the one that is none."""
    found = []
    typed = _commas(text)
    for one in named(headers.addresses(typed.encode("utf-8", "replace"))):
        try:
            if one.address.partition("@")[0] and one.address not in typed:
                raise AddressError("pieced together from words")
            parsed = parse(one.address)
        except AddressError:
            raise DraftError(field, f"“{str(one)[:80]}” is not a mail address.") from None
        if not parsed.local.isascii():
            raise DraftError(
                field, f"“{str(parsed)[:80]}”: addresses with letters beyond ASCII before the @ cannot be written to yet."
            )
        found.append(Named(" ".join(one.name.split()), str(parsed)))
    return found


def _commas(text: str) -> str:
    """Semicolons and line ends outside of quotes count as commas."""
    out, quoted = [], False
    for character in text[:60_000]:
        if character == '"':
            quoted = not quoted
        out.append(", " if not quoted and character in ";\n" else " " if character in "\r\n\t" else character)
    return "".join(out)


def recipients(draft: Draft) -> list[str]:
    """Every address once, in order. Raises DraftError for none, too many, or one that is none."""
    every = [
        one.address
        for field, text in (("to", draft.to), ("cc", draft.cc), ("bcc", draft.bcc))
        for one in read_addresses(text, field)
    ]
    unique = list({address.casefold(): address for address in every}.values())
    if not unique:
        raise DraftError("to", "Say to whom it goes: at least one address.")
    if len(unique) > MAX_RECIPIENTS:
        raise DraftError("to", f"At most {MAX_RECIPIENTS} recipients at once.")
    return unique


def compose(draft: Draft, sender: Named, *, message_id: str, date: float, with_bcc: bool = False, lenient: bool = False) -> bytes:
    """The message, CRLF line ends. Bcc only stands in it with ``with_bcc`` (the copies that the writer keeps). ``lenient``: fields that do not
    read as addresses are left out (drafts). Raises DraftError."""
    message = EmailMessage(policy=POLICY)
    message["Date"] = rfc5322_date(date)
    message["From"] = _header([sender])
    for name, text in (("To", draft.to), ("Cc", draft.cc), *((("Bcc", draft.bcc),) if with_bcc else ())):
        try:
            found = read_addresses(text, name.lower())
        except DraftError:
            if not lenient:
                raise
            found = []
        if found:
            message[name] = _header(found)
    message["Subject"] = " ".join(draft.subject.split())[:900]
    message["Message-ID"] = message_id
    if draft.in_reply_to:
        message["In-Reply-To"] = _ids(draft.in_reply_to)
    if draft.references:
        message["References"] = _ids(draft.references)
    message["User-Agent"] = "HornetMail"
    text = draft.text.replace("\r\n", "\n").replace("\r", "\n")
    message.set_content(text if text.endswith("\n") else text + "\n")
    for file in draft.files:
        _attach(message, file)
    return message.as_bytes()


def _header(found: Iterable[Named]) -> list[HeaderAddress]:
    made = []
    for one in found:
        parsed = parse(one.address)
        name = "".join(character for character in one.name if character.isprintable())[:200]
        made.append(HeaderAddress(name, parsed.local, parsed.domain))
    return made


def _ids(text: str) -> str:
    found = re.findall(r"<[!-;=?-~]{1,300}>", text[-20_000:])
    while len(found) > 2 and sum(map(len, found)) > MAX_REFERENCES:
        del found[1]
    return " ".join(found)


def _attach(message: EmailMessage, file: File) -> None:
    kind = file.content_type.partition(";")[0].strip().lower()
    if not re.fullmatch(r"[a-z0-9!#$&^_.+-]{1,60}/[a-z0-9!#$&^_.+-]{1,80}", kind) or kind.startswith(("multipart/", "message/")):
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    if kind.startswith(("multipart/", "message/")):
        kind = "application/octet-stream"
    main, _, sub = kind.partition("/")
    message.add_attachment(file.data, maintype=main, subtype=sub, filename=file.name[:180] or "attachment")


def reply_subject(subject: str) -> str:
    """``Re:`` once."""
    return subject if re.match(r"(re|aw|antw)(\[\d+\])?:", subject, re.IGNORECASE) else f"Re: {subject}"


def forward_subject(subject: str) -> str:
    """``Fwd:`` once."""
    return subject if re.match(r"(fwd?|wg):", subject, re.IGNORECASE) else f"Fwd: {subject}"


def answer(shown: Shown, own: Sequence[str], *, everybody: bool, said: str) -> Draft:
    """A draft that answers a mail. ``own``: keys of own addresses, which are not answered to; ``said``: the line above the quotation."""
    head = shown.head
    mine = set(own)
    back = head.reply_to or head.sender
    if back and all(one.address.casefold() in mine for one in back):
        back = head.to
    others = [one for one in (*head.to, *head.cc) if one not in back] if everybody else []
    seen = {one.address.casefold() for one in back}
    copies = [one for one in others if one.address.casefold() not in mine | seen]
    quoted = "\n".join(f">{line}" if line.startswith(">") else f"> {line}" for line in shown.text.rstrip().splitlines())
    return Draft(
        to=join(back),
        cc=join(copies),
        subject=reply_subject(head.subject),
        text=f"\n\n{said}\n{quoted}\n" if quoted else "",
        in_reply_to=head.message_id,
        references=f"{shown.references} {head.message_id}".strip()
        if shown.references
        else f"{head.in_reply_to} {head.message_id}".strip(),
    )


def forward(shown: Shown, date: str) -> Draft:
    """A draft that passes a mail on; its attachments are added by who sends it."""
    head = shown.head
    lines = [
        "---------- Forwarded message ----------",
        f"From: {join(head.sender)}",
        f"Date: {date}",
        f"Subject: {head.subject}",
        f"To: {join(head.to)}",
    ]
    if head.cc:
        lines.append(f"Cc: {join(head.cc)}")
    return Draft(
        subject=forward_subject(head.subject), text="\n\n" + "\n".join(lines) + f"\n\n{shown.text}", references=head.message_id
    )


def join(found: Iterable[Named]) -> str:
    """Addresses as they are typed."""
    return ", ".join(f"{_quoted(one.name)} <{one.address}>" if one.name else one.address for one in found)


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "").replace('"', "'") + '"' if re.search(r'[,;<>@"()\[\]:\\.]', name) else name


def resume(head: Head, text: str, files: tuple[File, ...], references: str) -> Draft:
    """A draft taken up again."""
    return Draft(
        to=join(head.to),
        cc=join(head.cc),
        bcc=join(head.bcc),
        subject=head.subject,
        text=text,
        in_reply_to=head.in_reply_to,
        references=references,
        files=files,
    )
