"""`tapfs fork`: start another operation from a step of one."""

from __future__ import annotations

import click

from tapfs import settings
from tapfs.bus.fork import start_fork
from tapfs.bus.operation import Operation
from tapfs.bus.verbs import Answer
from tapfs.cli.controls import NO_WORKER_HINT, is_supervised, open_control
from tapfs.cli.options import id_argument, json_option
from tapfs.cli.printing import print_json


@click.command("fork")
@id_argument
@click.option(
    "--from", "step", metavar="STEP", required=True, help="A step, a member or a group: its path, label or name."
)
@click.argument("words", metavar="[KEY=VALUE]...", nargs=-1)
@json_option("Print the answer as JSON, in place of the id.")
def fork_verb(part: str, step: str, words: tuple[str, ...], is_json: bool) -> None:
    """Start another operation from a step of one.

    It has copies of what was done before that step, and works on from there; the one it is made from stays as it is,
    and may run meanwhile. With KEY=VALUE, other arguments: what is copied must have been done with the same ones.
    Prints the new id.
    """
    control = open_control()
    source = control.find(part)
    if words:  # which means to make the workflow anew, by the app
        from tapfs.cli.verbs.start import start_by

        start_by(lambda bus: bus.fork(source, step, list(words)), is_json=is_json, started=_told(source, step))
        return
    operation = start_fork(control, source, step, None, source.identity().arguments, settings.user_name())
    if is_json:
        print_json(Answer(operation.id, True, True, operation.state.value, _told(source, step)).document())
    else:
        click.echo(operation.id)
    if not is_supervised(control):
        click.echo(f"hint: {NO_WORKER_HINT.format(id=operation.id)}", err=True)


def _told(source: Operation, step: str) -> str:
    return f"started, forked from {source.id} at {step}"
