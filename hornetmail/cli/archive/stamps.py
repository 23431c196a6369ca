"""``archive timestamp``, ``archive authority`` and ``archive certificate`` (A33, A34)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hornetmail.cli.client import Client, Failure
from hornetmail.cli.output import clean, emit, json_option, moment, table
from hornetmail.cli.session import password_from, with_client


@click.command()
@json_option
@with_client
def timestamp(client: Client, as_json: bool) -> None:
    """Have the newest root stamped: everything archived so far, and the audit log."""
    answer = client.call("POST", "archive", "timestamp")
    if as_json:
        emit(answer)
    else:
        click.echo(stamps_line(answer))


@click.group()
def authority() -> None:
    """Time stamp authorities (RFC 3161), asked in their order. Which root their stamps must lead to is selected by fingerprint."""


@authority.command("list")
@json_option
@with_client
def list_all(client: Client, as_json: bool) -> None:
    """Authorities, certificates, and how stamping stands."""
    answer = client.call("GET", "archive", "stamps")
    if as_json:
        emit(answer)
        return
    click.echo(stamps_line(answer["state"]))
    if answer["authorities"]:
        table(
            ("Authority", "URL", "User", "Certificates"),
            [
                (one["name"], one["url"], one["user"], " ".join(print_[:16] for print_ in one["certificates"]))
                for one in answer["authorities"]
            ],
        )
    if answer["certificates"]:
        table(
            ("Certificate (SHA-256)", "Subject", "Until", "Used by"),
            [
                (one["fingerprint"], one["subject"], moment(one["until"]), ", ".join(one["used_by"]))
                for one in answer["certificates"]
            ],
        )


def stamps_line(state: dict[str, Any]) -> str:
    """How stamping stands, in a line."""
    if not state["authorities"]:
        said = "NO TIME STAMP AUTHORITY: nothing proves when mail was here. Set one up: archive authority set"
    elif state["failing"]:
        said = f"FAILING since {moment(state['since'])}: {clean(state['failing'])}; next try {moment(state['again'])}"
    elif not state["stamps"]:
        said = "nothing is stamped yet"
    else:
        said = f"{state['stamped']} leaves stamped at {moment(state['at'])} by {clean(state['authority'])}, good by itself until {moment(state['until'])}"
    return f"{said}; {state['unstamped']} unstamped" if state["unstamped"] else said


@authority.command("set")
@click.argument("name")
@click.argument("url")
@click.option(
    "--certificate",
    "certificates",
    multiple=True,
    metavar="SHA256",
    help="An installed CA certificate, by fingerprint; may be given more than once.",
)
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file: install its certificates, and select them.",
)
@click.option("--user", default="", help="Its log-in.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--first", is_flag=True, help="Ask it first.")
@with_client
def set_authority(
    client: Client,
    name: str,
    url: str,
    certificates: tuple[str, ...],
    ca: Path | None,
    user: str,
    password_stdin: bool,
    first: bool,
) -> None:
    """Add an authority, or change it."""
    chosen = list(certificates)
    if ca is not None:
        chosen += client.call("POST", "archive", "certificates", pem=_text(ca))["fingerprints"]
    password = password_from(password_stdin, f"Password of {user}") if user else None
    client.call(
        "POST", "archive", "authorities", name=name, url=url, certificates=chosen, user=user, password=password, first=first
    )
    click.echo(f"{clean(name)} is set up; try it: archive authority test {clean(name)}")


@authority.command("test")
@click.argument("name")
@with_client
def test(client: Client, name: str) -> None:
    """Ask for a stamp, check it, and throw it away."""
    client.call("POST", "archive", "authorities", name, "test")
    click.echo("its stamps count")


@authority.command("remove")
@click.argument("name")
@with_client
def remove(client: Client, name: str) -> None:
    """Ask it no more; its stamps stay good."""
    client.call("DELETE", "archive", "authorities", name)


@click.group()
def certificate() -> None:
    """CA certificates that the stamps of authorities are held against."""


@certificate.command("add")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@with_client
def add(client: Client, file: Path) -> None:
    """Install the certificates of a PEM file; prints their fingerprints. Compare them with those that the CA publishes."""
    for fingerprint in client.call("POST", "archive", "certificates", pem=_text(file))["fingerprints"]:
        click.echo(fingerprint)


@certificate.command("remove")
@click.argument("fingerprint")
@with_client
def remove_certificate(client: Client, fingerprint: str) -> None:
    """Take one out that no authority uses."""
    client.call("DELETE", "archive", "certificates", fingerprint)


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError as error:
        raise Failure(f"{file}: {error.strerror or error}") from None
