"""`tapfs start`: make an operation and publish its first step."""

from __future__ import annotations

import click

from tapfs.bus import claims
from tapfs.bus.operation import Operation
from tapfs.bus.verbs import Answer
from tapfs.cli.apps import open_bus
from tapfs.cli.controls import NO_WORKER_HINT, is_supervised
from tapfs.cli.options import json_option, reason_option
from tapfs.cli.printing import print_json, say


@click.command("start")
@click.argument("name", metavar="OPERATION")
@click.argument("words", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--paused", "is_paused", is_flag=True, help="Start it held; 'tapfs resume' lets it go.")
@reason_option
@json_option("Print the answer as JSON, in place of the id.")
def start_verb(name: str, words: tuple[str, ...], is_paused: bool, reason: str | None, is_json: bool) -> None:
    """Start an operation; prints its id.

    Where the broker cannot be reached the operation is kept, queued, and is published by itself later: stderr says so,
    and the exit code is 0, for it was started.
    """
    bus = open_bus()
    operation = bus.start_parsed(name, list(words), is_paused=is_paused, reason=reason)
    trouble = trouble_of(operation)
    if is_json:
        message = f"not published yet: {trouble}" if trouble else "started, held" if is_paused else "started"
        print_json(Answer(operation.id, True, True, operation.state.value, message).document())
    else:
        click.echo(operation.id)
    if trouble:
        say(
            f"operation '{operation.id}' is kept, but not published yet: {trouble}",
            "a worker or supervisor ('tapfs up') publishes it by itself, as soon as the broker takes it",
        )
    elif not is_paused and not is_supervised(bus.control):
        click.echo(f"hint: {NO_WORKER_HINT.format(id=operation.id)}", err=True)


def trouble_of(operation: Operation) -> str | None:
    """Why its first message is not out; None when it is."""
    found = (out.claim.trouble for out in claims.all_out(operation.layout) if out.claim is not None)
    return next((trouble for trouble in found if trouble), None)
