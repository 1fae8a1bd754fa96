"""`tapfs wait`: block until an operation is in a state."""

from __future__ import annotations

import click

from tapfs.bus.operation import WaitedInVain
from tapfs.bus.verbs import Answer
from tapfs.cli.answers import line_of
from tapfs.cli.controls import open_control
from tapfs.cli.exits import FAILED, TIMED_OUT
from tapfs.cli.options import STATE_NAMES, STATES, id_argument, json_option, timeout_option
from tapfs.cli.printing import print_json, say


@click.command("wait")
@id_argument
@click.option(
    "--for",
    "state",
    metavar="STATE",
    type=STATES,
    default="succeeded",
    show_default=True,
    help=f"One of: {STATE_NAMES}.",
)
@timeout_option("Give up after so many seconds; 0 looks once.")
@json_option("Print the answer as JSON.")
@click.pass_context
def wait_verb(ctx: click.Context, part: str, state: str, timeout_s: float | None, is_json: bool) -> None:
    """Wait until an operation is in a state.

    Exit code 0 when it is, 1 when it has ended in another state, 3 when time is up.
    """
    operation = open_control().find(part)
    try:
        operation.wait(state, timeout_s)
    except WaitedInVain as error:
        answer = Answer(operation.id, False, False, error.state, str(error))
        exit_code = TIMED_OUT if error.is_timeout else FAILED
    else:
        answer = Answer(operation.id, True, False, state, state)
        exit_code = 0
    if is_json:
        print_json(answer.document())
    elif answer.success:
        click.echo(line_of(answer))
    else:
        say(answer.message)
    ctx.exit(exit_code)
