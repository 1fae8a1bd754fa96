"""`tapfs show`: how one operation stands."""

from __future__ import annotations

import re
from pathlib import Path

import click

from tapfs.bus.document import Document, document_of
from tapfs.bus.states import ACTIVE, State
from tapfs.cli import words
from tapfs.cli.controls import NO_WORKER_HINT, is_supervised, open_control, shown_path
from tapfs.cli.insight import Insight, insight_of
from tapfs.cli.options import id_argument, json_option
from tapfs.cli.printing import print_json
from tapfs.cli.tree import tree_of

#: States in which somebody should be at work, or about to be.
_GOES_ON = (*ACTIVE, State.QUEUED, State.INTERRUPTED)
_STOPPING = (State.PAUSING, State.CANCELLING)
#: What `view` says in the message of members that were given up.
_GIVEN_UP = re.compile(r"(; )?given up: [0-9,]+ \([0-9/., ]*\)")


@click.command("show")
@id_argument
@click.option("--steps", "has_steps", is_flag=True, help="Show the steps too, each with its state.")
@json_option("Print the operation's document.")
def show_verb(part: str, has_steps: bool, is_json: bool) -> None:
    """Show how an operation stands."""
    if has_steps and is_json:
        raise click.UsageError("--json is the operation's document, which has no steps: leave out one of the two")
    control = open_control()
    operation = control.find(part)
    document = document_of(operation)
    if is_json:
        print_json(document)
        return
    click.echo(document["id"])
    for name, text in lines_of(document, insight_of(operation)):
        click.echo(f"  {name:<10} {words.plain(text)}")
    if has_steps:
        for line in tree_of(operation):
            click.echo(f"  {words.plain(line)}")
    if document["state"] in _GOES_ON and not is_supervised(control):
        click.echo("hint: " + NO_WORKER_HINT.format(id=document["id"]), err=True)


def lines_of(document: Document, insight: Insight) -> list[tuple[str, str]]:
    """What there is to tell of an operation, each with its name; what is not known is left out."""
    path = Path(document["path"])
    told_already = document["message"] or ""
    told = [
        ("operation", f"{document['operation'] or '?'} {words.words_of(document['arguments'])}".strip()),
        ("forked", insight.forked),
        ("state", _state(document, insight)),
        ("want", _with_reason(document)),
        ("message", _message(document, insight)),
        *(("gate", f"{gate}: {text}") for gate, text in insight.gates if f"gate {gate} " not in told_already),
        ("steps", _steps(document, insight)),
        ("progress", _progress(document)),
        *(("given up", member) for member in insight.given_up),
        ("owner", document["owner"]),
        ("created", _time(document["created_at"])),
        ("started", _time(document["started_at"])),
        ("finished", _time(document["finished_at"])),
        ("ran", _ran(document)),
        ("error", _error(document, path)),
        ("path", shown_path(path)),
    ]
    return [(name, text) for name, text in told if text]


def _state(document: Document, insight: Insight) -> str:
    state = document["state"] or "?"
    if document["state"] in _STOPPING and insight.stopping > 1:
        return f"{state} ({insight.running:,} of {insight.stopping:,} still running)"
    return str(state)


def _with_reason(document: Document) -> str | None:
    reason = f" ({document['reason']})" if document["reason"] else ""
    return f"{document['want']}{reason}" if document["want"] else None


def _message(document: Document, insight: Insight) -> str | None:
    """What a person should read, without the failure and what was given up, which have lines of their own."""
    message: str | None = document["message"]
    error = document["error"]
    if message and insight.given_up:
        message = _GIVEN_UP.sub("", message, count=1).removeprefix("; ")
    if not message or error is None:
        return message or None
    told = f"{error['step']}: {error['type']}: {error['message']}"[:500]  # as `view` writes it
    return message.removeprefix(told).removeprefix("; ") or None


def _steps(document: Document, insight: Insight) -> str | None:
    if document["steps_total"] is None:
        return None
    running = f", {insight.running:,} running" if insight.running > 1 else ""
    now = f", now {document['step']}" if document["step"] else ""
    return f"{document['steps_done']:,} of {document['steps_total']:,} done{running}{now}"


def _progress(document: Document) -> str | None:
    text = words.progress(document["done"], document["total"], document["unit"])
    if text and "/" in (document["step"] or ""):
        return f"{text} in {document['step']}"
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
