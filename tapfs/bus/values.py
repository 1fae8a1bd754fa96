"""What the parts of a plan give back, read from the commits of their steps."""

from __future__ import annotations

from tapfs.bus.fields import Json
from tapfs.bus.folder import OperationFolder
from tapfs.bus.plan import Part, Sequence, Step
from tapfs.bus.records import LARGE, Failure
from tapfs.errors import RecordInvalid


def value_of(operation: OperationFolder, part: Part) -> Json:
    """The value of a part that is over: a step's result, a sequence's last value, the list of a group's.

    In the place of a member that was given up stands
    `{"error": {"type": "ValueError", "message": "no such image", "step": "0002/0017-resize"}}`.

    Raises:
        FileNotFoundError: a step of it is not committed.
        RecordInvalid: a commit cannot be read.
    """
    if isinstance(part, Step):
        return operation.result_of(part)
    if isinstance(part, Sequence):
        return value_of(operation, part.parts[-1])
    plan = operation.known_plan()
    values = []
    for member in part.members:
        if member.by is not None and not operation.is_committed(plan.step(member.by)):
            continue  # the step that added it was given up
        try:
            values.append(value_of(operation, member))
        except FileNotFoundError:
            values.append(_error_of(operation, member))
    return values


def _error_of(operation: OperationFolder, member: Part) -> Json:
    try:
        failure = Failure.read(operation.layout.given_up(member), LARGE)
    except RecordInvalid:  # written by hand, or spoilt: that it is there says enough
        failure = Failure(type="Unreadable", message="why it was given up is not known any more")
    return {"error": {"type": failure.type, "message": failure.message, "step": failure.step}}
