"""GETACL, SETACL, DELETEACL, LISTRIGHTS and MYRIGHTS (RFC 4314). What a person may do in somebody's folder is looked after by the folder itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hornetmail.core.folder import FolderError
from hornetmail.core.sharing import told
from hornetmail.interfaces.folders import ISharingTree
from hornetmail.net.serving.pump import Answer
from hornetmail.wire.imap.answers.render import astring, mailbox_name
from hornetmail.wire.imap.requests import commands as c

if TYPE_CHECKING:
    from hornetmail.servers.imap.session import ImapSession

READABLE = "lr"
"""The rights on folders that nobody can change."""


def _place(session: ImapSession, name: str) -> tuple[ISharingTree, str]:
    """Raises FolderError."""
    tree, inner = session.mounts.locate(name)
    if not ISharingTree.providedBy(tree):
        raise FolderError("NOPERM", "Who sees these mailboxes is not for mail programs to say")
    return tree, inner


def _named(session: ImapSession, name: str) -> bytes:
    return mailbox_name(name, utf8=session.enabled.utf8)


async def set_rights(session: ImapSession, command: c.SetAcl) -> Answer:
    """SETACL and DELETEACL."""
    tree, inner = _place(session, command.mailbox)
    await tree.give(inner, command.identifier, command.mode, command.rights)
    return await session.finish("Done")


async def get_rights(session: ImapSession, command: c.GetAcl) -> Answer:
    """GETACL."""
    tree, inner = _place(session, command.mailbox)
    pairs = b"".join(b" %b %b" % (astring(who.encode()), told(rights).encode()) for who, rights in await tree.grants(inner))
    return await session.finish("Done", data=b"* ACL %b%b\r\n" % (_named(session, command.mailbox), pairs))


async def list_rights(session: ImapSession, command: c.ListRights) -> Answer:
    """LISTRIGHTS. Each right that may be given may be given alone."""
    tree, inner = _place(session, command.mailbox)
    always, more = await tree.grantable(inner, command.identifier)
    pieces = [_named(session, command.mailbox), astring(command.identifier.encode()), astring(told(always).encode())]
    pieces += [right.encode() for right in told(more)]
    return await session.finish("Done", data=b"* LISTRIGHTS %b\r\n" % b" ".join(pieces))


async def my_rights(session: ImapSession, command: c.MyRights) -> Answer:
    """MYRIGHTS."""
    tree, inner = session.mounts.locate(command.mailbox)
    if ISharingTree.providedBy(tree):
        rights = await tree.rights(inner)
    else:
        await tree.open(inner)
        rights = READABLE
    return await session.finish("Done", data=b"* MYRIGHTS %b %b\r\n" % (_named(session, command.mailbox), told(rights).encode()))
