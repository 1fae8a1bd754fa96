"""Printing: data to stdout, messages to stderr, tables by rich in a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
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

#: Cells between two columns of a table.
_GAP = 2


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        head: its name.
        is_right: whether it is aligned to the right, as numbers are.
        least: to how many cells a terminal may cut its texts; None where a cut text would be of no use.
        leaves: where a terminal has no room for all columns, the one with the lowest goes first; None for never.
    """

    head: str
    is_right: bool = False
    least: int | None = None
    leaves: int | None = None


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


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    """Print a table to stdout.

    In a terminal it is made to fit: columns that may leave do so, texts that may be cut are, with an ellipsis, and
    states are coloured. Where even that is too wide, lines are broken by the terminal, and nothing more is lost.
    Into a file or a pipe go plain columns, nothing is cut, and rich is not imported.

    Args:
        columns: the columns.
        rows: texts, one a column.

    Returns:
        The names of the columns that were left out.
    """
    cells = [[plain(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        return _print_rich(columns, cells)
    heads = [column.head for column in columns]
    widths = [max(map(len, texts)) for texts in zip(heads, *cells, strict=True)]
    for row in [heads, *cells]:
        aligned = (
            cell.rjust(width) if column.is_right else cell.ljust(width)
            for column, cell, width in zip(columns, row, widths, strict=True)
        )
        click.echo("  ".join(aligned).rstrip())
    return []


def fitted(columns: Sequence[Column], widths: Sequence[int], room: int) -> dict[int, int]:
    """Choose which columns are shown, by their place, and how wide each is.

    Args:
        columns: the columns.
        widths: how wide each would be if nothing were cut.
        room: cells in a line.
    """
    needs = {
        place: width if column.least is None else min(width, column.least)
        for place, (column, width) in enumerate(zip(columns, widths, strict=True))
    }

    def spare() -> int:
        return room - sum(needs.values()) - _GAP * (len(needs) - 1)

    leaving = [(column.leaves, place) for place, column in enumerate(columns) if column.leaves is not None]
    for _, place in sorted(leaving):
        if spare() >= 0:
            break
        del needs[place]
    # Who leaves last is needed most, and gets what it wants before the others do.
    for place in sorted(needs, key=lambda place: columns[place].leaves or 0, reverse=True):
        needs[place] += max(0, min(widths[place] - needs[place], spare()))
    return needs


def _print_rich(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> list[str]:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    heads = [column.head for column in columns]
    widths = [max(map(cell_len, texts)) for texts in zip(heads, *cells, strict=True)]
    room = console().width
    shown = fitted(columns, widths, room)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, width in shown.items():
        justify: Literal["left", "right"] = "right" if columns[place].is_right else "left"
        table.add_column(heads[place], justify=justify, no_wrap=True, overflow="ellipsis", width=width)
    for row in cells:
        # Text, not markup: an argument may well be called "[red]".
        table.add_row(*(Text(row[place], style=STATE_COLOURS.get(row[place], "")) for place in shown))
    # As wide as the table, not as the terminal: rich would cut what must not be cut.
    wide = max(room, sum(shown.values()) + _GAP * len(shown))
    Console(file=sys.stdout, highlight=False, width=wide).print(table, soft_wrap=wide > room)
    return [head for place, head in enumerate(heads) if place not in shown]
