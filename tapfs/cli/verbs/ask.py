"""`tapfs pause`, `resume`, `cancel`: ask one operation, several, or all that are active."""

from __future__ import annotations

from dataclasses import replace

import click

from tapfs.bus import verbs
from tapfs.bus.force import GRACE_S
from tapfs.bus.members import cancel_member
from tapfs.bus.states import State
from tapfs.cli.asking import Asking, Waiting, ask_each
from tapfs.cli.options import Seconds, all_option, ids_argument, json_option, reason_option, timeout_option, wait_option

_ASKINGS = {
    one.name: one
    for one in (
        Asking("pause", verbs.pause, frozenset({State.PAUSED})),
        Asking("resume", verbs.resume, frozenset({State.RUNNING, State.SUCCEEDED}), needs_worker=True),
        Asking("cancel", verbs.cancel, frozenset({State.CANCELLED})),
    )
}


@click.pass_context
def _verb(
    ctx: click.Context,
    parts: tuple[str, ...],
    is_all: bool,
    reason: str | None,
    is_waiting: bool,
    timeout_s: float | None,
    is_json: bool,
    is_forced: bool = False,
    grace_s: float | None = None,
    step: str | None = None,
) -> None:
    """Ask each operation, wait for all, print all answers."""
    asking = _ASKINGS[ctx.info_name or ""]
    if timeout_s is not None and not is_waiting:
        raise click.UsageError("--timeout needs --wait", ctx)
    if grace_s is not None and not is_forced:
        raise click.UsageError("--grace needs --force", ctx)
    if step is not None:
        if is_all or is_waiting or is_forced:
            raise click.UsageError("--step is one member, given up at once: leave out --all, --wait and --force", ctx)
        asking = replace(asking, call=lambda operation, reason: cancel_member(operation, step, reason))
    force_after_s = (GRACE_S if grace_s is None else grace_s) if is_forced else None
    waiting = Waiting(timeout_s, force_after_s) if is_waiting or is_forced else None
    ask_each(ctx, asking, parts, reason, is_all=is_all, waiting=waiting, is_json=is_json)


_FORCE = (
    click.option(
        "--force",
        "is_forced",
        is_flag=True,
        help="End the processes of steps that come to no tap; what they had not saved is done again on resume.",
    ),
    click.option(
        "--grace",
        "grace_s",
        metavar="SECONDS",
        type=Seconds(),
        help=f"With --force: how long they may take to come to a tap (default {GRACE_S:g}).",
    ),
)
_STEP = click.option(
    "--step", metavar="MEMBER", help="Give up only this member of a group, by its path; the others go on."
)


def _command(name: str, text: str, wait_text: str, *more: object) -> click.Command:
    """Make one of the three commands."""
    command = click.command(name, help=text)(_verb)
    for decorate in (
        ids_argument,
        all_option("All operations that have not ended."),
        reason_option,
        wait_option(wait_text),
        timeout_option("With --wait: give up after so many seconds."),
        *more,
        json_option("Print the answers as JSON."),
    ):
        decorate(command)  # type: ignore[operator]
    return command


pause_verb = _command(
    "pause",
    "Ask operations to stop at their next tap.\n\nExit code 1 when any of them was refused.",
    "Wait until they are paused.",
    *_FORCE,
)
resume_verb = _command(
    "resume",
    "Let operations go on.\n\nLifts an operation's own holds, and says which others still hold it. One that failed or "
    "was cancelled goes on from its first step that is not done.",
    "Wait until they run.",
)
cancel_verb = _command(
    "cancel",
    "Ask operations to stop for good.\n\nExit code 1 when any of them was refused.",
    "Wait until they are cancelled.",
    _STEP,
    *_FORCE,
)
