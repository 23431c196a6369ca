"""``hornetmail home …``: home with flags and folders (L13)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hornetmail.cli.client import Client
from hornetmail.cli.mail.settings import given
from hornetmail.cli.output import clean, emit, json_option, pairs
from hornetmail.cli.session import password_from, secret_options, with_client


@click.group()
def home() -> None:
    """Mail that goes home by IMAP, with flags and folders."""


def _told(answer: Any, as_json: bool) -> None:
    if as_json:
        emit(answer)
    elif not answer["host"]:
        click.echo(f"{answer['domain']}: all mail goes home by SMTP")
    else:
        pairs(
            (
                ("Domain", answer["domain"]),
                ("Server", answer["host"]),
                ("TLS", answer["tls"]),
                ("Service account", f"{answer['service']} ({answer['form']})" if answer["service"] else "none"),
                ("People's own passwords", "taken" if answer["own"] else "not taken"),
            )
        )


@home.command("show")
@click.argument("domain")
@json_option
@with_client
def home_show(client: Client, domain: str, as_json: bool) -> None:
    """How mail of a domain goes home."""
    _told(client.call("GET", "domains", domain, "home"), as_json)


@home.command("set")
@click.argument("domain")
@click.option(
    "--host", required=True, metavar="HOST[:PORT]", help="The primary's IMAP; port 993 is TLS from the start, others STARTTLS."
)
@click.option(
    "--tls",
    type=click.Choice(["may", "verify", "none"]),
    help="Whether the certificate is checked (verify); none: no TLS at all.",
)
@click.option("--service", metavar="USER", help="An account that may open all mailboxes; its password is asked for.")
@click.option(
    "--form",
    type=click.Choice(["authzid", "star"]),
    help="How it says whose mailbox it wants: in SASL, or as NAME*USER (Dovecot).",
)
@click.option("--own/--no-own", default=None, help="Whether people may use passwords of their own.")
@secret_options
@click.option("--keep-password", is_flag=True, help="The service account's password stays as it is.")
@json_option
@with_client
def home_set(
    client: Client,
    /,
    domain: str,
    secret_file: Path | None,
    password_stdin: bool,
    keep_password: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Have mail of a domain go home by IMAP where it was read, flagged, filed or sent."""
    if (secret_file is not None or password_stdin) and (keep_password or not settings["service"]):
        raise click.UsageError("a password goes with --service, and without --keep-password")
    if settings["service"] and not keep_password:
        settings["password"] = password_from(password_stdin, f"Password of {settings['service']}", secret_file)
    _told(client.call("PUT", "domains", domain, "home", **given(settings)), as_json)


@home.command("remove")
@click.argument("domain")
@with_client
def home_remove(client: Client, domain: str) -> None:
    """Have all mail of a domain go home by SMTP; the service account's password is deleted."""
    client.call("DELETE", "domains", domain, "home")


@home.command("mailbox")
@click.argument("address")
@json_option
@with_client
def home_mailbox(client: Client, address: str, as_json: bool) -> None:
    """What of a mailbox went home by IMAP, and what does not go."""
    answer = client.call("GET", "mailboxes", address, "home")
    if as_json:
        emit(answer)
        return
    pairs(
        (
            ("Mailbox", answer["address"]),
            ("Way home by IMAP", "yes" if answer["possible"] else "no"),
            ("Went home", str(answer["home"])),
            ("Not yet certain", str(answer["going"])),
            ("Refused", str(answer["stuck_count"])),
            ("In the way", answer["trouble"] or "nothing"),
        )
    )
    for one in answer["stuck"]:
        click.echo(clean(f"{one['name']}: {one['reason']}"))


@home.command("test")
@click.argument("address")
@json_option
@with_client
def home_test(client: Client, address: str, as_json: bool) -> None:
    """Log in for a mailbox now, and list its folders at the primary."""
    answer = client.call("POST", "mailboxes", address, "home", "test")
    if as_json:
        emit(answer)
    else:
        for name in answer["folders"]:
            click.echo(clean(name))


@home.command("retry")
@click.argument("address")
@with_client
def home_retry(client: Client, address: str) -> None:
    """Try again what the primary refused."""
    answer = client.call("POST", "mailboxes", address, "home", "retry")
    click.echo(f"{answer['changed']} messages are tried again")
