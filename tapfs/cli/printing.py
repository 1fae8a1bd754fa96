"""Printing: data to stdout, messages to stderr, tables by rich in a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import click

from tapfs.bus.fields import Json
from tapfs.cli.words import plain

if TYPE_CHECKING:
    from rich.console import Console

#: How states are coloured in a terminal.
STATE_COLOURS = {
    "running": "green",
    "succeeded": "green",
    "pausing": "yellow",
    "paused": "yellow",
    "waiting": "yellow",
    "interrupted": "magenta",
    "failed": "red",
    "cancelling": "red",
}


def print_json(value: Json) -> None:
    """Print a JSON document to stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def say(message: str, hint: str | None = None) -> None:
    """Tell a person something, on stderr."""
    click.echo(f"tapfs: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)


def console(*, to_stderr: bool = False) -> Console:
    """A rich console on stdout or stderr as they are now."""
    from rich.console import Console

    return Console(file=sys.stderr if to_stderr else sys.stdout, highlight=False)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, to_right: Sequence[str] = ()) -> None:
    """Print a table to stdout.

    In a terminal rich fits it in and colours the states; what is too long at the end of a row is cut with an ellipsis.
    Into a file or a pipe go plain columns, nothing is cut, and rich is not imported.

    Args:
        heads: the columns' names.
        rows: texts, one a column.
        to_right: columns of numbers.
    """
    cells = [[plain(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(heads, cells, to_right)
        return
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    for row in [heads, *cells]:
        aligned = (
            cell.rjust(width) if head in to_right else cell.ljust(width)
            for head, cell, width in zip(heads, row, widths, strict=True)
        )
        click.echo("  ".join(aligned).rstrip())


def _print_rich(heads: Sequence[str], cells: Sequence[Sequence[str]], to_right: Sequence[str]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, head in enumerate(heads):
        # An id that is cut is of no use, a message that is still is.
        longest = max(len(row[place]) for row in [heads, *cells]) if place < len(heads) - 2 else None
        justify: Literal["left", "right"] = "right" if head in to_right else "left"
        table.add_column(head, justify=justify, no_wrap=True, overflow="ellipsis", min_width=longest)
    for row in cells:
        # Text, not markup: an argument may well be called "[red]".
        table.add_row(*(Text(cell, style=STATE_COLOURS.get(cell, "")) for cell in row))
    console().print(table)
