"""`tapfs list`: the operations of the control directory."""

from __future__ import annotations

from collections.abc import Iterator

import click

from tapfs.bus.control import Control
from tapfs.bus.document import Document, document_of
from tapfs.bus.states import FINAL
from tapfs.cli import words
from tapfs.cli.controls import open_control, shown_path
from tapfs.cli.options import STATE_NAMES, STATES, json_option
from tapfs.cli.printing import Column, print_json, print_table, say
from tapfs.errors import OperationUnknown

#: So many are shown unless `--limit` says otherwise.
LIMIT = 50
_COLUMNS = (
    Column("ID"),
    Column("STATE"),
    Column("STEPS", is_right=True),
    Column("PROGRESS", is_right=True, leaves=3),
    Column("RAN", is_right=True, leaves=2),
    Column("OWNER", leaves=1),
    Column("ARGUMENTS", least=10, leaves=4),
    Column("MESSAGE", least=20, leaves=5),
)
_HEADS = tuple(column.head for column in _COLUMNS)


@click.command("list")
@click.option("--state", metavar="STATE", type=STATES, help=f"Only those in this state: {STATE_NAMES}.")
@click.option("--owner", metavar="OWNER", help="Only those of this owner.")
@click.option("--active", "is_active", is_flag=True, help="Only those that have not ended.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), default=LIMIT, show_default=True, help="At most N.")
@json_option("Print a JSON array of the operations' documents.")
def list_verb(state: str | None, owner: str | None, is_active: bool, limit: int, is_json: bool) -> None:
    """List operations, the newest first."""
    control = open_control()
    found: list[Document] = []
    is_more = False
    for document in _documents(control, is_active):
        if (state is None or document["state"] == state) and (owner is None or document["owner"] == owner):
            if len(found) == limit:
                is_more = True
                break
            found.append(document)
    if is_json:
        print_json(found)
    elif found:
        missing = print_table(_COLUMNS, [_row(one) for one in found])
        if missing:
            say(
                f"this terminal has no room for {', '.join(missing)}",
                "'tapfs show ID' tells all",
            )
    else:
        which = "such operations" if state or owner or is_active else "operations"
        say(f"no {which} in '{shown_path(control.path)}'")
    if is_more:
        say(f"these are the newest {limit}; there are more", "--limit N shows more of them")


def _documents(control: Control, is_active: bool) -> Iterator[Document]:
    """The operations' documents, newest first; one that is removed meanwhile is left out."""
    for operation_id in reversed(control.active_ids() if is_active else control.ids()):
        try:
            document = document_of(control.operation(operation_id))
        except OperationUnknown:
            continue
        # The index keeps an operation for a moment after its end.
        if not (is_active and document["state"] in FINAL):
            yield document


def _row(document: Document) -> tuple[str, ...]:
    total = document["steps_total"]
    return (
        document["id"],
        document["state"] or "?",
        "-" if total is None else f"{document['steps_done']}/{total}",
        _progress(document),
        words.duration(document["running_s"]),
        document["owner"] or "-",
        words.shortened(words.words_of(document["arguments"]), 60),
        words.shortened(document["message"] or document["reason"] or "", 100),
    )


def _progress(document: Document) -> str:
    """How far the step at hand has come, shortly: in per cent where a total is known; in a group, how far all have."""
    done, total = document["done"], document["total"]
    if "/" in (document["step"] or ""):  # one of many: what it has done tells nothing
        done, total = document["steps_done"], document["steps_total"]
    if done is not None and total is not None and 0 < total >= done:
        return f"{words.percentage(done, total)} %"
    return words.progress(done, total, document["unit"]) or "-"
