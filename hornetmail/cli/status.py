"""``hornetmail status``: the whole at a glance."""

from __future__ import annotations

from typing import Any

import click

from hornetmail.cli.archive.stamps import stamps_line
from hornetmail.cli.client import Client
from hornetmail.cli.output import clean, emit, json_option, moment, size
from hornetmail.cli.session import with_client


@click.command()
@json_option
@with_client
def status(client: Client, as_json: bool) -> None:
    """The whole at a glance."""
    answer = client.call("GET", "status")
    if as_json:
        emit(answer)
        return
    queue, archive = answer["queue"], answer["archive"]
    for role, state in answer["roles"].items():
        click.echo(f"{role:12}  {'works' if state['up'] else 'DOWN: ' + clean(state['reason'])}")
    for one in answer["domains"]:
        up = one["primary"]["up"]
        click.echo(f"{one['name']:30}  {one['mode']:9}  primary {'unknown' if up is None else 'up' if up else 'DOWN'}")
    click.echo(
        f"queue         {queue['messages']} messages, {queue['held']} held, {queue['drain']} to drain,"
        f" {queue['archive_pending']} to archive, oldest {queue['oldest_seconds']:.0f} s"
    )
    stored = f"{size(archive['bytes_stored'])} for {size(archive['bytes_raw'])}"
    click.echo(
        f"archive       {_packed(archive)}, {stored}{', LOCKED' if archive['locked'] else ''}"
        + (f", {archive['marked']} marked to go" if archive["marked"] else "")
    )
    click.echo(f"time stamps   {stamps_line(archive['stamps'])}")
    alarms = answer["alarms"]
    if alarms["open"]:
        click.echo(
            f"alarms        {alarms['open']} open, {alarms['fresh']} not acknowledged: {', '.join(map(clean, alarms['codes']))}"
        )
    key = archive["key"]
    if key["trouble"]:
        click.echo(f"archive key   {clean(key['trouble'])}")
    if key["pending"]:
        click.echo(
            f"archive key   {key['id']}; {key['pending']} is pending since {moment(key['since'])}: confirm its paper, or cancel it"
        )
    if key["media_waiting"]:
        click.echo(
            f"archive key   {key['id']}; still under the one before, and out of reach: medium {', '.join(map(str, key['media_waiting']))}"
        )


def _packed(archive: dict[str, Any]) -> str:
    """Mail is in the staging area first: that is no pack with nothing in it."""
    mails, packs = _count(archive["mails"], "mail"), archive["packs"]
    if not packs:
        return f"{mails}, none on a medium yet" if archive["mails"] else mails
    return f"{mails} in {_count(packs, 'pack')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
