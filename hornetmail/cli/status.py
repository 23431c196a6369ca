"""``hornetmail status``: the whole at a glance."""

from __future__ import annotations

from typing import Any

import click

from hornetmail.cli.archive.stamps import stamps_line
from hornetmail.cli.client import Client
from hornetmail.cli.output import clean, count, emit, json_option, moment, size
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
        f"queue         {count(queue['messages'], 'message')}, {queue['held']} held, {queue['drain']} to drain,"
        f" {queue['archive_pending']} to archive, oldest {queue['oldest_seconds']:.0f} s"
    )
    click.echo(f"archive       {_held(archive)}")
    click.echo(f"time stamps   {stamps_line(archive['stamps'])}")
    alarms = answer["alarms"]
    if alarms["open"]:
        click.echo(
            f"alarms        {alarms['open']} open, {alarms['fresh']} not acknowledged: {', '.join(map(clean, alarms['codes']))}"
        )
    key = archive["key"]
    if archive["locked"]:
        click.echo(
            f"archive key   {clean(key['trouble'] or 'it is not here')}; unlock it: archive unlock, or archive unlock KEY-PAPER…"
        )
    elif key["trouble"]:
        click.echo(f"archive key   {clean(key['trouble'])}")
    if key["pending"]:
        click.echo(
            f"archive key   {key['id']}; {key['pending']} is pending since {moment(key['since'])}: confirm its paper, or cancel it"
        )
    if key["media_waiting"]:
        click.echo(
            f"archive key   {key['id']}; still under the one before, and out of reach: medium {', '.join(map(str, key['media_waiting']))}"
        )


def _held(archive: dict[str, Any]) -> str:
    """Locked, its index cannot be read: then it is not said that nothing is in it."""
    if archive["locked"]:
        return "LOCKED: mail is archived, and cannot be searched or opened"
    stored = f"{size(archive['bytes_stored'])} for {size(archive['bytes_raw'])}"
    return f"{_packed(archive)}, {stored}" + (f", {archive['marked']} marked to go" if archive["marked"] else "")


def _packed(archive: dict[str, Any]) -> str:
    """Mail is in the staging area first: that is no pack with nothing in it."""
    mails, packs = count(archive["mails"], "mail"), archive["packs"]
    if not packs:
        return f"{mails}, none on a medium yet" if archive["mails"] else mails
    return f"{mails} in {count(packs, 'pack')}"
