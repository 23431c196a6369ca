"""``archive backup``, ``archive mirror`` and ``archive restore`` (A11, A29, A32)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from hornetmail.cli.client import Client, Failure
from hornetmail.cli.jobs import run_job
from hornetmail.cli.output import clean, count, emit, json_option, moment, size, table
from hornetmail.cli.session import Session, offline, password_from, secret_options, with_client


def kind_of(place: str) -> str:
    """By how a place is written."""
    return "smb" if place.startswith(("//", "\\\\")) else "s3" if place.startswith(("http://", "https://")) else "directory"


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a share or bucket needs besides its place."""
    for option in (
        click.option("--user", default="", help="smb: who logs in."),
        click.option("--domain", default="", help="smb: the user's domain."),
        click.option("--key-id", default="", help="s3: the access key's ID."),
        click.option("--region", default="", help="s3: us-east-1 unless told otherwise."),
    ):
        command = option(command)
    return command


@click.group()
def backup() -> None:
    """Backups of the databases, on the active medium. The mail itself lies only on the media."""


@backup.command("now")
@click.option("--full", is_flag=True, help="A full one, not an increment.")
@with_client
def backup_now(client: Client, full: bool) -> None:
    """Make one now, and wait until it is made."""
    click.echo(clean(run_job(client, "backup-full" if full else "backup")["detail"]))


@backup.command("list")
@json_option
@with_client
def backup_list(client: Client, as_json: bool) -> None:
    """All of them, newest first."""
    answer = client.call("GET", "archive", "backups")
    if as_json:
        emit(answer)
        return
    rows = [
        (one["stamp"], "full" if one["full"] else "increment", moment(one["made"]), str(one["medium"]), size(one["bytes"]))
        for one in answer["backups"]
    ]
    table(("Name", "Kind", "Made", "Medium", "Size"), rows)
    click.echo(f"What is deleted now is in no backup after {moment(answer['gone_by'])}.")


@click.group()
def mirror() -> None:
    """A copy of all media and backups in one other place; it follows every hour."""


@mirror.command("set")
@click.argument("place")
@place_options
@secret_options
@with_client
def mirror_set(client: Client, /, place: str, secret_file: Path | None, password_stdin: bool, **given: Any) -> None:
    """Mirror to PLACE: /path, //host[:port]/share[/folder] or https://host[:port]/bucket[/prefix].

    If another installation of this archive follows into it, this one does from now on, and that one stops.
    """
    asked = secret_file is not None or password_stdin or given["user"] or given["key_id"]
    secret = password_from(password_stdin, "Password or secret key", secret_file) if asked else ""
    kind = kind_of(place)
    where = place if kind != "directory" else str(Path(place).absolute())
    answer = client.call("POST", "archive", "mirror", kind=kind, place=where, secret=secret, **given)
    click.echo(f"the mirror is {clean(answer['where'])}; it is filled by: archive mirror now")


@mirror.command("now")
@with_client
def mirror_now(client: Client) -> None:
    """Have it follow now, and wait until it did."""
    click.echo(clean(run_job(client, "mirror")["detail"]))


@mirror.command("show")
@json_option
@with_client
def mirror_show(client: Client, as_json: bool) -> None:
    """Where it is, and when it last followed."""
    answer = client.call("GET", "archive", "backups")["mirror"]
    if as_json:
        emit(answer)
    elif not answer["kind"]:
        click.echo("no mirror is set up")
    else:
        done = f"followed {moment(answer['done'])}: {clean(answer['text'])}" if answer["done"] else "it has not followed yet"
        click.echo(f"{clean(answer['where'])}: {done}")
        if answer["trouble"]:
            click.echo(f"not since: {clean(answer['trouble'])}")


@mirror.command("off")
@with_client
def mirror_off(client: Client) -> None:
    """Follow no more; what lies there stays."""
    client.call("DELETE", "archive", "mirror")
    click.echo("the mirror follows no more")


@click.command("restore")
@click.argument("source")
@place_options
@click.option(
    "--secret-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Holds the share's password or the secret key.",
)
@click.option(
    "--key",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The paper of the archive's key, as text; again for each part of it.",
)
@click.option("--password-stdin", is_flag=True, help="Read the paper's password from standard input.")
@click.option(
    "--backup",
    "stamp",
    default="",
    metavar="STAMP",
    help="The backup of people, settings and index; the newest unless told otherwise.",
)
@click.option(
    "--without",
    multiple=True,
    type=int,
    metavar="NUMBER",
    help="A medium that is lost: its mail is known by the backup, and cannot be opened. Repeatable.",
)
@click.option(
    "--take-over",
    is_flag=True,
    help="The installation that wrote to the media is lost for good, and could not say that it ended.",
)
@json_option
@click.pass_obj
def restore(
    session: Session,
    /,
    source: str,
    secret_file: Path | None,
    key: tuple[Path, ...],
    password_stdin: bool,
    stamp: str,
    without: tuple[int, ...],
    take_over: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Restore the archive, people and settings from SOURCE, a medium or the mirror, into an installation that 'init' has just made; the service must not run.

    The queue is not part of it. Purging is off until 'archive confirm-purge'. Cut off, the same command goes on.
    """
    from hornetmail.compose.setting_up.restore import Source
    from hornetmail.compose.setting_up.restore import restore as run

    config = session.config()
    text = "\n".join(one.read_text(encoding="utf-8", errors="replace") for one in key)
    password = password_from(password_stdin, "Password of the paper") if key else ""
    secret = password_from(False, "", secret_file) if secret_file is not None else ""
    kind = kind_of(source)
    place = source if kind != "directory" else str(Path(source).absolute())
    wanted = Source(kind, place, {name: value for name, value in given.items() if value}, secret)
    say = (lambda line: None) if as_json else lambda line: click.echo(clean(line))
    done = offline(run, config, wanted, text, password, say, stamp, without, take_over)
    if as_json:
        emit(msgspec.to_builtins(done))
    else:
        click.echo(f"{count(done.mails, 'mail')} on medium {done.medium}")
        click.echo(
            f"people and settings are those of backup {done.control}"
            if done.control
            else "there was no backup of people and settings"
        )
        click.echo("Purging is off: look at the clock and at what you see, then: hornetmail archive confirm-purge")
        if done.control:
            click.echo(
                "A mirror is not followed before the old installation runs no more and you say so: hornetmail archive mirror set PLACE"
            )
    if done.findings:
        first = done.findings[0]
        raise Failure(f"{len(done.findings)} things could not be read, the first: {first.where}: {first.what}")
