"""The API over the UNIX socket of the running service: blocking, one connection, no reactor."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

PREFIX = "/api/v1"


class Failure(click.ClickException):
    """Refused or failed: one line on standard error, exit code 1."""

    def show(self, file: Any = None) -> None:
        """``hornetmail: …``."""
        click.echo(f"hornetmail: {' '.join(self.message.split())}", err=True)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        """Through a descriptor of the directory, since a socket's path may have 107 bytes only."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        directory = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock.connect(f"/proc/self/fd/{directory}/{self._path.name}")
        finally:
            os.close(directory)


class Client:
    """``person`` and ``password`` act as somebody (``--as``); otherwise the local administrator asks. Every call raises Failure."""

    def __init__(self, path: Path, person: str = "", password: str = "") -> None:
        self._path = path
        self._headers = {"Host": "localhost"}
        if person:
            self._headers["X-HornetMail-As"] = person
            self._headers["Authorization"] = (
                "Basic " + base64.b64encode(f"{person}:{password}".encode("utf-8", "replace")).decode()
            )

    def call(self, method: str, /, *segments: str, **values: Any) -> Any:
        """The decoded answer of an operation; ``values`` go into the query of GET and DELETE, else into the body. None values are left out."""
        return json.loads(self.raw(method, *segments, **values))

    def raw(self, method: str, /, *segments: str, **values: Any) -> bytes:
        """The answer's bytes."""
        path = "/".join((PREFIX, *(quote(segment.encode("utf-8", "replace"), safe="") for segment in segments)))
        given = {name: value for name, value in values.items() if value is not None}
        body: bytes | None = None
        if method in ("GET", "DELETE"):
            path += "?" + urlencode({name: _text(value) for name, value in given.items()}, errors="replace") if given else ""
        else:
            body = json.dumps(given).encode()
        connection = _Connection(self._path)
        try:
            connection.request(method, path, body, self._headers)
            answer = connection.getresponse()
            data = answer.read()
        except (FileNotFoundError, ConnectionRefusedError):
            raise Failure(f"the service does not run (nobody listens at {self._path})") from None
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"the service at {self._path} does not answer: {error or type(error).__name__}") from None
        finally:
            connection.close()
        if answer.status >= 400:
            raise Failure(_on_the_line(_reason(data, answer.status)))
        return data


def _on_the_line(text: str) -> str:
    """A fault that names a field of the request, as ``$.primaries[0]: …``, with what was typed on the command line for it."""
    found = re.match(r"\$\.(\w+)(?:\[(\d+)\])?([^:]*): ", text)
    if found is None:
        return text
    field, place, rest = found.groups()
    context = click.get_current_context(silent=True)
    for parameter in context.command.params if context is not None else ():
        if parameter.name == field and isinstance(parameter, click.Option):
            field = max(parameter.opts, key=len)
        elif parameter.name == field:
            field = parameter.make_metavar(context) if context is not None else field
    return f"{field}{f' ({int(place) + 1}.)' if place and place != '0' else ''}{rest}: {text[found.end() :]}"


def _text(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _reason(data: bytes, status: int) -> str:
    try:
        return str(json.loads(data)["error"]["text"])
    except (ValueError, KeyError, TypeError):
        return f"the service answered {status}"
