"""``archive`` and ``audit``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from hornetmail.cli.archive.backups import backup, mirror, restore
from hornetmail.cli.archive.exporting import FORMATS, export_all
from hornetmail.cli.archive.media import medium
from hornetmail.cli.archive.retention import hold, retention
from hornetmail.cli.client import Client, Failure
from hornetmail.cli.output import clean, count, emit, json_option, moment, size, table
from hornetmail.cli.session import Session, offline, password_from, with_client


@click.group()
def archive() -> None:
    """Old mail."""


for command in (medium, backup, mirror, restore, retention, hold):
    archive.add_command(command)


@archive.command("search")
@click.argument("query", nargs=-1)
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@click.option("--own", is_flag=True, help="Only the own mail.")
@json_option
@with_client
def search(client: Client, query: tuple[str, ...], limit: int, own: bool, as_json: bool) -> None:
    """Newest first: words, "phrases", OR, -not, from: to: subject: attachment: date:last-month has:attachment size>1M … (docs/search.rst)."""
    answer = client.call("GET", "archive", query=" ".join(query), limit=limit, own=own)
    if as_json:
        emit(answer)
        return
    rows = [
        (one["id"], moment(one["date"]), one["from"], " ".join(one["to"]), size(one["size"]), one["subject"])
        for one in answer["results"]
    ]
    table(("ID", "Date", "From", "To", "Size", "Subject"), rows)
    click.echo(f"{len(rows)} of {'' if answer['exact'] else 'more than '}{answer['total']}")
    if answer["closed"]:
        also = " by subject," if "subject" not in answer["closed"] else ""
        click.echo(
            f"Words were not looked for in what mail and its files say: administrators find mail by people,{also} date, size and ID. Its owner or an auditor searches all of it: --as ADDRESS"
        )


@archive.command("export")
@click.argument("id", required=False)
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="The same as FILE.")
@click.option(
    "--evidence", is_flag=True, help="A zip that proves the mail, its envelope and its time; verify-evidence checks it."
)
@click.option(
    "--all", "directory", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="All that you may open, into DIR."
)
@click.option("--format", "form", type=click.Choice(FORMATS), default="eml", show_default=True, help="With --all.")
@with_client
def export(
    client: Client, id: str | None, file: Path | None, output: Path | None, evidence: bool, directory: Path | None, form: str
) -> None:
    """The raw message, byte for byte as received, into a new FILE or to standard output; or what proves it. Or, with --all, everything that you may
    open, with a manifest; cut off, the same command goes on."""
    file = file or output
    if directory is not None:
        if id is not None or file is not None or evidence:
            raise click.UsageError("--all goes without an ID, a file and --evidence")
        total, added = export_all(client, directory, form, click.echo)
        click.echo(f"{count(total, 'mail')} in {clean(str(directory))}, {added} of them new")
        return
    if id is None:
        raise click.UsageError("an ID, or --all DIR")
    if file is not None:
        _names(str(file), 1)
    data = client.raw("GET", "archive", id, "evidence" if evidence else "raw")
    if file is not None:
        _write_new(file, data)
        return
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@archive.command("redeliver")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option(
    "--to",
    default="",
    metavar="ADDRESS",
    help="To whom; without, users get it themselves, and administrators send it to its owners.",
)
@click.option(
    "--as-attachment",
    is_flag=True,
    help="Inside a new message with a Message-ID of its own: some servers drop one that they have seen.",
)
@json_option
@with_client
def redeliver(client: Client, ids: tuple[str, ...], to: str, as_attachment: bool, as_json: bool) -> None:
    """Deliver old mail again, to whichever server is active now."""
    answer = client.call("POST", "archive", "redeliver", ids=list(ids), to=to, as_attachment=as_attachment)
    if as_json:
        emit(answer)
    else:
        click.echo(f"{len(answer['messages'])} on the way to {clean(', '.join(answer['to']))}")
    if answer["unfit"]:
        raise Failure("; ".join(f"mail {one['id']} cannot travel as an attachment: {one['why']}" for one in answer["unfit"]))


@archive.command("verify")
@click.option("--full", is_flag=True, help="Everything, not only what is new and a sample.")
@click.option("--repair", is_flag=True, help="First put back from the mirror what is missing or (with --full) damaged.")
@json_option
@with_client
def verify(client: Client, full: bool, repair: bool, as_json: bool) -> None:
    """Check seals, order, references and SHA-256; exit code 1 if anything is wrong, after the repair if there was one."""
    answer = client.call("POST", "archive", "verify", full=full, repair=repair)
    for one in [] if as_json else answer["repaired"]:
        click.echo(f"{clean(one['where'])}: {clean(one['what'])}")
    if as_json:
        emit(answer)
    elif answer["ok"]:
        click.echo("all is well")
    else:
        table(("Where", "What"), [(one["where"], one["what"]) for one in answer["findings"]])
    if not answer["ok"]:
        first, count = answer["findings"][0], len(answer["findings"])
        more = f", and {count - 1} more" if count > 1 else ""
        raise Failure(f"the archive is damaged: {first['where']}: {first['what']}{more}")


@archive.command("confirm-purge")
@with_client
def confirm_purge(client: Client) -> None:
    """Let retention do what it refused: after a rebuild, when much would go at once, or when the clock jumped. Look at the clock first."""
    client.call("POST", "archive", "purge", "confirm")
    click.echo(
        "what is marked goes at 03:40; the next marking (02:30) goes through, and what it marks goes at 03:40 the day after"
    )


@archive.command("rebuild")
@click.option("--passphrase-stdin", is_flag=True, help="Read the passphrase that the key lies under from standard input.")
@json_option
@click.pass_obj
def rebuild(session: Session, passphrase_stdin: bool, as_json: bool) -> None:
    """Build the database anew from media and key alone; the service must not run."""
    from hornetmail.compose.setting_up import setup

    passphrase = password_from(True, "") if passphrase_stdin else ""
    answer = offline(setup.rebuild, session.config(), passphrase)
    unreadable = answer["unreadable"]
    if as_json:
        emit(answer)
    else:
        click.echo(count(answer["mails"], "mail"))
        if unreadable:
            table(("Where", "What"), [(one["where"], one["what"]) for one in unreadable])
    if unreadable:
        raise Failure(f"{len(unreadable)} things could not be read, the first: {unreadable[0]['where']}: {unreadable[0]['what']}")


@archive.command("import")
@click.argument("source")
@click.option("--owner", required=True, metavar="ADDRESS", help="Whose mail it is.")
@json_option
@with_client
def take_in(client: Client, source: str, owner: str, as_json: bool) -> None:
    """Take old mail in from mbox, Maildir or eml."""
    answer = client.call("POST", "archive", "import", source=source, owner=owner)
    if as_json:
        emit(answer)
    else:
        click.echo(_summary(answer))


@archive.command("feed")
@click.argument("kind", type=click.Choice(["domain"]))
@click.argument("name")
@with_client
def feed(client: Client, kind: str, name: str) -> None:
    """Set a feed up."""
    client.call("POST", "archive", "feeds", kind=kind, name=name)


@archive.group()
def key() -> None:
    """The archive key. Key lost is archive lost."""


def _split_options(command: Any) -> Any:
    """``--parts`` and ``--need`` (L12)."""
    command = click.option("--need", type=click.IntRange(1, 20), default=1, help="So many parts restore the key.")(command)
    return click.option(
        "--parts", type=click.IntRange(1, 20), default=1, help="Papers for so many holders; FILE-1.txt, FILE-2.txt, …"
    )(command)


@key.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@_split_options
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@with_client
def key_backup(client: Client, file: str, parts: int, need: int, password_stdin: bool) -> None:
    """Write the key as text to print, encrypted under a password, to a new FILE, or - for standard output.

    A FILE that ends in .html becomes a page that prints well, with a QR code, a sheet for each part.
    """
    names = _names(file, parts)
    password = password_from(password_stdin, "Password for the backup, needed to import it")
    made = client.call("POST", "archive", "key", "backup", password=password, parts=parts, need=need)
    _write_papers(names, made)
    if file != "-":
        click.echo(f"{', '.join(names)} written: {_kept_apart(parts)}")


@key.command("new")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@_split_options
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@with_client
def key_new(client: Client, file: str, parts: int, need: int, password_stdin: bool) -> None:
    """Make a new key and write its paper to a new FILE, or - for standard output. Nothing uses it before 'archive key confirm'."""
    names = _names(file, parts)
    password = password_from(password_stdin, "Password for the new key's paper, needed to confirm and to import it")
    made = client.call("POST", "archive", "key", "new", password=password, parts=parts, need=need)
    try:
        _write_papers(names, made)
    except Failure:
        client.call("POST", "archive", "key", "cancel")
        raise
    if file == "-":
        return
    listed = " ".join(map(clean, names))
    click.echo(
        f"{listed} written: print {'them' if parts > 1 else 'it'}, then confirm that {'they' if parts > 1 else 'it'} can be read: archive key confirm {' '.join(names[:need])}"
    )
    click.echo("The new key is pending; the present one stays in force.")


@key.command("confirm")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--password-stdin", is_flag=True, help="Read the paper's password from standard input.")
@json_option
@with_client
def key_confirm(client: Client, files: tuple[str, ...], password_stdin: bool, as_json: bool) -> None:
    """Put the pending key in force: FILES hold its paper or enough of its parts, as written or typed in again, or - for standard input."""
    text = _paper(files)
    answer = client.call("POST", "archive", "key", "confirm", text=text, password=_paper_password(password_stdin))
    if as_json:
        emit(answer)
    else:
        click.echo(f"key {answer['key']['id']} is in force")
        click.echo(clean(answer["notice"]))


@key.command("passphrase")
@click.option("--password-stdin", is_flag=True, help="Read the new passphrase from standard input.")
@with_client
def key_passphrase(client: Client, password_stdin: bool) -> None:
    """Choose another passphrase, where the configuration says that the key lies under one."""
    client.call("POST", "archive", "key", "passphrase", passphrase=password_from(password_stdin, "New passphrase"))
    click.echo("the new passphrase is in force")


@archive.command("unlock")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--password-stdin", is_flag=True, help="Read the passphrase, or the paper's password, from standard input.")
@with_client
def unlock(client: Client, files: tuple[str, ...], password_stdin: bool) -> None:
    """Unlock the archive: by the passphrase that its key lies under, or by FILES, its paper or enough of its parts."""
    if files:
        client.call("POST", "archive", "key", "unlock", text=_paper(files), password=_paper_password(password_stdin))
    else:
        typed = password_from(True, "") if password_stdin else str(click.prompt("Passphrase", hide_input=True, err=True))
        client.call("POST", "archive", "key", "unlock", passphrase=typed)
    click.echo("the archive is unlocked")


@key.command("cancel")
@with_client
def key_cancel(client: Client) -> None:
    """Drop the pending key; the present one stays in force."""
    client.call("POST", "archive", "key", "cancel")
    click.echo("the pending key is dropped; its paper opens nothing")


@key.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--password-stdin", is_flag=True, help="Read the backup's password from standard input.")
@click.pass_obj
def key_import(session: Session, files: tuple[str, ...], password_stdin: bool) -> None:
    """Take the key from a backup, or from enough of its parts; the service must not run."""
    from hornetmail.compose.setting_up import setup

    config = session.config()
    text = _paper(files)
    offline(setup.import_key, config, text, _paper_password(password_stdin))
    click.echo("the key is imported")


@click.command()
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@json_option
@with_client
def audit(client: Client, limit: int, as_json: bool) -> None:
    """Who did what, newest first."""
    answer = client.call("GET", "audit", limit=limit)
    if as_json:
        emit(answer)
        return
    rows = [
        (one["number"], moment(one["at"]), one["actor"], one["action"], one["subject"], one["result"] or "cut short")
        for one in answer["entries"]
    ]
    table(("Number", "At", "Who", "What", "To", "Result"), rows)


def _summary(answer: Any) -> str:
    return ", ".join(f"{name} {value}" for name, value in answer.items()) if isinstance(answer, dict) else ""


def _kept_apart(parts: int) -> str:
    return "print them, and give each to another holder" if parts > 1 else "print it, and keep it where the archive is not"


def _names(file: str, parts: int) -> list[str]:
    """The files for so many papers. Raises Failure: one is there already."""
    path = Path(file)
    alone = parts == 1 or file == "-" or path.suffix == ".html"
    names = [file] if alone else [str(path.with_stem(f"{path.stem}-{number}")) for number in range(1, parts + 1)]
    for name in names:
        if name != "-" and Path(name).exists():
            raise Failure(f"{name}: exists already")
    return names


def _write_papers(names: list[str], made: Any) -> None:
    """What an answer holds, each paper in its file; none stays if one cannot be written."""
    if names == ["-"]:
        click.echo(made["text"], nl=False)
        return
    whole = [made["page"] if names[0].endswith(".html") else made["text"]]
    written: list[str] = []
    try:
        for name, text in zip(names, whole if len(names) == 1 else made["papers"], strict=True):
            _write_new(Path(name), text.encode())
            written.append(name)
    except Failure:
        for name in written:
            Path(name).unlink()
        raise


def _paper(files: tuple[str, ...]) -> str:
    texts = []
    for file in files:
        with click.open_file(file, encoding="utf-8", errors="replace") as source:
            texts.append(str(source.read(1 << 16)))
    return "\n".join(texts)


def _paper_password(standard_input: bool) -> str:
    if standard_input:
        return password_from(True, "")
    return str(click.prompt("Password of the paper", hide_input=True, err=True))


def _write_new(path: Path, data: bytes) -> None:
    try:
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        try:
            with file:
                file.write(data)
        except OSError:
            path.unlink(missing_ok=True)  # half of it is of no use, and would be in the way of the next try
            raise
    except OSError as error:
        raise Failure(f"{path}: {error.strerror or error}") from None
