"""``domain``, ``mailbox`` and ``status``."""

from __future__ import annotations

import sys
from typing import Any

import click

from hornetmail.cli.approvals import tell_waiting
from hornetmail.cli.client import Client
from hornetmail.cli.output import clean, emit, json_option, moment, pairs, said, size, table
from hornetmail.cli.session import password_from, with_client

ROLES = click.Choice(["admin", "auditor", "revisor", "dataofficer"])


@click.group()
def domain() -> None:
    """Domains that are served."""


def _settings(command: Any) -> Any:
    options = (
        click.option(
            "--primary", "primaries", multiple=True, metavar="HOST:PORT", help="The organisation's own server; repeatable."
        ),
        click.option("--failover", type=click.Choice(["auto", "manual"]), help="Who switches the mode."),
        click.option(
            "--portal-on",
            type=click.Choice(["any", "outage"]),
            help="What sends a single mail to the portal: any trouble of the primary, or an outage; with that, greylisted mail and mail for"
            " a full mailbox waits in the queue.",
        ),
        click.option("--scope", type=click.Choice(["all", "picked"]), help="All users, or picked mailboxes."),
        click.option("--tls", type=click.Choice(["may", "verify", "none"]), help="TLS towards the primary."),
        click.option("--alias", "aliases", multiple=True, metavar="NAME", help="A domain that is the same; repeatable."),
        click.option(
            "--relay-from", multiple=True, metavar="NETWORK", help="May send for it through the relay door; repeatable."
        ),
        click.option("--smarthost", metavar="HOST:PORT", help="Where outgoing mail goes instead of to the recipient's MX."),
        click.option("--retention-days", type=int, metavar="DAYS", help="How long the archive keeps mail (90)."),
        click.option(
            "--portal-days",
            type=float,
            metavar="DAYS",
            help="How long the portal's folders keep what an emergency left there (90); 0: for good.",
        ),
        click.option("--archive/--no-archive", default=None, help="Whether its mail is archived."),
        click.option(
            "--tell-people/--no-tell-people",
            default=None,
            help="Whether people with a second address are told there when an emergency begins and ends.",
        ),
        click.option("--active/--inactive", default=None, help="Whether the service is on."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in settings.items() if value not in (None, ())
    }


def _tell(answer: Any, done: str, as_json: bool) -> None:
    """What was done, and what of it waits for a second person."""
    if as_json:
        emit(answer)
    else:
        click.echo(done)
        tell_waiting(answer["waits"])


@domain.command("add")
@click.argument("name")
@_settings
@json_option
@with_client
def domain_add(client: Client, /, name: str, as_json: bool, **settings: Any) -> None:
    """Serve a domain; without --primary the portal is its mail server for good."""
    answer = client.call("POST", "domains", name=name, **_given(settings))
    _tell(answer, f"{answer['name']} is served", as_json)


@domain.command("change")
@click.argument("name")
@_settings
@json_option
@with_client
def domain_change(client: Client, /, name: str, as_json: bool, **settings: Any) -> None:
    """Change settings of a domain; what is not named stays."""
    answer = client.call("PATCH", "domains", name, **_given(settings))
    _tell(answer, f"{answer['name']} is changed", as_json)


@domain.command("remove")
@click.argument("name")
@with_client
def domain_remove(client: Client, name: str) -> None:
    """Serve a domain no longer; its mailboxes must be gone."""
    client.call("DELETE", "domains", name)


@domain.command("mode")
@click.argument("name")
@click.argument("mode", type=click.Choice(["normal", "emergency"]))
@click.option("--reason", default="", help="For the log.")
@json_option
@with_client
def domain_mode(client: Client, name: str, mode: str, reason: str, as_json: bool) -> None:
    """Switch the mode by hand."""
    answer = client.call("PUT", "domains", name, "mode", mode=mode, reason=reason)
    if as_json:
        emit(answer)
    else:
        click.echo(f"{answer['name']}: {answer['mode']}")


@domain.command("list")
@json_option
@with_client
def domain_list(client: Client, as_json: bool) -> None:
    """All domains, their mode and primary."""
    answer = client.call("GET", "domains")
    if as_json:
        emit(answer)
        return
    rows = [
        (
            one["name"],
            one["mode"],
            said(one["primary"]["up"]),
            " ".join(one["primaries"]) or "-",
            one["failover"],
            one["scope"],
            one["mailboxes"],
        )
        for one in answer["domains"]
    ]
    table(("Domain", "Mode", "Up", "Primary", "Failover", "Scope", "Mailboxes"), rows)


@domain.command("show")
@click.argument("name")
@json_option
@with_client
def domain_show(client: Client, name: str, as_json: bool) -> None:
    """One domain, and why it is in its mode."""
    answer = client.call("GET", "domains", name)
    if as_json:
        emit(answer)
        return
    why = answer["explanation"]
    pairs(
        [
            ("domain", answer["name"]),
            ("aliases", " ".join(answer["aliases"]) or "-"),
            ("mode", answer["mode"]),
            ("since", moment(why.get("since") or 0)),
            ("by", why.get("by") or "-"),
            ("reason", why.get("reason") or "-"),
            ("primary", " ".join(answer["primaries"]) or "none: the portal is its mail server"),
            ("up", said(answer["primary"]["up"])),
            ("failover", answer["failover"]),
            ("portal on", answer["portal_on"]),
            ("scope", answer["scope"]),
            ("tls", answer["tls"]),
            ("active", said(answer["active"])),
            ("archive", f"{answer['retention_days']} days" if answer["archive"] else "no"),
            ("portal folders", f"{answer['portal_days']:g} days after an emergency" if answer["portal_days"] else "for good"),
            ("tells people", said(answer["tell_people"])),
            ("relay from", " ".join(answer["relay_from"]) or "-"),
            ("smarthost", answer["smarthost"] or "-"),
            ("mailboxes", answer["mailboxes"]),
        ]
    )


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
@json_option
@with_client
def mailbox_add(client: Client, /, address: str, password_stdin: bool, as_json: bool, **settings: Any) -> None:
    """Register a mailbox."""
    password = password_from(True, "") if password_stdin else ""
    answer = client.call("POST", "mailboxes", address=address, password=password, **_given(settings))
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
@json_option
@with_client
def mailbox_change(client: Client, /, address: str, no_roles: bool, no_aliases: bool, as_json: bool, **settings: Any) -> None:
    """Change settings of a mailbox; what is not named stays."""
    given = _given(settings)
    given |= {"roles": []} if no_roles else {}
    given |= {"aliases": []} if no_aliases else {}
    answer = client.call("PATCH", "mailboxes", address, **given)
    _tell(answer, f"{answer['address']} is changed", as_json)


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
        f"archive       {archive['mails']} mails in {archive['packs']} packs, {stored}{', LOCKED' if archive['locked'] else ''}"
        + (f", {archive['marked']} marked to go" if archive["marked"] else "")
    )
    alarms = answer["alarms"]
    if alarms["open"]:
        click.echo(
            f"alarms        {alarms['open']} open, {alarms['fresh']} not acknowledged: {', '.join(map(clean, alarms['codes']))}"
        )
    key = archive["key"]
    if key["pending"]:
        click.echo(
            f"archive key   {key['id']}; {key['pending']} is pending since {moment(key['since'])}: confirm its paper, or cancel it"
        )
    if key["media_waiting"]:
        click.echo(
            f"archive key   {key['id']}; still under the one before, and out of reach: medium {', '.join(map(str, key['media_waiting']))}"
        )
