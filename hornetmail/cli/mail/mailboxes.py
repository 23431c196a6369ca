"""``hornetmail mailbox …``"""

from __future__ import annotations

import sys
from typing import Any

import click

from hornetmail.cli.client import Client
from hornetmail.cli.mail.approvals import tell_waiting
from hornetmail.cli.mail.settings import given, tell
from hornetmail.cli.output import emit, json_option, moment, said, table
from hornetmail.cli.session import password_from, with_client

ROLES = click.Choice(["admin", "auditor", "revisor", "dataofficer"])


@click.group()
def mailbox() -> None:
    """Mailboxes, people and roles."""


@mailbox.command("add")
@click.argument("address")
@click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input; without, a one-time password is printed."
)
@click.option("--role", "roles", multiple=True, type=ROLES, help="Repeatable.")
@click.option("--alias", "aliases", multiple=True, metavar="ADDRESS", help="A further address of it alone; repeatable.")
@click.option("--name", default="", help="The person's name.")
@click.option("--second", default="", metavar="ADDRESS", help="An address outside, for alarms and emergencies.")
@click.option(
    "--quota-bytes",
    type=int,
    metavar="BYTES",
    help="What it may hold in the portal, instead of as its domain says; 0: without limit.",
)
@click.option("--quota-messages", type=int, metavar="NUMBER", help="The same, in messages.")
@json_option
@with_client
def mailbox_add(client: Client, /, address: str, password_stdin: bool, as_json: bool, **settings: Any) -> None:
    """Register a mailbox."""
    password = password_from(True, "") if password_stdin else ""
    answer = client.call("POST", "mailboxes", address=address, password=password, **given(settings))
    if as_json:
        emit(
            {
                "address": answer["mailbox"]["address"],
                "id": answer["mailbox"]["id"],
                "password": answer["password"],
                "mailbox": answer["mailbox"],
                "waits": answer["waits"],
            }
        )
        return
    click.echo(f"{answer['mailbox']['address']} is registered")
    if answer["password"]:
        click.echo(f"one-time password: {answer['password']}")
    tell_waiting(answer["waits"])


@mailbox.command("change")
@click.argument("address")
@click.option("--role", "roles", multiple=True, type=ROLES, help="All roles from now on; repeatable.")
@click.option("--no-roles", is_flag=True, help="Take all roles away.")
@click.option("--alias", "aliases", multiple=True, metavar="ADDRESS", help="All aliases from now on; repeatable.")
@click.option("--no-aliases", is_flag=True, help="Take all aliases away.")
@click.option("--name", help="The person's name.")
@click.option("--enabled/--disabled", default=None, help="Whether it can log in.")
@click.option("--picked/--not-picked", default=None, help="Whether it is covered where the domain's scope is picked.")
@click.option("--archive/--no-archive", default=None, help="Whether its mail is archived.")
@click.option("--second", metavar="ADDRESS", help="An address outside, for alarms and emergencies; empty: none.")
@click.option(
    "--quota-bytes",
    type=int,
    metavar="BYTES",
    help="What it may hold in the portal, instead of as its domain says; 0: without limit.",
)
@click.option("--quota-messages", type=int, metavar="NUMBER", help="The same, in messages.")
@click.option("--domain-quota", is_flag=True, help="Have the domain's quota again.")
@json_option
@with_client
def mailbox_change(
    client: Client, /, address: str, no_roles: bool, no_aliases: bool, domain_quota: bool, as_json: bool, **settings: Any
) -> None:
    """Change settings of a mailbox; what is not named stays."""
    named = given(settings)
    named |= {"roles": []} if no_roles else {}
    named |= {"aliases": []} if no_aliases else {}
    named |= {"quota_bytes": None, "quota_messages": None} if domain_quota else {}
    answer = client.call("PATCH", "mailboxes", address, **named)
    tell(answer, f"{answer['address']} is changed", as_json)


@mailbox.command("remove")
@click.argument("address")
@with_client
def mailbox_remove(client: Client, address: str) -> None:
    """Take its log-in and addresses away; mail in portal and archive stays until it expires."""
    client.call("DELETE", "mailboxes", address)


@mailbox.command("passwd")
@click.argument("address")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--one-time", is_flag=True, help="Make a one-time password and print it.")
@json_option
@with_client
def mailbox_passwd(client: Client, address: str, password_stdin: bool, one_time: bool, as_json: bool) -> None:
    """Set somebody's password: from a prompt or standard input, else a one-time password."""
    password = ""
    if password_stdin or (sys.stdin.isatty() and not one_time):
        password = password_from(password_stdin, f"New password of {address}")
    answer = client.call("PUT", "mailboxes", address, "password", password=password)
    if as_json:
        emit(answer)
        return
    if answer["password"]:
        click.echo(f"one-time password: {answer['password']}")
    else:
        click.echo(f"{answer['address']} has a new password")
    tell_waiting(answer["waits"])


@mailbox.command("list")
@click.argument("domain", default="")
@json_option
@with_client
def mailbox_list(client: Client, domain: str, as_json: bool) -> None:
    """All mailboxes, or those of a domain."""
    answer = client.call("GET", "mailboxes", domain=domain or None)
    if as_json:
        emit(answer)
        return
    rows = [
        (
            one["address"],
            " ".join(one["roles"]) or "-",
            said(one["enabled"]),
            " ".join(one["aliases"]) or "-",
            moment(one["folders_expire"]) if one["folders_expire"] else "-",
            one["second"] or "-",
            one["name"],
        )
        for one in answer["mailboxes"]
    ]
    table(("Address", "Roles", "Enabled", "Aliases", "Folders expire", "Second", "Name"), rows)
