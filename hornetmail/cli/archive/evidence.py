"""``verify-evidence``: needs no configuration, service, database, key or network."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hornetmail.cli.client import Failure
from hornetmail.cli.output import clean, emit, json_option, table

if TYPE_CHECKING:
    from hornetmail.archive.proof.evidence import Arrival


def _told(arrival: Arrival) -> dict[str, Any]:
    said = arrival.statement
    return {
        "received": said.received / 1000 if said else 0,
        "from": clean(said.sender) if said else "",
        "to": [clean(one) for one in said.recipients] if said else [],
        "stamps": [{"at": one.at, "until": one.until, "root": one.root, "anchor": one.anchor} for one in arrival.stamps],
    }


def _say(arrival: Arrival) -> None:
    from hornetmail.archive.proof.evidence import moment

    said = arrival.statement
    assert said is not None
    click.echo(f"received   {moment(said.received / 1000)}, {clean(said.direction)}, feed {clean(said.feed)}")
    click.echo(f"from       <{clean(said.sender)}>{f', logged in as {clean(said.login)}' if said.login else ''}")
    for recipient in said.recipients:
        click.echo(f"to         <{clean(recipient)}>")
    for one in arrival.stamps:
        click.echo(f"stamped    {moment(one.at)} by {clean(one.signer)}, good by itself until {moment(one.until)}")
        click.echo(f"root       {clean(one.root)}, SHA-256 {one.anchor}")
    if not arrival.stamps:
        click.echo("stamped    not yet: of this arrival no time is proved")


@click.command("verify-evidence")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file with the root certificates that you trust.",
)
@json_option
def verify_evidence(file: Path, ca: Path | None, as_json: bool) -> None:
    """Check an evidence bundle offline. Exit code 0: all of it holds, and a time is proved."""
    from hornetmail.archive.proof.evidence import verify_bundle
    from hornetmail.archive.proof.tokens import read_certificates

    trusted = []
    if ca is not None:
        try:
            trusted = read_certificates(ca.read_text("utf-8", "replace"))
        except ValueError as error:
            raise Failure(f"{ca}: no certificates: {error}") from None
    try:
        verdict = verify_bundle(file.read_bytes(), trusted)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror or error}") from None
    said = verdict.statement
    again = [_told(one) for one in verdict.further]
    if as_json:
        emit(
            {
                "proved": verdict.proved,
                "readme": verdict.readme,
                "flaws": [{"where": one.where, "what": one.what} for one in verdict.flaws],
                "sha256": said.sha256.hex() if said else "",
                **_told(verdict.first),
                "further": again,
            }
        )
    elif verdict.flaws:
        table(("Where", "What"), [(one.where, one.what) for one in verdict.flaws])
    elif said is not None:
        click.echo(f"mail       SHA-256 {said.sha256.hex()}")
        for arrival in (verdict.first, *verdict.further):
            if arrival is not verdict.first:
                click.echo("again      the same bytes")
            _say(arrival)
        if verdict.stamps and not trusted:
            click.echo("Compare the root's SHA-256 with the one that its authority publishes, or name it with --ca.")
        if verdict.stamps and verdict.stamps[-1].until < time.time():
            click.echo(
                "The last stamp's certificate or algorithm has ended since: it counts as far as its key was safe until now."
            )
    if verdict.flaws:
        raise Failure(f"{file}: {verdict.flaws[0].where}: {verdict.flaws[0].what}")
    if not verdict.stamps:
        raise Failure(f"{file}: it holds together, and is not stamped: it proves no time")
    if not as_json and not verdict.readme:
        click.echo(
            "README.txt is not what this program writes of it, and no stamp is over it: it proves nothing. All else holds."
        )
    elif not as_json:
        click.echo("All of it holds.")
