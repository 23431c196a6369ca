"""The values that rooms hand each other: what holds for all, and what is so where nothing is said."""

from __future__ import annotations

import importlib
import pkgutil

import msgspec
import pytest

import hornetmail.core
from hornetmail.core.alarms import AlarmRecord, Telling
from hornetmail.core.archive.archived import (
    MAX_MAIL,
    ArchiveFigures,
    ArchiveItem,
    Finding,
    Hit,
    KeySourceState,
    MediumState,
    Page,
    RootKeyState,
)
from hornetmail.core.archive.retention import Hold, Kept, RetentionPreview, RetentionState, Rule
from hornetmail.core.archive.stamps import StampState
from hornetmail.core.archive.statistics import Sum
from hornetmail.core.delivery.queued import DONE, Backlog, Portal, Row, RowKind, RowState, Settled, WaitsFor
from hornetmail.core.delivery.stray import Choice, Stray
from hornetmail.core.events import DirectoryChanged, MessageAccepted
from hornetmail.core.failover.machine import Evidence, Own, Proof, State, Surveyed, Trouble
from hornetmail.core.failover.mode import Mode
from hornetmail.core.failover.verdict import Outcome, Stage, Verdict
from hornetmail.core.folder import Entry, FolderError, FolderInfo, FolderStatus
from hornetmail.core.mail.envelope import Direction, Door, Envelope, Origin, Recipient
from hornetmail.core.mail.reply import Reply
from hornetmail.core.served import Coverage, Domain, Failover, Host, Mailbox, Person, PortalOn, Role, Scope, TLSPolicy

VALUES = [
    each
    for module in pkgutil.walk_packages(hornetmail.core.__path__, "hornetmail.core.")
    for each in vars(importlib.import_module(module.name)).values()
    if isinstance(each, type) and issubclass(each, msgspec.Struct) and each.__module__ == module.name
]


