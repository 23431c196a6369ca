"""``people``: many mailboxes from a file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from hornetmail.cli.client import Client, Failure
from hornetmail.cli.mail.approvals import tell_waiting
from hornetmail.cli.output import clean, emit, json_option
from hornetmail.cli.session import with_client

BATCH = 500
"""People of one call, and of one transaction."""

COLUMNS = ("address", "name", "aliases", "password", "picked", "archive")
_SAID = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@click.group()
def people() -> None:
    """People and their mailboxes, many at a time."""


@people.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Check all of it and register nobody.")
@json_option
@with_client
def people_import(client: Client, file: Path, dry_run: bool, as_json: bool) -> None:
    """Register the mailboxes of a CSV file (UTF-8, commas or semicolons) whose first line names its columns: address, and if wanted name, aliases
    (separated by spaces), password, picked and archive (yes or no). Who is registered already is left alone; who is refused is named with
    the line, and the others are registered all the same. A file that cannot be read to its end registers nobody. Without a password nobody logs in until one is set."""
    total: dict[str, Any] = {"registered": 0, "present": 0, "problems": [], "waits": []}
    rows, total["problems"] = _rows(_text(file), file.name)
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        source = f"{file.name}, lines {batch[0]['line']} to {batch[-1]['line']}"
        answer = client.call("POST", "people", source=source, people=batch, dry_run=dry_run)
        for name in ("registered", "present", "problems", "waits"):
            total[name] += answer[name]
    total["problems"].sort(key=lambda one: one["line"])
    if as_json:
        emit(total)
    else:
        for one in total["problems"]:
            click.echo(f"{file.name}:{one['line']}: {clean(one['text'])}", err=True)
        done = "could be registered" if dry_run else "registered"
        click.echo(f"{total['registered']} {done}, {total['present']} there already, {len(total['problems'])} refused")
        tell_waiting(total["waits"])
    if total["problems"]:
        raise Failure(f"{len(total['problems'])} of {file.name} were refused")


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = file.read_bytes().count(b"\n", 0, error.start) + 1
        raise Failure(f"{file.name}:{line}: not UTF-8: save it as UTF-8, and try again") from None


def _rows(text: str, name: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What to ask for, and what is refused before: what cannot be read, and addresses that came before in the file. Raises Failure: the
    columns are not what they should be."""
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=";" if ";" in head and "," not in head else ",", strict=True)
    columns = [column.strip().lower() for column in next(_lines(reader, name), (1, [""]))[1]]
    unknown = [column for column in columns if column not in COLUMNS]
    if "address" not in columns or unknown or len(set(columns)) < len(columns):
        what = f'"{unknown[0]}" is no column' if unknown else "no column address, or one twice"
        raise Failure(f"{name}:1: {what}: the first line names columns of {', '.join(COLUMNS)}")
    rows: list[dict[str, Any]] = []
    problems: list[dict[str, Any]] = []
    first: dict[str, int] = {}
    for line, cells in _lines(reader, name):
        if not any(cell.strip() for cell in cells):
            continue
        try:
            row = _row(dict(zip(columns, cells, strict=False)), len(cells) - len(columns))
            for address in (row["address"], *row["aliases"]):
                if (before := first.setdefault(address.casefold(), line)) != line:
                    raise ValueError(f'"{address}" is in line {before} already')
        except ValueError as error:
            problems.append({"line": line, "address": cells[columns.index("address")] if cells else "", "text": str(error)})
            continue
        rows.append({"line": line, **row})
    return rows, problems


def _lines(reader: Any, name: str) -> Iterator[tuple[int, list[str]]]:
    """Each row with the number of its first line. Raises Failure."""
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            what = "a quotation mark is opened here and not closed" if "end of data" in str(error) else str(error)
            raise Failure(f"{name}:{line}: {what}; nobody was registered") from None
        if cells is None:
            return
        if reader.line_num > line and any("\n" in cell or "\r" in cell for cell in cells):
            # What looks like one person's name may be all the people up to the next quotation mark.
            what = f"a quotation mark is opened here and closed in line {reader.line_num}"
            raise Failure(f"{name}:{line}: {what}; nobody was registered")
        yield line, cells


def _row(cells: dict[str, str], missing: int) -> dict[str, Any]:
    """As the API takes it. Raises ValueError, which says what is wrong."""
    if missing:
        raise ValueError(f"{abs(missing)} column{'s' if abs(missing) > 1 else ''} too {'few' if missing < 0 else 'many'}")
    row: dict[str, Any] = {"address": cells["address"].strip(), "name": cells.get("name", "").strip()}
    row |= {"aliases": cells.get("aliases", "").split(), "password": cells.get("password", "")}
    for name in ("picked", "archive"):
        said = cells.get(name, "").strip().lower()
        if said and said not in _SAID:
            raise ValueError(f'{name} "{said}" is neither yes nor no')
        row[name] = _SAID.get(said, True)
    return row
