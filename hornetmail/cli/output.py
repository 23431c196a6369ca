"""What the command line prints: JSON for scripts, tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

WHOLE = 40
"""Cells of a table's first column that no terminal is too narrow for."""

NARROW = 8
"""Cells that a folded column keeps."""


def json_option(command: F) -> F:
    """``--json`` on a command that prints, as the argument ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def emit(answer: Any) -> None:
    """JSON on one line, in ASCII so that every locale can print it."""
    click.echo(json.dumps(answer))


def clean(value: Any) -> str:
    """Text for a terminal: what mail brings along must not move its cursor."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Columns, cut nowhere: by rich on a terminal, where the first one, which further commands take, stays in one piece, and the others are folded;
    else plain text with two spaces between."""
    cells = [[clean(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        from rich.cells import cell_len
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        console = Console()
        natural = [max(map(cell_len, column)) for column in zip(headings, *cells, strict=True)]
        shown = Table(box=None, pad_edge=False, header_style="bold")
        for heading, width in zip(headings, fitted(natural, console.width - 2 * (len(headings) - 1)), strict=True):
            shown.add_column(heading, overflow="fold", width=width)
        for row in cells:
            shown.add_row(*(Text(cell) for cell in row))
        console.print(shown)
        return
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    for row in ([heading.upper() for heading in headings], *cells):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def fitted(natural: Sequence[int], room: int) -> list[int]:
    """Widths of columns that fit into ``room``: the widest gives first, the first column nothing up to ``WHOLE``. Wider than ``room`` only if all are as narrow
    as may be."""
    least = [min(natural[0], WHOLE), *(min(width, NARROW) for width in natural[1:])]
    widths = list(natural)
    while sum(widths) > room and widths != least:
        widest = max((width, number) for number, width in enumerate(widths) if width > least[number])[1]
        widths[widest] -= 1
    return widths


def pairs(values: Iterable[tuple[str, Any]]) -> None:
    """A thing with its properties, one a line."""
    shown = [(name, clean(value)) for name, value in values]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{name.ljust(width)}  {value}".rstrip())


def moment(seconds: float) -> str:
    """Local time, or ``-``."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S") if seconds > 0 else "-"


def size(count: float) -> str:
    """Bytes in the largest fitting unit of 1024."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def count(number: int, what: str) -> str:
    """``1 mail``, ``2 mails``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def said(truth: bool | None) -> str:
    """``yes``, ``no`` or ``-``."""
    return "-" if truth is None else "yes" if truth else "no"
