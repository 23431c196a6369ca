"""What goes over the pipes between the service and a process that reads: four bytes of length, then MessagePack. Pure.

In: a ``Task`` and the bytes of its mail. Out: a ``Ready``, and for each task a ``Begun`` for each file that is looked at, then a ``Done``. The service believes nothing of it: lengths are bounded, and what does not decode ends the process.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from hornetmail.mime.reading.mail import MailText

MAX_ANSWER = 64 << 20
_LENGTH = struct.Struct(">I")


class Task(msgspec.Struct, frozen=True, gc=False):
    """A mail of so many bytes, which follow behind it, and which of its files, by number, not to look at, and why."""

    size: int
    skip: dict[int, str] = {}


class Ready(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The process has what it needs."""


class Begun(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A file is looked at now."""

    number: int
    name: str


class Done(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The mail as text, that of its files included."""

    text: MailText


Answer = Ready | Begun | Done

_answers = msgspec.msgpack.Decoder(Answer)
_tasks = msgspec.msgpack.Decoder(Task)


class BadFrame(Exception):
    """The other side does not keep to this."""


def frame(what: Task | Answer) -> bytes:
    """As it goes over the pipe."""
    data = msgspec.msgpack.encode(what)
    return _LENGTH.pack(len(data)) + data


def length_of(head: bytes) -> int:
    """What the first four bytes say."""
    return int(_LENGTH.unpack(head)[0])


def task_of(data: bytes) -> Task:
    """What the service asks."""
    return _tasks.decode(data)


class Answers:
    """Bytes of a process to what it says."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[Answer]:
        """What is whole with these. Raises BadFrame, behind what came before that was right."""
        self._held += data
        while len(self._held) >= _LENGTH.size:
            length = length_of(bytes(self._held[: _LENGTH.size]))
            if length > MAX_ANSWER:
                raise BadFrame(f"an answer of {length:,} bytes")
            if len(self._held) < _LENGTH.size + length:
                return
            body = bytes(self._held[_LENGTH.size : _LENGTH.size + length])
            del self._held[: _LENGTH.size + length]
            try:
                answer: Answer = _answers.decode(body)
            except msgspec.MsgspecError as error:
                raise BadFrame(str(error)) from None
            yield answer
