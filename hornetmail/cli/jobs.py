"""``jobs``: what is due when, what came of it, and now (A50-A60)."""

from __future__ import annotations

import time
from typing import Any

import click

from hornetmail.cli.client import Client, Failure
from hornetmail.cli.output import clean, emit, json_option, moment, table
from hornetmail.cli.session import with_client

POLL = 0.25
"""Seconds between looks at a job that runs."""


@click.group()
def jobs() -> None:
    """What is done at its time: indexing, backups, retention, statistics."""


@jobs.command("list")
@json_option
@with_client
def jobs_list(client: Client, as_json: bool) -> None:
    """All jobs, their last result, and when they are due next."""
    answer = client.call("GET", "jobs")["jobs"]
    if as_json:
        emit(answer)
        return
    rows = [
        (
            one["name"],
            one["when"] if one["on"] else "off",
            moment(one["last"]) if one["last"] else "never",
            one["result"],
            moment(one["next"]) if one["next"] else "never",
            clean(one["detail"]),
        )
        for one in answer
    ]
    table(("Name", "When", "Last", "Result", "Next", "What"), rows)


def run_job(client: Client, name: str, wait: bool = True) -> Any:
    """Begin it and, with ``wait``, look until it ended. Raises Failure with what it failed of."""
    before = _job(client, name)
    view = client.call("POST", "jobs", name, "run")
    while wait and (view["result"] == "running" or view["last"] == before["last"]):
        time.sleep(POLL)
        view = _job(client, name)
    if wait and view["result"] != "ok":
        raise Failure(f"{name}: {view['result']}: {view['detail']}")
    return view


def _job(client: Client, name: str) -> Any:
    found = {one["name"]: one for one in client.call("GET", "jobs")["jobs"]}
    if name not in found:
        raise Failure(f'there is no job "{name}"; there are {", ".join(sorted(found))}')
    return found[name]


@jobs.command("run")
@click.argument("name")
@click.option("--no-wait", is_flag=True, help="Begin it only.")
@json_option
@with_client
def jobs_run(client: Client, name: str, no_wait: bool, as_json: bool) -> None:
    """Run a job now, and wait until it ended; exit code 1 if it failed."""
    view = run_job(client, name, not no_wait)
    if as_json:
        emit(view)
    else:
        click.echo(f"{name}: {'begun' if no_wait else view['result']}{': ' + clean(view['detail']) if view['detail'] else ''}")


@jobs.command("set")
@click.argument("name")
@click.option("--when", metavar="CRON", help='Minute, hour, day, month, day of week: "12 1 * * 0". Empty: as delivered.')
@click.option("--on/--off", default=None, help="Whether it runs by itself.")
@json_option
@with_client
def jobs_set(client: Client, name: str, when: str | None, on: bool | None, as_json: bool) -> None:
    """Change when a job is due."""
    changes = {key: value for key, value in (("when", when), ("on", on)) if value is not None}
    view = client.call("PATCH", "jobs", name, **changes)
    if as_json:
        emit(view)
    else:
        click.echo(f"{name}: {clean(view['words']) if view['on'] else 'off'}")
