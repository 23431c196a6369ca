"""What all commands share: the configuration file, and who asks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import update_wrapper
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


def password_from(standard_input: bool, prompt: str) -> str:
    """The first line of standard input, else asked for twice. Raises Failure if there is none."""
    if standard_input:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise Failure("no password on standard input")
        return password
    answer: Any = click.prompt(prompt, hide_input=True, confirmation_prompt=True, err=True)
    return str(answer)
