"""``approvals`` and ``second-person``: what waits for a second person, and whether one is required (rule 15)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from hornetmail.cli.client import Client
from hornetmail.cli.output import clean, emit, json_option, moment, pairs, said, table
from hornetmail.cli.session import with_client


def tell_waiting(waits: Iterable[Any]) -> None:
    """One line for each request that an answer names."""
    for one in waits:
        click.echo(f"waits for a second person, request {one['number']}: {clean(one['text'])}")


@click.group()
def approvals() -> None:
    """What waits for a second person. Approving needs a person: hornetmail --as ADDRESS approvals approve NUMBER."""


@approvals.command("list")
@click.option("--all", "every", is_flag=True, help="The newest hundred, decided ones too.")
@json_option
@with_client
def approvals_list(client: Client, every: bool, as_json: bool) -> None:
    """Requests with their numbers."""
    answer = client.call("GET", "approvals", all=every)
    if as_json:
        emit(answer)
        return
    rows = [
        (one["number"], one["state"], moment(one["asked"]), one["by"], one["text"], moment(one["expires"]))
        for one in answer["requests"]
    ]
    table(("Number", "State", "Asked", "By", "What", "Expires"), rows)


@approvals.command("approve")
@click.argument("number", type=int)
@json_option
@with_client
def approvals_approve(client: Client, number: int, as_json: bool) -> None:
    """Have it done now; not by who asked or gains by it."""
    answer = client.call("POST", "approvals", str(number), "approve")
    if as_json:
        emit(answer)
    else:
        click.echo(f"done: {clean(answer['text'])}")


@approvals.command("refuse")
@click.argument("number", type=int)
@click.option("--reason", default="", help="For who asked.")
@json_option
@with_client
def approvals_refuse(client: Client, number: int, reason: str, as_json: bool) -> None:
    """End it undone; who asked withdraws it so."""
    answer = client.call("POST", "approvals", str(number), "refuse", reason=reason)
    if as_json:
        emit(answer)
    else:
        click.echo(f"{answer['state']}: {clean(answer['text'])}")


@approvals.command("ask")
@click.argument("address")
@json_option
@with_client
def approvals_ask(client: Client, address: str, as_json: bool) -> None:
    """Ask again that the archive be opened to somebody: the first request expired, or was refused."""
    answer = client.call("POST", "approvals", "archive", address=address)
    if as_json:
        emit(answer)
    elif answer["waits"]:
        tell_waiting(answer["waits"])
    else:
        click.echo(f"the archive is open to {clean(address)} again")


@click.command("second-person")
@click.argument("wanted", type=click.Choice(["show", "on", "off"]), default="show")
@click.option("--days", type=int, metavar="DAYS", help="How long a request waits (7).")
@click.option("--tenant", type=int, default=0, metavar="NUMBER", help="For the local administrator: whose setting.")
@json_option
@with_client
def second_person(client: Client, wanted: str, days: int | None, tenant: int, as_json: bool) -> None:
    """Whether granting roles and the like needs a second person; turning it off needs one too."""
    if wanted == "show" and days is None:
        answer = client.call("GET", "second-person", tenant=tenant)
    else:
        on = {"on": True, "off": False}.get(wanted)
        answer = client.call("PATCH", "second-person", on=on, days=days, tenant=tenant)
    if as_json:
        emit(answer)
        return
    approvers = " ".join(answer["approvers"]) or "nobody"
    pairs([("required", said(answer["on"])), ("requests wait", f"{answer['days']} days"), ("could approve", approvers)])
    tell_waiting(answer["waits"])
