"""Cancelling one member of a group by its path, while the others go on."""

from __future__ import annotations

from tapfs.bus import files
from tapfs.bus.again import part_at
from tapfs.bus.clock import timestamp
from tapfs.bus.doorbell import publish
from tapfs.bus.failures import give_up
from tapfs.bus.folder import OperationFolder
from tapfs.bus.plan import Group, leaves
from tapfs.bus.reconcile import settle
from tapfs.bus.records import Failure
from tapfs.bus.runs import read_run
from tapfs.bus.states import FINAL, State
from tapfs.bus.verbs import Answer, answer_of, check_reason, refused, settled_state
from tapfs.errors import Refused

#: The type of the error that stands in the place of a member that was cancelled.
CANCELLED = "Cancelled"


def cancel_member(operation: OperationFolder, path: str, reason: str | None = None) -> Answer:
    """Give up one member of a group: what runs of it stops at its next tap, and the group goes on without it.

    Args:
        operation: one that has not ended.
        path: the member's.
        reason: for the journal, and for the place of the member among the results.

    Raises:
        Refused: the operation has ended, or there is no such member; nothing was changed.
    """
    check_reason(reason)
    with operation.locked():
        state = settled_state(operation)
        if state in FINAL or state is State.CANCELLING:
            raise refused(operation, state, f"cancel member {path} of", "finished operations do not change")
        if read_run(operation).is_failing:
            raise Refused(
                f"cannot cancel member {path} of operation '{operation.id}': a step has failed, and nothing new starts",
                hint="wait until it has failed; then 'tapfs retry' does what failed again; nothing was changed",
            )
        member = part_at(operation, path, "cancel")
        plan = operation.plan()
        if not isinstance(plan.way_to(member)[-1][0], Group):
            around = next((one.path for _, one in plan.members_around(member)), None)
            raise Refused(
                f"cannot cancel step {path} of operation '{operation.id}': it is no member of a group",
                hint=f"it is a part of member {around}" if around else "cancel the operation as a whole",
            )
        if member.by is not None and not operation.is_committed(plan.step(member.by)):
            raise Refused(
                f"cannot cancel member {path} of operation '{operation.id}': it is not in the group yet",
                hint=f"it counts as soon as step {member.by}, which adds it, is done",
            )
        left = [step for step in leaves(member) if not operation.is_committed(step)]
        if not left or files.exists(operation.layout.given_up(member)):
            what = "is done" if not left else "was given up"
            settled = settle(operation, operation.actor, can_publish=False)
            return answer_of(operation, settled, changed=False, message=f"member {path} {what} already")
        failure = Failure(
            type=CANCELLED,
            message=reason or f"cancelled by {operation.actor}",
            step=left[0].label,
            epoch=read_run(operation).epoch,
            failed_at=timestamp(operation.now()),
        )
        give_up(operation, member, failure)
        settled = settle(operation, operation.actor, can_publish=operation.publisher is not None)
    publish(operation, settled.put_out)
    return answer_of(operation, settled, changed=True, message=f"member {path} is cancelled; the group goes without it")
