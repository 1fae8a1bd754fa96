"""Asking operations: one, several, or all; waiting for what was asked; every answer told, and one exit code.

Each operation is asked for itself, and each answer is told; one that is refused or unknown keeps no other from being
asked. The answer in JSON, one object for one id, an array for several or `--all`; `state` is null where there is no
such operation:

    {"operation_id": "20261122-101502-tally-k7f3q2", "success": true, "changed": true, "state": "paused", ...}
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import click

from tapfs.bus import verbs
from tapfs.bus.control import Control
from tapfs.bus.operation import POLL_S, Operation
from tapfs.bus.states import FINAL, State
from tapfs.bus.verbs import Answer
from tapfs.cli.answers import Reply, exit_code_of, print_replies
from tapfs.cli.controls import NO_WORKER_HINT, is_supervised, open_control, shown_path
from tapfs.cli.printing import say
from tapfs.errors import OperationUnknown, Refused, TapfsError, text_of

#: Seconds between two looks at the files by whoever waits, in case no worker is left to look.
_RECONCILE_S = 1.0

Verb = Callable[[Operation, str | None], Answer]


@dataclass(frozen=True)
class Asking:
    """What is asked.

    Attributes:
        name: the verb.
        call: asks one operation, with the reason.
        reached: the states in which what it asks is so.
        needs_worker: whether somebody must run for it to have its effect.
        of_all: the states that `--all` means; None for all that have not ended.
    """

    name: str
    call: Verb
    reached: frozenset[State]
    needs_worker: bool = False
    of_all: frozenset[State] | None = None

    @property
    def all_named(self) -> str:
        """What `--all` means, in words."""
        return "active" if self.of_all is None else " or ".join(sorted(self.of_all))

    def all_ids(self, control: Control) -> Iterable[str]:
        """The ids that `--all` may mean, the newest first."""
        return reversed(control.active_ids() if self.of_all is None else control.ids())

    def is_meant(self, state: State) -> bool:
        """Say whether `--all` means an operation in that state."""
        return state not in FINAL if self.of_all is None else state in self.of_all


@dataclass(frozen=True)
class Waiting:
    """How to wait for what was asked.

    Attributes:
        timeout_s: give up after so many seconds; None for never.
        force_after_s: a step that has come to no tap after so many seconds loses its process; None for never.
    """

    timeout_s: float | None = None
    force_after_s: float | None = None


def ask_each(
    ctx: click.Context,
    asking: Asking,
    parts: tuple[str, ...],
    reason: str | None,
    *,
    is_all: bool = False,
    waiting: Waiting | None = None,
    is_json: bool = False,
) -> None:
    """Ask each operation, wait for all if asked to, print all answers, and exit.

    Raises:
        UsageError: neither ids nor `--all` were given, or both.
    """
    if not parts and not is_all:
        raise click.UsageError(
            f"which operations? name them by their ids, or all {asking.all_named} ones by --all", ctx
        )
    if parts and is_all:
        raise click.UsageError(f"--all are all {asking.all_named} operations: leave out the ids, or --all", ctx)
    verbs.check_reason(reason)
    control = open_control()
    replies = [_ask(control, part, asking, reason, is_all=is_all) for part in parts or asking.all_ids(control)]
    told = [reply for reply in replies if reply is not None]
    if waiting is not None:
        for hint in dict.fromkeys(reply.hint for reply in told if reply.hint and reply.answer.success):
            click.echo(f"hint: {hint}", err=True)  # before the wait, which may be in vain
        deadline = None if waiting.timeout_s is None else time.monotonic() + waiting.timeout_s
        told = [_waited(control, reply, asking.reached, deadline, waiting.force_after_s) for reply in told]
    if is_all and not told and not is_json:
        say(f"no {asking.all_named} operations in '{shown_path(control.path)}'")
    print_replies(told, is_json=is_json, is_array=is_all or len(parts) > 1)
    ctx.exit(exit_code_of(told))


def _ask(control: Control, part: str, asking: Asking, reason: str | None, *, is_all: bool) -> Reply | None:
    """Ask one operation; None for one that `--all` does not mean, or that is not there any more."""
    operation = None
    try:
        operation = control.operation(part) if is_all else control.find(part)
        if is_all and not asking.is_meant(operation.state):
            return None
        answer = asking.call(operation, reason)
    except OperationUnknown as error:
        return None if is_all else Reply(Answer(part, False, False, None, text_of(error)), error.hint)
    except (TapfsError, OSError) as error:
        name, state = (part, None) if operation is None else (operation.id, _state_of(operation))
        if isinstance(error, TapfsError):
            return Reply(Answer(name, False, False, state, text_of(error)), error.hint)
        text = f"cannot {asking.name} operation '{name}': {text_of(error)}"
        return Reply(Answer(name, False, False, state, text), "see to that, and ask again: asking twice does no harm")
    except Exception as error:  # a fault of tapfs's own must not keep the others from being asked
        text = f"cannot {asking.name} operation '{part}': {type(error).__name__}: {error}"
        return Reply(Answer(part, False, False, None, text), "'tapfs verify' may say more; this is a fault of tapfs")
    goes_on = asking.needs_worker and answer.success and answer.state not in (State.PAUSED, *FINAL)
    if goes_on and not is_supervised(control):
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
