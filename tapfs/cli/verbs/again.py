"""`tapfs retry`, `rewind`: have something done again."""

from __future__ import annotations

import click

from tapfs.bus import again
from tapfs.bus.states import State
from tapfs.cli.asking import Asking, Waiting, ask_each
from tapfs.cli.options import all_option, ids_argument, json_option, reason_option, timeout_option, wait_option

_RUNS = frozenset({State.RUNNING, State.WAITING, State.SUCCEEDED})

_wait = wait_option("Wait until they run.")
_timeout = timeout_option("With --wait: give up after so many seconds.")
_json = json_option("Print the answers as JSON.")


@click.command("retry")
@ids_argument
@all_option("All operations that have failed.")
@click.option(
    "--step", metavar="STEP", help="Only what was given up there: a member, a group, or the step that failed."
)
@reason_option
@_wait
@_timeout
@_json
@click.pass_context
def retry_verb(
    ctx: click.Context,
    parts: tuple[str, ...],
    is_all: bool,
    step: str | None,
    reason: str | None,
    is_waiting: bool,
    timeout_s: float | None,
    is_json: bool,
) -> None:
    """Do again what failed.

    An operation that failed goes on with the steps that failed. With --step, members of a group that were given up
    are done again, and what waits for them; the operation must be paused or have ended. What was done before, and is
    done again, goes to the attic.
    """
    if is_all and step is not None:
        raise click.UsageError("--step is a place in one workflow: name the operations by their ids", ctx)
    asking = Asking(
        "retry",
        lambda operation, reason: again.retry(operation, step, reason),
        _RUNS,
        needs_worker=True,
        of_all=frozenset({State.FAILED}),
    )
    ask_each(ctx, asking, parts, reason, is_all=is_all, waiting=_waiting(ctx, is_waiting, timeout_s), is_json=is_json)


@click.command("rewind")
@click.argument("parts", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--to", "step", metavar="STEP", required=True, help="A step, a member or a group: its path, label or name."
)
@reason_option
@_wait
@_timeout
@_json
@click.pass_context
def rewind_verb(
    ctx: click.Context,
    parts: tuple[str, ...],
    step: str,
    reason: str | None,
    is_waiting: bool,
    timeout_s: float | None,
    is_json: bool,
) -> None:
    """Go back to a step and go on from there.

    That step is done again, and everything that waits for it; what they had done goes to the attic, and nothing is
    deleted. The operation must be paused or have ended, and goes on at once.
    """
    asking = Asking("rewind", lambda operation, reason: again.rewind(operation, step, reason), _RUNS, needs_worker=True)
    ask_each(ctx, asking, parts, reason, waiting=_waiting(ctx, is_waiting, timeout_s), is_json=is_json)


def _waiting(ctx: click.Context, is_waiting: bool, timeout_s: float | None) -> Waiting | None:
    if timeout_s is not None and not is_waiting:
        raise click.UsageError("--timeout needs --wait", ctx)
    return Waiting(timeout_s) if is_waiting else None
