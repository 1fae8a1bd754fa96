"""How a worker ends a step: commits it, fails it, gives it back.

The law at each line: a step runs only under its claim; a commit is a create-if-absent under the operation's lock, after
the claim was found to be still ours (law 3). Death before the commit frees the claim, and the step is published again
with the next attempt; death after it leaves a committed step, and whoever settles next goes on from there. The message
is published after the commit and outside the lock, and may be lost.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace

from tapfs.bus import claims, files
from tapfs.bus.begin import Dropped
from tapfs.bus.claims import HeldClaim
from tapfs.bus.clock import timestamp
from tapfs.bus.decide import PutOut
from tapfs.bus.doorbell import publish
from tapfs.bus.failures import failure_of, write_failure
from tapfs.bus.fields import Json
from tapfs.bus.folder import OperationFolder
from tapfs.bus.plan import Part, Step
from tapfs.bus.planfile import encode_plan
from tapfs.bus.reconcile import Settled, settle
from tapfs.bus.records import LONGEST_TROUBLE, Claim, Commit, Failure, Run
from tapfs.bus.runs import read_run
from tapfs.bus.splice import spliced
from tapfs.bus.states import State, Want
from tapfs.bus.wants import write_want
from tapfs.errors import RecordInvalid

#: The type of a failure by a step that was interrupted again and again without getting anywhere.
INTERRUPTED_TOO_OFTEN = "InterruptedTooOften"


def commit_step(
    operation: OperationFolder,
    held: HeldClaim,
    result: Json,
    started_at: str,
    *,
    pause_because: str | None = None,
    then: tuple[Part, ...] = (),
    members: tuple[Part, ...] = (),
) -> Settled | Dropped:
    """Record a step's result, once and for good, and publish what follows; or pause, for the reason given.

    Args:
        operation, held: the step, and the right to end it.
        result: what it gives back, as JSON.
        started_at: when it began, RFC 3339.
        pause_because: the reason of a clause that asks to pause here; None for none.
        then: parts that it puts in behind itself; their result counts as its own.
        members: parts that it adds to the innermost group around it.

    Returns:
        What came out, or why the result does not count (the step was given to another, or is committed already).
    """

    def write() -> str | None:
        now = timestamp(operation.now())
        record = Commit(
            result=result,
            started_at=started_at,
            finished_at=now,
            worker=operation.actor,
            epoch=held.claim.epoch,
            attempt=held.claim.attempt,
            of=held.step.checksum,
        )
        target = operation.layout.commit(held.step)
        files.make_dirs(target.parent, operation.layout.folder)
        _splice(operation, held.step, then, members)
        try:
            files.create(target, record.encode())
        except FileExistsError:
            return "the step is already committed"
        claims.drop(operation.layout, held.step.path)
        files.remove(operation.layout.checkpoint(held.step))
        files.remove(operation.layout.once(held.step))
        return None

    return _end(operation, held, write, pause_because)


def _splice(operation: OperationFolder, step: Step, then: tuple[Part, ...], members: tuple[Part, ...]) -> None:
    """Write into the plan what a step puts in, before its commit, for which that waits (see `splice`)."""
    plan = operation.known_plan()
    if (then or members or step.path in plan.putters) and not operation.is_committed(step):
        try:
            plan = operation.plan()
        except RecordInvalid as error:  # somebody is just saving it: the step's end has to wait
            raise OSError(errno.EAGAIN, str(error), str(operation.layout.plan)) from None
        files.replace(operation.layout.plan, encode_plan(spliced(plan, step.path, then, members)))


def fail_step(operation: OperationFolder, held: HeldClaim, failure: Failure) -> Settled | Dropped:
    """Record that a step raised for good: the operation has failed."""
    return _end(operation, held, lambda: write_failure(operation, held.step.path, failure))


def release_step(operation: OperationFolder, held: HeldClaim, *, pause_because: str | None = None) -> Settled | Dropped:
    """Give a step back that stopped at a tap; it is uncommitted, and its checkpoint says how far it came.

    Put out for its next attempt, so that Celery's count of retries lives on where whoever settles keeps the claim.
    """
    again = replace(
        held.claim,
        attempt=held.claim.attempt + 1,
        publishes=0,
        published_at=None,
        cause=None,
        not_before=None,
        holder=None,
    )
    return _end(operation, held, lambda: claims.put_out(operation.layout, held.step.path, again), pause_because)


def retry_step(operation: OperationFolder, held: HeldClaim, not_before: str | None, retries: int) -> Settled | Dropped:
    """Put a step out again because its task asked for a retry; its message is published at once, with its time."""
    return _put_out_again(operation, held, replace(held.claim, cause="retry", not_before=not_before, retries=retries))


def interrupt_step(operation: OperationFolder, held: HeldClaim, because: str) -> Settled | Dropped:
    """Put a step out again that stopped at a tap for its worker's sake: another goes on with it. No retry is used up.

    After too many in a row without progress the step fails: it would never come to its end.
    """
    claim = held.claim
    has_progressed = claims.has_progressed(operation.layout, held.step.path, claim)
    count = 0 if has_progressed else claim.interruptions + 1
    if count > operation.recovery.max_interruptions:
        text = f"the step was interrupted {count} times in a row without getting further; the last time: {because}"
        return fail_step(operation, held, failure_of(operation, held.step, claim, INTERRUPTED_TOO_OFTEN, text))
    crashes = 0 if has_progressed else claim.crashes

    def note() -> None:
        run = read_run(operation)
        files.replace(operation.layout.run, replace(run, interruptions=run.interruptions + 1).encode())
        operation.note("interrupted", step=held.step.path, epoch=claim.epoch, attempt=claim.attempt, reason=because)

    again = replace(claim, cause="interruption", not_before=None, interruptions=count, crashes=crashes)
    return _put_out_again(operation, held, again, note)


def return_step(operation: OperationFolder, held: HeldClaim, trouble: str) -> Settled | Dropped:
    """Put a step out again that could not be begun or ended here, for no fault of its own: the disk is full, say.

    It is published again after a while, for as long as it takes; meanwhile `message` says why.
    """
    again = replace(
        held.claim,
        attempt=held.claim.attempt + 1,
        publishes=1,
        published_at=timestamp(operation.now()),
        cause="interruption",
        trouble=trouble[:LONGEST_TROUBLE],
        holder=None,
    )
    return _end(operation, held, lambda: claims.put_out(operation.layout, held.step.path, again))


def _put_out_again(
    operation: OperationFolder, held: HeldClaim, claim: Claim, note: Callable[[], None] | None = None
) -> Settled | Dropped:
    """Put a step out for its next attempt and publish it, unless the operation stops here."""
    again = replace(claim, attempt=claim.attempt + 1, publishes=1, published_at=timestamp(operation.now()), holder=None)

    def write() -> None:
        claims.put_out(operation.layout, held.step.path, again)
        if note is not None:
            note()

    outcome = _end(operation, held, write)
    if isinstance(outcome, Settled) and _goes_on(operation, outcome, held.step):
        publish(operation, (PutOut(held.step, again),))
    return outcome


def _goes_on(operation: OperationFolder, settled: Settled, step: Step) -> bool:
    """Whether a step that was put out again is to be run, and not held by the operation's stopping."""
    is_stopping = settled.state is State.PAUSING and operation.known_plan().has_tap_before(step)
    is_over = settled.run.outcome is not None or settled.run.is_failing
    return not is_over and not is_stopping and settled.state is not State.CANCELLING


