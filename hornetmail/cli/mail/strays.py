"""``mailbox strays`` and ``mailbox drain``."""

from __future__ import annotations

from typing import Any

import click

from hornetmail.cli.client import Client
from hornetmail.cli.output import clean, emit, json_option, moment, size, table
from hornetmail.cli.session import with_client


@click.command("strays")
@click.argument("whose", default="", metavar="[ADDRESS|DOMAIN]")
@json_option
@with_client
def mailbox_strays(client: Client, whose: str, as_json: bool) -> None:
    """Mail in INBOXes that has no envelope, and so is not drained unless somebody chooses so."""
    messages: list[Any] = []
    after: str | None = None
    note = ""
    while True:
        page = client.call(
            "GET", "strays", address=whose if "@" in whose else None, domain=None if "@" in whose else whose or None, after=after
        )
        messages += page["messages"]
        after, note = page["after"], page["note"]
        if not after:
            break
    if as_json:
        emit({"messages": messages, "note": note})
        return
    if note:
        click.echo(clean(note))
        return
    rows = [
        (
            one["id"],
            one["mailbox"],
            one["from"] or "-",
            one["subject"] or "-",
            size(one["size"]),
            moment(one["since"]),
            _state(one),
        )
        for one in messages
    ]
    table(("ID", "Mailbox", "From", "Subject", "Size", "Since", "State"), rows)


def _state(one: Any) -> str:
    if not one["chosen"]:
        return f"stays; would go to {one['to']}"
    return f"chosen, {one['state']}: {one['reason']}" if one["reason"] else f"chosen, {one['state']}"


@click.command("drain")
@click.argument("address")
@click.option("--id", "ids", multiple=True, metavar="ID", help="A message by its ID from mailbox strays; repeatable.")
@click.option("--all", "everything", is_flag=True, help="All that has no envelope.")
@json_option
@with_client
def mailbox_drain(client: Client, address: str, ids: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Have mail without an envelope delivered to the mailbox's address at its primary, with MAIL FROM <>."""
    if bool(ids) is everything:
        raise click.UsageError("Name messages with --id, or say --all.")
    answer = client.call("POST", "strays", "drain", address=address, ids=list(ids), all=everything)
    if as_json:
        emit(answer)
        return
    when = "once the emergency is over" if answer["waits"] else "now"
    click.echo(f"{answer['chosen']} chosen for {answer['to']}, delivered {when}")
    for name, text in (("already", "chosen before"), ("again", "refused before, tried again"), ("gone", "no longer there")):
        if answer[name]:
            click.echo(f"{answer[name]} {text}")
