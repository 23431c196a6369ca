"""``hornetmail domain …``"""

from __future__ import annotations

from typing import Any

import click

from hornetmail.cli.client import Client
from hornetmail.cli.mail.settings import given, tell
from hornetmail.cli.output import emit, json_option, moment, pairs, said, table
from hornetmail.cli.session import with_client


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
        click.option(
            "--quota-bytes", type=int, metavar="BYTES", help="What each mailbox may hold in the portal; 0: without limit."
        ),
        click.option("--quota-messages", type=int, metavar="NUMBER", help="The same, in messages."),
        click.option(
            "--over-quota",
            type=click.Choice(["defer", "refuse"]),
            help="What becomes of mail for a full mailbox where the portal is the mail server: it waits, or its sender is told at once.",
        ),
        click.option("--active/--inactive", default=None, help="Whether the service is on."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@domain.command("add")
@click.argument("name")
@_settings
@json_option
@with_client
def domain_add(client: Client, /, name: str, as_json: bool, **settings: Any) -> None:
    """Serve a domain; without --primary the portal is its mail server for good."""
    answer = client.call("POST", "domains", name=name, **given(settings))
    tell(answer, f"{answer['name']} is served", as_json)


@domain.command("change")
@click.argument("name")
@_settings
@json_option
@with_client
def domain_change(client: Client, /, name: str, as_json: bool, **settings: Any) -> None:
    """Change settings of a domain; what is not named stays."""
    answer = client.call("PATCH", "domains", name, **given(settings))
    tell(answer, f"{answer['name']} is changed", as_json)


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
            *[(f"  {one['host']}", _health(one)) for one in answer["primary"]["hosts"]],
            ("failover", answer["failover"]),
            ("portal on", answer["portal_on"]),
            ("scope", answer["scope"]),
            ("tls", answer["tls"]),
            ("active", said(answer["active"])),
            ("archive", f"{answer['retention_days']} days" if answer["archive"] else "no"),
            ("portal folders", f"{answer['portal_days']:g} days after an emergency" if answer["portal_days"] else "for good"),
            ("tells people", said(answer["tell_people"])),
            ("quota", quota(answer, answer["over_quota"])),
            ("relay from", " ".join(answer["relay_from"]) or "-"),
            ("smarthost", answer["smarthost"] or "-"),
            ("mailboxes", answer["mailboxes"]),
        ]
    )


def _health(host: dict[str, Any]) -> str:
    """Whether it answers, since when, and what it said otherwise."""
    since = f" since {moment(host['since'])}" if host["since"] else ""
    if host["up"] is None:
        return str(host["reason"])
    return f"up{since}" if host["up"] else f"DOWN{since}: {host['reason']}"


def quota(answer: dict[str, Any], over: str) -> str:
    """What a mailbox may hold, as people read it."""
    said = [f"{answer['quota_bytes']} bytes"] if answer["quota_bytes"] else []
    said += [f"{answer['quota_messages']} messages"] if answer["quota_messages"] else []
    return f"{', '.join(said)}, then {over}" if said else "none"
