"""`tapfs start`: make an operation and publish its first step."""

from __future__ import annotations

import time
from collections.abc import Callable

import click

from tapfs.bus import claims
from tapfs.bus.operation import POLL_S, Operation
from tapfs.bus.publication import Publication
from tapfs.bus.records import Claim
from tapfs.bus.verbs import Answer
from tapfs.cli.apps import BrokerUnusable, check_broker, open_bus
from tapfs.cli.controls import NO_WORKER_HINT, is_supervised
from tapfs.cli.options import json_option, reason_option
from tapfs.cli.printing import print_json, say
from tapfs.errors import PublishFailed
from tapfs.flow.bus import Bus

#: Seconds in which a step that another process published is expected to be taken, or to be in trouble.
_PATIENCE_S = 0.5


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
    start_by(
        lambda bus: bus.start_parsed(name, list(words), is_paused=is_paused, reason=reason),
        is_json=is_json,
        started="started, held" if is_paused else "started",
        is_paused=is_paused,
    )


def start_by(make: Callable[[Bus], Operation], *, is_json: bool, started: str, is_paused: bool = False) -> None:
    """Start an operation by the app's bus, print its id, and say what keeps it from running.

    Args:
        make: starts it.
        is_json: whether the answer is printed in place of the id.
        started: what the answer says when all is well.
        is_paused: whether it was started held, so that nobody needs to run.
    """
    bus = open_bus()
    rings = _Rings(bus)
    operation = make(bus)
    trouble = trouble_of(operation) if rings.count else _trouble_of_another(operation, rings)
    hint = "a worker or supervisor ('tapfs up') publishes it by itself, as soon as the broker takes it"
    if trouble:
        trouble, hint = _explained(bus, trouble, hint)
    if is_json:
        message = f"not published yet: {trouble}" if trouble else started
        print_json(Answer(operation.id, True, True, operation.state.value, message).document())
    else:
        click.echo(operation.id)
    if trouble:
        say(f"operation '{operation.id}' is kept, but not published yet: {trouble}", hint)
    elif not is_paused and not is_supervised(bus.control):
        click.echo(f"hint: {NO_WORKER_HINT.format(id=operation.id)}", err=True)


class _Rings:
    """The bus's publisher, which counts how often this process used it."""

    def __init__(self, bus: Bus) -> None:
        self.count = 0
        self._publisher = bus.control.publisher
        bus.control.publisher = self

    def __call__(self, publication: Publication) -> None:
        self.count += 1
        if self._publisher is not None:
            self._publisher(publication)


def _trouble_of_another(operation: Operation, rings: _Rings) -> str | None:
    """Why the first message is not out, where a supervisor saw the new operation first and publishes it.

    A claim does not say that its message is out. So when nobody has taken the step in a moment it is published once
    more from here: the one of two messages that comes second is dropped (law 4), and trouble is found where there is.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while waiting := [(out.path, out.claim) for out in claims.all_out(operation.layout) if _is_free(out)]:
        trouble = trouble_of(operation)
        if trouble is not None:
            return trouble
        if time.monotonic() >= deadline:
            return _published_again(operation, rings, *waiting[0])
        time.sleep(POLL_S)
    return None


def _is_free(out: claims.Out) -> bool:
    return out.claim is not None and out.claim.holder is None


def _published_again(operation: Operation, rings: _Rings, path: str, claim: Claim | None) -> str | None:
    if claim is None:
        return None
    step = operation.plan().step(path)
    try:
        rings(
            Publication(
                operation.id, step, claim.epoch, claim.attempt, claim.publishes, claim.retries, claim.not_before
            )
        )
    except PublishFailed as error:
        return str(error)
    return None


def _explained(bus: Bus, trouble: str, hint: str) -> tuple[str, str]:
    """The trouble and its hint in better words, where the broker's URL is to blame."""
    try:
        check_broker(bus.app)
    except BrokerUnusable as error:
        return str(error), f"{error.hint}; {hint}"
    return trouble, hint


def trouble_of(operation: Operation) -> str | None:
    """Why its first message is not out; None when it is."""
    found = (out.claim.trouble for out in claims.all_out(operation.layout) if out.claim is not None)
    return next((trouble for trouble in found if trouble), None)
