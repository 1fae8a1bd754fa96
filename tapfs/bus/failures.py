"""Failures: what `error.json` says, and the order in which a failed step is written down.

A step in a group that goes on without its failed members gives its member up; any other makes the operation fail, once
what else runs has ended. The error first, then the outcome, then the claim: whoever finds the operation after a death
in between finds either a step whose holder is gone, and runs it again, or an outcome with its error.
"""

from __future__ import annotations

from dataclasses import replace

from tapfs.bus import claims, files
from tapfs.bus.clock import timestamp
from tapfs.bus.folder import OperationFolder
from tapfs.bus.plan import CONTINUE, Part, Plan, Step, leaves
from tapfs.bus.records import Claim, Failure
from tapfs.bus.runs import read_run
from tapfs.bus.states import FINAL, State


def failure_of(operation: OperationFolder, step: Step, claim: Claim, kind: str, message: str) -> Failure:
    """Describe a failure that no task raised."""
    holder = claim.held_by
    return Failure(
        type=kind,
        message=message,
        step=step.label,
        attempt=claim.attempt,
        epoch=claim.epoch,
        worker=holder.worker if holder is not None else None,
        failed_at=timestamp(operation.now()),
    )


def write_failure(operation: OperationFolder, path: str, failure: Failure) -> None:
    """Write down that the step at `path` failed for good, and take it in. Under the operation's lock."""
    plan = operation.known_plan()
    member = _member_to_give_up(plan, plan.step(path)) if plan.has(path) else None
    if member is not None:
        give_up(operation, member, failure)
        return
    run = read_run(operation)
    if run.is_failing:
        operation.note("failed", step=path, reason=f"{failure.type}: {failure.message}"[:500], epoch=run.epoch)
    elif run.outcome not in FINAL:
        files.replace_own(operation.layout.error, failure.encode())
        others = any(out.is_held and out.path != path for out in claims.all_out(operation.layout))
        failed = replace(run, is_failing=True) if others else replace(run, outcome=State.FAILED.value)
        files.replace(operation.layout.run, failed.encode())
    claims.drop(operation.layout, path)


def give_up(operation: OperationFolder, member: Part, failure: Failure) -> None:
    """Write down that a member of a group is not gone on with. Under the operation's lock.

    What runs of it finds at its next tap that its claim is gone, and nothing it brings is taken.
    """
    layout = operation.layout
    target = layout.given_up(member)
    files.make_dirs(target.parent, layout.folder)
    files.replace(target, failure.encode())
    for step in leaves(member):
        claims.drop(layout, step.path)
    reason = f"{failure.type}: {failure.message}"[:500]
    operation.note("given_up", member=member.path, step=failure.step, reason=reason, epoch=failure.epoch)


def _member_to_give_up(plan: Plan, step: Step) -> Part | None:
    """The innermost member around a step whose group goes on without it."""
    return next((member for group, member in plan.members_around(step) if group.on_error == CONTINUE), None)