@pytest.mark.parametrize("value", VALUES, ids=lambda each: each.__qualname__)
def test_values_do_not_change(value: type[msgspec.Struct]) -> None:
    """Would catch a value that one room changes under another's hands, in the inner rooms too: most values are there."""
    assert value.__struct_config__.frozen


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (
            Domain("x.test"),
            Domain(
                "x.test", 1, (), Failover.AUTO, Coverage.ALL, TLSPolicy.MAY, True, True, 90, (), None, (), PortalOn.ANY, 90.0, False
            ),
        ),
        (Mailbox(1, "a@x.test", "x.test"), Mailbox(1, "a@x.test", "x.test", 1, (), (), "", True, True, True, None, "")),
        (Host("mx"), Host("mx", 25)),
        (Person(1, "a@x.test", 1), Person(1, "a@x.test", 1, (), (), "")),
        (Scope(1, None), Scope(1, None, True, True, False)),
        (Origin(Door.MX), Origin(Door.MX, "", "", "", False, False, False)),
        (Envelope("", ()), Envelope("", (), False, False, "", "")),
        (Recipient("a@x.test"), Recipient("a@x.test", (), "")),
        (Portal(1, "n"), Portal(1, "n", False)),
        (
            Row(1, 2, RowKind.DELIVER, RowState.QUEUED),
            Row(1, 2, RowKind.DELIVER, RowState.QUEUED, "", 0, 0.0, 0, 0.0, 0.0, None, None, "", False, WaitsFor.NOTHING, ()),
        ),
        (
            Settled(1, RowState.QUEUED),
            Settled(1, RowState.QUEUED, None, 0.0, None, "", False, WaitsFor.NOTHING, ()),
        ),
        (Backlog(), Backlog(0, 0, 0, 0, 0, 0.0)),
        (Verdict(Outcome.FAILED, Reply(550), "c"), Verdict(Outcome.FAILED, Reply(550, "", ""), "c", Stage.LOCAL, "", False)),
        (FolderInfo("INBOX", 1), FolderInfo("INBOX", 1, "", True, True, False)),
        (Entry(1, 1, frozenset(), 1, 0.0), Entry(1, 1, frozenset(), 1, 0.0, "", False)),
        (FolderStatus(1, 1, 0, 0, 1), FolderStatus(1, 1, 0, 0, 1, 0)),
        (MessageAccepted(1, "x.test"), MessageAccepted(1, "x.test", False)),
        (DirectoryChanged(1), DirectoryChanged(1, frozenset(), frozenset())),
        (ArchiveFigures(), ArchiveFigures(0, 0, 0, 0, 0, 0, False, 0)),
        (RootKeyState(), RootKeyState("", "", 0.0, ())),
        (Page(0, ()), Page(0, (), "", True)),
        (
            MediumState(id=1, kind="directory"),
            MediumState(
                id=1, kind="directory", name="", where="", active=False, used=True, up=False, why="", since=0.0, mails=0, packs=0,
                bytes=0, counted=True, total=0, free=0, moving_to=0, copied=0, moved_to=0,
            ),
        ),
        (
            ArchiveItem(1, 1, "relay", Direction.IN, "", (), 0.0, 90),
            ArchiveItem(1, 1, "relay", Direction.IN, "", (), 0.0, 90, "", b"", False, ()),
        ),
        (Hit(1, 0.0, "", (), "", 0, Direction.IN), Hit(1, 0.0, "", (), "", 0, Direction.IN, 0.0, False, 0)),
        (Choice(), Choice(0, 0, 0, False)),
        (Telling(), Telling(0.0, False, False)),
        (
            AlarmRecord(1, "c", "s", "t", 1.0, 1.0),
            AlarmRecord(1, "c", "s", "t", 1.0, 1.0, 1, "", 1, 0.0, "", 0.0, "", Telling(), Telling()),
        ),
        (Trouble("k", "t"), Trouble("k", "t", False, False, Proof.CONNECTION, False, False)),
        (Evidence(1.0, "k", "t"), Evidence(1.0, "k", "t", False, Proof.CONNECTION, False, 0.0, False)),
        (
            State(),
            State(
                Mode.NORMAL, 0.0, "", "", (), streak=0, asked=0.0, alarmed=0.0, flaps=0, ended=0.0, back_told=False, written=0.0,
                strict=False, texts=False, tried=0.0, trials=0,
            ),
        ),
        (Surveyed(), Surveyed(0, 0, Own.SILENT)),
        (Rule(1), Rule(1, "", "", None)),
        (Kept(frozenset(), "in", False, 1.0, 2.0), Kept(frozenset(), "in", False, 1.0, 2.0, 0.0)),
        (RetentionState(), RetentionState((), 0.0, "", False, 0, 0, 0.0, ())),
        (RetentionPreview(), RetentionPreview(0, 0, 0, 0, 0, 0, 0.0, 0.0, ())),
        (Hold("h", 1.0, "me"), Hold("h", 1.0, "me", "", False, "", 0.0, 0)),
        (StampState(), StampState(0, 0, 0, 0, 0.0, "", 0.0, "", 0.0, 0.0)),
        (Sum(), Sum(0, 0)),
        (KeySourceState(), KeySourceState("", False, "")),
        (Finding("pack", "gone"), Finding("pack", "gone", False)),
        (
            Stray(1, Entry(1, 1, frozenset(), 1, 0.0), 0.0),
            Stray(1, Entry(1, 1, frozenset(), 1, 0.0), 0.0, None, False),
        ),
    ],
    ids=lambda each: type(each).__name__,
)  # fmt: skip
def test_where_nothing_is_said(value: msgspec.Struct, wanted: msgspec.Struct) -> None:
    """Rows, journals and databases written before a field was there are read with its default: one that moves would change what they say.
    Nobody is trusted, logged in or switched by default; mail is archived for 90 days (C1, C8)."""
    assert value == wanted


def test_small_questions_of_values() -> None:
    """Would catch a literal IPv6 address that cannot be told from its port, a role that nobody gave, and a verdict tried again after its end."""
    assert str(Host("mx.test")) == "mx.test:25"
    assert str(Host("2001:db8::1", 26)) == "[2001:db8::1]:26"
    auditor = Person(1, "a@x.test", 1, (Role.AUDITOR,))
    assert auditor.has(Role.AUDITOR)
    assert not auditor.has(Role.ADMIN)
    assert {outcome for outcome in Outcome if Verdict(outcome, Reply(250), "c").final} == {Outcome.DELIVERED, Outcome.FAILED}
    assert {RowState.DELIVERED, RowState.FAILED, RowState.REMOVED} == DONE
    assert MAX_MAIL == 60 * 1024 * 1024
    error = FolderError("CANNOT", "not here")
    assert (error.code, error.text, str(error)) == ("CANNOT", "not here", "not here")


@pytest.mark.parametrize(
    ("code", "of"),
    [
        (199, ""), (200, "completed"), (299, "completed"), (300, "intermediate"), (399, "intermediate"), (400, "transient"),
        (499, "transient"), (500, "permanent"), (599, "permanent"),
    ],
)  # fmt: skip
def test_the_classes_of_replies(code: int, of: str) -> None:
    """RFC 5321 section 4.2.1: each code is of one class; a 3xx taken for a 2xx is a mail lost."""
    reply = Reply(code)
    assert [name for name in ("completed", "intermediate", "transient", "permanent") if getattr(reply, name)] == (
        [of] if of else []
    )


def test_replies_on_one_line() -> None:
    """A reply of many lines is one line in logs and notices."""
    assert str(Reply(550, "5.1.1", "no\nsuch user")) == "550 5.1.1 no / such user"
    assert str(Reply(250)) == "250"
