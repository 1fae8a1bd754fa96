"""The verbs that have something done again: `retry` what failed, `rewind` to a step.

Both begin a new run of an operation in which nothing runs. What is done again is put aside first (see `rewind`).
"""

from __future__ import annotations

from dataclasses import replace

from tapfs.bus import files
from tapfs.bus.doorbell import publish
from tapfs.bus.folder import OperationFolder
from tapfs.bus.layout import CANCEL, PAUSE
from tapfs.bus.plan import Part, leaves
from tapfs.bus.reconcile import Settled
from tapfs.bus.rewind import FAILED_IN, given_up_in, reset_parts
from tapfs.bus.runs import read_run
from tapfs.bus.states import FINAL, State, Want
from tapfs.bus.verbs import (
    Answer,
    answer_of,
    check_plan,
    check_reason,
    lift,
    marker_names,
    resume,
    revive,
    settle_wanted,
    settled_state,
)
from tapfs.errors import Refused

_AT_REST = (State.PAUSED, *FINAL)
_MOST_NAMED = 5


def retry(operation: OperationFolder, path: str | None = None, reason: str | None = None) -> Answer:
    """Do again what failed.

    Args:
        operation: one that failed; with a path, one that is paused or has ended.
        path: of a step, a member, or a group: only what was given up there is done again, and what waits for it. A step
            that is done is done again, and what waits for it.
        reason: for the journal.

    Raises:
        Refused: nothing there has failed, or it is not at rest; nothing was changed.
    """
    check_reason(reason)
    with operation.locked():
        state = settled_state(operation)
        if path is None and state is not State.FAILED:
            hint = "name what is to be done again with --step; 'tapfs show' tells what was given up"
            raise Refused(f"cannot retry operation '{operation.id}': it is {state}, not failed", hint=hint)
        _check_rest(operation, state, "retry")
        check_plan(operation, "retry")
        target = None if path is None else _target_of_retry(operation, part_at(operation, path, "retry"))
        if target is not None:
            settled = _go_back(operation, state, target, reason, "retried")
        elif state is not State.FAILED:
            raise Refused(
                f"cannot retry step {path} of operation '{operation.id}': it has not been done yet",
                hint="nothing was changed; 'tapfs resume' goes on from where it is",
            )
    if target is None:  # what failed is what is not done
        return resume(operation, reason)
    return _published(operation, settled, f"{target.removeprefix(FAILED_IN)} is done again", "it goes on")


def rewind(operation: OperationFolder, path: str, reason: str | None = None) -> Answer:
    """Go back: put aside what is done from that place on, and do it again.

    Args:
        operation: one that is paused or has ended.
        path: of a step, a member or a group; it is done again, and everything that waits for it.
        reason: for the journal.

    Raises:
        Refused: it is not at rest, there is no such place, or nothing is done from there on; nothing was changed.
    """
    check_reason(reason)
    with operation.locked():
        state = settled_state(operation)
        _check_rest(operation, state, "rewind")
        check_plan(operation, "rewind")
        part = part_at(operation, path, "rewind")
        plan, layout = operation.plan(), operation.layout
        parts = reset_parts(plan, part)
        has_begun = any(
            files.exists(layout.commit(step)) or files.exists(layout.checkpoint(step))
            for one in parts
            for step in leaves(one)
        )
        if not has_begun and not given_up_in(layout, part):
            raise Refused(
                f"cannot rewind operation '{operation.id}' to {path}: it has not come that far",
                hint="nothing was changed; 'tapfs resume' goes on from where it is",
            )
        settled = _go_back(operation, state, part.path, reason, "rewound")
    return _published(operation, settled, f"rewound to {part.path}", "it goes on from there")


def part_at(operation: OperationFolder, path: str, verb: str) -> Part:
    """The part of the plan at a path, or the step with that label or name; raises `Refused`, naming some there are."""
    plan = operation.plan()
    if plan.has_part(path):
        return plan.part(path)
    named = [step for step in plan.steps if path in (step.label, step.name)]
    if len(named) == 1:
        return plan.part(named[0].path)
    why = f"{len(named):,} steps are called so" if named else "its plan has no such step"
    there = named or plan.steps
    some = ", ".join(step.label for step in there[:_MOST_NAMED]) + (", ..." if len(there) > _MOST_NAMED else "")
    raise Refused(
        f"cannot {verb} operation '{operation.id}' at '{path}': {why}",
        hint=f"{'name one' if named else 'there are'}: {some}; nothing was changed",
    )


def _target_of_retry(operation: OperationFolder, part: Part) -> str | None:
    """What to rewind to for a retry of a part; None where nothing of it was given up, and it is not done."""
    layout = operation.layout
    if given_up_in(layout, part):
        return FAILED_IN + part.path
    around = (member for _, member in operation.plan().members_around(part))
    member = next((one for one in around if files.exists(layout.given_up(one))), None)
    if member is not None:  # the step that failed is meant, as the error names it
        return FAILED_IN + member.path
    return part.path if all(operation.is_committed(step) for step in leaves(part)) else None


def _check_rest(operation: OperationFolder, state: State, verb: str) -> None:
    if state not in _AT_REST:
        raise Refused(
            f"cannot {verb} operation '{operation.id}': it is {state}", hint="pause it first; nothing was changed"
        )


def _go_back(operation: OperationFolder, state: State, target: str, reason: str | None, event: str) -> Settled:
    """Write down what is to be done again, lift the operation's own holds, and have it go on.

    The note of what is done again comes first of what changes the files: from then on it is done, whoever dies.
    """
    run = read_run(operation)
    operation.join_active()  # first: whoever scans is to finish this where this process dies
    if state in FINAL:
        revive(operation, run, reason, target)
    else:
        files.replace(operation.layout.run, replace(run, rewind_to=target).encode())
    operation.note(event, step=target.removeprefix(FAILED_IN), reason=reason, epoch=run.epoch)
    for marker in (PAUSE, CANCEL):
        lift(operation, marker)
    return settle_wanted(operation, Want.RUN, reason)


def _published(operation: OperationFolder, settled: Settled, done: str, goes_on: str) -> Answer:
    publish(operation, settled.put_out)
    if settled.run.rewind_to is not None:  # something hinders it, which is tried again at each look
        told = answer_of(operation, settled, changed=True, message=settled.run.notice or "it is not rewound yet")
        return replace(told, success=False)
    held = marker_names(operation)
    message = f"{done}; it goes on as soon as {held} is gone" if held else f"{done}; {goes_on}"
    return answer_of(operation, settled, changed=True, message=message)
