"""The verbs: what a person or program asks of an operation, and the true answer.

A verb is an edit of `state.json` made under the lock: the request is first in the file, then taken in like anybody's.
So a verb that dies half-way has either asked or not, and never half. Every verb is idempotent and says whether it
changed anything, and why not if not (law 7).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from tapfs.bus import files
from tapfs.bus.decide import PutOut
from tapfs.bus.doorbell import publish
from tapfs.bus.fields import Json
from tapfs.bus.fit import misfits
from tapfs.bus.folder import OperationFolder
from tapfs.bus.layout import CANCEL, PAUSE
from tapfs.bus.reconcile import Settled, settle
from tapfs.bus.records import LONGEST_REASON, Run
from tapfs.bus.requests import markers
from tapfs.bus.runs import read_run
from tapfs.bus.states import FINAL, State, Want
from tapfs.bus.wants import write_want
from tapfs.errors import RecordInvalid, Refused, TapfsError

#: Times a verb writes its want against edits that come in the same instants.
_MOST_TRIES = 5
_FINISHED = "finished operations do not change; 'tapfs list --active' shows those that can"


@dataclass(frozen=True)
class Answer:
    """What a verb answers.

    Attributes:
        operation_id: whose.
        success: whether what was asked is so, or on its way.
        changed: whether the verb changed anything.
        state: the state after it; None where there is no such operation.
        message: what happened, for a person.
    """

    operation_id: str
    success: bool
    changed: bool
    state: str | None
    message: str

    def document(self) -> dict[str, Json]:
        """The answer as JSON."""
        return asdict(self)


def pause(operation: OperationFolder, reason: str | None = None) -> Answer:
    """Ask the operation to stop at its next tap.

    Raises:
        Refused: it has ended or is being cancelled; nothing was changed.
    """
    _, changed, settled = _ask(operation, Want.PAUSE, reason)
    is_over = settled.state is State.PAUSED
    if not changed:
        return answer_of(operation, settled, changed=False, message="already paused" if is_over else "already pausing")
    held = marker_names(operation)
    message = "paused" if is_over else "pausing: it stops at its next tap"
    return answer_of(operation, settled, changed=True, message=message + (f"; also held by {held}" if held else ""))


def cancel(operation: OperationFolder, reason: str | None = None) -> Answer:
    """Ask the operation to stop for good at its next tap; at once when nothing runs.

    Raises:
        Refused: it has succeeded or failed; nothing was changed.
    """
    before, _, settled = _ask(operation, Want.CANCEL, reason)
    if before in (State.CANCELLED, State.CANCELLING):
        return answer_of(operation, settled, changed=False, message=f"already {before}")
    if settled.state in (State.CANCELLED, State.CANCELLING):
        is_over = settled.state is State.CANCELLED
        message = "cancelled" if is_over else "cancelling: it stops at its next tap"
        return answer_of(operation, settled, changed=True, message=message)
    return answer_of(operation, settled, changed=True, message=f"it has {settled.state}: its last step ended first")


def resume(operation: OperationFolder, reason: str | None = None) -> Answer:
    """Lift the operation's own holds: its `want` and its PAUSE; from an end that was no success, start a new epoch.

    A hold of the whole bus stays; the answer names it.

    Raises:
        Refused: it is being cancelled, or its plan was changed and does not fit what is done; nothing was changed.
    """
    check_reason(reason)
    with operation.locked():
        before = settled_state(operation)
        if before is State.SUCCEEDED:
            return plain_answer(operation, before, "it has already succeeded: there is nothing to resume")
        if before is State.CANCELLING:
            raise refused(operation, before, "resume", "wait until it is cancelled, then resume it")
        if before in (State.PAUSED, *FINAL):
            check_plan(operation)
        lifted = [marker for marker in (PAUSE, CANCEL) if lift(operation, marker)]
        run = read_run(operation)
        if not lifted and run.want == Want.RUN and before not in FINAL:
            held = marker_names(operation)
            if before is State.PAUSED and run.notice and not held:  # it says what keeps it
                return plain_answer(operation, before, run.notice, success=False)
            return plain_answer(operation, before, f"still held by {held}" if held else f"already {before}", not held)
        if before in FINAL:
            revive(operation, run, reason)
        settled = settle_wanted(operation, Want.RUN, reason)
    publish(operation, settled.put_out)
    held = marker_names(operation)
    if held:
        return answer_of(operation, settled, changed=True, message=f"its own holds are lifted; still held by {held}")
    return answer_of(operation, settled, changed=True, message="it goes on")


def check_plan(operation: OperationFolder, verb: str = "resume") -> None:
    """Raise `Refused` for a plan that cannot be read, or does not fit what is done."""
    try:
        faults = misfits(operation.layout, operation.plan())
        why = f"its plan does not fit what is done: {'; '.join(faults)}"
    except FileNotFoundError:
        faults, why = ["missing"], "its workflow.json is missing"
    except RecordInvalid as error:
        faults, why = list(error.faults), str(error)
    if faults:
        raise Refused(
            f"cannot {verb} operation '{operation.id}': {why}",
            hint=f"put '{operation.layout.plan}' back as it was, or cancel; nothing was changed",
        )


def revive(operation: OperationFolder, run: Run, reason: str | None, rewind_to: str | None = None) -> None:
    """Turn an operation that has ended into a paused one, from which it goes on in a new epoch; rewound first if asked.

    The want goes first: whoever dies in between has changed nothing, for a want changes nothing that has ended.
    """
    write_want(operation, Want.RUN, reason)
    revived = replace(
        run,
        outcome=State.PAUSED.value,
        want=Want.RUN.value,
        reason=reason,
        asked_by=operation.actor,
        notice=None,
        rewind_to=rewind_to,
    )
    files.replace(operation.layout.run, revived.encode())
    # Behind it: an operation that has failed has its error, whatever dies here.
    files.put_aside(operation.layout.error, operation.layout.attic_file("error.json", run.epoch))
    operation.note("asked", want=Want.RUN, reason=reason, epoch=run.epoch)


def _ask(operation: OperationFolder, want: Want, reason: str | None) -> tuple[State, bool, Settled]:
    """Write a want into `state.json` and settle.

    Returns:
        The state before, whether the want was not there already, and what came out. A marker's hold is not the
        operation's own: asked beside one, the want is written, and still holds when the marker is gone.
    """
    check_reason(reason)
    with operation.locked():
        before = settled_state(operation)
        if before in FINAL and not (want is Want.CANCEL and before is State.CANCELLED):
            raise refused(operation, before, want, _FINISHED)
        if want is Want.PAUSE and before is State.CANCELLING:
            raise refused(operation, before, want, "a cancel is not taken back; afterwards, resume starts it again")
        is_new = before not in FINAL and read_run(operation).want != want
        settled = settle_wanted(operation, want, reason) if is_new else settle_asked(operation)
    publish(operation, settled.put_out)
    return before, is_new, settled


def settle_wanted(operation: OperationFolder, want: Want, reason: str | None) -> Settled:
    """Write a want and settle; once more where an edit that came in the same instant was taken in instead."""
    put_out: tuple[PutOut, ...] = ()
    for _ in range(_MOST_TRIES):
        write_want(operation, want, reason)
        settled = settle_asked(operation)
        put_out += settled.put_out
        if settled.state in FINAL or settled.run.want in (want, Want.CANCEL):
            break
    return replace(settled, put_out=put_out)


def settle_asked(operation: OperationFolder) -> Settled:
    return settle(operation, operation.actor, asked_by=operation.actor, can_publish=operation.publisher is not None)


def settled_state(operation: OperationFolder) -> State:
    """Bring the files in line first, so that a verb is judged by what is true. Nothing is put out yet."""
    return settle(operation, operation.actor, can_publish=False).state


def lift(operation: OperationFolder, marker: str) -> bool:
    """Take a marker of the operation away; raises where it cannot be."""
    path = operation.layout.folder / marker
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise TapfsError(
            f"cannot resume operation '{operation.id}': '{path}' cannot be removed: {error.strerror}",
            hint="remove it yourself; nothing was changed",
        ) from error
    files.sync_dir(operation.layout.folder)
    return True


def marker_names(operation: OperationFolder) -> str:
    found = [
        f"'{marker.source}'" + (f" ({marker.reason})" if marker.reason else "")
        for marker in markers(operation.control, operation.layout)
    ]
    return ", ".join(found)


def check_reason(reason: str | None) -> None:
    """Raise `TapfsError` for a reason that is too long or holds control characters; before anything is written."""
    if reason is None:
        return
    if len(reason) > LONGEST_REASON:
        too_long = f"the reason has {len(reason):,} characters, more than {LONGEST_REASON:,}"
        raise TapfsError(f"{too_long}; nothing was changed")
    if any(not mark.isprintable() for mark in reason):
        raise TapfsError("the reason holds control characters or line breaks; nothing was changed")


def refused(operation: OperationFolder, state: State, verb: str, hint: str) -> Refused:
    ended = {State.CANCELLED: "been cancelled", State.CANCELLING: ""}.get(state, str(state))
    why = f"it has already {ended}" if ended else "it is being cancelled (cancelling)"
    return Refused(f"cannot {verb} operation '{operation.id}': {why}", hint=hint)


def answer_of(operation: OperationFolder, settled: Settled, *, changed: bool, message: str) -> Answer:
    return Answer(operation.id, True, changed, settled.state.value, message)


def plain_answer(operation: OperationFolder, state: State, message: str, success: bool = True) -> Answer:
    return Answer(operation.id, success, False, state.value, message)
