"""`tapfs pause`, `resume`, `cancel`: ask one operation, several, or all that are active.

Each operation is asked for itself, and each answer is told; one that is refused or unknown keeps no other from being
asked. The answer in JSON, one object for one id, an array for several or `--all`; `state` is null where there is no
such operation:

    {"operation_id": "20261122-101502-tally-k7f3q2", "success": true, "changed": true, "state": "paused", ...}
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import click

from tapfs.bus import verbs
from tapfs.bus.control import Control
from tapfs.bus.force import GRACE_S
from tapfs.bus.operation import POLL_S, Operation
from tapfs.bus.states import FINAL, State
from tapfs.bus.verbs import Answer
from tapfs.cli.answers import Reply, exit_code_of, print_replies
from tapfs.cli.controls import NO_WORKER_HINT, is_supervised, open_control, shown_path
from tapfs.cli.options import Seconds, json_option, reason_option, timeout_option
from tapfs.cli.printing import say
from tapfs.errors import OperationUnknown, Refused, TapfsError, text_of

#: Seconds between two looks at the files by whoever waits, in case no worker is left to look.
_RECONCILE_S = 1.0

Verb = Callable[[Operation, str | None], Answer]


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
) -> None:
    """Ask each operation, wait for all, print all answers."""
    verb, reached = _MEANINGS[ctx.info_name or ""]
    if not parts and not is_all:
        raise click.UsageError("which operations? name them by their ids, or all active ones by --all", ctx)
    if parts and is_all:
        raise click.UsageError("--all are all active operations: leave out the ids, or --all", ctx)
    if timeout_s is not None and not is_waiting:
        raise click.UsageError("--timeout needs --wait", ctx)
    if grace_s is not None and not is_forced:
        raise click.UsageError("--grace needs --force", ctx)
    verbs.check_reason(reason)
    control = open_control()
    replies = [_ask(control, part, verb, reason, is_all=is_all) for part in parts or reversed(control.active_ids())]
    told = [reply for reply in replies if reply is not None]
    if is_waiting or is_forced:
        for hint in dict.fromkeys(reply.hint for reply in told if reply.hint and reply.answer.success):
            click.echo(f"hint: {hint}", err=True)  # before the wait, which may be in vain
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        force_after_s = (GRACE_S if grace_s is None else grace_s) if is_forced else None
        told = [_waited(control, reply, reached, deadline, force_after_s) for reply in told]
    if is_all and not told and not is_json:
        say(f"no active operations in '{shown_path(control.path)}'")
    print_replies(told, is_json=is_json, is_array=is_all or len(parts) > 1)
    ctx.exit(exit_code_of(told))


def _ask(control: Control, part: str, verb: Verb, reason: str | None, *, is_all: bool) -> Reply | None:
    """Ask one operation; None for one of the index that has ended or is not there any more."""
    operation = None
    try:
        operation = control.operation(part) if is_all else control.find(part)
        if is_all and operation.state in FINAL:
            return None
        answer = verb(operation, reason)
    except OperationUnknown as error:
        return None if is_all else Reply(Answer(part, False, False, None, text_of(error)), error.hint)
    except (TapfsError, OSError) as error:
        name, state = (part, None) if operation is None else (operation.id, _state_of(operation))
        if isinstance(error, TapfsError):
            return Reply(Answer(name, False, False, state, text_of(error)), error.hint)
        text = f"cannot {verb.__name__} operation '{name}': {text_of(error)}"
        return Reply(Answer(name, False, False, state, text), "see to that, and ask again: asking twice does no harm")
    except Exception as error:  # a fault of tapfs's own must not keep the others from being asked
        text = f"cannot {verb.__name__} operation '{part}': {type(error).__name__}: {error}"
        return Reply(Answer(part, False, False, None, text), "'tapfs verify' may say more; this is a fault of tapfs")
    needs_worker = verb is verbs.resume and answer.success and answer.state not in (State.PAUSED, *FINAL)
    if needs_worker and not is_supervised(control):
        hint = NO_WORKER_HINT.format(id=answer.operation_id)
        return Reply(replace(answer, message=f"{answer.message} as soon as a worker runs"), hint)
    return Reply(answer)


def _waited(
    control: Control, reply: Reply, reached: frozenset[State], deadline: float | None, force_after_s: float | None
) -> Reply:
    """Wait until what was asked is so; looks at the files too, for the worker may be gone.

    With `force_after_s`, a step that has not come to a tap after so many seconds loses its process.
    """
    answer = reply.answer
    if not answer.success:
        return reply
    operation = control.operation(answer.operation_id)
    reply = replace(reply, hint=None)
    next_look = 0.0
    while True:
        now = time.monotonic()
        if now >= next_look:
            forced = _forced(operation, force_after_s)
            if forced is not None:
                return replace(reply, answer=forced)
            next_look = now + _RECONCILE_S
        state = operation.state
        if state in reached:
            message = answer.message if state == answer.state else f"{state}"
            return replace(reply, answer=replace(answer, state=state.value, message=message))
        if state in FINAL:
            text = f"operation '{operation.id}' has ended first: it is {state}"
            return Reply(replace(answer, success=False, state=state.value, message=text))
        if deadline is not None and now >= deadline:
            text = f"time is up, and operation '{operation.id}' is still {state}; what was asked stands"
            return Reply(replace(answer, success=False, state=state.value, message=text), is_timeout=True)
        time.sleep(POLL_S)


def _forced(operation: Operation, force_after_s: float | None) -> Answer | None:
    """Bring an operation in line; end its steps' processes if it is time to. Returns the answer to that."""
    operation.reconcile()
    if force_after_s is None:
        return None
    try:
        answer = operation.force(force_after_s)
    except Refused:  # it has stopped, or may still come to a tap
        return None
    return answer if answer.changed else None


def _state_of(operation: Operation) -> str | None:
    try:
        return operation.state.value
    except (TapfsError, OSError):
        return None


#: What each verb calls, and the states in which what it asks is so.
_MEANINGS: dict[str, tuple[Verb, frozenset[State]]] = {
    "pause": (verbs.pause, frozenset({State.PAUSED})),
    "resume": (verbs.resume, frozenset({State.RUNNING, State.SUCCEEDED})),
    "cancel": (verbs.cancel, frozenset({State.CANCELLED})),
}


def _command(name: str, text: str, wait_text: str, *, has_force: bool = False) -> click.Command:
    """Make one of the three commands."""
    command = click.command(name, help=text)(_verb)
    force_options = (
        click.option(
            "--force",
            "is_forced",
            is_flag=True,
            help="End the process of a step that comes to no tap; what it had not saved is done again on resume.",
        ),
        click.option(
            "--grace",
            "grace_s",
            metavar="SECONDS",
            type=Seconds(),
            help=f"With --force: how long it may take to come to a tap (default {GRACE_S:g}).",
        ),
    )
    for decorate in (
        click.argument("parts", metavar="[ID]...", nargs=-1),
        click.option("--all", "is_all", is_flag=True, help="All operations that have not ended."),
        reason_option,
        click.option("--wait", "is_waiting", is_flag=True, help=wait_text),
        timeout_option("With --wait: give up after so many seconds."),
        *(force_options if has_force else ()),
        json_option("Print the answers as JSON."),
    ):
        decorate(command)
    return command


pause_verb = _command(
    "pause",
    "Ask operations to stop at their next tap.\n\nExit code 1 when any of them was refused.",
    "Wait until they are paused.",
    has_force=True,
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
    has_force=True,
)
