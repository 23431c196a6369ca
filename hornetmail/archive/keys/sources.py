"""Where the secret comes from that the root key lies under (A2): a passphrase that somebody types, a systemd credential, a command.

What a source gives is used as it is, without line ends at its end. It is never logged, and errors say what and where without it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from hornetmail.archive.keys.keyring import KeyTrouble

LEAST = 8
MOST = 4096
"""Bytes of a secret."""

_SAID = 300
"""Characters of what a command says of its trouble that are shown."""


class Source(Protocol):
    """``name``: for people. ``typed``: nobody but a person has it."""

    name: str
    typed: bool

    def secret(self) -> bytes | None:
        """Blocking. None: nobody has typed it yet. Raises KeyTrouble that names what and where."""


class Passphrase:
    """What somebody typed since the start. The normal form of text (``paper.normal``) is their secret."""

    name = "the passphrase"
    typed = True

    def __init__(self) -> None:
        self._typed: bytes | None = None

    def secret(self) -> bytes | None:
        """See Source."""
        return self._typed

    def take(self, secret: bytes) -> None:
        """It is the right one."""
        self._typed = secret


class Credential:
    """A file that systemd puts into a directory of its own for the service (``LoadCredentialEncrypted=``, systemd.exec(5)). ``directory``: what
    ``$CREDENTIALS_DIRECTORY`` says, ``""`` if it is not set."""

    typed = False

    def __init__(self, name: str, directory: str) -> None:
        self.name = f"the credential {name!r}"
        self._file = name
        self._directory = directory

    def secret(self) -> bytes | None:
        """See Source."""
        if not self._directory:
            raise KeyTrouble(
                f"{self.name}: $CREDENTIALS_DIRECTORY is not set: start the service by systemd, with LoadCredentialEncrypted={self._file}:FILE"
            )
        path = Path(self._directory) / self._file
        try:
            with path.open("rb") as file:
                return _checked(file.read(MOST + 2), str(path))
        except OSError as error:
            raise KeyTrouble(f"{self.name}: {path}: {error.strerror or error}") from None


class Command:
    """What a program prints. ``arguments``: the program and its arguments, no shell; it gets ``seconds``, then it is ended with all that it
    started."""

    typed = False

    def __init__(self, arguments: Sequence[str], seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self.name = f"the command {arguments[0]}"
        self._arguments = list(arguments)
        self._seconds = seconds
        self._now = now

    def secret(self) -> bytes | None:
        """See Source."""
        try:
            process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise KeyTrouble(f"{self.name} cannot be started: {getattr(error, 'strerror', None) or error}") from None
        try:
            out, said = self._listen(process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        if process.returncode:
            raise KeyTrouble(f"{self.name} ended with {process.returncode}{said}")
        try:
            return _checked(out, self.name)
        except KeyTrouble as error:
            raise KeyTrouble(f"{error}{said}") from None

    def _listen(self, process: subprocess.Popen[bytes]) -> tuple[bytes, str]:
        """What it prints until it ends, and what it says of itself. What it leaves running (an agent, the master of a connection) may hold its pipes open, and is not waited for.
        Raises KeyTrouble: it takes too long, or prints too much."""
        ends = self._now() + self._seconds
        taken = {process.stdout: bytearray(), process.stderr: bytearray()}
        with selectors.DefaultSelector() as ready, os.fdopen(os.pidfd_open(process.pid), "rb", buffering=0) as end:
            ready.register(end, selectors.EVENT_READ)
            for pipe in taken:
                assert pipe is not None
                ready.register(pipe, selectors.EVENT_READ)
            ended = False
            while True:
                left = ends - self._now()
                if left <= 0:
                    raise KeyTrouble(f"{self.name} did not end within {self._seconds:g} s{_said(taken[process.stderr])}")
                events = ready.select(0 if ended else left)
                if ended and not events:
                    break
                for key, _ in events:
                    if key.fileobj is end:
                        ready.unregister(end)
                        ended = True
                        continue
                    data = os.read(key.fd, MOST)
                    if not data:
                        ready.unregister(key.fileobj)
                    taken[key.fileobj] += data  # type: ignore[index]
                    if key.fileobj is process.stderr:
                        del taken[process.stderr][:-MOST]
                    elif len(taken[process.stdout]) > MOST + 2:
                        raise KeyTrouble(f"{self.name} prints more than {MOST} bytes")
        process.wait()
        return bytes(taken[process.stdout]), _said(taken[process.stderr])


def _checked(data: bytes, where: str) -> bytes:
    secret = data.rstrip(b"\r\n")
    if not LEAST <= len(secret) <= MOST:
        raise KeyTrouble(f"{where} gives {len(secret)} bytes: a secret has {LEAST} to {MOST}")
    return secret


def _said(error: bytes | bytearray) -> str:
    text = " ".join(bytes(error).decode("utf-8", "replace").split())
    return f": {''.join(c for c in text[-_SAID:] if c.isprintable())}" if text else ""
