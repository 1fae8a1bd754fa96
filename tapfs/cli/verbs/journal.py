"""`tapfs journal`: the history of one operation."""

from __future__ import annotations

import click

from tapfs.bus.fields import Json
from tapfs.cli import words
from tapfs.cli.controls import open_control
from tapfs.cli.options import id_argument, json_option
from tapfs.cli.printing import print_json

_TOLD = ("at", "event", "by", "state", "from", "to", "reason")


@click.command("journal")
@id_argument
@json_option("Print a JSON array of the journal's lines.")
def journal_verb(part: str, is_json: bool) -> None:
    """Print an operation's history."""
    operation = open_control().find(part)
    operation.identity()
    entries = list(operation.journal.entries())
    if is_json:
        print_json(entries)
        return
    for entry in entries:
        click.echo(line_of(entry))


def line_of(entry: dict[str, Json]) -> str:
    """A line of the journal for a person: `2026-11-22 10:15:07 UTC  running -> pausing  by file:PAUSE  (lunch)`."""
    event, before, after = entry.get("event"), entry.get("from"), entry.get("to")
    what = f"{before or '-'} -> {after}" if event == "state" else str(event)
    details = [f"{key}={words.compact(value)}" for key, value in entry.items() if key not in _TOLD]
    reason = f"({entry['reason']})" if entry.get("reason") else ""
    at = entry.get("at")
    parts = (words.moment(at if isinstance(at, str) else None), f"{what:<22}", f"by {entry.get('by')}", reason)
    return words.plain("  ".join(part for part in (*parts, *details) if part))
