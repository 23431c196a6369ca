"""GETQUOTA and GETQUOTAROOT (RFC 9208). A person's own mailbox has one quota root, ``""``; folders of other trees have none. SETQUOTA is not offered:
quotas are the administrators'."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hornetmail.core.folder import FolderError, Usage
from hornetmail.net.serving.pump import Answer
from hornetmail.wire.imap.answers.render import mailbox_name
from hornetmail.wire.imap.requests import commands as c

if TYPE_CHECKING:
    from hornetmail.servers.imap.session import ImapSession

KIB = 1024


async def of_root(session: ImapSession, command: c.GetQuota) -> Answer:
    """What the root says; NO for one that there is not (section 4.2)."""
    tree, _ = session.mounts.locate("INBOX")
    usage = await tree.usage()
    if command.root or usage is None:
        raise FolderError("NONEXISTENT", "There is no such quota root")
    return await session.finish("Done", data=_quota(usage))


async def of_mailbox(session: ImapSession, command: c.GetQuotaRoot) -> Answer:
    """The roots of a mailbox that is there, none among them where nothing is limited by anybody."""
    tree, _ = session.mounts.locate(command.mailbox)
    await session.mounts.open(command.mailbox)
    usage = await tree.usage()
    name = mailbox_name(command.mailbox, utf8=session.enabled.utf8)
    if usage is None:
        return await session.finish("Done", data=b"* QUOTAROOT %b\r\n" % name)
    return await session.finish("Done", data=b'* QUOTAROOT %b ""\r\n%b' % (name, _quota(usage)))


def _quota(usage: Usage) -> bytes:
    """Only resources that are limited are named (section 4.1); STORAGE counts KiB (section 5.1). What is used is rounded up, what may be down: a mailbox that is
    full looks full."""
    pieces = []
    if usage.size_limit:
        pieces.append(b"STORAGE %d %d" % (-(-usage.size // KIB), usage.size_limit // KIB))
    if usage.messages_limit:
        pieces.append(b"MESSAGE %d %d" % (usage.messages, usage.messages_limit))
    return b'* QUOTA "" (%b)\r\n' % b" ".join(pieces)
