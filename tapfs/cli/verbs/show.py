"""`tapfs show`: how one operation stands."""

from __future__ import annotations

from pathlib import Path

import click

from tapfs.bus.document import Document, document_of
from tapfs.bus.states import ACTIVE, State
from tapfs.cli import words
from tapfs.cli.controls import NO_WORKER_HINT, is_supervised, open_control, shown_path
from tapfs.cli.options import id_argument, json_option
from tapfs.cli.printing import print_json

#: States in which somebody should be at work, or about to be.
_GOES_ON = (*ACTIVE, State.QUEUED, State.INTERRUPTED)


@click.command("show")
@id_argument
@json_option("Print the operation's document.")
def show_verb(part: str, is_json: bool) -> None:
    """Show how an operation stands."""
    control = open_control()
    document = document_of(control.find(part))
    if is_json:
        print_json(document)
        return
    click.echo(document["id"])
    for name, text in lines_of(document):
        click.echo(f"  {name:<10} {words.plain(text)}")
    if document["state"] in _GOES_ON and not is_supervised(control):
        click.echo("hint: " + NO_WORKER_HINT.format(id=document["id"]), err=True)


def lines_of(document: Document) -> list[tuple[str, str]]:
    """What there is to tell of an operation, each with its name; what is not known is left out."""
    path = Path(document["path"])
    told = [
        ("operation", f"{document['operation'] or '?'} {words.words_of(document['arguments'])}".strip()),
        ("state", document["state"] or "?"),
        ("want", _with_reason(document)),
        ("message", _message(document)),
        ("steps", _steps(document)),
        ("progress", _progress(document)),
        ("owner", document["owner"]),
        ("created", _time(document["created_at"])),
        ("started", _time(document["started_at"])),
        ("finished", _time(document["finished_at"])),
        ("ran", _ran(document)),
        ("error", _error(document, path)),
        ("path", shown_path(path)),
    ]
    return [(name, text) for name, text in told if text]


def _with_reason(document: Document) -> str | None:
    reason = f" ({document['reason']})" if document["reason"] else ""
    return f"{document['want']}{reason}" if document["want"] else None


def _message(document: Document) -> str | None:
    """What a person should read, without the failure, which has a line of its own."""
    message: str | None = document["message"]
    error = document["error"]
    if not message or error is None:
        return message
    told = f"{error['step']}: {error['type']}: {error['message']}"[:500]  # as `view` writes it
    return message.removeprefix(told).removeprefix("; ") or None


def _steps(document: Document) -> str | None:
    if document["steps_total"] is None:
        return None
    now = f", now {document['step']}" if document["step"] else ""
    return f"{document['steps_done']:,} of {document['steps_total']:,} done{now}"


def _progress(document: Document) -> str | None:
    text = words.progress(document["done"], document["total"], document["unit"])
    left = document["eta_s"]
    return f"{text}, {words.duration(left)} to go" if text and left is not None else text


def _ran(document: Document) -> str | None:
    epoch = document["epoch"] or 0
    runs = f", in {epoch} runs" if epoch > 1 else ""
    return f"{words.duration(document['running_s'])}{runs}" if document["running_s"] else None


def _time(timestamp: str | None) -> str | None:
    return None if timestamp is None else words.moment(timestamp)


def _error(document: Document, path: Path) -> str | None:
    error = document["error"]
    if error is None:
        return None
    where = f" in step {error['step']}" if error["step"] else ""
    return f"{error['type']}: {error['message']}{where}; see {shown_path(path / 'error.json')}"
