"""What all commands share: the configuration file, and who asks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import update_wrapper
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from hornetmail.cli.client import Client, Failure
from hornetmail.config import Config, ConfigError, load

P = ParamSpec("P")
R = TypeVar("R")


class Session:
    """``path``: the configuration file; ``person``: the address of ``--as``, or ``""``."""

    def __init__(self, path: str, person: str) -> None:
        self.path = path
        self.person = person

    def config(self) -> Config:
        """Loaded. Raises Failure."""
        try:
            return load(self.path)
        except ConfigError as error:
            hint = "" if os.path.exists(self.path) else "; name the installation's hornetmail.toml: hornetmail -c FILE …"
            raise Failure(f"{error}{hint}") from None

    def client(self) -> Client:
        """To the running service. Asks for the password of ``--as`` if the environment has none. Raises Failure."""
        config = self.config()
        password = ""
        if self.person:
            known = os.environ.get("HORNETMAIL_PASSWORD")
            password = known if known is not None else click.prompt(f"Password of {self.person}", hide_input=True, err=True)
        return Client(config.socket, self.person, password)


def offline(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """A blocking call of ``compose.setting_up``; what it raises is told in one line."""
    try:
        return call(*args, **kwargs)
    except (OSError, RuntimeError, ValueError) as error:
        raise Failure(str(error) or type(error).__name__) from None


def with_client(command: Callable[Concatenate[Client, P], R]) -> Callable[P, R]:
    """A command whose first argument is the client."""

    @click.pass_obj
    def call(session: Session, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return command(session.client(), *args, **kwargs)

    return update_wrapper(call, command)


def secret_options(command: Callable[P, R]) -> Callable[P, R]:
    """``--secret-file`` and ``--password-stdin``: where a command that talks to another server takes its password from (``password_from``)."""
    command = click.option("--password-stdin", is_flag=True, help="Read the password or secret key from standard input.")(command)
    return click.option(
        "--secret-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Holds the password or the secret key, in its first line.",
    )(command)


def password_from(standard_input: bool, prompt: str, file: Path | None = None) -> str:
    """The first line of the file or of standard input, else asked for twice. Raises Failure if there is none."""
    if file is not None:
        if standard_input:
            raise click.UsageError("--secret-file or --password-stdin, not both")
        return _first_line(file)
    if standard_input:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise Failure("no password on standard input")
        return password
    answer: Any = click.prompt(prompt, hide_input=True, confirmation_prompt=True, err=True)
    return str(answer)


def _first_line(file: Path) -> str:
    try:
        secret = file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{file}: {error.strerror if isinstance(error, OSError) else 'not UTF-8'}") from None
    if not secret:
        raise Failure(f"{file}: no password in its first line")
    return secret
