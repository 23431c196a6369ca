"""Settings on the command line: which were given, and what came of them."""

from __future__ import annotations

from typing import Any

import click

from hornetmail.cli.mail.approvals import tell_waiting
from hornetmail.cli.output import emit


def given(settings: dict[str, Any]) -> dict[str, Any]:
    """Those that were named, as the API wants them."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in settings.items() if value not in (None, ())
    }


def tell(answer: Any, done: str, as_json: bool) -> None:
    """What was done, and what of it waits for a second person."""
    if as_json:
        emit(answer)
    else:
        click.echo(done)
        tell_waiting(answer["waits"])