def _end(
    operation: OperationFolder, held: HeldClaim, write: Callable[[], str | None], pause_because: str | None = None
) -> Settled | Dropped:
    """Write the end of a step if it is still ours, let go of the claim, settle, and publish what follows.

    `write` returns why it wrote nothing, or None. `pause_because` is the reason of a clause that asks to pause here.

    Raises:
        OSError: it could not be written. Where that was before the claim was let go of, `return_step` puts the step out
            again; otherwise the end stands, and whoever settles next goes on from there.
    """
    with operation.locked():
        try:
            reason = _why_not_ours(operation, held) or write()
        except OSError:
            raise
        except BaseException:
            held.release()
            raise
        held.release()
        if reason is not None:
            claim = held.claim
            details = {"step": held.step.path, "epoch": claim.epoch, "attempt": claim.attempt, "reason": reason}
            operation.note("dropped", **details)
            return Dropped(reason)
        if pause_because is not None and read_run(operation).want == Want.RUN:
            write_want(operation, Want.PAUSE, pause_because)
        asked_by = None if pause_because is None else "clause"
        settled = settle(operation, operation.actor, asked_by=asked_by, can_publish=operation.publisher is not None)
    publish(operation, settled.put_out)
    return settled


def _why_not_ours(operation: OperationFolder, held: HeldClaim) -> str | None:
    """Why this process may not write about the step any more; None when it may. Under the operation's lock."""
    if not held.is_ours():
        return "the step was given to another while this worker had it"
    run = read_run(operation)
    if run.epoch != held.claim.epoch:
        return f"the operation is in epoch {run.epoch}, the claim of epoch {held.claim.epoch}"
    if run.outcome is not None:  # it was failed from outside, and whoever did so died before the claim was gone
        return f"the operation is {run.outcome}"
    plan = operation.known_plan()
    if not plan.has(held.step.path):
        return "the plan has no such step any more"
    if any(files.exists(operation.layout.given_up(one)) for _, one in plan.members_around(held.step)):
        return "its member was given up"  # by somebody who died before the claim was gone
    return None


def take_pause_notice(operation: OperationFolder) -> bool:
    """Say whether the workflow's callback is to be told of this epoch's pause; says so to one caller only."""
    try:
        if Run.read(operation.layout.run).outcome != State.PAUSED:
            return False
    except (FileNotFoundError, RecordInvalid):  # whoever settles makes it anew
        return False
    with operation.locked():
        run = read_run(operation)
        if run.outcome != State.PAUSED or run.told == run.epoch:
            return False
        files.replace(operation.layout.run, replace(run, told=run.epoch).encode())
    return True
