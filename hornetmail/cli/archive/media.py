"""``archive medium``: where the archive's packs lie (A7-A16)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from hornetmail.cli.client import Client, Failure
from hornetmail.cli.output import clean, emit, json_option, size, table
from hornetmail.cli.session import password_from, secret_options, with_client

POLL = 1.0


@click.group()
def medium() -> None:
    """Where archived mail lies: directories, SMB shares, buckets. Mail lies only there: back them up."""


@medium.command("list")
@json_option
@with_client
def list_media(client: Client, as_json: bool) -> None:
    """All media, retired ones included."""
    media = client.call("GET", "archive", "media")["media"]
    if as_json:
        emit(media)
        return
    rows = [
        (
            str(one["id"]),
            one["kind"],
            one["name"],
            one["where"],
            _state(one),
            str(one["mails"]) if one["counted"] else "?",
            size(one["bytes"]),
            size(one["free"]) if one["total"] else "–",
        )
        for one in media
    ]
    table(("ID", "Kind", "Name", "Where", "State", "Mails", "Size", "Free"), rows)


def _state(one: dict[str, Any]) -> str:
    if one["moved_to"]:
        return f"retired, now on {one['moved_to']}"
    if one["moving_to"]:
        return f"moving to {one['moving_to']}, {one['copied']} objects so far"
    if not one["used"]:
        return str(one["why"] or "out of use")
    up = "up" if one["up"] else f"down: {one['why']}" if one["why"] else "not looked at yet"
    return f"active, {up}" if one["active"] else up


@medium.command("add")
@click.argument("kind", type=click.Choice(["directory", "smb", "s3"]))
@click.argument("place")
@click.option("--name", default="", help="For people.")
@click.option("--user", default="", help="smb: who logs in.")
@click.option("--domain", default="", help="smb: the user's domain.")
@click.option("--encrypted", is_flag=True, help="smb: insist on SMB 3 encryption.")
@click.option("--key-id", default="", help="s3: the access key's ID.")
@click.option("--region", default="", help="s3: us-east-1 unless told otherwise.")
@click.option("--style", type=click.Choice(["path", "virtual"]), help="s3: how the bucket is named in the URL (path).")
@click.option("--lock-days", type=click.IntRange(0, 36500), default=0, help="s3: object lock on merged packs.")
@secret_options
@json_option
@with_client
def add(
    client: Client,
    /,
    kind: str,
    place: str,
    secret_file: Path | None,
    password_stdin: bool,
    as_json: bool,
    style: str | None,
    **given: Any,
) -> None:
    """Make a new medium at PLACE: /path, //host[:port]/share[/folder] or https://host[:port]/bucket[/prefix]. It is not yet the active one.

    A place that was a medium of this archive before keeps its number.
    """
    secret = ""
    if secret_file is not None or password_stdin or (kind == "smb" and given["user"]) or (kind == "s3" and given["key_id"]):
        secret = password_from(password_stdin, "Password" if kind == "smb" else "Secret key", secret_file)
    answer = client.call("POST", "archive", "media", kind=kind, place=place, secret=secret, style=style or "", **given)
    if as_json:
        emit(answer)
    else:
        click.echo(f"medium {answer['id']} is added; new mail goes there after: archive medium activate {answer['id']}")


@medium.command("test")
@click.argument("id", type=int)
@json_option
@with_client
def test(client: Client, id: int, as_json: bool) -> None:
    """Write, read, list and delete on a medium."""
    answer = client.call("POST", "archive", "media", str(id), "test")
    if as_json:
        emit(answer)
    else:
        free = f", {size(answer['free'])} free" if answer["total"] else ""
        click.echo(f"medium {id} works ({answer['seconds']:.2f} s{free})")


@medium.command("activate")
@click.argument("id", type=int)
@with_client
def activate(client: Client, id: int) -> None:
    """New mail goes there from now on."""
    client.call("POST", "archive", "media", str(id), "activate")
    click.echo(f"medium {id} is the active one")


@medium.command("deactivate")
@click.argument("id", type=int)
@with_client
def deactivate(client: Client, id: int) -> None:
    """Put a medium out of use; its mail says so when opened."""
    client.call("POST", "archive", "media", str(id), "deactivate")
    click.echo(f"medium {id} is out of use; its mail cannot be opened until: archive medium use {id}")


@medium.command("use")
@click.argument("id", type=int)
@with_client
def use(client: Client, id: int) -> None:
    """Take a medium into use again."""
    client.call("POST", "archive", "media", str(id), "use")
    click.echo(f"medium {id} is in use")


@medium.command("take")
@click.argument("id", type=int)
@with_client
def take(client: Client, id: int) -> None:
    """Write to a medium to which another installation wrote; that one writes there no more. Only one shall go on: see to it that the other one ends."""
    client.call("POST", "archive", "media", str(id), "take")
    click.echo(f"this installation writes to medium {id} now")


@medium.command("secret")
@click.argument("id", type=int)
@secret_options
@with_client
def secret(client: Client, id: int, secret_file: Path | None, password_stdin: bool) -> None:
    """Set the password of a share, or the secret key of a bucket."""
    typed = password_from(password_stdin, "Password or secret key", secret_file)
    client.call("POST", "archive", "media", str(id), "secret", secret=typed)
    click.echo(f"the secret of medium {id} is set")


@medium.command("remove")
@click.argument("id", type=int)
@with_client
def remove(client: Client, id: int) -> None:
    """Take out a medium that never held mail. Its number is not given again."""
    client.call("DELETE", "archive", "media", str(id))
    click.echo(f"medium {id} is taken out")


@medium.command("merge")
@click.argument("ids", nargs=-1, required=True, type=int, metavar="ID...")
@click.option("--into", required=True, type=int, metavar="ID", help="Where all goes.")
@click.option("--no-wait", is_flag=True, help="Do not wait until it is done.")
@with_client
def merge(client: Client, ids: tuple[int, ...], into: int, no_wait: bool) -> None:
    """Move all that media hold to another one, and retire them: their numbers lead there."""
    _merge(client, ids, into, no_wait)


@medium.command("retire")
@click.argument("id", type=int)
@click.option("--into", required=True, type=int, metavar="ID", help="Where all goes.")
@click.option("--no-wait", is_flag=True, help="Do not wait until it is done.")
@with_client
def retire(client: Client, id: int, into: int, no_wait: bool) -> None:
    """The same for one medium."""
    _merge(client, (id,), into, no_wait)


def _merge(client: Client, ids: tuple[int, ...], into: int, no_wait: bool) -> None:
    client.call("POST", "archive", "media", "merge", ids=list(ids), into=into)
    if no_wait:
        click.echo(f"moving to medium {into}; archive medium list shows how far it is")
        return
    while True:
        media = {one["id"]: one for one in client.call("GET", "archive", "media")["media"]}
        if all(media[number]["moved_to"] for number in ids):
            break
        troubles = [media[number]["why"] for number in (*ids, into) if media[number]["why"] and not media[number]["moved_to"]]
        if troubles:
            raise Failure(f"it goes on by itself when it can: {clean(troubles[0])}")
        time.sleep(POLL)
    click.echo(
        f"all mail of medium {', '.join(map(str, ids))} lies on medium {into}; what is left in the old place may be erased"
    )
