"""``archive retention`` and ``archive hold``: how long mail is kept, and what may not go."""

from __future__ import annotations

import datetime
from typing import Any

import click

from hornetmail.cli.client import Client
from hornetmail.cli.output import clean, count, emit, json_option, moment, size, table
from hornetmail.cli.session import with_client

RULES = "WHAT=DAYS, where WHAT is * or some of DOMAIN, in, out, internal, spam and ham, with / between: example.com/in=3650 spam=30 *=365"


def rule_of(text: str) -> dict[str, Any]:
    """One rule as it is typed. Raises click.BadParameter."""
    what, sign, days = text.rpartition("=")
    if not sign or not days.strip().isdigit():
        raise click.BadParameter(f"{text}: write {RULES}")
    rule: dict[str, Any] = {"days": int(days)}
    for word in what.split("/"):
        name, value = _word(word.strip().lower())
        if not name:
            continue
        if name in rule:
            raise click.BadParameter(f"{text}: {word} beside another {name}")
        rule[name] = value
    return rule


def _word(word: str) -> tuple[str, Any]:
    if word in ("*", ""):
        return "", None
    if word in ("in", "out", "internal"):
        return "direction", word
    if word in ("spam", "ham"):
        return "spam", word == "spam"
    return "domain", word


def rule_text(rule: dict[str, Any]) -> str:
    """The same, as it would be typed."""
    mark = {True: "spam", False: "ham", None: ""}[rule["spam"]]
    return "/".join(word for word in (rule["domain"], rule["direction"], mark) if word) or "*"


@click.group()
def retention() -> None:
    """How long mail is kept, by domain, direction and spam mark."""


@retention.command("show")
@json_option
@with_client
def show(client: Client, as_json: bool) -> None:
    """The rules in force, and what is on its way out."""
    answer = client.call("GET", "archive", "retention")
    if as_json:
        emit(answer)
        return
    if answer["rules"]:
        table(("What", "Days"), [(rule_text(rule), rule["days"]) for rule in answer["rules"]])
        click.echo(f"since {moment(answer['at'])}, by {clean(answer['by'])}")
    else:
        click.echo("no rules: mail is kept as its domain says (domain change --retention-days)")
    if answer["walking"]:
        click.echo("the rules are being applied to the mail that is there")
    if answer["marked"]:
        click.echo(f"marked, and going with the next purges: {count(answer['marked'], 'mail')}")
    if answer["waiting"]:
        click.echo(f"{answer['waiting']} packs still hold something that went")
    if answer["gone_by"]:
        click.echo(f"media, backups and mirror are free of all that went by {moment(answer['gone_by'])}")
    for text in answer["waits"]:
        click.echo(f"unless it stays for longer: {clean(text)}")


def _tell(answer: Any) -> None:
    click.echo(
        f"{answer['going']} of {count(answer['mails'], 'mail')} would be marked in the next night ({size(answer['bytes'])})"
    )
    if answer["going"]:
        click.echo(
            f"received {moment(answer['oldest'])} to {moment(answer['newest'])}; for example {', '.join(answer['sample'][:5])}"
        )
    click.echo(
        f"{answer['more']} of them would stay under the rules in force; {answer['held']} more are under a legal hold and stay;"
        f" {answer['spared']} that are due now would stay"
    )


@retention.command("preview", help=f"What rules would remove now; nothing changes. {RULES}")
@click.argument("rules", nargs=-1, metavar="[WHAT=DAYS]...")
@json_option
@with_client
def preview(client: Client, rules: tuple[str, ...], as_json: bool) -> None:
    """Without rules, those in force."""
    wanted = [rule_of(text) for text in rules] or client.call("GET", "archive", "retention")["rules"]
    answer = client.call("POST", "archive", "retention", "preview", rules=wanted)
    if as_json:
        emit(answer)
    else:
        _tell(answer)


@retention.command("set", help=f"Rules in place of those before, for mail that is there and that comes. {RULES}")
@click.argument("rules", nargs=-1, metavar="[WHAT=DAYS]...")
@click.option("--none", is_flag=True, help="No rules: mail is kept as its domain says.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_client
def set_rules(client: Client, rules: tuple[str, ...], none: bool, yes: bool) -> None:
    """What would go is shown first."""
    if bool(rules) == none:
        raise click.UsageError("name rules, or --none")
    wanted = [rule_of(text) for text in rules]
    if not yes:
        answer = client.call("POST", "archive", "retention", "preview", rules=wanted)
        _tell(answer)
        click.confirm("Put these rules in force?", abort=True)
    client.call("PUT", "archive", "retention", rules=wanted)
    click.echo("in force; what is due is marked at 02:30, can be unmarked for a day, and goes at 03:40 after that")


@retention.command("keep")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option(
    "--until",
    required=True,
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="YYYY-MM-DD",
    help="The last day (UTC) on which it must be there.",
)
@click.option("--reason", default="", metavar="TEXT")
@with_client
def keep(client: Client, ids: tuple[str, ...], until: datetime.datetime, reason: str) -> None:
    """Keep mail for longer than the rules say. What must not go at all is for a hold."""
    end = until.replace(tzinfo=datetime.UTC) + datetime.timedelta(days=1)
    done = client.call("POST", "archive", "keep", ids=list(ids), until=end.timestamp(), reason=reason)
    click.echo(f"kept until {moment(end.timestamp())}: {count(done['changed'], 'mail')}")


@click.group()
def hold() -> None:
    """Legal holds: what they hold does not go, whatever rules and requests say."""


@hold.command("add")
@click.argument("name")
@click.option(
    "--query", default="", metavar="QUERY", help="All that matches, now and later. Words in texts need an auditor (--as)."
)
@click.option("--id", "ids", multiple=True, metavar="ID", help="This mail; may be given several times.")
@click.option("--reason", default="", metavar="TEXT")
@with_client
def hold_add(client: Client, name: str, query: str, ids: tuple[str, ...], reason: str) -> None:
    """Hold mail under NAME, a case, say; again to add more."""
    answer = client.call("POST", "archive", "holds", name=name, query=query, ids=list(ids), reason=reason)
    click.echo(f"new in it: {count(answer['mails'], 'mail')}")
    if query and not answer["content"]:
        click.echo(
            "Its query looks among people, dates and sizes, not at what mail says: for that an auditor holds (--as ADDRESS)"
        )


@hold.command("release")
@click.argument("name")
@with_client
def hold_release(client: Client, name: str) -> None:
    """End a hold; what is due goes with the next nights."""
    client.call("POST", "archive", "holds", "release", name=name)


@hold.command("list")
@json_option
@with_client
def hold_list(client: Client, as_json: bool) -> None:
    """All holds, the newest first, released ones too."""
    found = client.call("GET", "archive", "holds")["holds"]
    if as_json:
        emit(found)
        return
    rows = [
        (
            one["name"],
            one["mails"],
            moment(one["at"]),
            one["by"],
            moment(one["released"]),
            one["query"] or "-",
            one["reason"] or "-",
        )
        for one in found
    ]
    table(("Name", "Mails", "Since", "By", "Released", "Query", "Reason"), rows)
