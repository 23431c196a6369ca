"""``alarms``: what is wrong, who has seen it, and how administrators are told."""

from __future__ import annotations

import click

from hornetmail.cli.client import Client
from hornetmail.cli.output import clean, emit, json_option, moment, pairs, said, table
from hornetmail.cli.session import password_from, with_client


@click.group()
def alarms() -> None:
    """What is wrong. An alarm ends when its cause does."""


@alarms.command("list")
@click.option("--over", is_flag=True, help="Those that ended instead, the newest first.")
@json_option
@with_client
def alarms_list(client: Client, over: bool, as_json: bool) -> None:
    """Open alarms, those that nobody has acknowledged first."""
    found = client.call("GET", "alarms", over=over)["alarms"]
    if as_json:
        emit(found)
        return
    rows = [
        (
            one["id"],
            one["code"],
            one["subject"] or "-",
            moment(one["since"]),
            moment(one["ended"]) if over else one["acknowledged_by"] or "nobody",
            one["count"],
            f"{one['text']} ({one['why']})" if over else one["text"],
        )
        for one in found
    ]
    table(("ID", "Code", "Subject", "Since", "Ended" if over else "Seen by", "Times", "What"), rows)


@alarms.command("acknowledge")
@click.argument("ids", nargs=-1, metavar="[ID]…")
@click.option("--all", "everything", is_flag=True, help="All that are open.")
@json_option
@with_client
def alarms_acknowledge(client: Client, ids: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Say that you have seen them: no more reminders. What only happened once ends."""
    if bool(ids) is everything:
        raise click.UsageError("Name alarms by their IDs from alarms list, or say --all.")
    answer = client.call("POST", "alarms", "acknowledge", ids=list(ids), all=everything)
    if as_json:
        emit(answer)
    else:
        click.echo(f"{answer['changed']} acknowledged")


@alarms.command("settings")
@click.option("--webhook", metavar="URL", help="Post alarms there, https only; empty: nowhere.")
@click.option("--secret-stdin", is_flag=True, help="Read the secret that signs posts from standard input; an empty line: none.")
@click.option("--repeat-hours", type=float, metavar="HOURS", help="Between reminders while an alarm lasts (4).")
@json_option
@with_client
def alarms_settings(client: Client, webhook: str | None, secret_stdin: bool, repeat_hours: float | None, as_json: bool) -> None:
    """Show, or set, how administrators are told."""
    secret = password_from(True, "") if secret_stdin else None
    if webhook is None and secret is None and repeat_hours is None:
        answer = client.call("GET", "alarms", "settings")
    else:
        answer = client.call("PATCH", "alarms", "settings", webhook=webhook, secret=secret, repeat_hours=repeat_hours)
    if as_json:
        emit(answer)
        return
    pairs(
        [
            ("webhook", answer["webhook"] or "-"),
            ("signed", said(answer["secret_set"])),
            ("reminders", f"every {answer['repeat_hours']:g} hours"),
            ("mail to", " ".join(answer["addresses"]) or "nobody"),
            ("kept for emergencies", " ".join(answer["second"]) or "-"),
        ]
    )
    if answer["alone"]:
        click.echo(
            "Nobody outside is told: give an administrator a second address (mailbox change --second), or set a webhook.",
            err=True,
        )


@alarms.command("test")
@with_client
def alarms_test(client: Client) -> None:
    """Raise an alarm that says it is a test, and see who hears of it."""
    client.call("POST", "alarms", "test")
    click.echo(clean("raised; it ends when it is acknowledged"))
