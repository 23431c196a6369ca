"""``queue``."""

from __future__ import annotations

from typing import Any

import click

from hornetmail.cli.client import Client
from hornetmail.cli.output import emit, json_option, moment, pairs, size, table
from hornetmail.cli.session import with_client


@click.group()
def queue() -> None:
    """Mail that is on its way."""


@queue.command("list")
@click.option("--domain", help="Of that domain only.")
@click.option(
    "--state", type=click.Choice(["waiting", "queued", "claimed", "parked", "held", "stuck"]), help="In that state only."
)
@json_option
@with_client
def queue_list(client: Client, domain: str | None, state: str | None, as_json: bool) -> None:
    """All that is in it, oldest first."""
    messages: dict[str, Any] = {}
    after: str | None = None
    while True:
        page = client.call("GET", "queue", domain=domain, state=state, after=after)
        for one in page["messages"]:
            known = messages.setdefault(one["id"], one)
            if known is not one:
                known["rows"] += one["rows"]
        after = page["after"]
        if not after:
            break
    if as_json:
        emit({"messages": list(messages.values())})
        return
    rows = [
        (
            one["id"],
            row["kind"],
            row["state"],
            one["sender"] or "<>",
            row["recipient"] or "-",
            row["attempts"],
            moment(row["due"]),
            _said(row),
        )
        for one in messages.values()
        for row in one["rows"]
    ]
    table(("ID", "Kind", "State", "Sender", "Recipient", "Tries", "Next", "Last"), rows)


@queue.command("show")
@click.argument("id")
@json_option
@with_client
def queue_show(client: Client, id: str, as_json: bool) -> None:
    """One message with all of its recipients."""
    one = client.call("GET", "queue", id)
    if as_json:
        emit(one)
        return
    pairs(
        [
            ("id", one["id"]),
            ("sender", one["sender"] or "<>"),
            ("domain", one["domain"]),
            ("came", f"{moment(one['arrived'])} through {one['door']}, {one['direction']}"),
            ("size", size(one["size"])),
        ]
    )
    rows = [
        (
            row["kind"],
            row["state"],
            row["recipient"] or "-",
            row["attempts"],
            moment(row["due"]),
            row["host"],
            _said(row),
        )
        for row in one["rows"]
    ]
    table(("Kind", "State", "Recipient", "Tries", "Next", "Host", "Last"), rows)


def _said(row: dict[str, Any]) -> str:
    """The newest reply, and what became of it where that is more than to be tried again."""
    last, reason = str(row["last"]), str(row["reason"])
    if last in reason:
        return reason
    return f"{last} ({reason})" if reason else last


def _change(name: str, says: str, done: str, *, everything: bool = False) -> None:
    @queue.command(name, help=says)
    @click.argument("ids", nargs=-1, metavar="[ID]...")
    @click.option("--domain", default="", help="All of that domain.")
    @click.option("--recipient", default="", help="Only for that recipient.")
    @click.option("--all", "everyone", is_flag=True, help="All there is.")
    @click.option("--reason", default="", help="For the log, and for the sender of what is returned.")
    @json_option
    @with_client
    def change(
        client: Client, ids: tuple[str, ...], domain: str, recipient: str, everyone: bool, reason: str, as_json: bool
    ) -> None:
        if not (ids or domain or everyone or everything):
            raise click.UsageError("Name IDs, --domain or --all.")
        every = everyone or not (ids or domain)
        answer = client.call(
            "POST", "queue", name, messages=list(ids), domain=domain, recipient=recipient, all=every, reason=reason
        )
        if as_json:
            emit(answer)
        else:
            click.echo(f"{answer['changed']} {done}")


_change("flush", "Try now: the messages named, or all.", "will be tried now", everything=True)
_change("hold", "Stop mail until it is released.", "held")
_change("release", "Let held mail go on.", "released")
_change("delete", "Take mail out without telling the sender.", "deleted")
_change("bounce", "Give up and tell the sender.", "returned")
