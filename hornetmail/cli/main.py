"""The command itself. Exit codes: 0 done, 1 refused or failed (one line on standard error says why), 2 wrong usage."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import click

from hornetmail import config as configuration
from hornetmail.cli.alarms import alarms
from hornetmail.cli.archive.archive import archive, audit
from hornetmail.cli.archive.evidence import verify_evidence
from hornetmail.cli.archive.stamps import authority, certificate, timestamp
from hornetmail.cli.client import Failure
from hornetmail.cli.jobs import jobs
from hornetmail.cli.mail.approvals import approvals, second_person
from hornetmail.cli.mail.domains import domain
from hornetmail.cli.mail.homeward import home
from hornetmail.cli.mail.mailboxes import mailbox
from hornetmail.cli.mail.people import people
from hornetmail.cli.mail.queue import queue
from hornetmail.cli.mail.strays import mailbox_drain, mailbox_strays
from hornetmail.cli.output import emit, json_option
from hornetmail.cli.session import Session, offline
from hornetmail.cli.status import status


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option(
    "-c", "--config", "path", default="hornetmail.toml", show_default=True, metavar="FILE", help="The configuration file."
)
@click.option(
    "--as", "person", default="", metavar="ADDRESS", help="Act as that person; password from HORNETMAIL_PASSWORD or a prompt."
)
@click.version_option(package_name="hornetmail", message="hornetmail %(version)s")
@click.pass_context
def cli(context: click.Context, path: str, person: str) -> None:
    """Administer HornetMail, over the socket of the running service."""
    context.obj = Session(path, person)


@cli.command()
@click.option(
    "--dir",
    "directory",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The data directory: new, or empty.",
)
@click.option("--hostname", help="This host's name in the DNS.")
@click.option("--ports", type=int, metavar="N", help="All doors on loopback, from N on.")
@json_option
def init(directory: Path, hostname: str | None, ports: int | None, as_json: bool) -> None:
    """Make a data directory: configuration, TLS pair, databases, archive key, administrator."""
    if directory.exists() and any(directory.iterdir()):
        raise _WrongUse(f"{directory} is not empty")
    name = hostname or socket.getfqdn()
    try:
        configuration.write_default(directory, name, ports)
    except configuration.ConfigError as error:
        raise _WrongUse(str(error).removeprefix("hornetmail.toml: ")) from None
    from hornetmail.compose.setting_up import setup

    made = offline(setup.init, directory, name, ports)
    if as_json:
        emit(
            {"directory": str(directory), "admin": made.admin, "password": made.password, "key_backup_hint": made.key_backup_hint}
        )
        return
    click.echo(f"{directory} is ready")
    click.echo(f"administrator: {made.admin}")
    click.echo(f"one-time password: {made.password}")
    click.echo(made.key_backup_hint)


class _WrongUse(Failure):
    exit_code = 2


@cli.command("check-config")
@json_option
@click.pass_obj
def check_config(session: Session, as_json: bool) -> None:
    """Check the file, without the service."""
    config = session.config()
    problems = _problems(config)
    if as_json:
        emit({"ok": not problems, "problems": problems})
    if problems:
        raise Failure(f"{session.path}: {'; '.join(problems)}")
    if not as_json:
        click.echo(f"{session.path} is well")


def _problems(config: configuration.Config) -> list[str]:
    """What the file names and the machine does not have."""
    found: list[str] = []
    if not config.root.is_dir():
        found.append(f"$.directory: {config.root} is no directory")
    elif not os.access(config.root, os.W_OK):
        found.append(f"$.directory: {config.root} cannot be written")
    pair = {"certificate": config.path(config.tls.certificate), "key": config.path(config.tls.key)}
    texts: dict[str, bytes] = {}
    for name, path in pair.items():
        try:
            texts[name] = path.read_bytes()
        except OSError as error:
            found.append(f"$.tls.{name}: {path}: {error.strerror or error}")
    if len(texts) == 2 and (problem := _pair_problem(texts["certificate"], texts["key"])):
        found.append(f"$.tls: {problem}")
    seen: dict[str, str] = {}
    for door in configuration.DOORS:
        for endpoint in config.listen.door(door):
            if endpoint in seen:
                found.append(f"$.listen.{door}: {endpoint} is taken by {seen[endpoint]} already")
            seen.setdefault(endpoint, door)
    return found


def _pair_problem(certificate: bytes, key: bytes) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        public = x509.load_pem_x509_certificates(certificate)[0].public_key()
    except ValueError as error:
        return f"the certificate cannot be read: {error}"
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        return f"the key cannot be read: {error}"
    return "" if private.public_key() == public else "the key is not the certificate's"


for command in (timestamp, authority, certificate):
    archive.add_command(command)
for command in (mailbox_strays, mailbox_drain):
    mailbox.add_command(command)
for group in (
    domain,
    home,
    mailbox,
    people,
    queue,
    archive,
    status,
    audit,
    approvals,
    second_person,
    alarms,
    jobs,
    verify_evidence,
):
    cli.add_command(group)


def main() -> None:
    """The entry point."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    cli(prog_name="hornetmail")
